//! One pending call: its id, its attempts, and what has happened to them.

use std::{
    sync::Arc,
    task::Waker,
    time::{Duration, Instant},
};

use redial_protocol::{ErrorObject, FrameError, ReplyMeta, SessionCall};
use uuid::Uuid;

use super::{
    attempt::{Attempt, AttemptState},
    link::Link,
};
use crate::{
    cause::Cause, clock::after, inline_bytes::InlineBytes, policy::classify::ErrorAction,
    report::AttemptEnd, small_vec::SmallVec,
};

/// The index of a table among the client's, or none: in one word, since each call is written anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Home(u32);

impl Home {
    pub(crate) const NONE: Self = Self(u32::MAX);

    pub(super) fn of(table: usize) -> Self {
        Self(table as u32)
    }

    pub(crate) fn get(self) -> Option<usize> {
        (self != Self::NONE).then_some(self.0 as usize)
    }
}

/// What kind of call it is, as far as the bookkeeping has to know.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CallFlags {
    /// It is never answered.
    pub(crate) is_notification: bool,
    /// It has no effect: it may be executed any number of times.
    pub(crate) is_query: bool,
    /// It ends as soon as it has an id.
    pub(crate) is_reservation: bool,
    /// It was sent before, perhaps by another process, and may have been executed.
    pub(crate) is_resumed: bool,
    /// A token has its id: it can get no other.
    pub(crate) is_bound: bool,
    /// It goes to servers of its home alone, whatever it does.
    pub(crate) is_homed: bool,
    /// It is not to wait for a server that is down.
    pub(crate) fails_fast: bool,
}

/// The id of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallId {
    /// It gets one when it can be sent.
    Unassigned,
    /// An id that is no number in a session of this client.
    Plain(Uuid),
    /// A number in a session of this client.
    Session(SessionCall),
}

impl CallFlags {
    /// Whether it may be sent under any id, also before the client has a session.
    pub(super) fn needs_no_record(self) -> bool {
        self.is_query && !self.is_reservation && !self.is_bound
    }
}

impl CallId {
    pub(crate) fn uuid(self) -> Option<Uuid> {
        match self {
            Self::Unassigned => None,
            Self::Plain(id) => Some(id),
            Self::Session(call) => Some(call.uuid()),
        }
    }

    /// Whether a server that knows the session knows the call again, however late.
    pub(crate) fn is_of_a_session(self) -> bool {
        match self {
            Self::Unassigned => false,
            Self::Plain(id) => SessionCall::from_uuid(id).is_some(),
            Self::Session(_) => true,
        }
    }
}

/// A call from its first poll to its end, over all its attempts and connections.
#[derive(Debug)]
pub(crate) struct PendingCall {
    pub(crate) id: CallId,
    pub(crate) flags: CallFlags,
    pub(super) waker: Option<Waker>,
    pub(crate) attempts: SmallVec<Attempt>,
    /// What ends the call.
    pub(crate) answer: Option<Answer>,
    /// When a reply brought it, if one did.
    pub(super) answered_at: Option<Instant>,
    /// What happened to its attempts, if the call hasn't seen it yet.
    pub(crate) signal: Option<Signal>,
    /// Attempts that a server refused because it never knew the session, if the call hasn't seen it
    /// yet: they don't count.
    pub(crate) rolled_back: u32,
    /// The number of the latest attempt that was counted as a retry.
    pub(super) counted: u32,
    /// Attempts that found no room to wait for the call: they don't count.
    pub(crate) unplaced: u32,
    /// It was refused for want of a valid token before.
    pub(super) was_unauthenticated: bool,
    /// What happened last, for the error.
    pub(crate) last_cause: Option<Box<Cause>>,
    /// The server asked for no attempt before this.
    pub(crate) not_before: Option<Instant>,
    /// It did so since the call last looked, and the time is still as the server said it.
    pub(crate) is_hint_new: bool,
    /// It is in the list of those that wait for room.
    pub(super) is_blocked: bool,
    /// The table that it was last sent to.
    pub(crate) home: Home,
    /// It is in the list of those that wait for a number, of this table.
    pub(super) queued_at: Home,
    /// It is in the list of those that wait for the handshake of a link, since when, and which.
    pub(super) handshake_wait: Option<(Instant, usize)>,
    /// The link that has a permit reserved for this call. Without it, a call that was sent later
    /// would take the room before this one has woken.
    pub(super) permit: Option<usize>,
    /// The endpoint whose budget has paid for the latest retry, or for the one that is to be made.
    pub(super) paid_by: Option<u32>,
    /// When the call is to be woken, whatever happens, and by which timer task.
    pub(super) wake_at: Option<(usize, Instant)>,
}

