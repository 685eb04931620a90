//! A call from its first poll to its end: pending, waited for, and concluded.

use std::{
    borrow::Cow,
    future::Future,
    ops::ControlFlow,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Instant,
};

use redial_protocol::{ErrorCode, ReplyMeta};
use serde_json::value::RawValue;
use tokio::time::{Sleep, sleep_until};
use uuid::Uuid;

use crate::{
    client::{Shared, State},
    clock,
    error::{CallError, Cause, Details, Stop},
    mux::{Answer, End, Name, Nature, Pending, Taken},
    report::{AttemptEnd, AttemptReport, Report},
    retry::{Ending, Flight, Step, classify::Verdict},
    token::{CallToken, Hold},
};

/// A result that is not decoded yet.
pub(crate) struct Done {
    pub(crate) method: Cow<'static, str>,
    pub(crate) id: Uuid,
    pub(crate) result: Box<RawValue>,
    pub(crate) report: Report,
}

/// A call from its first poll on. However its future ends, it is pending no longer.
pub(super) struct Open {
    shared: Arc<Shared>,
    course: Course,
}

/// What is the call's own.
struct Course {
    flight: Flight,
    /// Of the caller's choice, or of its token.
    id: Option<Uuid>,
    nature: Nature,
    /// Keeps the call's number while its token lives.
    hold: Option<Arc<Hold>>,
    /// Something before or beside this call may have been executed under its id.
    may_be_executed: bool,
    is_pending: bool,
    connects_before: u64,
}

/// A call that is over, taken from the pending ones in the same step.
pub(super) struct Over {
    ending: Ending,
    pending: Pending,
    is_unknown: bool,
    at: Instant,
    connects: u64,
}

impl Open {
    pub(super) fn new(
        shared: &Arc<Shared>,
        flight: Flight,
        id: Option<Uuid>,
        nature: Nature,
        hold: Option<Arc<Hold>>,
    ) -> Self {
        Self {
            shared: shared.clone(),
            course: Course {
                flight,
                id,
                nature,
                hold,
                may_be_executed: nature.is_resumed,
                is_pending: false,
                connects_before: 0,
            },
        }
    }

    pub(super) fn poll(
        &mut self,
        context: &mut Context<'_>,
        mut timer: Pin<&mut Option<Sleep>>,
    ) -> Poll<Over> {
        loop {
            let now = clock::now();
            // One lock for everything: to begin, to decide, and to be over.
            let course = &mut self.course;
            let step = self
                .shared
                .with(|state| course.step(state, context.waker(), now));
            let (until, needs_driver) = match step {
                ControlFlow::Continue(sleep) => sleep,
                ControlFlow::Break(over) => return Poll::Ready(over),
            };
            if let Some(link) = needs_driver {
                self.shared.start_driver(link);
            }
            ready!(poll_timer(timer.as_mut(), until, context));
        }
    }

    /// The call's end: whether it was executed, and how it went.
    pub(super) fn conclude(&self, over: Over) -> Result<Done, CallError> {
        self.course.conclude(&self.shared, over)
    }

    /// The name that a reservation got, and what keeps it.
    pub(super) fn name(&self, over: Over) -> Result<(Uuid, Option<Arc<Hold>>), CallError> {
        match (&over.ending, over.pending.name) {
            (Ending::Named, Name::Number(call)) => {
                let hold = Hold::new(&self.shared, call, false);
                Ok((call.uuid(), Some(hold)))
            }
            (Ending::Named, Name::Id(id)) => Ok((id, None)),
            _ => Err(self.conclude(over).map(drop).expect_err("it was not sent")),
        }
    }
}

impl Course {
    /// Until when to sleep, and which link needs a driver; or that the call is over.
    fn step(
        &mut self,
        state: &mut State,
        waker: &Waker,
        now: Instant,
    ) -> ControlFlow<Over, (Instant, Option<usize>)> {
        if !self.is_pending
            && let Err(taken) = self.begin(state)
        {
            return ControlFlow::Break(self.not_begun(taken, state, now));
        }
        let key = self.flight.key.expect("it has begun");
        state.mux.listen(key, waker);
        match self.flight.step(&mut state.mux, &mut state.policy, now) {
            Step::Sleep {
                until,
                needs_driver,
            } => ControlFlow::Continue((until, needs_driver)),
            Step::Over(ending) => ControlFlow::Break(self.end(ending, state, now)),
        }
    }

