//! Which records may be those of a call, by its hash.
//!
//! An entry is a record's number and, apart from it, a tag: a byte of its hash. Most look-ups are for
//! calls that are not known, and for those the tags are enough, which are so few that they stay in
//! the cache. The numbers lie far from the processor, so new entries are inserted many at a time,
//! when all of their buckets are fetched together: with a million records that saves a seventh of
//! the time of a call in the server (570 ns instead of 660), though it costs 60 instructions.
//!
//! A record that expires is not removed from the index: records go in the order in which they came,
//! so an entry is dead as soon as its number is not among those that are [live](Live), and is cleared
//! when a new entry comes to its bucket. An entry that finds its bucket full of live ones goes into
//! the next, and leaves its number behind, so that a look-up knows how long to go on.
//!
//! Numbers are counted modulo 2^32. One that was left behind so long ago that it seems to be live
//! again costs a look at a record that is another's, or a slot for a while, and nothing else.

use std::hint::black_box;

/// Entries of a bucket.
const SLOTS: usize = 15;

/// How full an index may be, in entries per bucket. One bucket in twenty overflows then.
const MOST_PER_BUCKET: usize = 10;

/// How full one is made, so that it grows by two fifths.
const FIRST_PER_BUCKET: usize = 7;

/// How many new entries are inserted into their buckets together.
const STAGED: usize = 32;

/// The numbers of a bucket's entries: one cache line. The last is that of the latest entry that
/// should have been here and is further on.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Numbers([u32; SLOTS + 1]);

/// A byte for each entry of a bucket, 0 if it is free. The last is not 0 if an entry may be further
/// on.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(16))]
struct Tags([u8; SLOTS + 1]);

/// The numbers of the records that exist: `len` of them, from the first on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Live {
    pub(super) first: u32,
    pub(super) len: u32,
}

#[derive(Debug, Default)]
pub(super) struct Index {
    tags: Vec<Tags>,
    numbers: Vec<Numbers>,
    /// The hashes of the latest records, which are not in their buckets yet.
    staged: Vec<u32>,
}

impl Live {
    pub(super) fn has(self, number: u32) -> bool {
        number.wrapping_sub(self.first) < self.len
    }

    /// The number of the next record.
    pub(super) fn end(self) -> u32 {
        self.first.wrapping_add(self.len)
    }
}

impl Tags {
    /// A bit at each slot that has this tag, and perhaps at some behind the first of them.
    fn slots_with(self, tag: u8) -> u128 {
        const ONES: u64 = 0x0101_0101_0101_0101;
        let all = |byte| u128::from(byte) << 64 | u128::from(byte);
        let zero = u128::from_le_bytes(self.0) ^ all(u64::from(tag) * ONES);
        zero.wrapping_sub(all(ONES)) & !zero & all(ONES << 7) & (u128::MAX >> 8)
    }

    fn has_overflowed(self) -> bool {
        self.0[SLOTS] != 0
    }

    /// Leaves only the entries that are live.
    fn clear_dead(&mut self, numbers: &Numbers, live: Live) {
        for (tag, number) in self.0.iter_mut().zip(numbers.0) {
            *tag &= 0_u8.wrapping_sub(live.has(number).into());
        }
    }
}

fn slot_of(bits: u128) -> usize {
    bits.trailing_zeros() as usize / 8
}

/// Of the bits that did not choose the bucket, and never 0.
fn tag_of(hash: u32) -> u8 {
    (hash as u8).max(1)
}

impl Index {
    /// The first that `look_at` accepts of the records that a hash may belong to.
    pub(super) fn find<T>(
        &self,
        hash: u32,
        live: Live,
        mut look_at: impl FnMut(u32) -> Option<T>,
    ) -> Option<T> {
        if self.staged.contains(&hash)
            && let Some(found) = self.find_staged(hash, live, &mut look_at)
        {
            return Some(found);
        }
        let mut at = self.home(hash);
        for _ in 0..self.tags.len() {
            let tags = self.tags[at];
            let mut like = tags.slots_with(tag_of(hash));
            while like != 0 {
                let number = self.numbers[at].0[slot_of(like)];
                if live.has(number)
                    && let Some(found) = look_at(number)
                {
                    return Some(found);
                }
                like &= like - 1;
            }
            if !(tags.has_overflowed() && live.has(self.numbers[at].0[SLOTS])) {
                return None;
            }
            at = self.after(at);
        }
        None
    }

