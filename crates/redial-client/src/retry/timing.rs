//! When the next attempt of a call may be made, and what forbids it.

use std::time::Instant;

use super::{Phase, Retrier, context::RetryContext};
use crate::{
    cause::GiveUpReason,
    clock::{LONGEST_WAIT, after},
    mux::{Mux, pending_call::Uncertain},
    policy::{backoff::Jitter, hint::come_back_at},
};

impl Retrier {
    /// No attempt is waited for any more: plans another one, or none.
    pub(super) fn plan_retry(&mut self, mux: &mut Mux, context: &mut RetryContext, now: Instant) {
        match self.next_attempt(mux, context, now) {
            Ok(at) => self.phase = Phase::Send { at },
            Err(reason) => {
                self.refund(mux, context);
                self.stop_sending(reason);
            }
        }
    }

    /// When the next attempt is to be made, or why no more is made.
    fn next_attempt(
        &mut self,
        mux: &mut Mux,
        context: &mut RetryContext,
        now: Instant,
    ) -> Result<Instant, GiveUpReason> {
        if !self.has_attempts_left(mux, context) {
            return Err(GiveUpReason::Attempts);
        }
        let backoff = self.limits(context).backoff;
        let delay = backoff.delay(self.used, self.previous_delay, &mut context.jitter);
        self.previous_delay = delay;
        let asked = self.asked_at(mux, context, now);
        let at = asked.map_or(after(now, delay), |asked| asked.max(after(now, delay)));
        let resend_limit = self.resend_limit(mux);
        self.check_attempt_at(at, resend_limit)?;
        let token = self.reserve_token(mux, context, now, self.deadline());
        match token {
            None => {
                self.was_suppressed = true;
                mux.count_for(self.key(), |counts| counts.suppressed += 1);
                return Err(GiveUpReason::Budget);
            }
            Some(token) if token > at => {
                mux.count_for(self.key(), |counts| counts.postponed += 1);
            }
            Some(_) => {}
        }
        let at = token.map_or(at, |token| at.max(token));
        self.check_attempt_at(at, resend_limit).map(|()| at)
    }

    /// Reserves what a retry takes: a token of the endpoint that it is about to go to, and one of the client.
    /// Gives when both are there; `None` if that is not before `latest`, and then neither is reserved.
    pub(super) fn reserve_token(
        &mut self,
        mux: &mut Mux,
        context: &mut RetryContext,
        now: Instant,
        latest: Instant,
    ) -> Option<Instant> {
        if self.holds_token {
            // An attempt that never left has paid already.
            return Some(now);
        }
        // First that of the endpoint: one that is dead has none, and its calls are to keep none of the
        // client's.
        let own = mux.reserve_retry(self.key(), now, latest)?;
        let Some(shared) = context.bucket.reserve(now, latest) else {
            mux.refund_retry(self.key());
            return None;
        };
        self.holds_token = true;
        Some(own.max(shared))
    }

    /// When the server has asked the call to come back, if it has.
    #[inline]
    pub(super) fn asked_at(
        &mut self,
        mux: &mut Mux,
        context: &mut RetryContext,
        now: Instant,
    ) -> Option<Instant> {
        let asked = mux.call(self.key()).not_before?;
        Some(self.spread_hint(asked, mux, context, now))
    }

    /// A hint that is new gets its jitter, unless the call's backoff has none.
    #[cold]
    fn spread_hint(
        &mut self,
        asked: Instant,
        mux: &mut Mux,
        context: &mut RetryContext,
        now: Instant,
    ) -> Instant {
        let has_jitter = self.limits(context).backoff.jitter() != Jitter::None;
        let deadline = self.deadline();
        let call = mux.call(self.key());
        if !std::mem::take(&mut call.is_hint_new) {
            return asked;
        }
        let at = if has_jitter {
            come_back_at(asked, now, deadline, &mut context.jitter)
        } else {
            asked
        };
        call.not_before = Some(at);
        if at < deadline {
            self.hint_waits = self.hint_waits.saturating_add(1);
            mux.count_for(self.key(), |counts| counts.hint_waits += 1);
        }
        at
    }

    /// Whether fewer attempts were made than are allowed. One that found no room to wait for the call
    /// doesn't count.
    pub(super) fn has_attempts_left(&self, mux: &mut Mux, context: &RetryContext) -> bool {
        let unplaced = mux.call(self.key()).unplaced;
        self.used.saturating_sub(unplaced) < self.limits(context).max_attempts
    }

    /// Whether the deadline and the server's memory leave room for an attempt at that time.
    pub(super) fn check_attempt_at(
        &self,
        at: Instant,
        resend_limit: Option<Instant>,
    ) -> Result<(), GiveUpReason> {
        if at >= self.deadline() {
            Err(GiveUpReason::Deadline)
        } else if resend_limit.is_some_and(|limit| at >= limit) {
            Err(GiveUpReason::Window)
        } else {
            Ok(())
        }
    }

    /// From when on the server may have forgotten the call; `None` if it never does.
    #[inline]
    pub(super) fn resend_limit(&self, mux: &mut Mux) -> Option<Instant> {
        if !mux.server_may_forget(self.key()) {
            return None;
        }
        let oldest = mux.call(self.key()).oldest_uncertain(Uncertain::Ended);
        self.resend_limit_after(oldest, mux)
    }

    /// The same, where the oldest attempt that may have been executed was made then.
    pub(super) fn resend_limit_after(
        &self,
        oldest: Option<Instant>,
        mux: &mut Mux,
    ) -> Option<Instant> {
        match (oldest, self.resend_window) {
            (Some(oldest), Some(window)) if mux.server_may_forget(self.key()) => {
                if mux.was_suspended_after(oldest) {
                    return Some(oldest);
                }
                Some(after(oldest, window))
            }
            _ => None,
        }
    }

    /// Until when an attempt that is made now is waited for.
    #[inline]
    pub(super) fn attempt_deadline(
        &self,
        mux: &mut Mux,
        context: &RetryContext,
        now: Instant,
    ) -> Instant {
        if self.is_notification {
            return self.deadline();
        }
        let limits = self.limits(context);
        let timeout = match limits.adaptive_timeout {
            None => limits.attempt_timeout,
            Some(adaptive) => {
                mux.adaptive_timeout(self.key(), &self.method, adaptive, limits.attempt_timeout)
            }
        };
        after(now, timeout)
    }

    /// What is left of the time until the deadline.
    pub(super) fn timeout_ms(&self, context: &RetryContext, now: Instant) -> u64 {
        let left = if self.started() == Some(now) {
            // All of it, as for almost every first attempt.
            self.limits(context).deadline.min(LONGEST_WAIT)
        } else {
            self.deadline().saturating_duration_since(now)
        };
        left.as_secs() * 1000 + u64::from(left.subsec_millis())
    }
}
