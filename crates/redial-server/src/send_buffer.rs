//! Bytes on their way to a peer, in parts: many large replies take what they are long, and each is
//! freed when it has been written.

use std::{collections::VecDeque, mem};

/// A part that is as long takes no more.
const PART_BYTES: usize = 64 * 1024;

#[derive(Debug, Default)]
pub(crate) struct SendBuffer {
    /// Parts that take no more, the first to be written first.
    full: VecDeque<Vec<u8>>,
    full_bytes: usize,
    /// The last part.
    open: Vec<u8>,
    /// How much of the first part has been written.
    written: usize,
}

impl SendBuffer {
    /// Where to append what comes next.
    #[inline]
    pub(crate) fn open(&mut self) -> &mut Vec<u8> {
        if self.open.len() >= PART_BYTES {
            self.end_part();
        }
        &mut self.open
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.full_bytes + self.open.len() - self.written
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is to be written next.
    pub(crate) fn front(&self) -> &[u8] {
        let first = self.full.front().unwrap_or(&self.open);
        &first[self.written..]
    }

    /// So much of the front was written.
    pub(crate) fn advance(&mut self, count: usize) {
        self.written += count;
        match self.full.front().map(Vec::len) {
            Some(bytes) if bytes == self.written => {
                self.full.pop_front();
                self.full_bytes -= bytes;
                self.written = 0;
            }
            None if self.open.len() == self.written => {
                self.open.clear();
                self.written = 0;
            }
            _ => {}
        }
    }

    /// Moves everything from another one, of which nothing was written, behind what is here.
    pub(crate) fn append(&mut self, other: &mut Self) {
        if self.is_empty() {
            mem::swap(self, other);
        } else if other.full.is_empty() && self.open.len() + other.open.len() <= PART_BYTES {
            self.open.append(&mut other.open);
        } else if !other.is_empty() {
            self.end_part();
            self.full_bytes += mem::take(&mut other.full_bytes);
            self.full.append(&mut other.full);
            self.open = mem::take(&mut other.open);
        }
    }

    /// Frees what a busier time has left behind.
    pub(crate) fn shrink(&mut self, keep_bytes: usize) {
        if self.is_empty() && self.open.capacity() > keep_bytes {
            self.open = Vec::new();
        }
        if self.full.is_empty() {
            self.full = VecDeque::new();
        }
    }

    #[cold]
    fn end_part(&mut self) {
        let mut part = mem::take(&mut self.open);
        if part.is_empty() {
            return;
        }
        part.shrink_to_fit();
        self.full_bytes += part.len();
        self.full.push_back(part);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum BufferStep {
        Append(usize),
        AppendAll(Vec<usize>),
        Write(usize),
        Shrink,
    }

    fn step() -> impl Strategy<Value = BufferStep> {
        let bytes = || prop_oneof![3 => 0usize..2_000, 1 => 0usize..200_000];
        prop_oneof![
            4 => bytes().prop_map(BufferStep::Append),
            2 => prop::collection::vec(bytes(), 0..4).prop_map(BufferStep::AppendAll),
            4 => bytes().prop_map(BufferStep::Write),
            1 => Just(BufferStep::Shrink),
        ]
    }

    impl SendBuffer {
        fn capacity(&self) -> usize {
            self.open.capacity() + self.full.iter().map(Vec::capacity).sum::<usize>()
        }
    }

    proptest! {
        /// Against one string of bytes.
        #[test]
        fn what_is_appended_is_written_once_and_in_order(steps in prop::collection::vec(step(), 0..40)) {
            let (mut buffer, mut expected) = (SendBuffer::default(), VecDeque::new());
            let mut next = 0u8;
            let mut bytes = |count: usize| {
                next = next.wrapping_add(1);
                vec![next; count]
            };
            for step in steps {
                match step {
                    BufferStep::Append(count) => {
                        let new = bytes(count);
                        buffer.open().extend_from_slice(&new);
                        expected.extend(new);
                    }
                    BufferStep::AppendAll(counts) => {
                        let mut other = SendBuffer::default();
                        for count in counts {
                            let new = bytes(count);
                            other.open().extend_from_slice(&new);
                            expected.extend(new);
                        }
                        buffer.append(&mut other);
                        prop_assert_eq!(other.len(), 0);
                    }
                    BufferStep::Write(most) => {
                        let count = buffer.front().len().min(most);
                        let written: Vec<u8> = expected.drain(..count).collect();
                        prop_assert_eq!(&buffer.front()[..count], written);
                        buffer.advance(count);
                    }
                    BufferStep::Shrink => buffer.shrink(100),
                }
                prop_assert_eq!(buffer.len(), expected.len());
                prop_assert_eq!(buffer.is_empty(), buffer.front().is_empty());
            }
        }
    }

    /// Kind: what is counted is not what is taken. Instance: 32 replies of 1 MB at once, in a buffer that
    /// grows by doubling; and as many bytes in small ones.
    #[test]
    fn many_replies_take_what_they_are_long_and_are_freed_as_they_are_written() {
        for (replies, bytes) in [(32, 1_000_000), (32_000, 1_000), (400, 80_000)] {
            let mut buffer = SendBuffer::default();
            for _ in 0..replies {
                let open = buffer.open();
                open.extend_from_slice(&[0; 4]);
                open.reserve(bytes);
                open.resize(open.len() + bytes, 1);
            }
            while buffer.len() > 1_000_000 {
                let taken = buffer.capacity() * 100 / buffer.len();
                assert!(
                    taken <= 120 || buffer.len() < 5_000_000 && taken <= 200,
                    "{taken} %"
                );
                buffer.advance(buffer.front().len());
            }
        }
    }
}
