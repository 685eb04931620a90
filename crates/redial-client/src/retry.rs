//! What a call does next: its decisions, without a clock, a socket or a sleep.
//!
//! [`Retrier::step`] is called whenever something may have changed, and says either until when to
//! sleep or that the call is complete. The rules that it applies are in [`policy`](crate::policy).

pub(crate) mod context;
mod hedging;
mod timing;
mod waiting;

#[cfg(test)]
mod chaos;
#[cfg(test)]
mod tests;

use std::{
    borrow::Cow,
    time::{Duration, Instant},
};

use self::context::RetryContext;
use crate::{
    call_options::CallOptions,
    cause::{Cause, GiveUpReason},
    clock::after,
    config::CallLimits,
    inline_bytes::InlineBytes,
    mux::{
        Mux,
        pending_call::{Answer, Signal},
        send::{OutboundRequest, SendStatus},
        slab::Key,
    },
};

/// One call: what is sent, and how far its attempts have come.
#[derive(Debug)]
pub(crate) struct Retrier {
    pub(crate) method: Cow<'static, str>,
    /// Empty, and no JSON, where they are left out.
    pub(crate) params: InlineBytes,
    /// What few calls have. Boxed, since a call is moved about.
    pub(crate) options: Option<Box<CallOptions>>,
    /// The pending call, once it has begun.
    pub(crate) key: Option<Key>,
    /// Attempts that count.
    pub(crate) used: u32,
    pub(crate) is_notification: bool,
    /// A token of the retry budget is reserved for the next attempt.
    holds_token: bool,
    /// The retry budget had no token for a retry.
    pub(crate) was_suppressed: bool,
    /// How often a server has asked the call to wait.
    pub(crate) hint_waits: u8,
    previous_delay: Duration,
    phase: Phase,
    /// How long after a request that may have arrived the call may be sent again, if not always.
    pub(crate) resend_window: Option<Duration>,
    bounds: Option<Bounds>,
    first_sent: Option<Instant>,
}

/// When a call was first polled, and when it has to end.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    started: Instant,
    deadline: Instant,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// The first attempt is to be made.
    Ready,
    /// The next attempt is to be made, no sooner than this.
    Send { at: Instant },
    /// An attempt is in flight. It is waited for until then, and hedged before if there is a time.
    Wait {
        until: Instant,
        hedge_at: Option<Instant>,
    },
    /// No further attempt; a late reply still counts.
    Listen { reason: GiveUpReason },
}

/// What to do now.
#[derive(Debug)]
pub(crate) enum Step {
    /// Sleep until then, or until something happens to the call.
    Sleep { until: Instant },
    /// The call has ended.
    Complete(Completion),
}

/// How a call ended.
#[derive(Debug)]
pub(crate) enum Completion {
    /// The server's answer.
    Answer(Answer),
    /// There is no answer.
    GiveUp { reason: GiveUpReason, cause: Cause },
    /// The call only wanted an id, and has one.
    IdReserved,
}

impl Completion {
    /// Whether the call was executed, and answered.
    pub(crate) fn is_outcome(&self) -> bool {
        matches!(self, Self::Answer(answer) if answer.is_outcome())
    }
}

impl Retrier {
    #[inline(always)]
    pub(crate) fn new(method: Cow<'static, str>, params: InlineBytes) -> Self {
        Self {
            method,
            params,
            options: None,
            key: None,
            used: 0,
            is_notification: false,
            holds_token: false,
            was_suppressed: false,
            hint_waits: 0,
            previous_delay: Duration::ZERO,
            phase: Phase::Ready,
            resend_window: None,
            bounds: None,
            first_sent: None,
        }
    }

    /// The call is polled for the first time.
    pub(crate) fn begin(&mut self, context: &RetryContext, now: Instant) {
        self.bounds = Some(Bounds {
            started: now,
            deadline: after(now, self.limits(context).deadline),
        });
    }

    fn key(&self) -> Key {
        self.key.expect("the call has begun")
    }

    /// The limits that were chosen for this call.
    #[inline]
    pub(crate) fn own_limits(&self) -> Option<&CallLimits> {
        self.options.as_ref()?.limits.as_ref()
    }

    pub(crate) fn limits<'a>(&'a self, context: &'a RetryContext) -> &'a CallLimits {
        self.own_limits().unwrap_or(&context.limits)
    }

    /// When it was first polled, if it was.
    pub(crate) fn started(&self) -> Option<Instant> {
        self.bounds.map(|bounds| bounds.started)
    }

    fn deadline(&self) -> Instant {
        self.bounds.expect("the call has begun").deadline
    }

    /// Decides as far as it can be decided now.
    pub(crate) fn step(&mut self, mux: &mut Mux, context: &mut RetryContext, now: Instant) -> Step {
        loop {
            self.roll_back(mux, context, now);
            if let Some(answer) = mux.call(self.key()).answer.take() {
                self.record_latency(mux, context, &answer, now);
                return Step::Complete(Completion::Answer(answer));
            }
            let step = match self.phase {
                Phase::Ready => self.send(mux, context, now, now),
                Phase::Send { at } => self.send(mux, context, at, now),
                Phase::Wait { until, hedge_at } => self.wait(mux, context, until, hedge_at, now),
                Phase::Listen { reason } => self.listen(mux, context, reason, now),
            };
            if let Some(step) = step {
                return step;
            }
        }
    }

    /// The token of a retry that won't be made goes back.
    #[inline]
    pub(crate) fn refund(&mut self, mux: &mut Mux, context: &mut RetryContext) {
        if std::mem::take(&mut self.holds_token) {
            context.bucket.refund();
            mux.refund_retry(self.key());
        }
    }

