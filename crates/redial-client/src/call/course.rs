//! What is a call's own: how it becomes pending, what is decided about it, and how it ends.

use std::{fmt, ops::ControlFlow, sync::Arc, task::Waker, time::Instant};

use redial_protocol::{ErrorCode, ReplyMeta};
use uuid::Uuid;

use crate::{
    client::{Shared, State},
    config::CallLimits,
    error::{CallError, Cause, Details, GiveUpReason},
    json::Json,
    mux::{Answer, Closed, End, Key, Name, Nature, Pending, Taken},
    report::{AttemptEnd, AttemptReport, Report},
    retry::{Ending, Flight, Step, classify::Verdict},
    token::{CallToken, Hold},
};

/// What is a call's own.
// Laid out as [`Flight`] is, and for the same reason.
#[repr(C)]
pub(super) struct Course {
    pub(super) flight: Flight,
    /// Keeps the call's number while its token lives.
    pub(super) hold: Option<Arc<Hold>>,
    /// What is wrong with it, whatever the server says.
    pub(super) problem: Option<Box<Cause>>,
    connects_before: u64,
    pub(super) nature: Nature,
    /// Something before or beside this call may have been executed under its id.
    may_be_executed: bool,
    pub(super) is_pending: bool,
    /// Of the caller's choice, or of its token.
    pub(super) id: Option<Uuid>,
}

/// A call that is over, taken from the pending ones in the same step.
pub(super) struct Over {
    /// Until it is concluded.
    ending: Option<Ending>,
    closed: Closed,
    is_unknown: bool,
    at: Instant,
    connects: u64,
    /// What the server's answer said beside the outcome, if there was one.
    answered: Option<ReplyMeta>,
}

impl Course {
    pub(super) fn new(flight: Flight) -> Self {
        Self {
            flight,
            id: None,
            nature: Nature::default(),
            hold: None,
            problem: None,
            may_be_executed: false,
            is_pending: false,
            connects_before: 0,
        }
    }

    /// What can't be right about the call, whatever the server says.
    pub(super) fn check(&mut self) -> Result<(), Cause> {
        if let Some(problem) = self.problem.take() {
            return Err(*problem);
        }
        // Those of the client were looked at when it was built.
        let own_limits = self.flight.own_limits.as_ref();
        if let Some(problem) = own_limits.and_then(|limits| limits.problem()) {
            return Err(Cause::BadOption(problem));
        }
        match &self.flight.traceparent {
            Some(text) if !is_traceparent(text) => Err(Cause::BadOption(format!(
                "traceparent is {:?}; expected the form of W3C Trace Context, \
                 00-(32 hex digits)-(16 hex digits)-(2 hex digits)",
                redial_protocol::cut(text)
            ))),
            _ => Ok(()),
        }
    }

    /// Until when to sleep, or that the call is over, put into its place, from which it need not be
    /// moved. The time is asked for only if it is needed: that of an answer is known.
    pub(super) fn step(
        &mut self,
        state: &mut State,
        waker: &Waker,
        now: impl FnOnce() -> Instant,
        over: &mut Option<Over>,
    ) -> ControlFlow<(), Instant> {
        let key = self.flight.key.filter(|_| self.is_pending);
        if let Some(key) = key
            && let Some((answer, meta, at)) = state.mux.take_result(key)
        {
            let over = over.insert(Over {
                ending: Some(Ending::Answer(answer)),
                closed: Closed::unbegun(Name::None),
                is_unknown: false,
                at,
                connects: state.mux.connects,
                answered: Some(meta),
            });
            self.end_with_result(over, state);
            return ControlFlow::Break(());
        }
        let now = match key {
            Some(key) => match state.mux.answered_at(key) {
                // It sleeps no more, so nobody need know how to wake it.
                Some(at) => at,
                None => {
                    state.mux.listen(key, waker);
                    now()
                }
            },
            None => {
                let now = now();
                if let Err(taken) = self.begin(state, now) {
                    *over = Some(self.not_begun(taken, state, now));
                    return ControlFlow::Break(());
                }
                state.mux.listen(self.key(), waker);
                now
            }
        };
        match self.flight.step(&mut state.mux, &mut state.policy, now) {
            Step::Sleep { until } => ControlFlow::Continue(until),
            Step::Over(ending) => {
                *over = Some(self.end(ending, state, now));
                ControlFlow::Break(())
            }
        }
    }

