//! One call that is not over: its name, its attempts, and what it has been told.

use std::{task::Waker, time::Instant};

use redial_protocol::{ErrorObject, ReplyMeta, SessionCall};
use uuid::Uuid;

use super::link::{Link, Touch};
use crate::{error::Cause, few::Few, json::Json, report::AttemptEnd, retry::classify::Verdict};

/// What a call is, as far as the bookkeeping has to know.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Nature {
    /// It is never answered.
    pub(crate) is_notification: bool,
    /// It has no effect: it may be executed any number of times.
    pub(crate) is_query: bool,
    /// It is over as soon as it has a name.
    pub(crate) is_reservation: bool,
    /// An earlier life of the call may have been executed.
    pub(crate) is_resumed: bool,
    /// Its name is known to others: it can get no other.
    pub(crate) is_bound: bool,
}

/// The name of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    /// It gets one when it can be sent.
    None,
    /// An id that is no number of this client's sessions.
    Id(Uuid),
    /// A number in one of this client's sessions.
    Number(SessionCall),
}

impl Name {
    pub(crate) fn id(self) -> Option<Uuid> {
        match self {
            Self::None => None,
            Self::Id(id) => Some(id),
            Self::Number(call) => Some(call.uuid()),
        }
    }

    /// Whether a server that knows the session knows the call again, however late.
    pub(crate) fn is_of_a_session(self) -> bool {
        match self {
            Self::None => false,
            Self::Id(id) => SessionCall::from_uuid(id).is_some(),
            Self::Number(_) => true,
        }
    }
}

/// A call that is not over. It lives as long as the call, over all its attempts and connections.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) name: Name,
    pub(crate) nature: Nature,
    pub(super) waker: Option<Waker>,
    pub(crate) attempts: Few<Attempt>,
    /// What ends the call.
    pub(crate) answer: Option<Answer>,
    /// When a reply brought it, if one did.
    pub(super) answered_at: Option<Instant>,
    /// What happened to its attempts, if the call hasn't seen it yet.
    pub(crate) signal: Option<Signal>,
    /// Attempts that were none, if the call hasn't seen it yet: their server didn't know the session.
    pub(crate) disowned: u32,
    /// What happened last, for the error.
    pub(crate) trouble: Option<Box<Cause>>,
    /// The server asked for no attempt before this.
    pub(crate) not_before: Option<Instant>,
    /// It is in the list of those that wait for room.
    pub(super) is_blocked: bool,
    /// It is in the list of those that wait for a number.
    pub(super) is_queued: bool,
    /// It is in the list of those that wait to know what the server speaks, since then.
    pub(super) waiting: Option<Instant>,
    /// The link that keeps a place among its unanswered attempts for this call. Without that, the
    /// next call of whoever gave the place up would take it before this one has woken.
    pub(super) place: Option<usize>,
    /// When the call wants to be woken, whatever happens.
    pub(super) wakes_at: Option<Instant>,
    /// Which list of alarms has it, and for when: that time or earlier.
    pub(super) alarm: Option<(usize, Instant)>,
}

/// What is left of a call that is over. Not to be dropped under the lock: with a waker a task may
/// go that wants it.
#[derive(Debug)]
pub(crate) struct Closed {
    pub(crate) name: Name,
    pub(crate) attempts: Few<Attempt>,
    _waker: Option<Waker>,
    _trouble: Option<Box<Cause>>,
}

impl Closed {
    /// Of a call that never was one.
    pub(crate) fn unbegun(name: Name) -> Self {
        Self {
            name,
            attempts: Few::new(),
            _waker: None,
            _trouble: None,
        }
    }
}

/// What ends a call.
#[derive(Debug)]
pub(crate) enum Answer {
    /// A result.
    Result(Json, ReplyMeta),
    /// An error, and what it means.
    Error(ErrorObject, Verdict, ReplyMeta),
    /// A reply to this call that has no usable outcome.
    Malformed(String),
    /// A notification was written.
    Written,
    /// The session that it has a number in is gone.
    SessionLost,
}

impl Answer {
    /// A result that is written where it stays.
    #[inline]
    pub(super) fn result_into(place: &mut Option<Self>, text: &[u8]) {
        let empty = Self::Result(Json::EMPTY, ReplyMeta::default());
        if let Self::Result(result, _) = place.insert(empty) {
            result.append(text);
        }
    }
}

/// What happened to the attempts of a call that were waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Nothing of the latest was written: it was none.
    Unsent,
    /// All of them are over.
    Ended,
}

/// One sending of a call.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    /// The call's id at that time; nil if it has none.
    pub(crate) id: Uuid,
    pub(crate) number: u32,
    pub(crate) is_hedge: bool,
    pub(crate) started: Instant,
    pub(crate) ended: Option<(Instant, AttemptEnd)>,
    pub(super) link: usize,
    pub(super) epoch: u32,
    /// Offsets of its frame in the stream of its connection.
    pub(super) start: u64,
    pub(super) end: u64,
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

    /// It was made on the link's connection, and may be answered there.
    pub(super) fn is_on(&self, number: usize, epoch: u32) -> bool {
        self.fate == Fate::Live && (self.link, self.epoch) == (number, epoch)
    }

    /// Its connection is the link's, and all of it was written there: what was not can't be meant
    /// by any reply.
    fn can_be_answered(&self, number: usize, link: &Link) -> bool {
        self.is_on(number, link.epoch) && link.touch(self.start, self.end) == Touch::Wholly
    }

    /// It may have been executed.
    pub(crate) fn is_open(&self) -> bool {
        self.fate != Fate::Closed
    }
}

