//! A frame that is larger than its reader takes: passed over as it arrives, and known by its ends.

use crate::ends::{END_BYTES, MessageEnds};

/// A frame that is being passed over. It takes 1 KiB at most, however large the frame is.
///
/// ```
/// use redial_protocol::{FrameDecoder, FrameError, MessageEnds, OversizedFrame};
///
/// let mut decoder = FrameDecoder::new(20);
/// let mut input = &b"\0\0\0\x1b{\"id\":1,\"result\":\"0123\"}   \0\0\0\x01x"[..];
/// let Err(FrameError::TooLarge { len_bytes, .. }) = decoder.next_frame(&mut input) else {
///     panic!();
/// };
/// decoder.skip_header(&mut input);
/// let mut frame = OversizedFrame::new(len_bytes);
/// assert!(frame.skip(&mut input));
/// let id = "1".to_owned();
/// assert_eq!(frame.ends(), Some(MessageEnds::Result { id }));
/// assert_eq!(decoder.next_frame(&mut input)?, Some(&b"x"[..]));
/// # Ok::<(), FrameError>(())
/// ```
#[derive(Clone, Debug)]
pub struct OversizedFrame {
    len_bytes: usize,
    /// How many bytes have not arrived.
    left: usize,
    head: Vec<u8>,
    /// The last bytes behind the head, and up to as many before them.
    tail: Vec<u8>,
}

impl OversizedFrame {
    /// A frame of this length, of which the header has been read.
    #[must_use]
    pub fn new(len_bytes: usize) -> Self {
        Self {
            len_bytes,
            left: len_bytes,
            head: Vec::with_capacity(END_BYTES),
            tail: Vec::with_capacity(2 * END_BYTES),
        }
    }

    /// Takes what there is of it off the front of `input`, and says whether that was the rest.
    pub fn skip(&mut self, input: &mut &[u8]) -> bool {
        let (now, rest) = input.split_at(self.left.min(input.len()));
        *input = rest;
        self.left -= now.len();
        let missing = self.head_bytes() - self.head.len();
        let (head, behind) = now.split_at(missing.min(now.len()));
        self.head.extend_from_slice(head);
        self.keep_tail(behind);
        self.left == 0
    }

    /// What it is, and for whom, once it has been passed.
    #[must_use]
    pub fn ends(&self) -> Option<MessageEnds> {
        let tail = &self.tail[self.tail.len().saturating_sub(END_BYTES)..];
        MessageEnds::read(&self.head, tail)
    }

    /// How long the head is. Of a short frame it is all of it, so that no member is cut in two.
    fn head_bytes(&self) -> usize {
        if self.len_bytes <= 2 * END_BYTES {
            self.len_bytes
        } else {
            END_BYTES
        }
    }

    fn keep_tail(&mut self, bytes: &[u8]) {
        let bytes = &bytes[bytes.len().saturating_sub(END_BYTES)..];
        if self.tail.len() + bytes.len() > 2 * END_BYTES {
            let kept = END_BYTES - bytes.len();
            self.tail.drain(..self.tail.len() - kept);
        }
        self.tail.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_split_keeps_the_same_ends(
            len in 1usize..3000,
            steps in prop::collection::vec(1usize..700, 1..8),
        ) {
            let body: Vec<u8> = (0..len).map(|n| (n % 251) as u8).collect();
            let wire = [&body[..], b"next"].concat();
            let (mut frame, mut at, mut steps) = (OversizedFrame::new(len), 0, steps.iter().cycle());
            loop {
                let until = (at + steps.next().unwrap()).min(wire.len());
                let mut input = &wire[at..until];
                let is_whole = frame.skip(&mut input);
                at = until - input.len();
                prop_assert!(frame.tail.capacity() <= 2 * END_BYTES && frame.head.capacity() <= 2 * END_BYTES);
                if is_whole {
                    break;
                }
            }
            prop_assert_eq!(&wire[at..], b"next");
            let whole = len <= 2 * END_BYTES;
            let head = if whole { len } else { END_BYTES };
            prop_assert_eq!(&frame.head, &body[..head]);
            let kept = frame.tail.len().min(END_BYTES);
            prop_assert_eq!(&frame.tail[frame.tail.len() - kept..], &body[len - kept..]);
            prop_assert_eq!(kept, (len - head).min(END_BYTES));
        }
    }
}