    pub(super) fn key(&self) -> Key {
        self.flight.key.expect("it has begun")
    }

    /// Makes the call pending.
    fn begin(&mut self, state: &mut State, now: Instant) -> Result<(), Taken> {
        self.flight.begin(&state.policy, now);
        self.flight.is_notification = self.nature.is_notification;
        self.nature.is_bound = self.hold.is_some();
        self.may_be_executed = self.nature.is_resumed;
        self.connects_before = state.mux.connects;
        self.flight.key = Some(state.mux.open(self.id, self.nature)?);
        self.is_pending = true;
        if !self.nature.is_reservation {
            state.policy.bucket.deposit();
        }
        Ok(())
    }

    /// The call's id is not to be had.
    fn not_begun(&mut self, taken: Taken, state: &State, now: Instant) -> Over {
        // Nothing is sent for this one, but another one that is in flight is the same call.
        self.may_be_executed |= taken == Taken::InUse;
        let cause = match taken {
            Taken::InUse => Cause::IdInUse,
            Taken::SessionLost => Cause::SessionLost,
        };
        let name = self.id.map_or(Name::None, Name::Id);
        Over {
            ending: Some(Ending::GiveUp {
                stop: GiveUpReason::Final,
                cause,
            }),
            closed: Closed::unbegun(name),
            is_unknown: self.may_be_executed,
            at: now,
            connects: state.mux.connects,
            answered: None,
        }
    }

    fn end(&mut self, ending: Ending, state: &mut State, now: Instant) -> Over {
        self.withdraw(state);
        let key = self.key();
        let is_unknown = self.is_unknown(&ending, state.mux.call(key));
        let is_held = self.is_to_be_asked_for(&ending, is_unknown);
        let mut closed = Closed::unbegun(Name::None);
        self.close(is_held, &mut closed, state);
        let answered = match &ending {
            Ending::Answer(Answer::Result(_, meta) | Answer::Error(_, _, meta)) => Some(*meta),
            Ending::Answer(Answer::SessionLost) | Ending::GiveUp { .. } => None,
            Ending::Answer(Answer::Written | Answer::Malformed(_)) | Ending::Named => {
                Some(ReplyMeta::default())
            }
        };
        Over {
            ending: Some(ending),
            closed,
            is_unknown,
            at: now,
            connects: state.mux.connects,
            answered,
        }
    }

    /// The end of almost every call, in fewer steps: its one attempt was answered by a result.
    fn end_with_result(&mut self, over: &mut Over, state: &mut State) {
        let ending = over.ending.as_ref().expect("it is not concluded yet");
        if let Ending::Answer(answer) = ending {
            self.flight.learn(&mut state.policy, answer, over.at);
        }
        self.flight.refund(&mut state.policy);
        let is_held = self.is_kept_elsewhere();
        // What the long way would find.
        debug_assert!(!self.flight.withdraw(&mut state.mux));
        debug_assert!(!self.is_unknown(ending, state.mux.call(self.key())));
        debug_assert_eq!(self.is_to_be_asked_for(ending, false), is_held);
        self.close(is_held, &mut over.closed, state);
    }

    /// The call is pending no longer. It `is_held` if somebody may still ask what became of it.
    fn close(&mut self, is_held: bool, closed: &mut Closed, state: &mut State) {
        let end = match is_held {
            true => End::Held,
            false => End::Done,
        };
        let was_pending = state.mux.close_into(self.key(), end, closed);
        assert!(was_pending, "it was pending until now");
        state.policy.count_hedges(closed);
        self.is_pending = false;
    }

