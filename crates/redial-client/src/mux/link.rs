//! One link of the pool: the bytes on their way out, and how far they have come.
//!
//! Each frame is known by its offsets in the stream of its connection, so that when the connection
//! goes it is certain of each whether none, a part or all of it was written.

use std::{
    collections::{BTreeMap, VecDeque},
    task::Waker,
    time::Instant,
};

use redial_protocol::{FrameError, SessionId, rpc::KnownCalls};

use super::{control::PendingHello, link_auth::LinkAuth, slab::Key};

/// A slot of the pool. It has at most one connection at a time, or one being made.
#[derive(Debug, Default)]
pub(crate) struct Link {
    /// The table that its server has, or is taken to have, as an index among the client's.
    pub(super) home: usize,
    /// Counts the connections of this link, up when one ends.
    pub(super) epoch: u32,
    /// A driver looks after it.
    pub(super) has_driver: bool,
    /// Frames that no driver has taken. Withdrawn ones among them are skipped.
    out: Vec<u8>,
    withdrawn: BTreeMap<u64, u64>,
    /// Of frames in `out`.
    pub(super) write_limits: Vec<WriteLimit>,
    /// Attempts that were sent on this link.
    pub(super) attempts: u64,
    /// Times in a row that its connection failed, fell silent or could not be made, since it last
    /// brought a reply. Counted where there are several endpoints.
    pub(super) losses: u32,
    /// A session that the server at the other end has just said not to know.
    pub(super) refused: Option<SessionId>,
    /// How many frames lie in `out`.
    frames: usize,
    /// Offset of the end of `out`.
    appended: u64,
    /// Offset up to which bytes were given to the driver: nothing before it can be withdrawn.
    committed: u64,
    /// Offset up to which the transport has taken them.
    written: u64,
    /// The waker of the driver, if it sleeps with nothing to write.
    pub(super) driver: Option<Waker>,
    /// Calls that wait for room in `out` or for a permit, in the order in which they came.
    pub(super) blocked: VecDeque<Key>,
    /// Calls that wait to know whether the server at the other end has sessions.
    pub(super) waiting: VecDeque<Key>,
    /// Where the notifications end that are not written yet.
    pub(super) notifications: VecDeque<(u64, Key)>,
    /// Attempts that may still be answered on this connection, and permits reserved for others.
    pub(super) in_flight: usize,
    /// Connections in a row that were of no use: not made, or gone without one reply.
    pub(super) failures: u32,
    /// When the next may be made.
    pub(super) not_before: Option<Instant>,
    /// This connection has brought a reply.
    pub(super) is_proven: bool,
    /// Nothing was heard on the connection for as long as an attempt was waited for there.
    pub(super) is_suspect: bool,
    /// The server shuts down: nothing more is sent on this connection.
    pub(super) is_leaving: bool,
    /// What has no reply on this connection was not read; of that, what the server knows all the same.
    pub(super) unread: Option<Vec<KnownCalls>>,
    /// When something was last heard on the connection.
    pub(super) heard_at: Option<Instant>,
    /// Something was heard since a request was last appended.
    pub(super) is_heard: bool,
    /// The shortest deadline of the calls that may be in flight, in milliseconds from their attempt.
    pub(super) shortest_deadline_ms: Option<u64>,
    /// Of the spare: since when a call wants its connection, which has been of no use yet.
    pub(super) wanted_since: Option<Instant>,
    /// Of the spare: when to look whether it is still needed.
    pub(super) surplus_at: Option<Instant>,
    /// The transport takes nothing for now, although something waits to be written.
    pub(super) is_stuck: bool,
    /// How many frames of the connection held no message.
    pub(super) protocol_errors: u32,
    /// The answers to requests of the server's own that wait to be written.
    pub(super) refusals: Refusals,
    /// What the server said about the connection as a whole.
    pub(super) server_error: Option<String>,
    /// There is a connection.
    pub(super) is_connected: bool,
    /// By which token it shows who calls.
    pub(super) auth: LinkAuth,
    /// The hello that has no reply yet.
    pub(super) hello: Option<PendingHello>,
    /// A session that the server at the other end is known to know.
    pub(super) attached: Option<SessionId>,
    /// The session that the hello of the connection's first frame was for: all else was written
    /// after it.
    pub(super) hello_session: Option<SessionId>,
    /// Nothing is written to a connection that is not attached to a session: some server at this
    /// address has said that it has none.
    pub(super) must_attach: bool,
    /// That server has no sessions, or they are not wanted.
    pub(super) is_plain: bool,
    /// The server says, or the program, that it has no sessions: nothing in the data of its errors is
    /// Redial's word.
    pub(super) is_foreign: bool,
    /// The watermark that was last written on this connection.
    pub(super) acked: Option<(SessionId, u64)>,
}