/// What is left of a call that has ended. Not to be dropped under the lock: with a waker a task may
/// go that takes it.
#[derive(Debug)]
pub(crate) struct RemovedCall {
    pub(crate) id: CallId,
    pub(crate) attempts: SmallVec<Attempt>,
    _waker: Option<Waker>,
    _last_cause: Option<Box<Cause>>,
}

impl RemovedCall {
    /// Of a call that was never pending.
    pub(crate) fn unbegun(id: CallId) -> Self {
        Self {
            id,
            attempts: SmallVec::new(),
            _waker: None,
            _last_cause: None,
        }
    }
}

/// What ends a call.
#[derive(Debug)]
pub(crate) enum Answer {
    /// A result.
    Result(InlineBytes, ReplyMeta),
    /// An error, and what it means.
    Error(ErrorObject, ErrorAction, ReplyMeta),
    /// A reply to this call that has no usable outcome.
    Malformed(String),
    /// A reply to this call that is larger than the client takes, and whether it has a result.
    Oversized(FrameError, bool),
    /// A notification was written.
    Written,
    /// The session that it has a number in is gone.
    SessionLost,
    /// It was written to a server that says it has no sessions.
    NoSessions(Arc<str>),
}

impl Answer {
    /// Whether the call was executed, and answered.
    pub(crate) fn is_outcome(&self) -> bool {
        matches!(
            self,
            Self::Result(..) | Self::Error(_, ErrorAction::Failed, _)
        )
    }

    /// Puts a result into its slot, written where it stays.
    #[inline]
    pub(super) fn result_into(slot: &mut Option<Self>, text: &[u8]) {
        let empty = Self::Result(InlineBytes::EMPTY, ReplyMeta::default());
        if let Self::Result(result, _) = slot.insert(empty) {
            result.append(text);
        }
    }
}

/// What happened to the attempts of a call that were waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Nothing of the latest was written: it doesn't count.
    Unsent,
    /// All of them have ended.
    Ended,
    /// First the one, then the other, before the call has seen it.
    UnsentThenEnded,
}

impl PendingCall {
    pub(crate) fn new(flags: CallFlags) -> Self {
        Self {
            id: CallId::Unassigned,
            flags,
            waker: None,
            attempts: SmallVec::new(),
            answer: None,
            answered_at: None,
            signal: None,
            rolled_back: 0,
            counted: 0,
            unplaced: 0,
            was_unauthenticated: false,
            last_cause: None,
            not_before: None,
            is_hint_new: false,
            is_blocked: false,
            home: Home::NONE,
            queued_at: Home::NONE,
            handshake_wait: None,
            permit: None,
            paid_by: None,
            wake_at: None,
        }
    }

    /// Moves out what may not be dropped under the lock, and what is of use after the call.
    pub(super) fn move_into(&mut self, removed: &mut RemovedCall) {
        removed.id = self.id;
        std::mem::swap(&mut removed.attempts, &mut self.attempts);
        removed._waker = self.waker.take();
        removed._last_cause = self.last_cause.take();
    }

    /// It waits to know whether the link's server has sessions.
    pub(super) fn awaits_handshake_of(&self, link: usize) -> bool {
        self.handshake_wait.is_some_and(|(_, on)| on == link)
    }

    /// It has a number, and was never sent.
    pub(super) fn is_unsent(&self) -> bool {
        let is_numbered = matches!(self.id, CallId::Session(_));
        is_numbered && self.attempts.is_empty() && !self.flags.is_resumed
    }

