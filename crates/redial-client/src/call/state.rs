//! A call's own state: how it becomes pending, how it is advanced, and how it ends.

use std::{
    ops::ControlFlow,
    sync::Arc,
    task::Waker,
    time::{Duration, Instant},
};

use redial_protocol::{ErrorCode, ReplyMeta};
use uuid::Uuid;

use super::{finished::Finished, layered::LayeredCall, prepared::PreparedCall};
use crate::{
    call_options::CallPlace,
    cause::{Cause, GiveUpReason},
    config::CallLimits,
    layer::Layers,
    meter::Metered,
    mux::{
        attempt::Attempt,
        call_ids::IdConflict,
        pending_call::{Answer, CallFlags, CallId, PendingCall, RemovedCall},
        sessions::Disposition,
        slab::Key,
    },
    policy::classify::ErrorAction,
    retry::{Completion, Retrier, Step},
    shared::SharedState,
    small_vec::SmallVec,
    token::Retention,
    traceparent::is_traceparent,
};

/// A call's own state.
pub(super) struct CallState {
    pub(super) retrier: Retrier,
    /// Keeps the call's number from being acknowledged while a token of it lives.
    pub(super) retention: Option<Arc<Retention>>,
    pub(super) extra: Option<Box<CallExtra>>,
    pub(super) connects_before: u64,
    pub(super) flags: CallFlags,
    /// Something before or beside this call may have been executed under its id.
    may_be_executed: bool,
    pub(super) is_pending: bool,
    #[cfg_attr(
        not(feature = "metrics"),
        expect(dead_code, reason = "nothing is measured")
    )]
    pub(super) metered: Metered,
    /// Chosen by the caller, or its token's.
    pub(super) id: Option<Uuid>,
    /// The report is asked for.
    pub(super) is_reported: bool,
}

/// What keeps a call from being sent straight away; few calls have it, so it lies on the heap.
pub(super) enum CallExtra {
    /// What is wrong with the call, whatever the server says.
    Problem(Cause),
    /// What is around the call, once it is polled.
    Layers(Arc<Layers>),
    /// It is on its way through its layers, which have the rest of its state.
    Layered(LayeredCall),
}

impl CallState {
    #[inline(always)]
    pub(super) fn new(call: PreparedCall, resend_window: Option<Duration>) -> Self {
        let mut retrier = Retrier::new(call.method, call.params);
        (retrier.options, retrier.resend_window) = (call.options, resend_window);
        Self {
            retrier,
            retention: call.retention,
            extra: call.extra,
            connects_before: 0,
            flags: call.flags,
            may_be_executed: false,
            is_pending: false,
            metered: call.metered,
            id: call.id,
            is_reported: false,
        }
    }

    /// The pending call, while it is one.
    #[cfg(feature = "tracing")]
    pub(super) fn pending_key(&self) -> Option<Key> {
        self.retrier.key.filter(|_| self.is_pending)
    }

    /// What is wrong with the call's options, whatever the server says.
    pub(super) fn check(&self) -> Result<(), Cause> {
        // The client's own were checked when it was built.
        let Some(options) = &self.retrier.options else {
            return Ok(());
        };
        if let Some(problem) = options.limits.as_ref().and_then(CallLimits::problem) {
            return Err(Cause::BadOption(problem));
        }
        match &options.traceparent {
            Some(text) if !is_traceparent(text) => Err(Cause::BadOption(format!(
                "traceparent is {:?}; expected the form of W3C Trace Context, \
                 00-(32 hex digits)-(16 hex digits)-(2 hex digits)",
                redial_protocol::cut(text)
            ))),
            _ => Ok(()),
        }
    }

