//! One place of the pool: the bytes on their way out, and how far they have come.
//!
//! A frame's place in the stream of its connection is known by offset, so that when the
//! connection goes it can be said of each: untouched, cut off in the middle, or wholly written.

use std::{
    collections::{BTreeMap, VecDeque},
    task::Waker,
    time::Instant,
};

use redial_protocol::{FrameError, SessionId};

use super::{slab::Key, standing::Ask};

/// A place of the pool. It has at most one connection at a time, or one being made.
#[derive(Debug, Default)]
pub(crate) struct Link {
    /// Which connection this is, counted up when one ends.
    pub(super) epoch: u32,
    /// A driver looks after it.
    pub(super) has_driver: bool,
    /// Leaves when the driver comes by. May hold withdrawn frames, which are skipped.
    out: Vec<u8>,
    withdrawn: BTreeMap<u64, u64>,
    /// How many frames lie in `out`.
    frames: usize,
    /// Offset of the end of `out`.
    appended: u64,
    /// Offset up to which bytes were given to the driver: nothing before it can be withdrawn.
    committed: u64,
    /// Offset up to which the transport has taken them.
    written: u64,
    /// The driver, if it sleeps with nothing to write.
    pub(super) driver: Option<Waker>,
    /// Calls that wait for room in `out` or for a place, in the order in which they came.
    pub(super) blocked: VecDeque<Key>,
    /// Calls that wait to know what the server at the other end speaks.
    pub(super) waiting: VecDeque<Key>,
    /// Where the notifications end that are not written yet.
    pub(super) notifications: VecDeque<(u64, Key)>,
    /// Attempts that may still be answered on this connection, and places kept for some to come.
    pub(super) in_flight: usize,
    /// Connections in a row that were of no use: not made, or gone without one reply.
    pub(super) failures: u32,
    /// When the next may be made.
    pub(super) not_before: Option<Instant>,
    /// This connection has brought a reply.
    pub(super) heard: bool,
    /// What the server said about the connection as a whole.
    pub(super) complaint: Option<String>,
    /// There is a connection.
    pub(super) is_connected: bool,
    /// All of the preamble has been written.
    pub(super) has_greeted: bool,
    /// The hello that has no answer yet.
    pub(super) ask: Option<Ask>,
    /// The session that the server at the other end is known to know.
    pub(super) attached: Option<SessionId>,
    /// The session that the connection's first frame named: all else was written after it.
    pub(super) named_first: Option<SessionId>,
    /// That server has no sessions, or they are not wanted.
    pub(super) is_plain: bool,
    /// The watermark that was last written on this connection.
    pub(super) acked: Option<(SessionId, u64)>,
}

/// How much of a frame has been written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Touch {
    /// Nothing: it was not sent.
    Untouched,
    /// A part: it was sent, and can't be executed if the rest doesn't follow.
    Partly,
    /// All of it: it may be executed.
    Wholly,
}

impl Link {
    /// Appends one frame and gives its offsets.
    pub(super) fn append(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), FrameError>,
    ) -> Result<(u64, u64), FrameError> {
        let (start, before) = (self.appended, self.out.len());
        write(&mut self.out)?;
        self.appended += (self.out.len() - before) as u64;
        self.frames += 1;
        Ok((start, self.appended))
    }

    /// How many bytes wait to be written.
    pub(super) fn unsent(&self) -> u64 {
        self.appended - self.written
    }

    /// Whether something waits to be written with more to come, up to that many frames.
    pub(super) fn gathers(&self, max_frames: usize) -> bool {
        (1..max_frames).contains(&self.frames)
    }

    /// Whether there is anything that no driver has taken.
    pub(super) fn has_more(&self) -> bool {
        !self.out.is_empty()
    }

    pub(super) fn touch(&self, start: u64, end: u64) -> Touch {
        touch(start, end, self.written)
    }

    /// Whether a frame that starts here can still be kept from being sent.
    pub(super) fn can_withdraw(&self, start: u64) -> bool {
        start >= self.committed
    }

    pub(super) fn withdraw(&mut self, start: u64, end: u64) {
        debug_assert!(self.can_withdraw(start));
        self.withdrawn.insert(start, end);
    }

    pub(super) fn set_written(&mut self, offset: u64) {
        self.written = offset;
    }

    /// Gives the driver what is ready. `outgoing` must be empty.
    pub(super) fn hand_out(&mut self, outgoing: &mut Outgoing) {
        outgoing.bytes.clear();
        outgoing.position = 0;
        outgoing.base = self.committed;
        std::mem::swap(&mut outgoing.bytes, &mut self.out);
        outgoing.withdrawn = std::mem::take(&mut self.withdrawn);
        self.committed = self.appended;
        self.frames = 0;
    }

    /// The connection has brought a reply: the next one may be made at once.
    pub(super) fn prove(&mut self) {
        self.heard = true;
        self.failures = 0;
        self.not_before = None;
    }

    /// The connection is over: everything on its way is gone. Says up to which offset it was
    /// written; where nobody knows, that is everything the driver was given.
    pub(super) fn reset(&mut self, written: Option<u64>) -> u64 {
        let written = written.unwrap_or(self.committed);
        self.epoch = self.epoch.wrapping_add(1);
        self.out.clear();
        self.frames = 0;
        self.withdrawn.clear();
        self.notifications.clear();
        (self.appended, self.committed, self.written) = (0, 0, 0);
        self.in_flight = 0;
        self.heard = false;
        (self.is_connected, self.has_greeted, self.is_plain) = (false, false, false);
        (self.ask, self.attached, self.acked) = (None, None, None);
        self.named_first = None;
        written
    }
}

