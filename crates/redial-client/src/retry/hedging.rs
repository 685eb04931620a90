//! Copies of calls that take longer than most: when one goes out, and when it is withdrawn.

use std::time::Instant;

use super::{Phase, Retrier, Step, context::RetryContext, sleep};
use crate::{
    clock::after,
    mux::{
        Mux,
        link::WriteProgress,
        pending_call::{Answer, Uncertain},
        send::SendStatus,
    },
    policy::hedge::Hedge,
};

impl Retrier {
    /// When a copy of an attempt that is made now goes out, if one does.
    pub(super) fn hedge_at(&self, context: &RetryContext, now: Instant) -> Option<Instant> {
        let wait = match self.limits(context).hedge {
            _ if self.is_notification => None,
            Hedge::Off => None,
            Hedge::After(wait) => Some(wait),
            Hedge::P95 { at_least } => context.latency.p95().map(|p95| p95.max(at_least)),
        };
        wait.map(|wait| after(now, wait))
    }

    /// The attempt has taken longer than most: sends a copy of it, if that is allowed.
    pub(super) fn hedge(
        &mut self,
        mux: &mut Mux,
        context: &mut RetryContext,
        until: Instant,
        now: Instant,
    ) -> Step {
        let hedge_at = None;
        self.phase = Phase::Wait { until, hedge_at };
        let attempt_deadline = until.min(self.deadline());
        let oldest = mux.call(self.key()).oldest_uncertain(Uncertain::All);
        let is_wasted = self.used >= self.limits(context).max_attempts
            || mux.write_progress(self.key()) != WriteProgress::Complete
            || self
                .resend_limit_after(oldest, mux)
                .is_some_and(|limit| now >= limit);
        if is_wasted || self.reserve_token(mux, context, now, now).is_none() {
            return sleep(attempt_deadline);
        }
        let number = self.used + 1;
        match mux.send(&self.outbound(number, true, context, now), now) {
            SendStatus::Queued => {
                (self.used, self.holds_token) = (number, false);
                // It may be in the buffer still when it gets too late for it.
                let resend_limit = self.resend_limit_after(oldest, mux);
                if let Some(limit) = resend_limit {
                    mux.limit_write(self.key(), limit);
                }
                sleep(resend_limit.map_or(attempt_deadline, |at| attempt_deadline.min(at)))
            }
            SendStatus::NeedsSpan => {
                // The token is kept for it.
                self.ask_for_span(number, true);
                let hedge_at = Some(now);
                self.phase = Phase::Wait { until, hedge_at };
                sleep(attempt_deadline)
            }
            SendStatus::Blocked | SendStatus::IdReserved | SendStatus::TooLarge(_) => {
                mux.stop_waiting(self.key());
                self.refund(mux, context);
                sleep(attempt_deadline)
            }
        }
    }

    /// When it is too late for a copy that lies in the buffer, if one does.
    pub(super) fn copy_expires_at(&self, mux: &mut Mux) -> Option<Instant> {
        let latest = mux.call(self.key()).attempts.last();
        let is_copy = latest.is_some_and(|latest| latest.is_hedge);
        (is_copy && mux.write_progress(self.key()) == WriteProgress::Unwritten)
            .then(|| {
                self.resend_limit_after(mux.call(self.key()).oldest_uncertain(Uncertain::All), mux)
            })
            .flatten()
    }

    /// Whether it is too late for a copy that lies in the buffer.
    pub(super) fn is_copy_expired(&self, mux: &mut Mux, now: Instant) -> bool {
        self.copy_expires_at(mux).is_some_and(|at| at <= now)
    }

    /// An answer shows how long calls take.
    #[inline]
    pub(crate) fn record_latency(
        &self,
        mux: &mut Mux,
        context: &mut RetryContext,
        answer: &Answer,
        now: Instant,
    ) {
        if self.limits(context).adaptive_timeout.is_some() && answer.is_outcome() {
            mux.record_answer(self.key(), &self.method, now);
        }
        if let (Hedge::P95 { .. }, Some(since), Answer::Result(..)) =
            (self.limits(context).hedge, self.first_sent, answer)
        {
            context.latency.record(now.saturating_duration_since(since));
        }
    }
}