    /// Until when to sleep, or that the call has ended: `finished` is written where it stays. The
    /// clock is read only if it is needed: the time of an answer is known.
    pub(super) fn step(
        &mut self,
        shared: &mut SharedState,
        waker: &Waker,
        now: impl FnOnce() -> Instant,
        finished: &mut Option<Finished>,
    ) -> ControlFlow<(), Instant> {
        let key = self.retrier.key.filter(|_| self.is_pending);
        if let Some(key) = key
            && let Some((answer, meta, at)) = shared.mux.take_result(key)
        {
            let finished = finished.insert(Finished {
                completion: Some(Completion::Answer(answer)),
                removed: RemovedCall::unbegun(CallId::Unassigned),
                is_unknown: false,
                at,
                connects: shared.mux.connects,
                answered: Some(meta),
            });
            self.end_with_result(finished, shared);
            return ControlFlow::Break(());
        }
        let now = match key {
            Some(key) => match shared.mux.answered_at(key) {
                // It sleeps no more, so it need not be woken.
                Some(at) => at,
                None => {
                    shared.mux.listen(key, waker);
                    let now = now();
                    if let Some(at) = shared.mux.overdue_since(key, now) {
                        return ControlFlow::Continue(at);
                    }
                    now
                }
            },
            None => {
                let now = now();
                if let Err(conflict) = self.begin(shared, now) {
                    *finished = Some(self.not_begun(conflict, shared, now));
                    return ControlFlow::Break(());
                }
                shared.mux.listen(self.key(), waker);
                now
            }
        };
        match self.retrier.step(&mut shared.mux, &mut shared.retry, now) {
            Step::Sleep { until } => ControlFlow::Continue(until),
            Step::Complete(completion) => {
                *finished = Some(self.end(completion, shared, now));
                ControlFlow::Break(())
            }
        }
    }

    pub(super) fn key(&self) -> Key {
        self.retrier.key.expect("it has begun")
    }

    /// Makes the call pending.
    fn begin(&mut self, shared: &mut SharedState, now: Instant) -> Result<(), IdConflict> {
        self.retrier.begin(&shared.retry, now);
        self.retrier.is_notification = self.flags.is_notification;
        self.flags.is_bound = self.retention.is_some();
        self.flags.fails_fast = self.retrier.limits(&shared.retry).fail_fast;
        self.may_be_executed = self.flags.is_resumed;
        self.connects_before = shared.mux.connects;
        let key = shared.mux.open(self.id, self.flags)?;
        self.retrier.key = Some(key);
        let options = self.retrier.options.as_ref();
        if let Some(origin) = options.and_then(|options| options.origin.as_ref()) {
            shared.mux.place(key, origin.id, origin.table.as_deref());
        }
        self.is_pending = true;
        Ok(())
    }

    /// The call can't begin under its id.
    fn not_begun(&mut self, conflict: IdConflict, shared: &SharedState, now: Instant) -> Finished {
        // Nothing is sent for this one, but the call in flight under its id is the same call.
        self.may_be_executed |= conflict == IdConflict::InUse;
        let cause = match conflict {
            IdConflict::InUse => Cause::IdInUse,
            IdConflict::SessionLost => Cause::SessionLost,
        };
        let id = self.id.map_or(CallId::Unassigned, CallId::Plain);
        Finished {
            completion: Some(Completion::GiveUp {
                reason: GiveUpReason::Final,
                cause,
            }),
            removed: RemovedCall::unbegun(id),
            is_unknown: self.may_be_executed,
            at: now,
            connects: shared.mux.connects,
            answered: None,
        }
    }

    fn end(&mut self, completion: Completion, shared: &mut SharedState, now: Instant) -> Finished {
        self.withdraw(shared);
        if completion.is_outcome() {
            shared.retry.bucket.deposit();
        }
        let is_unknown = self.is_unknown(&completion, shared.mux.call(self.key()));
        let disposition = self.disposition(&completion, is_unknown);
        let (id, home) = {
            let call = shared.mux.call(self.key());
            (call.id, call.home)
        };
        let table = shared.mux.table_name(id, home);
        let mut removed = RemovedCall::unbegun(CallId::Unassigned);
        self.remove(disposition, &mut removed, shared);
        self.note_place(&removed.attempts, table, shared);
        let answered = match &completion {
            Completion::Answer(Answer::Result(_, meta) | Answer::Error(_, _, meta)) => Some(*meta),
            Completion::Answer(Answer::SessionLost | Answer::NoSessions(_))
            | Completion::GiveUp { .. } => None,
            Completion::Answer(Answer::Written | Answer::Malformed(_) | Answer::Oversized(..))
            | Completion::IdReserved => Some(ReplyMeta::default()),
        };
        Finished {
            completion: Some(completion),
            removed,
            is_unknown,
            at: now,
            connects: shared.mux.connects,
            answered,
        }
    }

    /// Notes which endpoint has answered the call, and which table knows it.
    fn note_place(
        &mut self,
        attempts: &SmallVec<Attempt>,
        table: Option<Box<str>>,
        shared: &SharedState,
    ) {
        let endpoint = shared.mux.endpoint_name(attempts);
        let options = self.retrier.options.get_or_insert_default();
        options.place = Some(CallPlace { endpoint, table });
    }