    /// Makes the call pending.
    fn begin(&mut self, state: &mut State) -> Result<(), Taken> {
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
            ending: Ending::GiveUp {
                stop: Stop::Final,
                cause,
            },
            pending: Pending::new(name, self.nature),
            is_unknown: self.may_be_executed,
            at: now,
            connects: state.mux.connects,
        }
    }

    fn end(&mut self, ending: Ending, state: &mut State, now: Instant) -> Over {
        self.withdraw(state);
        let key = self.flight.key.expect("it has begun");
        let is_unknown = self.is_unknown(&ending, state.mux.call(key));
        let end = match self.is_to_be_asked_for(&ending, is_unknown) {
            true => End::Held,
            false => End::Done,
        };
        let pending = state.mux.close(key, end).expect("it was pending until now");
        state.policy.count_hedges(&pending);
        self.is_pending = false;
        Over {
            ending,
            pending,
            is_unknown,
            at: now,
            connects: state.mux.connects,
        }
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

    /// The call's future is dropped.
    fn abandon(&mut self, state: &mut State) {
        self.withdraw(state);
        let key = self.flight.key.expect("it has begun");
        state.mux.cancel(key);
        let has_token = self.hold.as_ref().is_some_and(Hold::has_others);
        let end = match has_token || self.is_kept_elsewhere() {
            true => End::Held,
            false => End::Done,
        };
        if let Some(pending) = state.mux.close(key, end) {
            state.policy.count_hedges(&pending);
        }
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

    fn conclude(&self, shared: &Arc<Shared>, over: Over) -> Result<Done, CallError> {
        let Over {
            ending,
            pending,
            is_unknown,
            at,
            connects,
        } = over;
        let report = |meta: ReplyMeta, answered| {
            self.report(&pending, at, connects, meta.replayed, answered)
        };
        let silent = ReplyMeta::default();
        let done = |result, report| {
            Ok(Done {
                method: self.flight.method.clone(),
                id: pending.name.id().unwrap_or_default(),
                result,
                report,
            })
        };
        let (stop, cause, report, has_failed) = match ending {
            Ending::Answer(Answer::Result(result, meta)) => {
                return done(result, report(meta, true));
            }
            Ending::Answer(Answer::Written) | Ending::Named => {
                return done(RawValue::NULL.to_owned(), report(silent, true));
            }
            Ending::Answer(Answer::Error(error, verdict, meta)) => {
                let has_failed = verdict == Verdict::Failed;
                (
                    Stop::Final,
                    Cause::Server(error),
                    report(meta, true),
                    has_failed,
                )
            }
            Ending::Answer(Answer::Malformed(detail)) => {
                let cause = Cause::MalformedReply(detail);
                (Stop::Final, cause, report(silent, true), false)
            }
            Ending::Answer(Answer::SessionLost) => (
                Stop::Final,
                Cause::SessionLost,
                report(silent, false),
                false,
            ),
            Ending::GiveUp { stop, cause } => (stop, cause, report(silent, false), false),
        };
        let details = Box::new(Details {
            method: self.flight.method.clone(),
            id: pending.name.id().unwrap_or_default(),
            stop,
            cause,
            report,
        });
        Err(match (is_unknown, has_failed) {
            (true, _) => CallError::Unknown {
                token: Box::new(self.token(shared, pending.name)),
                details,
            },
            (false, true) => CallError::Failed { details },
            (false, false) => CallError::NotExecuted { details },
        })
    }

    fn token(&self, shared: &Arc<Shared>, name: Name) -> CallToken {
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
            params: self.flight.params.clone(),
            hold,
        }
    }

    fn report(
        &self,
        pending: &Pending,
        now: Instant,
        connects: u64,
        replayed: Option<bool>,
        answered: bool,
    ) -> Report {
        let since = |time: Instant| time.saturating_duration_since(self.flight.started);
        let cut_short = match answered {
            true => AttemptEnd::Superseded,
            false => AttemptEnd::Timeout,
        };
        // Of a session's call a server says that it replays: saying nothing, it doesn't.
        let says = answered && pending.name.is_of_a_session();
        Report {
            attempts: self.flight.used,
            history: pending.attempts.map(|attempt| {
                let (ended, end) = attempt.ended.unwrap_or((now, cut_short));
                AttemptReport {
                    id: attempt.id,
                    number: attempt.number,
                    is_hedge: attempt.is_hedge,
                    started: since(attempt.started),
                    ended: since(ended),
                    end,
                }
            }),
            total: since(now),
            replayed: replayed.or(says.then_some(false)),
            connects: connects - self.connects_before,
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let course = &mut self.course;
        if std::mem::take(&mut course.is_pending) {
            self.shared.with(|state| course.abandon(state));
        }
    }
}

/// Waits until `until`, with one timer for all the waits of a call.
fn poll_timer(
    mut timer: Pin<&mut Option<Sleep>>,
    until: Instant,
    context: &mut Context<'_>,
) -> Poll<()> {
    let until = until.into();
    match timer.as_mut().as_pin_mut() {
        Some(sleep) if sleep.deadline() == until => {}
        Some(sleep) => sleep.reset(until),
        None => timer.set(Some(sleep_until(until))),
    }
    let sleep = timer.as_pin_mut().expect("it was set just now");
    sleep.poll(context)
}
