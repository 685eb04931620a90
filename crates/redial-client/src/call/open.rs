//! A call from its first poll to its end: pending, waited for, and concluded.

use std::{
    borrow::Cow,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use redial_protocol::ReplyMeta;
use serde_json::value::RawValue;
use tokio::time::{Sleep, sleep_until};
use uuid::Uuid;

use crate::{
    client::Shared,
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

/// A call that is pending. However its future ends, it is pending no longer.
pub(super) struct Open {
    shared: Arc<Shared>,
    flight: Flight,
    connects_before: u64,
    is_open: bool,
}

impl Open {
    pub(super) fn new(
        shared: &Arc<Shared>,
        mut flight: Flight,
        id: Option<Uuid>,
    ) -> Result<Self, CallError> {
        let (is_free, connects_before) = shared.with(|state| {
            flight.id = id.unwrap_or_else(|| state.new_id());
            state.policy.bucket.deposit();
            let is_free = state.mux.open(flight.id, flight.is_notification);
            (is_free, state.mux.connects)
        });
        let open = Self {
            shared: shared.clone(),
            flight,
            connects_before,
            is_open: is_free,
        };
        if is_free {
            return Ok(open);
        }
        // Nothing was sent for this one, but the other may be executed.
        let details = open.details(Stop::Final, Cause::IdInUse, Report::empty());
        Err(open.unknown(details))
    }

    pub(super) fn poll(
        &mut self,
        context: &mut Context<'_>,
        mut timer: Pin<&mut Option<Sleep>>,
    ) -> Poll<Ending> {
        loop {
            let now = clock::now();
            let step = self.shared.with(|state| {
                state.mux.listen(self.flight.id, context.waker());
                self.flight.step(&mut state.mux, &mut state.policy, now)
            });
            let (until, needs_driver) = match step {
                Step::Over(ending) => return Poll::Ready(ending),
                Step::Sleep {
                    until,
                    needs_driver,
                } => (until, needs_driver),
            };
            if let Some(link) = needs_driver {
                self.shared.start_driver(link);
            }
            ready!(poll_timer(timer.as_mut(), until, context));
        }
    }

    /// The call's end: whether it was executed, and how it went.
    pub(super) fn conclude(mut self, ending: Ending, is_resumed: bool) -> Result<Done, CallError> {
        let now = clock::now();
        let (pending, connects) = self.close().expect("it was pending until now");
        let may_be_executed = is_resumed || pending.is_open();
        let report = |meta: ReplyMeta, answered| {
            self.report(&pending, now, connects, meta.replayed, answered)
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

    fn close(&mut self) -> Option<(Pending, u64)> {
        if !std::mem::take(&mut self.is_open) {
            return None;
        }
        self.shared.with(|state| {
            self.flight.refund(&mut state.policy);
            let pending = state.mux.close(self.flight.id)?;
            Some((pending, state.mux.connects))
        })
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.close();
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