    /// The end of almost every call, in fewer steps: a result answered its one attempt.
    fn end_with_result(&mut self, finished: &mut Finished, shared: &mut SharedState) {
        let completion = finished.completion.as_ref();
        let completion = completion.expect("it is not concluded yet");
        if let Completion::Answer(answer) = completion {
            self.retrier
                .record_latency(&mut shared.mux, &mut shared.retry, answer, finished.at);
        }
        self.retrier.refund(&mut shared.mux, &mut shared.retry);
        shared.retry.bucket.deposit();
        let disposition = self.disposition_of_outcome();
        // What the long way would find.
        debug_assert!(!self.retrier.withdraw(&mut shared.mux));
        debug_assert!(!self.is_unknown(completion, shared.mux.call(self.key())));
        debug_assert_eq!(self.disposition(completion, false), disposition);
        self.remove(disposition, &mut finished.removed, shared);
        if self.is_reported {
            self.note_place(&finished.removed.attempts, None, shared);
        }
    }

    /// The call is pending no longer.
    fn remove(
        &mut self,
        disposition: Disposition,
        removed: &mut RemovedCall,
        shared: &mut SharedState,
    ) {
        let was_pending = shared.mux.remove_into(self.key(), disposition, removed);
        assert!(was_pending, "it was pending until now");
        shared.retry.count_hedges(removed);
        self.is_pending = false;
    }

    /// Whether a token may still ask for the outcome of the call.
    fn disposition(&self, completion: &Completion, is_unknown: bool) -> Disposition {
        let has_outcome = matches!(
            completion,
            Completion::Answer(Answer::Result(..) | Answer::Error(_, ErrorAction::Failed, _))
        );
        if matches!(completion, Completion::IdReserved) {
            return Disposition::Reserve;
        }
        if is_unknown || self.has_token() && !has_outcome {
            return Disposition::Retain;
        }
        self.disposition_of_outcome()
    }

    /// The same of a call that has an outcome: a token that was serialised lives where this client
    /// doesn't see it, so it is not for the client to say that the outcome won't be asked for again.
    fn disposition_of_outcome(&self) -> Disposition {
        let is_exported = match &self.retention {
            Some(retention) => retention.is_exported(),
            None => self.flags.is_resumed,
        };
        if is_exported {
            Disposition::Retain
        } else {
            Disposition::Acknowledge
        }
    }

    fn has_token(&self) -> bool {
        self.retention.as_ref().is_some_and(Retention::has_others)
    }

    /// An attempt that never left doesn't count.
    fn withdraw(&mut self, shared: &mut SharedState) {
        self.retrier.withdraw(&mut shared.mux);
        self.retrier.refund(&mut shared.mux, &mut shared.retry);
    }

    /// The call's future is dropped. What is left of it must not be dropped under the lock; an
    /// answer that it has not taken would otherwise stay in its slot until that is used again.
    pub(super) fn abandon(
        &mut self,
        shared: &mut SharedState,
    ) -> (Option<RemovedCall>, Option<Answer>) {
        self.withdraw(shared);
        let key = self.key();
        shared.mux.cancel(key);
        let answer = shared.mux.call(key).answer.take();
        let disposition = if self.has_token() {
            Disposition::Retain
        } else {
            self.disposition_of_outcome()
        };
        let removed = shared.mux.remove(key, disposition);
        removed
            .iter()
            .for_each(|removed| shared.retry.count_hedges(removed));
        (removed, answer)
    }

    /// Whether the call may have been executed without an outcome that its caller gets.
    fn is_unknown(&self, completion: &Completion, call: &PendingCall) -> bool {
        let answer = match completion {
            Completion::IdReserved => return false,
            Completion::GiveUp { .. } => return self.may_be_executed || call.may_have_executed(),
            Completion::Answer(answer) => answer,
        };
        match answer {
            Answer::Result(..) | Answer::Written | Answer::Error(_, ErrorAction::Failed, _) => {
                false
            }
            Answer::Oversized(_, is_result) => !is_result,
            Answer::Error(_, ErrorAction::Unknown, _) | Answer::Malformed(_) => true,
            // A fenced call was not executed and never will be, however often it was sent.
            Answer::Error(error, ErrorAction::Refused, _) if error.code == ErrorCode::STALE => {
                false
            }
            Answer::Error(..) | Answer::SessionLost | Answer::NoSessions(_) => {
                self.may_be_executed || call.may_have_executed()
            }
        }
    }
}