    /// Whether somebody may still ask what became of the call.
    fn is_to_be_asked_for(&self, ending: &Ending, is_unknown: bool) -> bool {
        let has_outcome = matches!(
            ending,
            Ending::Answer(Answer::Result(..) | Answer::Error(_, Verdict::Failed, _))
        );
        let has_token = self.hold.as_ref().is_some_and(Hold::has_others);
        let is_named = matches!(ending, Ending::Named);
        is_unknown || is_named || self.is_kept_elsewhere() || has_token && !has_outcome
    }

    /// Whether a token of the call lives where this client doesn't see it: then it is not for the
    /// client to say that nobody will ask for the outcome again.
    fn is_kept_elsewhere(&self) -> bool {
        match &self.hold {
            Some(hold) => hold.is_elsewhere(),
            None => self.nature.is_resumed,
        }
    }

    /// What never left was no attempt.
    fn withdraw(&mut self, state: &mut State) {
        self.flight.withdraw(&mut state.mux);
        self.flight.refund(&mut state.policy);
    }

    /// The call's future is dropped. What is left of it is not to be dropped under the lock; an
    /// answer that it has not taken would otherwise stay in its place until that is used again.
    pub(super) fn abandon(&mut self, state: &mut State) -> (Option<Closed>, Option<Answer>) {
        self.withdraw(state);
        let key = self.key();
        state.mux.cancel(key);
        let answer = state.mux.call(key).answer.take();
        let has_token = self.hold.as_ref().is_some_and(Hold::has_others);
        let end = match has_token || self.is_kept_elsewhere() {
            true => End::Held,
            false => End::Done,
        };
        let closed = state.mux.close(key, end);
        closed
            .iter()
            .for_each(|closed| state.policy.count_hedges(closed));
        (closed, answer)
    }

    /// Whether the call may have been executed, and nobody can say what came of it.
    fn is_unknown(&self, ending: &Ending, pending: &Pending) -> bool {
        match ending {
            Ending::Named | Ending::Answer(Answer::Result(..) | Answer::Written) => false,
            Ending::Answer(Answer::Error(_, Verdict::Failed, _)) => false,
            Ending::Answer(Answer::Error(_, Verdict::Unknown, _) | Answer::Malformed(_)) => true,
            // What is fenced was not executed, and never will be, whoever sent it and how often.
            Ending::Answer(Answer::Error(error, Verdict::Refused, _))
                if error.code == ErrorCode::STALE =>
            {
                false
            }
            Ending::Answer(Answer::Error(..) | Answer::SessionLost) | Ending::GiveUp { .. } => {
                self.may_be_executed || pending.is_open()
            }
        }
    }

    /// The call's end: its result, or whether it was executed.
    pub(super) fn conclude(
        &mut self,
        over: &mut Over,
        shared: &Arc<Shared>,
    ) -> Result<Json, CallError> {
        let ending = over.ending.take().expect("it is concluded once");
        let (stop, cause, has_failed) = match ending {
            Ending::Answer(Answer::Result(result, _)) => return Ok(result),
            Ending::Answer(Answer::Written) | Ending::Named => return Ok(Json::NULL),
            Ending::Answer(Answer::Error(error, verdict, _)) => {
                let has_failed = verdict == Verdict::Failed;
                (GiveUpReason::Final, Cause::Server(error), has_failed)
            }
            Ending::Answer(Answer::Malformed(detail)) => {
                (GiveUpReason::Final, Cause::MalformedReply(detail), false)
            }
            Ending::Answer(Answer::SessionLost) => (GiveUpReason::Final, Cause::SessionLost, false),
            Ending::GiveUp { stop, cause } => (stop, cause, false),
        };
        let details = self.details(Some(over), stop, cause);
        Err(match (over.is_unknown, has_failed) {
            (true, _) => CallError::Unknown {
                token: Box::new(self.token(shared, over.closed.name)),
                details,
            },
            (false, true) => CallError::Failed { details },
            (false, false) => CallError::NotExecuted { details },
        })
    }

