//! What the caller gets of a call that has ended: its result or its error, its token, its report.

use std::{fmt, sync::Arc, time::Instant};

use super::{finished::Finished, prepared::debug_call, state::CallState};
use crate::{
    call_options::CallPlace,
    cause::{Cause, GiveUpReason},
    config::CallLimits,
    error::{CallError, Details},
    inline_bytes::InlineBytes,
    mux::attempt::Attempt,
    mux::pending_call::{Answer, CallId},
    policy::classify::ErrorAction,
    report::{AttemptEnd, AttemptReport, Report},
    retry::Completion,
    shared::Shared,
    token::{CallToken, Retention},
};

impl CallState {
    /// The call's result, or whether it was executed.
    pub(super) fn conclude(
        &mut self,
        finished: &mut Finished,
        shared: &Arc<Shared>,
    ) -> Result<InlineBytes, CallError> {
        let completion = finished.completion.take().expect("it is concluded once");
        let (reason, cause, has_failed) = match completion {
            Completion::Answer(Answer::Result(result, _)) => return Ok(result),
            Completion::Answer(Answer::Written) | Completion::IdReserved => {
                return Ok(InlineBytes::NULL);
            }
            Completion::Answer(Answer::Error(error, action, _)) => {
                let has_failed = action == ErrorAction::Failed;
                (GiveUpReason::Final, Cause::Server(error), has_failed)
            }
            Completion::Answer(Answer::Malformed(detail)) => {
                (GiveUpReason::Final, Cause::MalformedReply(detail), false)
            }
            Completion::Answer(Answer::Oversized(error, is_result)) => {
                (GiveUpReason::Final, Cause::ReplyTooLarge(error), is_result)
            }
            Completion::Answer(Answer::SessionLost) => {
                (GiveUpReason::Final, Cause::SessionLost, false)
            }
            Completion::Answer(Answer::NoSessions(reason)) => {
                (GiveUpReason::Final, Cause::NoSession(reason), false)
            }
            Completion::GiveUp { reason, cause } => (reason, cause, false),
        };
        let details = self.details(Some(finished), reason, cause);
        Err(if finished.is_unknown {
            CallError::Unknown {
                token: Box::new(self.token(
                    shared,
                    finished.removed.id,
                    self.place().and_then(|place| place.table.clone()),
                )),
                details,
            }
        } else if has_failed {
            CallError::Failed { details }
        } else {
            CallError::NotExecuted { details }
        })
    }

    /// The call can't be sent. One that is resumed was sent before, and may have been executed.
    pub(super) fn rejected(
        &self,
        reason: GiveUpReason,
        cause: Cause,
        shared: &Arc<Shared>,
    ) -> CallError {
        let details = self.details(None, reason, cause);
        match self.id.filter(|_| self.flags.is_resumed) {
            None => CallError::NotExecuted { details },
            Some(id) => CallError::Unknown {
                token: Box::new(self.token(shared, CallId::Plain(id), self.origin_table())),
                details,
            },
        }
    }

    /// The call was executed, and its result is not of the type that the caller expects.
    pub(super) fn wrong_type(&self, finished: &Finished, error: &serde_json::Error) -> CallError {
        let cause = Cause::Decode(error.to_string());
        let details = self.details(Some(finished), GiveUpReason::Final, cause);
        CallError::Failed { details }
    }

    fn details(
        &self,
        finished: Option<&Finished>,
        reason: GiveUpReason,
        cause: Cause,
    ) -> Box<Details> {
        let id = match finished {
            Some(finished) => finished.removed.id.uuid(),
            None => self.id,
        };
        Box::new(Details {
            method: self.retrier.method.clone(),
            id: id.unwrap_or_default(),
            reason,
            cause,
            report: finished.map_or_else(Report::empty, |finished| self.report(finished)),
        })
    }

    /// The call's token, and what keeps its number from being acknowledged.
    fn token(&self, shared: &Arc<Shared>, id: CallId, table: Option<Box<str>>) -> CallToken {
        let retention = match id {
            // A resumed call's token came from elsewhere, and may still be there.
            CallId::Session(call) => Some(
                self.retention
                    .clone()
                    .unwrap_or_else(|| Retention::new(shared, call, self.flags.is_resumed)),
            ),
            _ => self.retention.clone(),
        };
        CallToken {
            id: id.uuid().unwrap_or_default(),
            method: self.retrier.method.clone().into_owned(),
            params: self.retrier.params.to_raw(),
            table,
            retention,
        }
    }

    /// Where the call has ended.
    pub(super) fn place(&self) -> Option<&CallPlace> {
        self.retrier.options.as_ref()?.place.as_ref()
    }

    /// The table that the token of a resumed call names.
    fn origin_table(&self) -> Option<Box<str>> {
        let options = self.retrier.options.as_ref()?;
        options.origin.as_ref()?.table.clone()
    }

    /// How the call went.
    pub(super) fn report(&self, finished: &Finished) -> Report {
        let started = self.retrier.started().unwrap_or(finished.at);
        let since = |time: Instant| time.saturating_duration_since(started);
        let cut_short = match finished.answered {
            Some(_) => AttemptEnd::Superseded,
            None => AttemptEnd::Timeout,
        };
        let report = |attempt: &Attempt| {
            let (ended, end) = attempt.ended.unwrap_or((finished.at, cut_short));
            AttemptReport {
                id: attempt.id,
                number: attempt.number,
                is_hedge: attempt.is_hedge,
                started: since(attempt.started),
                ended: since(ended),
                end,
            }
        };
        // Of a session's call a server says that it replays: saying nothing, it doesn't.
        let says = finished.answered.is_some() && finished.removed.id.is_of_a_session();
        let replayed = finished.answered.and_then(|meta| meta.replayed);
        Report {
            attempts: self.retrier.used,
            history: finished.removed.attempts.map(report),
            total: since(finished.at),
            replayed: replayed.or(says.then_some(false)),
            connects: finished.connects - self.connects_before,
            endpoint: self.place().and_then(|place| place.endpoint.clone()),
            hint_waits: self.retrier.hint_waits.into(),
            is_suppressed: self.retrier.was_suppressed,
        }
    }

    /// `default_limits` are those of calls that have none of their own.
    pub(super) fn debug(
        &self,
        name: &str,
        default_limits: Option<&CallLimits>,
        f: &mut fmt::Formatter<'_>,
    ) -> fmt::Result {
        let limits = self.retrier.own_limits().or(default_limits);
        debug_call(name, &self.retrier.method, self.id, limits, f)
    }
}