impl Pending {
    pub(crate) fn new(nature: Nature) -> Self {
        Self {
            name: Name::None,
            nature,
            waker: None,
            attempts: Few::new(),
            answer: None,
            answered_at: None,
            signal: None,
            disowned: 0,
            trouble: None,
            not_before: None,
            is_blocked: false,
            is_queued: false,
            waiting: None,
            place: None,
            wakes_at: None,
            alarm: None,
        }
    }

    /// Makes a new call of what is left of one that is over: cheaper than to build one and to copy
    /// it here, since most calls need little of it.
    pub(super) fn renew(&mut self, nature: Nature) {
        let Self {
            name,
            nature: its_nature,
            waker,
            attempts,
            answer,
            answered_at,
            signal,
            disowned,
            trouble,
            not_before,
            is_blocked,
            is_queued,
            waiting,
            place,
            wakes_at,
            alarm,
        } = self;
        (*name, *its_nature) = (Name::None, nature);
        attempts.clear();
        (*waker, *answer, *trouble) = (None, None, None);
        (*signal, *disowned) = (None, 0);
        (*answered_at, *not_before, *waiting, *wakes_at) = (None, None, None, None);
        (*is_blocked, *is_queued) = (false, false);
        (*place, *alarm) = (None, None);
    }

    /// Takes what may not be dropped under the lock, and what is of use after the call.
    pub(super) fn take_into(&mut self, closed: &mut Closed) {
        closed.name = self.name;
        std::mem::swap(&mut closed.attempts, &mut self.attempts);
        closed._waker = self.waker.take();
        closed._trouble = self.trouble.take();
    }

    /// It has a number, and no attempt of it was ever made.
    pub(super) fn is_fresh(&self) -> bool {
        let is_numbered = matches!(self.name, Name::Number(_));
        is_numbered && self.attempts.is_empty() && !self.nature.is_resumed
    }

    /// Some attempt is waited for.
    pub(crate) fn is_running(&self) -> bool {
        let mut attempts = self.attempts.iter();
        attempts.any(|attempt| attempt.ended.is_none())
    }

    /// The attempt that a reply on the link's connection is counted for: the latest that may
    /// still be answered there.
    pub(super) fn answered_by(&mut self, number: usize, link: &Link) -> Option<&mut Attempt> {
        self.attempts
            .iter_mut()
            .rev()
            .find(|attempt| attempt.can_be_answered(number, link))
    }

    /// The attempt that a refusal on the link's connection is for. A server with sessions says which
    /// it was: if a request was duplicated on the way, it is refused twice.
    pub(super) fn refused_by(
        &mut self,
        number: usize,
        link: &Link,
        said: Option<u32>,
    ) -> Option<&mut Attempt> {
        let is_it = |attempt: &Attempt| said.is_none_or(|said| said == attempt.number);
        self.attempts
            .iter_mut()
            .rev()
            .find(|attempt| attempt.can_be_answered(number, link) && is_it(attempt))
    }

    /// An attempt is over. The call acts only if that was the last one that it is waiting for.
    pub(super) fn tell(&mut self, was_running: bool, signal: Signal, trouble: Cause) {
        if was_running && !self.is_running() {
            self.signal = Some(signal);
            self.trouble = Some(trouble.into());
        }
    }

    /// There is no connection for the next attempt either. One stands for all of these, so that a
    /// long outage leaves no long history.
    pub(super) fn had_no_connection(&mut self, since: Instant, now: Instant, cause: Cause) {
        self.trouble = Some(cause.into());
        if let Some(latest) = self.attempts.last_mut()
            && let Some((ended, AttemptEnd::ConnectFailed)) = &mut latest.ended
        {
            *ended = now;
            return;
        }
        let number = self.attempts.last().map_or(1, |latest| latest.number + 1);
        self.attempts.push(Attempt {
            id: self.name.id().unwrap_or_default(),
            number,
            is_hedge: false,
            started: since,
            ended: Some((now, AttemptEnd::ConnectFailed)),
            link: 0,
            epoch: 0,
            start: 0,
            end: 0,
            fate: Fate::Closed,
        });
    }

    /// Some attempt may have been executed.
    pub(crate) fn is_open(&self) -> bool {
        self.attempts.iter().any(Attempt::is_open)
    }

    /// The call may have been executed, and another execution would be one too many.
    pub(crate) fn is_delicate(&self) -> bool {
        !self.nature.is_query && (self.nature.is_resumed || self.is_open())
    }

    /// Some attempt may still be answered.
    pub(crate) fn is_reachable(&self) -> bool {
        self.attempts
            .iter()
            .any(|attempt| attempt.fate == Fate::Live)
    }

    /// When the oldest attempt was made that may have been executed: of those that are waited for
    /// no longer, or of all.
    pub(crate) fn open_since(&self, is_of_all: bool) -> Option<Instant> {
        self.attempts
            .iter()
            .find(|attempt| attempt.is_open() && (is_of_all || attempt.ended.is_some()))
            .map(|attempt| attempt.started)
    }
}