    /// The call can't be sent.
    pub(super) fn refused(&self, cause: Cause) -> CallError {
        let details = self.details(None, GiveUpReason::Final, cause);
        CallError::NotExecuted { details }
    }

    /// The call was executed, and its result is none of the type that the caller expects.
    pub(super) fn of_another_type(&self, over: &Over, error: &serde_json::Error) -> CallError {
        let cause = Cause::Decode(error.to_string());
        let details = self.details(Some(over), GiveUpReason::Final, cause);
        CallError::Failed { details }
    }

    fn details(&self, over: Option<&Over>, stop: GiveUpReason, cause: Cause) -> Box<Details> {
        let id = match over {
            Some(over) => over.closed.name.id(),
            None => self.id,
        };
        Box::new(Details {
            method: self.flight.method.clone(),
            id: id.unwrap_or_default(),
            stop,
            cause,
            report: over.map_or_else(Report::empty, |over| self.report(over)),
        })
    }

    /// What names the call beyond its future, with what keeps it.
    pub(super) fn token(&self, shared: &Arc<Shared>, name: Name) -> CallToken {
        let hold = match name {
            // The token of a resumed call that came from elsewhere may still be there.
            Name::Number(call) => Some(
                self.hold
                    .clone()
                    .unwrap_or_else(|| Hold::new(shared, call, self.nature.is_resumed)),
            ),
            _ => self.hold.clone(),
        };
        CallToken {
            id: name.id().unwrap_or_default(),
            method: self.flight.method.clone().into_owned(),
            params: self.flight.params.to_raw(),
            hold,
        }
    }

    /// How the call went.
    pub(super) fn report(&self, over: &Over) -> Report {
        let started = self.flight.started().unwrap_or(over.at);
        let since = |time: Instant| time.saturating_duration_since(started);
        let cut_short = match over.answered {
            Some(_) => AttemptEnd::Superseded,
            None => AttemptEnd::Timeout,
        };
        // Of a session's call a server says that it replays: saying nothing, it doesn't.
        let says = over.answered.is_some() && over.closed.name.is_of_a_session();
        let replayed = over.answered.and_then(|meta| meta.replayed);
        Report {
            attempts: self.flight.used,
            history: over.closed.attempts.map(|attempt| {
                let (ended, end) = attempt.ended.unwrap_or((over.at, cut_short));
                AttemptReport {
                    id: attempt.id,
                    number: attempt.number,
                    is_hedge: attempt.is_hedge,
                    started: since(attempt.started),
                    ended: since(ended),
                    end,
                }
            }),
            total: since(over.at),
            replayed: replayed.or(says.then_some(false)),
            connects: over.connects - self.connects_before,
        }
    }

    /// `usual` are the limits of calls that have none of their own.
    pub(super) fn debug(
        &self,
        name: &str,
        usual: Option<&CallLimits>,
        f: &mut fmt::Formatter<'_>,
    ) -> fmt::Result {
        let limits = self.flight.own_limits.as_deref().or(usual);
        f.debug_struct(name)
            .field("method", &self.flight.method)
            .field("id", &self.id)
            .field("limits", &limits)
            .finish_non_exhaustive()
    }
}

impl Over {
    /// The result, if there is one and nobody has taken it.
    pub(super) fn result(&self) -> Option<&Json> {
        match &self.ending {
            Some(Ending::Answer(Answer::Result(result, _))) => Some(result),
            _ => None,
        }
    }

    /// The name that a reservation got.
    pub(super) fn named(&self) -> Option<Name> {
        matches!(self.ending, Some(Ending::Named)).then_some(self.closed.name)
    }
}

fn is_traceparent(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let is_hex = |part: &str| {
        part.bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    parts.iter().map(|part| part.len()).eq([2, 32, 16, 2]) && parts.iter().all(|part| is_hex(part))
}
