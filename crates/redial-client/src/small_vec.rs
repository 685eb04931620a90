//! A list whose first element needs no heap: most calls have one attempt.

use std::fmt;

/// A list of few elements, the first of them inline.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SmallVec<T> {
    first: Option<T>,
    rest: Vec<T>,
}

impl<T: fmt::Debug> fmt::Debug for SmallVec<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<T> SmallVec<T> {
    pub(crate) const fn new() -> Self {
        Self {
            first: None,
            rest: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, value: T) {
        match self.first {
            None => self.first = Some(value),
            Some(_) => self.rest.push(value),
        }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// The element, if there is no other.
    pub(crate) fn only(&self) -> Option<&T> {
        self.first.as_ref().filter(|_| self.rest.is_empty())
    }

    pub(crate) fn pop(&mut self) -> Option<T> {
        self.rest.pop().or_else(|| self.first.take())
    }

    pub(crate) fn last(&self) -> Option<&T> {
        self.rest.last().or(self.first.as_ref())
    }

    pub(crate) fn last_mut(&mut self) -> Option<&mut T> {
        self.rest.last_mut().or(self.first.as_mut())
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.first.iter().chain(&self.rest)
    }

    pub(crate) fn iter_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut T> {
        self.first.iter_mut().chain(&mut self.rest)
    }

    pub(crate) fn map<U>(&self, map: impl Fn(&T) -> U) -> SmallVec<U> {
        SmallVec {
            first: self.first.as_ref().map(&map),
            rest: self.rest.iter().map(&map).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behaves_like_a_stack() {
        let mut list = SmallVec::new();
        assert_eq!((list.pop(), list.last()), (None, None));
        (1..=3).for_each(|n| list.push(n));
        assert_eq!(list.iter().copied().collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(list.last_mut(), Some(&mut 3));
        assert_eq!(
            (list.pop(), list.pop(), list.last()),
            (Some(3), Some(2), Some(&1))
        );
        assert_eq!((list.pop(), list.pop()), (Some(1), None));
    }
}