    #[cold]
    fn find_staged<T>(
        &self,
        hash: u32,
        live: Live,
        mut look_at: impl FnMut(u32) -> Option<T>,
    ) -> Option<T> {
        let numbered = self.numbered(live);
        let mut found = numbered.filter(|(number, staged)| *staged == hash && live.has(*number));
        found.find_map(|(number, _)| look_at(number))
    }

    /// The staged entries with their numbers, of which the first may be dead.
    fn numbered(&self, live: Live) -> impl Iterator<Item = (u32, u32)> {
        let first = live.end().wrapping_sub(self.staged.len() as u32);
        let numbers = (0..).map(move |at| first.wrapping_add(at));
        numbers.zip(self.staged.iter().copied())
    }

    /// Adds the record that is next behind the live ones. There must be [room](Self::has_room).
    pub(super) fn insert(&mut self, hash: u32, live: Live) {
        if self.staged.len() == STAGED {
            self.insert_staged(live);
        }
        self.staged.push(hash);
    }

    /// Inserts the staged entries into their buckets.
    fn insert_staged(&mut self, live: Live) {
        let homes = self.staged.iter().map(|hash| self.home(*hash));
        // Fetches all of them: no load waits for the one before it.
        black_box(homes.fold(0, |all, home| all ^ self.numbers[home].0[0]));
        let mut staged = std::mem::take(&mut self.staged);
        let first = live.end().wrapping_sub(staged.len() as u32);
        for (at, hash) in (0..).zip(staged.drain(..)) {
            self.insert_number(hash, first.wrapping_add(at), live);
        }
        self.staged = staged;
    }

    fn insert_number(&mut self, hash: u32, number: u32, live: Live) {
        let mut at = self.home(hash);
        loop {
            let (tags, numbers) = (&mut self.tags[at], &mut self.numbers[at]);
            tags.clear_dead(numbers, live);
            let free = tags.slots_with(0);
            let slot = if free == 0 { SLOTS } else { slot_of(free) };
            numbers.0[slot] = number;
            tags.0[slot] = tag_of(hash);
            if slot < SLOTS {
                return;
            }
            at = self.after(at);
        }
    }

    /// Whether another record may be added to so many.
    pub(super) fn has_room(&self, len: usize) -> bool {
        len < self.tags.len() * MOST_PER_BUCKET
    }

    /// Whether it is far larger than so many records need.
    pub(super) fn is_too_large(&self, len: usize) -> bool {
        self.tags.len() > buckets_for(len) * 4
    }

    /// Starts anew with the hashes of all live records, in their order.
    pub(super) fn rebuild(&mut self, first: u32, hashes: impl ExactSizeIterator<Item = u32>) {
        // Freed first, so that there are never two.
        *self = Self::default();
        let (buckets, len) = (buckets_for(hashes.len()), hashes.len() as u32);
        self.tags = vec![Tags::default(); buckets];
        self.numbers = vec![Numbers([first.wrapping_sub(1); SLOTS + 1]); buckets];
        for (at, hash) in (0..).zip(hashes) {
            self.insert_number(hash, first.wrapping_add(at), Live { first, len });
        }
    }

    #[cfg(test)]
    pub(super) fn allocated_bytes(&self) -> usize {
        self.tags.capacity() * size_of::<Tags>() + self.numbers.capacity() * size_of::<Numbers>()
    }

    /// The bucket of a hash, by its high bits: as many of them as there are buckets for.
    fn home(&self, hash: u32) -> usize {
        ((u64::from(hash) * self.tags.len() as u64) >> u32::BITS) as usize
    }

    fn after(&self, at: usize) -> usize {
        if at + 1 < self.tags.len() { at + 1 } else { 0 }
    }
}

fn buckets_for(len: usize) -> usize {
    len / FIRST_PER_BUCKET + 1
}

#[cfg(test)]
mod tests;
