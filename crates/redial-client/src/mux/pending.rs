//! One call that is not over: its attempts, and what it has been told.

use std::{task::Waker, time::Instant};

use redial_protocol::{ErrorObject, ReplyMeta};
use serde_json::value::RawValue;

use super::link::{Link, Touch};
use crate::{error::Cause, few::Few, report::AttemptEnd, retry::classify::Verdict};

/// A call that is not over. It lives as long as the call, over all its attempts and connections.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(super) waker: Option<Waker>,
    pub(crate) attempts: Few<Attempt>,
    /// What ends the call.
    pub(crate) answer: Option<Answer>,
    /// What happened to the latest attempt, if the call hasn't seen it yet.
    pub(crate) signal: Option<Signal>,
    /// What happened last, for the error.
    pub(crate) trouble: Option<Cause>,
    /// The server asked for no attempt before this.
    pub(crate) not_before: Option<Instant>,
    pub(super) is_notification: bool,
    /// It is in the list of those that wait for room.
    pub(super) is_blocked: bool,
    /// The link that keeps a place among its unanswered attempts for this call. Without that, the
    /// next call of whoever gave the place up would take it before this one has woken.
    pub(super) place: Option<usize>,
}

/// What ends a call.
#[derive(Debug)]
pub(crate) enum Answer {
    /// A result.
    Result(Box<RawValue>, ReplyMeta),
    /// An error, and what it means.
    Error(ErrorObject, Verdict, ReplyMeta),
    /// A reply to this call that has no usable outcome.
    Malformed(String),
    /// A notification was written.
    Written,
}

/// What happened to the latest attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Nothing of it was written: it was none.
    Unsent,
    /// The peer doesn't take the member that it carried.
    WithoutMember,
    /// It is over.
    Ended,
}

/// One sending of a call.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) number: u32,
    pub(crate) started: Instant,
    pub(crate) ended: Option<(Instant, AttemptEnd)>,
    pub(super) link: usize,
    pub(super) epoch: u32,
    /// Offsets of its frame in the stream of its connection.
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) carried_member: bool,
    pub(super) fate: Fate,
}

/// Whether an attempt may be answered, and whether it may be executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Its connection stands: it may be both.
    Live,
    /// It was wholly written to a connection that is gone: it may be executed.
    Lost,
    /// Neither: it was refused, or never arrived whole.
    Closed,
}

impl Attempt {
    pub(super) fn finish(&mut self, now: Instant, end: AttemptEnd) {
        self.ended = Some((now, end));
    }

    /// Its connection is the link's, and all of it was written there: what was not can't be meant
    /// by any reply.
    fn can_be_answered(&self, number: usize, link: &Link, must_carry: bool) -> bool {
        self.fate == Fate::Live
            && (self.link, self.epoch) == (number, link.epoch)
            && link.touch(self.start, self.end) == Touch::Wholly
            && (self.carried_member || !must_carry)
    }

    /// It may have been executed.
    pub(crate) fn is_open(&self) -> bool {
        self.fate != Fate::Closed
    }
}

impl Pending {
    pub(crate) fn new(is_notification: bool) -> Self {
        Self {
            waker: None,
            attempts: Few::new(),
            answer: None,
            signal: None,
            trouble: None,
            not_before: None,
            is_notification,
            is_blocked: false,
            place: None,
        }
    }

    pub(super) fn is_latest_running(&self) -> bool {
        self.attempts
            .last()
            .is_some_and(|attempt| attempt.ended.is_none())
    }

    /// The attempt that a reply on the link's connection is counted for: the latest that may
    /// still be answered there, of those that carried our member if it `must_carry` it.
    pub(super) fn answered_by(
        &mut self,
        number: usize,
        link: &Link,
        must_carry: bool,
    ) -> Option<&mut Attempt> {
        self.attempts
            .iter_mut()
            .rev()
            .find(|attempt| attempt.can_be_answered(number, link, must_carry))
    }

    /// Whether an attempt that carried our member may still be answered on the connection.
    pub(super) fn has_carried(&self, number: usize, link: &Link) -> bool {
        let mut attempts = self.attempts.iter();
        attempts.any(|attempt| attempt.can_be_answered(number, link, true))
    }

    /// An attempt is over. The call acts only if that was the one that it is waiting for.
    pub(super) fn tell(&mut self, was_running: bool, signal: Signal, trouble: Cause) {
        if was_running {
            self.signal = Some(signal);
            self.trouble = Some(trouble);
        }
    }

    /// Whether there was no connection for the attempt before the latest either. That one then
    /// stands for both, so that a long outage leaves no long history.
    pub(super) fn is_again_unconnected(&mut self, now: Instant) -> bool {
        let before = self.attempts.iter_mut().nth_back(1);
        let before = before.and_then(|attempt| attempt.ended.as_mut());
        match before {
            Some((ended, AttemptEnd::ConnectFailed)) => {
                *ended = now;
                true
            }
            _ => false,
        }
    }

    /// Some attempt may have been executed.
    pub(crate) fn is_open(&self) -> bool {
        self.attempts.iter().any(Attempt::is_open)
    }

    /// Some attempt may still be answered.
    pub(crate) fn is_reachable(&self) -> bool {
        self.attempts
            .iter()
            .any(|attempt| attempt.fate == Fate::Live)
    }

    /// When the oldest attempt was made that may have been executed and is no longer waited for.
    pub(crate) fn open_since(&self) -> Option<Instant> {
        self.attempts
            .iter()
            .find(|attempt| attempt.is_open() && attempt.ended.is_some())
            .map(|attempt| attempt.started)
    }
}