    /// Attempts on servers that never knew the session don't count.
    fn roll_back(&mut self, mux: &mut Mux, context: &mut RetryContext, now: Instant) {
        let call = mux.call(self.key());
        let rolled_back = std::mem::take(&mut call.rolled_back);
        if rolled_back == 0 {
            return;
        }
        self.used = self.used.saturating_sub(rolled_back);
        if call.has_running_attempt() {
            return;
        }
        if !call.must_not_repeat() {
            self.phase = Phase::Send { at: now };
        } else if matches!(self.phase, Phase::Wait { .. }) {
            self.plan_retry(mux, context, now);
        }
    }

    /// Withdraws the latest attempt if nothing of it has been written: then it doesn't count.
    pub(crate) fn withdraw(&mut self, mux: &mut Mux) -> bool {
        let signal = mux.call(self.key()).signal;
        let was_unsent = matches!(signal, Some(Signal::Unsent | Signal::UnsentThenEnded));
        let is_withdrawn = was_unsent || mux.withdraw(self.key());
        if is_withdrawn {
            mux.call(self.key()).signal = None;
            self.uncount_latest();
        }
        is_withdrawn
    }

    /// The latest attempt doesn't count. The token that a retry took is kept for the next one.
    fn uncount_latest(&mut self) {
        self.used -= 1;
        self.holds_token = self.used > 0;
    }

    fn send(
        &mut self,
        mux: &mut Mux,
        context: &mut RetryContext,
        at: Instant,
        now: Instant,
    ) -> Option<Step> {
        if now >= self.deadline() {
            return Some(self.give_up(mux, context, GiveUpReason::Deadline));
        }
        let asked = self.asked_at(mux, context, now);
        let at = asked.map_or(at, |asked| at.max(asked));
        let resend_limit = self.resend_limit(mux);
        if let Err(reason) = self.check_attempt_at(at.max(now), resend_limit) {
            self.refund(mux, context);
            mux.stop_waiting(self.key());
            self.stop_sending(reason);
            return None;
        }
        if self.limits(context).fail_fast
            && let Some(cause) = mux.known_down(self.key(), now)
        {
            let reason = GiveUpReason::FailFast;
            return Some(Step::Complete(Completion::GiveUp { reason, cause }));
        }
        if now < at {
            return Some(sleep(at));
        }
        let number = self.used + 1;
        match mux.send(&self.outbound(number, false, context, now), now) {
            SendStatus::Queued => {
                self.used = number;
                self.holds_token = false;
                self.first_sent.get_or_insert(now);
                let until = self.attempt_deadline(mux, context, now);
                let hedge_at = self.hedge_at(context, now);
                self.phase = Phase::Wait { until, hedge_at };
                // It may be in the buffer still when it gets too late for it.
                if let Some(limit) = resend_limit {
                    mux.limit_write(self.key(), limit);
                }
                let until = until.min(self.deadline());
                Some(sleep(earliest(until, [hedge_at, resend_limit])))
            }
            SendStatus::Blocked => {
                let look_again = mux.spare_patience(self.key()).filter(|at| *at > now);
                Some(sleep(earliest(self.deadline(), [resend_limit, look_again])))
            }
            SendStatus::NeedsSpan => {
                self.ask_for_span(number, false);
                Some(sleep(self.deadline()))
            }
            SendStatus::IdReserved => Some(Step::Complete(Completion::IdReserved)),
            SendStatus::TooLarge(error) => Some(Step::Complete(Completion::GiveUp {
                reason: GiveUpReason::Final,
                cause: Cause::TooLarge(error),
            })),
        }
    }

    /// The attempt is to be sent when it has a span.
    #[cold]
    fn ask_for_span(&mut self, number: u32, is_hedge: bool) {
        if let Some(options) = &mut self.options {
            options.spans.ask_for(number, is_hedge);
        }
    }

    /// No further attempt. One that may still be answered is waited for until the deadline: how
    /// long is the caller's to say, and not the timeout of an attempt.
    fn stop_sending(&mut self, reason: GiveUpReason) {
        self.phase = Phase::Listen { reason };
    }

    fn give_up(&self, mux: &mut Mux, context: &RetryContext, reason: GiveUpReason) -> Step {
        let deadline = self.limits(context).deadline;
        let call = mux.call(self.key());
        let last_cause = match call.attempts.last() {
            Some(latest) if latest.ended.is_none() => Some(Cause::NoReply(deadline)),
            _ => call.last_cause.take().map(|cause| *cause),
        };
        let refusal = mux.hello_refusal(self.key());
        let cause = refusal.or(last_cause);
        let cause = cause.unwrap_or(Cause::NotSent(deadline));
        Step::Complete(Completion::GiveUp { reason, cause })
    }

    #[inline]
    fn outbound(
        &self,
        number: u32,
        is_hedge: bool,
        context: &RetryContext,
        now: Instant,
    ) -> OutboundRequest<'_> {
        OutboundRequest {
            key: self.key(),
            method: &self.method,
            params: self.params.non_empty(),
            number,
            is_hedge,
            timeout_ms: self.timeout_ms(context, now),
            options: self.options.as_deref(),
        }
    }
}

fn earliest(first: Instant, others: [Option<Instant>; 2]) -> Instant {
    others.into_iter().flatten().fold(first, Instant::min)
}

fn sleep(until: Instant) -> Step {
    Step::Sleep { until }
}