/// The answers that wait to be written on one connection.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// How many bytes of them were appended since none of them waited.
    pub(super) bytes: u64,
    /// Offset of the end of the latest in the stream.
    pub(super) end: u64,
}

/// How much of a frame has been written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteProgress {
    /// Nothing: it was not sent.
    Unwritten,
    /// A part: it can't be executed if the rest doesn't follow.
    Partial,
    /// All of it: it may be executed.
    Complete,
}

impl Link {
    /// A link of one of several endpoints. Calls wait there for the answer to its hello.
    pub(super) fn of_several(home: usize, epoch: u32, must_attach: bool) -> Self {
        Self {
            home,
            epoch,
            must_attach,
            ..Self::default()
        }
    }

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

    /// Whether calls have to wait until the connection is attached to a session, or has shown a token.
    pub(super) fn is_barred(&self) -> bool {
        self.must_attach && self.attached.is_none() || self.auth.is_awaited
    }

    /// When the hello is to be sent again, or a token shown again.
    pub(super) fn handshake_at(&self) -> Option<Instant> {
        let hello_at = self.hello.as_ref().map(|hello| hello.again_at);
        match self.auth.renew_at {
            None => hello_at,
            Some(at) => Some(hello_at.map_or(at, |hello_at| hello_at.min(at))),
        }
    }

    /// Whether the connection does what it can be expected to.
    pub(super) fn works(&self) -> bool {
        self.is_connected && !self.is_suspect && !self.is_stuck && !self.is_leaving
    }

    /// Whether everything before this offset is known to be written.
    pub(super) fn is_written(&self, offset: u64) -> bool {
        self.written >= offset
    }

    /// A request was appended whose call ends after so many milliseconds.
    pub(super) fn note_deadline(&mut self, deadline_ms: u64) {
        let is_first = std::mem::take(&mut self.is_heard) && self.in_flight == 0;
        let shortest = self.shortest_deadline_ms.filter(|_| !is_first);
        self.shortest_deadline_ms = Some(shortest.map_or(deadline_ms, |ms| ms.min(deadline_ms)));
    }

    /// The shortest deadline of the requests to which nothing was heard, if there are some.
    pub(super) fn shortest_deadline_ms(&self) -> Option<u64> {
        let is_waiting = self.in_flight > 0 || !self.is_heard;
        self.shortest_deadline_ms.filter(|_| is_waiting)
    }

    /// How many bytes wait to be written.
    pub(super) fn unsent(&self) -> u64 {
        self.appended - self.written
    }

    /// Whether frames wait to be written, and fewer than `max_frames`.
    pub(super) fn gathers(&self, max_frames: usize) -> bool {
        (1..max_frames).contains(&self.frames)
    }

    /// Whether there are bytes that no driver has taken.
    pub(super) fn has_output(&self) -> bool {
        !self.out.is_empty()
    }

    pub(super) fn write_progress(&self, start: u64, end: u64) -> WriteProgress {
        write_progress(start, end, self.written)
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
        if offset > self.written {
            self.is_stuck = false;
        }
        self.written = offset;
    }

    /// Gives the driver what is ready. `transmit` must be empty.
    pub(super) fn hand_out(&mut self, transmit: &mut Transmit) {
        transmit.bytes.clear();
        transmit.position = 0;
        transmit.base = self.committed;
        std::mem::swap(&mut transmit.bytes, &mut self.out);
        transmit.withdrawn = std::mem::take(&mut self.withdrawn);
        transmit.write_limits.append(&mut self.write_limits);
        self.committed = self.appended;
        self.frames = 0;
    }

    /// The connection has brought a reply: the next one may be made at once.
    pub(super) fn mark_useful(&mut self) {
        self.is_proven = true;
        self.failures = 0;
        self.losses = 0;
        self.not_before = None;
    }

    /// The connection is gone, and everything on its way. Gives the offset up to which it may have
    /// been written: where that is not known, all that the driver was given.
    pub(super) fn reset(&mut self, written: Option<u64>) -> u64 {
        let written = written.unwrap_or(self.committed);
        self.epoch = self.epoch.wrapping_add(1);
        self.out.clear();
        self.frames = 0;
        self.withdrawn.clear();
        self.write_limits.clear();
        self.notifications.clear();
        (self.appended, self.committed, self.written) = (0, 0, 0);
        self.in_flight = 0;
        (self.is_proven, self.is_suspect, self.is_stuck) = (false, false, false);
        self.heard_at = None;
        (self.is_heard, self.shortest_deadline_ms) = (false, None);
        (self.wanted_since, self.surplus_at) = (None, None);
        (self.is_leaving, self.unread) = (false, None);
        (self.is_connected, self.is_plain) = (false, false);
        self.is_foreign = false;
        (self.hello, self.attached, self.acked) = (None, None, None);
        (self.hello_session, self.refused) = (None, None);
        (self.protocol_errors, self.refusals) = (0, Refusals::default());
        written
    }
}