    /// Some attempt is waited for.
    pub(crate) fn has_running_attempt(&self) -> bool {
        let mut attempts = self.attempts.iter();
        attempts.any(|attempt| attempt.ended.is_none())
    }

    /// The attempt that a reply on the link's connection is counted for: the latest that may
    /// still be answered there.
    pub(super) fn attempt_answered_on(
        &mut self,
        number: usize,
        link: &Link,
    ) -> Option<&mut Attempt> {
        self.attempts
            .iter_mut()
            .rev()
            .find(|attempt| attempt.can_be_answered(number, link))
    }

    /// The attempt that a refusal on the link's connection is for. A server with sessions names its
    /// number: a request that was duplicated on the way is refused twice.
    pub(super) fn attempt_refused_on(
        &mut self,
        number: usize,
        link: &Link,
        named: Option<u32>,
    ) -> Option<&mut Attempt> {
        let is_it = |attempt: &Attempt| named.is_none_or(|named| named == attempt.number);
        self.attempts
            .iter_mut()
            .rev()
            .find(|attempt| attempt.can_be_answered(number, link) && is_it(attempt))
    }

    /// An attempt has ended. The call acts only if that was the last one that it waits for.
    pub(super) fn signal_end(&mut self, was_running: bool, signal: Signal, cause: Cause) {
        if was_running && !self.has_running_attempt() {
            let was_unsent = self.signal == Some(Signal::Unsent);
            self.signal = Some(match signal {
                Signal::Ended if was_unsent => Signal::UnsentThenEnded,
                signal => signal,
            });
            self.last_cause = Some(cause.into());
        }
    }

    /// The server asks for no attempt for so long.
    pub(super) fn postpone(&mut self, no_sooner_than: Duration, now: Instant) {
        let asked = after(now, no_sooner_than);
        if self.not_before.is_none_or(|before| before < asked) {
            (self.not_before, self.is_hint_new) = (Some(asked), !no_sooner_than.is_zero());
        }
    }

    /// There is no connection for the next attempt. One record stands for all of these in a row, so
    /// that a long outage leaves no long history.
    pub(super) fn record_connect_failure(&mut self, since: Instant, now: Instant, cause: Cause) {
        self.last_cause = Some(cause.into());
        if let Some(latest) = self.attempts.last_mut()
            && let Some((ended, AttemptEnd::ConnectFailed)) = &mut latest.ended
        {
            *ended = now;
            return;
        }
        let number = self.attempts.last().map_or(1, |latest| latest.number + 1);
        self.attempts.push(Attempt {
            id: self.id.uuid().unwrap_or_default(),
            number,
            is_hedge: false,
            started: since,
            ended: Some((now, AttemptEnd::ConnectFailed)),
            link: 0,
            epoch: 0,
            start: 0,
            end: 0,
            state: AttemptState::Void,
        });
    }

    pub(crate) fn may_have_executed(&self) -> bool {
        self.attempts.iter().any(Attempt::may_have_executed)
    }

    /// The call may have been executed, and a second execution would do harm.
    pub(crate) fn must_not_repeat(&self) -> bool {
        !self.flags.is_query && (self.flags.is_resumed || self.may_have_executed())
    }

    /// Some attempt may still be answered.
    pub(crate) fn may_be_answered(&self) -> bool {
        self.attempts
            .iter()
            .any(|attempt| attempt.state == AttemptState::Live)
    }

    /// When the oldest attempt was made that may have been executed: of those that are waited for
    /// no longer, or of all.
    pub(crate) fn oldest_uncertain(&self, of: Uncertain) -> Option<Instant> {
        self.attempts
            .iter()
            .find(|attempt| {
                let counts = of == Uncertain::All || attempt.ended.is_some();
                attempt.may_have_executed() && counts
            })
            .map(|attempt| attempt.started)
    }
}

/// Which attempts [`PendingCall::oldest_uncertain`] looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Uncertain {
    /// Those that are waited for no longer.
    Ended,
    /// Those that are waited for, too.
    All,
}
