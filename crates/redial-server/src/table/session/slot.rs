//! What is kept of one call of a session.

use std::time::Instant;

use super::outcome::Outcome;
use crate::table::{Attempt, Fingerprint, Waits};

#[derive(Debug)]
pub(super) enum Slot<W> {
    /// Nothing has been executed. Attempts up to this number have been refused.
    Empty {
        refused: u32,
    },
    Running(Running<W>),
    Finished {
        fingerprint: Fingerprint,
        outcome: Outcome,
    },
    /// Nothing has been executed, and somebody was told that nothing ever will be.
    Fenced,
    /// The caller is done with it.
    Over,
}

#[derive(Debug)]
pub(super) struct Running<W> {
    pub(super) fingerprint: Fingerprint,
    /// When the last of the callers stops waiting, if all of them do.
    pub(super) deadline: Option<Instant>,
    /// The highest number of an attempt.
    pub(super) attempt: u32,
    /// The handler has begun: the call can't be taken back.
    pub(super) is_started: bool,
    pub(super) waiters: Vec<W>,
}

impl<W> Running<W> {
    pub(super) fn new(attempt: Attempt, is_started: bool) -> Self {
        Self {
            fingerprint: attempt.fingerprint,
            deadline: attempt.deadline,
            attempt: attempt.number,
            is_started,
            waiters: Vec::new(),
        }
    }

    /// Adds a waiter. The call may start as long as anybody still wants it to.
    pub(super) fn join(&mut self, waiter: W, attempt: Attempt) {
        self.waiters.push(waiter);
        self.attempt = self.attempt.max(attempt.number);
        let deadlines = self.deadline.zip(attempt.deadline);
        self.deadline = deadlines.map(|(one, other)| one.max(other));
    }
}

impl<W: Waits> Running<W> {
    /// Whether as many wait as may. Those whose connection is gone make room for others.
    pub(super) fn is_crowded(&mut self, max: usize) -> bool {
        if self.waiters.len() >= max {
            self.waiters.retain(Waits::is_there);
        }
        self.waiters.len() >= max
    }
}
