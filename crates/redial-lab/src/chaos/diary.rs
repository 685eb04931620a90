//! What was done to the programs, and when: the other half of the story that the ledgers tell.

use std::sync::{Arc, Mutex, PoisonError};

use crate::harness::clock;

/// One bad turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    /// The server, asked to stop (SIGTERM): it ends what is begun, refuses the rest, and goes.
    ServerDrained,
    /// A client, with everything that it had under way.
    ClientKilled,
    /// A client that had saved the token of its call.
    SaverKilled,
    /// A connection, between two bytes of a frame or of two.
    Cut,
    /// The rest of a frame and everything after it, while the other direction goes on.
    Truncated,
    /// A frame and what comes after it wait for some milliseconds.
    Delayed,
    /// One direction stands still for longer than an attempt waits.
    Stalled,
    /// A request twice in a row.
    Duplicated,
    /// A reply twice in a row.
    ReplyDuplicated,
    /// A request went through, and a copy of it was kept.
    Copied,
    /// A request did not go through, and was kept.
    HeldBack,
    /// What was kept came to the server, on a connection of its own.
    LetThrough,
    /// Hundreds of connections at once.
    Flood,
    /// A frame that is begun and not ended.
    HalfOpen,
    /// A peer that asks for megabytes and reads nothing.
    NotRead,
    /// Bytes that are no frames, and frames that are no requests.
    Garbage,
}

/// Written by everybody who does something.
#[derive(Clone, Default)]
pub(crate) struct Diary(Arc<Mutex<Vec<(u64, Deed)>>>);

impl Diary {
    /// Writes down what is done now.
    pub(crate) fn note(&self, deed: Deed) {
        let now_us = clock::unix_us();
        let mut deeds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        deeds.push((now_us, deed));
    }

    /// Everything so far, with its time in microseconds since 1970.
    pub(crate) fn read(&self) -> Vec<(u64, Deed)> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