/// How much of the frame from `start` to `end` is before `written`.
pub(super) fn touch(start: u64, end: u64, written: u64) -> Touch {
    if written <= start {
        Touch::Untouched
    } else if written < end {
        Touch::Partly
    } else {
        Touch::Wholly
    }
}

/// What the driver is writing: bytes taken from a [`Link`], and how far it is.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    /// Goes out before everything else, and counts in no offset.
    preamble: Vec<u8>,
    greeted: usize,
    bytes: Vec<u8>,
    /// Offset in the stream of `bytes[0]`.
    base: u64,
    position: usize,
    withdrawn: BTreeMap<u64, u64>,
}

impl Outgoing {
    /// Begins with a preamble.
    pub(crate) fn after(preamble: Vec<u8>) -> Self {
        Self {
            preamble,
            ..Self::default()
        }
    }

    /// The next bytes to write, empty if there are none.
    pub(crate) fn ready(&mut self) -> &[u8] {
        if self.greeted < self.preamble.len() {
            return &self.preamble[self.greeted..];
        }
        while let Some(gap) = self.withdrawn.first_entry()
            && *gap.key() == self.base + self.position as u64
        {
            self.position = (gap.remove() - self.base) as usize;
        }
        let end = self
            .withdrawn
            .first_key_value()
            .map_or(self.bytes.len(), |(start, _)| (start - self.base) as usize);
        &self.bytes[self.position..end]
    }

    pub(crate) fn advance(&mut self, bytes: usize) {
        if self.greeted < self.preamble.len() {
            self.greeted += bytes;
        } else {
            self.position += bytes;
        }
    }

    /// Offset in the stream up to which everything has been written or skipped.
    pub(crate) fn offset(&self) -> u64 {
        self.base + self.position as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn append(link: &mut Link, text: &[u8]) -> (u64, u64) {
        link.append(|out| {
            out.extend_from_slice(text);
            Ok(())
        })
        .unwrap()
    }

    /// Writes everything there is, `step` bytes at a time.
    fn drain(outgoing: &mut Outgoing, step: usize) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let ready = outgoing.ready();
            let count = ready.len().min(step);
            if count == 0 {
                return all;
            }
            all.extend_from_slice(&ready[..count]);
            outgoing.advance(count);
        }
    }

    #[test]
    fn a_frame_is_untouched_partly_or_wholly_written() {
        let mut link = Link::default();
        let (start, end) = append(&mut link, b"12345");
        for (written, expected) in [
            (0, Touch::Untouched),
            (1, Touch::Partly),
            (4, Touch::Partly),
            (5, Touch::Wholly),
        ] {
            link.set_written(written);
            assert_eq!(link.touch(start, end), expected, "{written}");
        }
    }

    #[test]
    fn what_the_driver_has_can_not_be_withdrawn() {
        let (mut link, mut outgoing) = (Link::default(), Outgoing::default());
        let (first, _) = append(&mut link, b"a");
        assert!(link.can_withdraw(first));
        link.hand_out(&mut outgoing);
        let (second, _) = append(&mut link, b"b");
        assert!(!link.can_withdraw(first));
        assert!(link.can_withdraw(second));
    }

    #[test]
    fn without_a_last_word_everything_handed_out_counts_as_written() {
        let (mut link, mut outgoing) = (Link::default(), Outgoing::default());
        append(&mut link, b"abc");
        link.hand_out(&mut outgoing);
        append(&mut link, b"d");
        assert_eq!(link.reset(None), 3);
        assert_eq!(link.unsent(), 0);
    }

    proptest! {
        #[test]
        fn withdrawn_frames_are_skipped_and_offsets_stay_true(
            frames in prop::collection::vec((1usize..6, any::<bool>(), any::<bool>()), 0..20),
            step in 1usize..8,
        ) {
            let (mut link, mut outgoing) = (Link::default(), Outgoing::default());
            let (mut sent, mut expected, mut fresh) = (Vec::new(), Vec::new(), Vec::new());
            for (n, (length, keep, flush)) in frames.into_iter().enumerate() {
                let text = vec![n as u8; length];
                fresh.push((append(&mut link, &text), text, keep));
                if flush {
                    // In any order: calls end when they like.
                    for ((start, end), text, keep) in fresh.drain(..).rev().collect::<Vec<_>>() {
                        match keep {
                            true => expected.push((start, text)),
                            false => link.withdraw(start, end),
                        }
                    }
                    link.hand_out(&mut outgoing);
                    sent.extend(drain(&mut outgoing, step));
                    prop_assert_eq!(outgoing.offset(), link.appended);
                }
            }
            expected.sort();
            let expected: Vec<u8> = expected.into_iter().flat_map(|(_, text)| text).collect();
            prop_assert_eq!(sent, expected);
        }
    }
}
