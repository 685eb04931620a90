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

use redial_protocol::ReplyMeta;
use serde_json::value::RawValue;
use tokio::time::{Sleep, sleep_until};
use uuid::Uuid;

use crate::{
    client::{Shared, State},
    clock,
    error::{CallError, CallToken, Cause, Details, Stop},
    mux::{Answer, Pending},
    report::{AttemptEnd, AttemptReport, Report},
    retry::{Ending, Flight, Step, classify::Verdict},
};

/// A result that is not decoded yet.
pub(super) struct Done {
    pub(super) method: Cow<'static, str>,
    pub(super) id: Uuid,
    pub(super) result: Box<RawValue>,
    pub(super) report: Report,
}

/// A call from its first poll on. However its future ends, it is pending no longer.
pub(super) struct Open {
    shared: Arc<Shared>,
    course: Course,
}

/// What is the call's own.
struct Course {
    flight: Flight,
    /// Of the caller's choice, or the client's.
    id: Option<Uuid>,
    /// Something before or beside this call may have been executed under its id.
    may_be_executed: bool,
    is_pending: bool,
    connects_before: u64,
}

/// A call that is over, taken from the pending ones in the same step.
pub(super) struct Over {
    ending: Ending,
    pending: Pending,
    at: Instant,
    connects: u64,
}

impl Open {
    pub(super) fn new(
        shared: &Arc<Shared>,
        flight: Flight,
        id: Option<Uuid>,
        is_resumed: bool,
    ) -> Self {
        Self {
            shared: shared.clone(),
            course: Course {
                flight,
                id,
                may_be_executed: is_resumed,
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
        self.course.conclude(over)
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
        if !self.is_pending && !self.begin(state) {
            let ending = Ending::GiveUp {
                stop: Stop::Final,
                cause: Cause::IdInUse,
            };
            return ControlFlow::Break(Over {
                ending,
                pending: Pending::new(false),
                at: now,
                connects: state.mux.connects,
            });
        }
        state.mux.listen(self.flight.id, waker);
        match self.flight.step(&mut state.mux, &mut state.policy, now) {
            Step::Sleep {
                until,
                needs_driver,
            } => ControlFlow::Continue((until, needs_driver)),
            Step::Over(ending) => ControlFlow::Break(Over {
                ending,
                pending: self.close(state).expect("it was pending until now"),
                at: now,
                connects: state.mux.connects,
            }),
        }
    }

    /// Makes the call pending. False if another call of its id is.
    fn begin(&mut self, state: &mut State) -> bool {
        self.flight.id = self.id.unwrap_or_else(|| state.new_id());
        self.connects_before = state.mux.connects;
        self.is_pending = state.mux.open(self.flight.id, self.flight.is_notification);
        if self.is_pending {
            state.policy.bucket.deposit();
        } else {
            // Nothing is sent for this one, but the other is the same call.
            self.may_be_executed = true;
        }
        self.is_pending
    }

    fn close(&mut self, state: &mut State) -> Option<Pending> {
        if !std::mem::take(&mut self.is_pending) {
            return None;
        }
        // One that never left was no attempt.
        self.flight.withdraw(&mut state.mux);
        self.flight.refund(&mut state.policy);
        state.mux.close(self.flight.id)
    }

    fn conclude(&self, over: Over) -> Result<Done, CallError> {
        let Over {
            ending,
            pending,
            at,
            connects,
        } = over;
        let may_be_executed = self.may_be_executed || pending.is_open();
        let report = |meta: ReplyMeta, answered| {
            self.report(&pending, at, connects, meta.replayed, answered)
        };
        let silent = ReplyMeta::default();
        match ending {
            Ending::Answer(Answer::Result(result, meta)) => {
                Ok(self.done(result, report(meta, true)))
            }
            Ending::Answer(Answer::Written) => {
                Ok(self.done(RawValue::NULL.to_owned(), report(silent, true)))
            }
            Ending::Answer(Answer::Error(error, verdict, meta)) => {
                let cause = Cause::Server(error);
                let details = self.details(Stop::Final, cause, report(meta, true));
                Err(match verdict {
                    Verdict::Failed => CallError::Failed {
                        details: Box::new(details),
                    },
                    Verdict::Unknown => self.unknown(details),
                    _ => self.gave_up(details, may_be_executed),
                })
            }
            Ending::Answer(Answer::Malformed(detail)) => {
                let cause = Cause::MalformedReply(detail);
                let details = self.details(Stop::Final, cause, report(silent, true));
                Err(self.unknown(details))
            }
            Ending::GiveUp { stop, cause } => {
                let details = self.details(stop, cause, report(silent, false));
                Err(self.gave_up(details, may_be_executed))
            }
        }
    }

    fn done(&self, result: Box<RawValue>, report: Report) -> Done {
        Done {
            method: self.flight.method.clone(),
            id: self.flight.id,
            result,
            report,
        }
    }

    fn gave_up(&self, details: Details, may_be_executed: bool) -> CallError {
        match may_be_executed {
            true => self.unknown(details),
            false => CallError::NotExecuted {
                details: Box::new(details),
            },
        }
    }

    fn unknown(&self, details: Details) -> CallError {
        let token = CallToken {
            id: self.flight.id,
            method: self.flight.method.clone().into_owned(),
            params: self.flight.params.clone(),
        };
        CallError::Unknown {
            token: Box::new(token),
            details: Box::new(details),
        }
    }

    fn details(&self, stop: Stop, cause: Cause, report: Report) -> Details {
        Details {
            method: self.flight.method.clone(),
            id: self.flight.id,
            stop,
            cause,
            report,
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
        Report {
            attempts: self.flight.used,
            history: pending.attempts.map(|attempt| {
                let (ended, end) = attempt.ended.unwrap_or((now, cut_short));
                AttemptReport {
                    number: attempt.number,
                    started: since(attempt.started),
                    ended: since(ended),
                    end,
                }
            }),
            total: since(now),
            replayed,
            connects: connects - self.connects_before,
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let course = &mut self.course;
        if course.is_pending {
            self.shared.with(|state| course.close(state));
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
