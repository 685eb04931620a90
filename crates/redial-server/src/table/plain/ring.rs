//! A queue of plain data whose next places are written before they are needed.
//!
//! What is behind the last item has not been touched for as long as the ring takes to go round,
//! and lies far from the processor. It is fetched a good deal quicker in one go than line by line
//! with a call waiting for each.

use std::{collections::VecDeque, mem::size_of, ops::Range};

/// How much is prepared at a time.
const AHEAD_BYTES: usize = 2048;

/// A ring grows by a small part at a time: doubling would leave half of a large one unused.
const GROWTH: usize = 16;

/// It has room for so much at least.
const LEAST_BYTES: usize = 4096;

#[derive(Debug)]
pub(super) struct Ring<T> {
    /// The items and what is prepared for more of them.
    places: VecDeque<T>,
    len: usize,
}

impl<T: Copy> Ring<T> {
    pub(super) fn new() -> Self {
        Self {
            places: VecDeque::new(),
            len: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, at: usize) -> Option<&T> {
        self.places.get(at).filter(|_| at < self.len)
    }

    /// A part of it, in the two pieces that its end may have made of it.
    pub(super) fn pieces(&self, range: Range<usize>) -> [&[T]; 2] {
        let (front, back) = self.places.as_slices();
        let [in_front, in_back] = parts(range, front.len());
        [&front[in_front], &back[in_back]]
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = &T> {
        self.places.range(..self.len)
    }

    /// How many items there are in front that are so, if those behind them are not.
    pub(super) fn partition_point(&self, is_so: impl FnMut(&T) -> bool) -> usize {
        let mut is_so = is_so;
        let [front, back] = self.pieces(0..self.len);
        match front.partition_point(&mut is_so) {
            all if all == front.len() => all + back.partition_point(is_so),
            some => some,
        }
    }

    pub(super) fn push(&mut self, item: T) {
        self.prepare(&[item]);
        self.places[self.len] = item;
        self.len += 1;
    }

    pub(super) fn extend(&mut self, items: &[T]) {
        self.prepare(items);
        let range = self.len..self.len + items.len();
        let (front, back) = self.places.as_mut_slices();
        let [in_front, in_back] = parts(range, front.len());
        let (one, other) = items.split_at(in_front.len());
        front[in_front].copy_from_slice(one);
        back[in_back].copy_from_slice(other);
        self.len += items.len();
    }

    /// Sees to it that there are places for these, if with something else in them.
    fn prepare(&mut self, items: &[T]) {
        if self.places.len() - self.len < items.len() {
            self.prepare_ahead(items);
        }
    }

    #[cold]
    fn prepare_ahead(&mut self, items: &[T]) {
        let wanted = self.len + items.len().max(AHEAD_BYTES / size_of::<T>());
        if wanted > self.places.capacity() {
            let ahead = (self.len / GROWTH).max(LEAST_BYTES / size_of::<T>());
            let more = wanted + ahead - self.places.len();
            self.places.reserve_exact(more);
        }
        self.places.resize(wanted, items[0]);
    }

    /// Looks at none of them.
    pub(super) fn drop_front(&mut self, items: usize) {
        assert!(items <= self.len, "what is prepared is not there yet");
        self.places.drain(..items);
        self.len -= items;
    }

    #[cfg(test)]
    pub(super) fn allocated_bytes(&self) -> usize {
        self.places.capacity() * size_of::<T>()
    }

    /// Gives memory back that a busier time has left behind.
    pub(super) fn shrink(&mut self) {
        let wanted = (self.len * 2).max(LEAST_BYTES / size_of::<T>());
        if self.places.capacity() > wanted * 2 {
            self.places.truncate(self.len);
            self.places.shrink_to(wanted);
        }
    }
}

/// What of a range lies before the middle, and what behind it, counted from there.
fn parts(range: Range<usize>, middle: usize) -> [Range<usize>; 2] {
    let before = range.start.min(middle)..range.end.min(middle);
    let behind = range.start.saturating_sub(middle)..range.end.saturating_sub(middle);
    [before, behind]
}

#[cfg(test)]
mod tests;
