//! An attempt that is in flight: what it is waited for, and until when.

use std::time::Instant;

use super::{Phase, Retrier, Step, context::RetryContext, sleep};
use crate::{
    cause::{Cause, GiveUpReason},
    mux::{Mux, link::WriteProgress, pending_call::Signal},
};

impl Retrier {
    pub(super) fn wait(
        &mut self,
        mux: &mut Mux,
        context: &mut RetryContext,
        until: Instant,
        hedge_at: Option<Instant>,
        now: Instant,
    ) -> Option<Step> {
        match mux.call(self.key()).signal.take() {
            Some(Signal::Ended) => self.plan_retry(mux, context, now),
            Some(Signal::UnsentThenEnded) => {
                self.uncount_latest();
                self.plan_retry(mux, context, now);
            }
            Some(Signal::Unsent) => {
                self.uncount_latest();
                if mux.call(self.key()).has_running_attempt() {
                    // Only a hedge is gone.
                    self.refund(mux, context);
                } else {
                    self.phase = Phase::Send { at: now };
                }
            }
            None if now >= self.deadline() => {
                self.withdraw(mux);
                return Some(self.give_up(mux, context, GiveUpReason::Deadline));
            }
            None if self.is_unsent(mux) => {
                return self.wait_unsent(mux, context, until, hedge_at, now);
            }
            None if self.is_copy_expired(mux, now) && self.withdraw(mux) => {
                self.refund(mux, context)
            }
            None if now >= until => {
                if self.limits(context).adaptive_timeout.is_some() {
                    mux.record_timeout(self.key(), &self.method, now);
                }
                self.time_out(mux, context, now);
            }
            None => return Some(self.wait_in_flight(mux, context, until, hedge_at, now)),
        }
        None
    }

    /// Sleeps until the attempt has timed out, is to be hedged, or its copy has to be withdrawn.
    fn wait_in_flight(
        &mut self,
        mux: &mut Mux,
        context: &mut RetryContext,
        until: Instant,
        hedge_at: Option<Instant>,
        now: Instant,
    ) -> Step {
        match hedge_at {
            Some(at) if now >= at => self.hedge(mux, context, until, now),
            Some(at) => sleep(until.min(at).min(self.deadline())),
            None => {
                let expiry = self.copy_expires_at(mux).filter(|at| *at > now);
                let until = expiry.map_or(until, |at| until.min(at));
                sleep(until.min(self.deadline()))
            }
        }
    }

    fn time_out(&mut self, mux: &mut Mux, context: &mut RetryContext, now: Instant) {
        // Of the two it is a hedge that may not have left yet.
        if self.withdraw(mux) {
            self.refund(mux, context);
        }
        let limits = self.limits(context);
        let waited = if limits.adaptive_timeout.is_some() {
            mux.waited(self.key(), now)
        } else {
            limits.attempt_timeout
        };
        mux.time_out(self.key(), now);
        let cause = Cause::NoReply(waited);
        mux.call(self.key()).last_cause = Some(cause.into());
        self.plan_retry(mux, context, now);
    }

    /// Whether nothing of the one attempt that is waited for has been written.
    fn is_unsent(&self, mux: &mut Mux) -> bool {
        let latest = mux.call(self.key()).attempts.last();
        let is_hedge = latest.is_some_and(|latest| latest.is_hedge);
        !is_hedge && mux.write_progress(self.key()) == WriteProgress::Unwritten
    }

    /// The request lies in the buffer: another copy would lie behind it, so it is only kept from
    /// leaving too late, or moved to a connection that takes it.
    fn wait_unsent(
        &mut self,
        mux: &mut Mux,
        context: &mut RetryContext,
        until: Instant,
        hedge_at: Option<Instant>,
        now: Instant,
    ) -> Option<Step> {
        let move_at = hedge_at.map_or(until, |at| at.min(until));
        if now >= move_at && !self.is_notification && mux.can_move(self.key()) {
            if self.withdraw(mux) {
                self.phase = Phase::Send { at: now };
            } else {
                // The driver has it, and may write it yet: it counts as sent.
                self.time_out(mux, context, now);
            }
            return None;
        }
        let resend_limit = self.resend_limit(mux);
        if resend_limit.is_some_and(|limit| now >= limit) && self.withdraw(mux) {
            self.stop_sending(GiveUpReason::Window);
            return None;
        }
        if now >= until {
            let until = self.attempt_deadline(mux, context, now);
            self.phase = Phase::Wait {
                until,
                hedge_at: None,
            };
            return None;
        }
        let next = if now < move_at { move_at } else { until };
        let wake = match resend_limit {
            Some(limit) if limit > now => next.min(limit),
            _ => next,
        };
        Some(sleep(wake.min(self.deadline())))
    }

    pub(super) fn listen(
        &mut self,
        mux: &mut Mux,
        context: &mut RetryContext,
        reason: GiveUpReason,
        now: Instant,
    ) -> Option<Step> {
        if now < self.deadline() && mux.call(self.key()).may_be_answered() {
            return Some(sleep(self.deadline()));
        }
        if reason == GiveUpReason::Attempts && self.has_attempts_left(mux, context) {
            // The last one has found no room to wait for the call, after its time was up.
            self.plan_retry(mux, context, now);
            return None;
        }
        Some(self.give_up(mux, context, reason))
    }
}
