//! A queue of plain data that grows by a small part at a time: doubling would leave half of a large
//! one unused.

use std::{collections::VecDeque, mem::size_of, ops::Range};

/// It grows by one part in so many.
const GROWTH: usize = 16;

/// The least capacity, in bytes.
const LEAST_BYTES: usize = 4096;

#[derive(Debug)]
pub(super) struct Ring<T> {
    items: VecDeque<T>,
}

impl<T: Copy> Ring<T> {
    pub(super) fn new() -> Self {
        Self {
            items: VecDeque::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn get(&self, at: usize) -> Option<&T> {
        self.items.get(at)
    }

    /// A part of it, in the two pieces that the end of the buffer may have made of it.
    pub(super) fn pieces(&self, range: Range<usize>) -> [&[T]; 2] {
        let (front, back) = self.items.as_slices();
        let middle = front.len();
        let before = range.start.min(middle)..range.end.min(middle);
        let behind = range.start.saturating_sub(middle)..range.end.saturating_sub(middle);
        [&front[before], &back[behind]]
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = &T> {
        self.items.iter()
    }

    /// How many items in front fulfil the condition, if those behind them don't.
    pub(super) fn partition_point(&self, condition: impl FnMut(&T) -> bool) -> usize {
        self.items.partition_point(condition)
    }

    pub(super) fn push(&mut self, item: T) {
        self.reserve(1);
        self.items.push_back(item);
    }

    pub(super) fn extend(&mut self, items: &[T]) {
        self.reserve(items.len());
        self.items.extend(items);
    }

    fn reserve(&mut self, more: usize) {
        if self.items.capacity() - self.items.len() < more {
            self.grow(more);
        }
    }

    #[cold]
    fn grow(&mut self, more: usize) {
        let ahead = (self.len() / GROWTH).max(LEAST_BYTES / size_of::<T>());
        self.items.reserve_exact(more + ahead);
    }

    /// Removes the first items, without a look at them.
    pub(super) fn drop_front(&mut self, items: usize) {
        self.items.drain(..items);
    }

    #[cfg(test)]
    pub(super) fn allocated_bytes(&self) -> usize {
        self.items.capacity() * size_of::<T>()
    }

    /// Returns memory that a busier time has left behind.
    pub(super) fn shrink(&mut self) {
        let wanted = (self.len() * 2).max(LEAST_BYTES / size_of::<T>());
        if self.items.capacity() > wanted * 2 {
            self.items.shrink_to(wanted);
        }
    }
}

#[cfg(test)]
mod tests;