/// How much of the frame from `start` to `end` is before `written`.
pub(super) fn write_progress(start: u64, end: u64, written: u64) -> WriteProgress {
    if written <= start {
        WriteProgress::Unwritten
    } else if written < end {
        WriteProgress::Partial
    } else {
        WriteProgress::Complete
    }
}

/// The bytes that a driver has taken from a [`Link`] to write, and how far it is.
#[derive(Debug, Default)]
pub(crate) struct Transmit {
    /// Goes out before everything else, and counts in no offset.
    preamble: Vec<u8>,
    preamble_written: usize,
    bytes: Vec<u8>,
    /// Offset in the stream of `bytes[0]`.
    base: u64,
    position: usize,
    pub(super) withdrawn: BTreeMap<u64, u64>,
    pub(super) write_limits: Vec<WriteLimit>,
}

impl Transmit {
    /// One that begins with a preamble.
    pub(crate) fn with_preamble(preamble: Vec<u8>) -> Self {
        Self {
            preamble,
            ..Self::default()
        }
    }

    /// The next bytes to write; may be empty.
    pub(crate) fn ready(&mut self) -> &[u8] {
        if self.preamble_written < self.preamble.len() {
            return &self.preamble[self.preamble_written..];
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
        if self.preamble_written < self.preamble.len() {
            self.preamble_written += bytes;
        } else {
            self.position += bytes;
        }
    }

    /// Offset in the stream up to which everything has been written or skipped.
    pub(crate) fn offset(&self) -> u64 {
        self.base + self.position as u64
    }
}

/// Until when a frame may be written, by its offsets in the stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct WriteLimit {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) until: Instant,
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
    fn drain(transmit: &mut Transmit, step: usize) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let ready = transmit.ready();
            let count = ready.len().min(step);
            if count == 0 {
                return all;
            }
            all.extend_from_slice(&ready[..count]);
            transmit.advance(count);
        }
    }

    #[test]
    fn a_frame_is_not_partly_or_wholly_written() {
        let mut link = Link::default();
        let (start, end) = append(&mut link, b"12345");
        for (written, expected) in [
            (0, WriteProgress::Unwritten),
            (1, WriteProgress::Partial),
            (4, WriteProgress::Partial),
            (5, WriteProgress::Complete),
        ] {
            link.set_written(written);
            assert_eq!(link.write_progress(start, end), expected, "{written}");
        }
    }

    #[test]
    fn what_the_driver_has_can_not_be_withdrawn() {
        let (mut link, mut transmit) = (Link::default(), Transmit::default());
        let (first, _) = append(&mut link, b"a");
        assert!(link.can_withdraw(first));
        link.hand_out(&mut transmit);
        let (second, _) = append(&mut link, b"b");
        assert!(!link.can_withdraw(first));
        assert!(link.can_withdraw(second));
    }

    #[test]
    fn with_an_unknown_offset_everything_handed_out_counts_as_written() {
        let (mut link, mut transmit) = (Link::default(), Transmit::default());
        append(&mut link, b"abc");
        link.hand_out(&mut transmit);
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
            let (mut link, mut transmit) = (Link::default(), Transmit::default());
            let (mut sent, mut expected, mut fresh) = (Vec::new(), Vec::new(), Vec::new());
            for (n, (length, keep, flush)) in frames.into_iter().enumerate() {
                let text = vec![n as u8; length];
                fresh.push((append(&mut link, &text), text, keep));
                if flush {
                    // In any order: calls end when they like.
                    for ((start, end), text, keep) in fresh.drain(..).rev().collect::<Vec<_>>() {
                        if keep {
                            expected.push((start, text));
                        } else {
                            link.withdraw(start, end);
                        }
                    }
                    link.hand_out(&mut transmit);
                    sent.extend(drain(&mut transmit, step));
                    prop_assert_eq!(transmit.offset(), link.appended);
                }
            }
            expected.sort();
            let expected: Vec<u8> = expected.into_iter().flat_map(|(_, text)| text).collect();
            prop_assert_eq!(sent, expected);
        }
    }
}
