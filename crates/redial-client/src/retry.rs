//! What a call does next: the decisions of its life, without a clock, a socket or a sleep.
//!
//! [`Flight::step`] is called whenever something may have changed and says either until when to
//! sleep or that the call is over. The rules it applies are in [`backoff`], [`budget`] and
//! [`classify`].

pub(crate) mod backoff;
pub(crate) mod budget;
pub(crate) mod classify;
pub(crate) mod hedge;

use std::{
    borrow::Cow,
    time::{Duration, Instant},
};

use rand_chacha::ChaCha8Rng;

use self::{budget::Bucket, hedge::Latency};
use crate::{
    config::CallLimits,
    error::{Cause, GiveUpReason},
    json::Json,
    mux::{Answer, Closed, Key, Mux, Outbound, Sent, Signal, Touch},
};

/// Longer than any wait is meant to be, and short enough to be added to any time.
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// A time after `now`, for waits of any length.
pub(crate) fn after(now: Instant, wait: Duration) -> Instant {
    now + wait.min(YEAR)
}

/// What the retries of all calls of a client share.
#[derive(Debug)]
pub(crate) struct Policy {
    pub(crate) bucket: Bucket,
    pub(crate) jitter: ChaCha8Rng,
    /// How long calls take that are hedged by that.
    pub(crate) latency: Latency,
    pub(crate) hedges: u64,
    /// The limits of calls that have none of their own.
    pub(crate) limits: CallLimits,
}

impl Policy {
    /// A call is over: what was sent of it is known now.
    pub(crate) fn count_hedges(&mut self, closed: &Closed) {
        let hedges = closed.attempts.iter().filter(|attempt| attempt.is_hedge);
        self.hedges += hedges.count() as u64;
    }
}

/// One call on its way.
// The params are written just before they are moved with the rest. In a layout where they are next to
// padding, they would be moved along with that, in pieces that have to wait for what was written.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Flight {
    pub(crate) method: Cow<'static, str>,
    /// Empty, and no JSON, where they are left out.
    pub(crate) params: Json,
    pub(crate) traceparent: Option<String>,
    /// Where these are not the client's. They are large, and a call is moved about.
    pub(crate) own_limits: Option<Box<CallLimits>>,
    /// Where the call is, once it has begun.
    pub(crate) key: Option<Key>,
    /// Attempts that count.
    pub(crate) used: u32,
    pub(crate) is_notification: bool,
    holds_token: bool,
    previous_delay: Duration,
    phase: Phase,
    /// How long after a request that may have arrived the call may be sent again, if not always.
    pub(crate) resend_window: Option<Duration>,
    began: Option<Began>,
    first_sent: Option<Instant>,
}

/// When a call was first polled, and what bounds it.
#[derive(Clone, Copy, Debug)]
struct Began {
    started: Instant,
    deadline: Instant,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// The first attempt is to be made.
    Ready,
    /// The next attempt is to be made, no sooner than this.
    Send { at: Instant },
    /// An attempt is made. It is waited for until then, and hedged before if there is a time.
    Wait {
        until: Instant,
        hedge_at: Option<Instant>,
    },
    /// No further attempt; a late reply still counts.
    Listen { stop: GiveUpReason },
}

/// What to do now.
#[derive(Debug)]
pub(crate) enum Step {
    /// Sleep until then, or until something happens to the call.
    Sleep { until: Instant },
    /// The call is over.
    Over(Ending),
}

/// How a call ended.
#[derive(Debug)]
pub(crate) enum Ending {
    /// The server's answer.
    Answer(Answer),
    /// There is none.
    GiveUp { stop: GiveUpReason, cause: Cause },
    /// The call wanted no more than a name, and has one.
    Named,
}

impl Flight {
    fn key(&self) -> Key {
        self.key.expect("the call has begun")
    }

    pub(crate) fn new(method: Cow<'static, str>, params: Json) -> Self {
        Self {
            key: None,
            method,
            params,
            traceparent: None,
            own_limits: None,
            resend_window: None,
            is_notification: false,
            began: None,
            used: 0,
            phase: Phase::Ready,
            first_sent: None,
            previous_delay: Duration::ZERO,
            holds_token: false,
        }
    }

    /// The call is polled for the first time.
    pub(crate) fn begin(&mut self, policy: &Policy, now: Instant) {
        self.began = Some(Began {
            started: now,
            deadline: after(now, self.limits(policy).deadline),
        });
    }

    fn limits<'a>(&'a self, policy: &'a Policy) -> &'a CallLimits {
        self.own_limits.as_deref().unwrap_or(&policy.limits)
    }

    /// When it was first polled, if it was.
    pub(crate) fn started(&self) -> Option<Instant> {
        self.began.map(|began| began.started)
    }

    fn deadline(&self) -> Instant {
        self.began.expect("the call has begun").deadline
    }

    /// Decides as far as it can be decided now.
    pub(crate) fn step(&mut self, mux: &mut Mux, policy: &mut Policy, now: Instant) -> Step {
        loop {
            self.take_back(mux, policy, now);
            if let Some(answer) = mux.call(self.key()).answer.take() {
                self.learn(policy, &answer, now);
                return Step::Over(Ending::Answer(answer));
            }
            let step = match self.phase {
                Phase::Ready => self.send(mux, policy, now, now),
                Phase::Send { at } => self.send(mux, policy, at, now),
                Phase::Wait { until, hedge_at } => self.wait(mux, policy, until, hedge_at, now),
                Phase::Listen { stop } => Some(self.listen(mux, policy, stop, now)),
            };
            if let Some(step) = step {
                return step;
            }
        }
    }

    /// The token of a retry that won't be made goes back.
    pub(crate) fn refund(&mut self, policy: &mut Policy) {
        if std::mem::take(&mut self.holds_token) {
            policy.bucket.refund();
        }
    }

    /// Attempts on servers that didn't know the session were none.
    fn take_back(&mut self, mux: &mut Mux, policy: &mut Policy, now: Instant) {
        let pending = mux.call(self.key());
        let disowned = std::mem::take(&mut pending.disowned);
        if disowned == 0 {
            return;
        }
        self.used = self.used.saturating_sub(disowned);
        if pending.is_running() {
            return;
        }
        if !pending.is_delicate() {
            self.phase = Phase::Send { at: now };
        } else if matches!(self.phase, Phase::Wait { .. }) {
            self.plan(mux, policy, now);
        }
    }

    /// Takes back the latest attempt if nothing of it has been written: then it was none.
    pub(crate) fn withdraw(&mut self, mux: &mut Mux) -> bool {
        let was_none = mux.call(self.key()).signal == Some(Signal::Unsent);
        let is_withdrawn = was_none || mux.withdraw(self.key());
        if is_withdrawn {
            mux.call(self.key()).signal = None;
            self.uncount();
        }
        is_withdrawn
    }

    /// The latest attempt was none. The token that a retry took is kept for the next sending.
    fn uncount(&mut self) {
        self.used -= 1;
        self.holds_token = self.used > 0;
    }

    fn send(
        &mut self,
        mux: &mut Mux,
        policy: &mut Policy,
        at: Instant,
        now: Instant,
    ) -> Option<Step> {
        if now >= self.deadline() {
            return Some(self.give_up(mux, policy, GiveUpReason::Deadline));
        }
        let at = mux
            .call(self.key())
            .not_before
            .map_or(at, |asked| at.max(asked));
        if let Err(stop) = self.is_allowed_at(mux, at.max(now)) {
            self.refund(policy);
            mux.give_way(self.key());
            self.stop(stop);
            return None;
        }
        if now < at {
            return Some(sleep(at));
        }
        let number = self.used + 1;
        match mux.send(&self.outbound(policy, number, false, now), now) {
            Sent::Queued => {
                self.used = number;
                self.holds_token = false;
                self.first_sent.get_or_insert(now);
                let until = self.patience(policy, now);
                let hedge_at = self.hedge_at(policy, now);
                self.phase = Phase::Wait { until, hedge_at };
                // It may be in the buffer still when it gets too late for it.
                let too_late = self.too_late(mux);
                let times = [Some(until), hedge_at, too_late, Some(self.deadline())];
                Some(sleep(times.into_iter().flatten().min().unwrap_or(until)))
            }
            Sent::Wait => {
                let too_late = self.too_late(mux).unwrap_or(self.deadline());
                Some(sleep(too_late.min(self.deadline())))
            }
            Sent::Named => Some(Step::Over(Ending::Named)),
            Sent::TooLarge(error) => Some(Step::Over(Ending::GiveUp {
                stop: GiveUpReason::Final,
                cause: Cause::TooLarge(error),
            })),
        }
    }

    fn wait(
        &mut self,
        mux: &mut Mux,
        policy: &mut Policy,
        until: Instant,
        hedge_at: Option<Instant>,
        now: Instant,
    ) -> Option<Step> {
        let signal = mux.call(self.key()).signal.take();
        match signal {
            Some(Signal::Ended) => self.plan(mux, policy, now),
            Some(Signal::Unsent) => {
                self.uncount();
                match mux.call(self.key()).is_running() {
                    false => self.phase = Phase::Send { at: now },
                    // Only a hedge is gone.
                    true => self.refund(policy),
                }
            }
            None if now >= self.deadline() => {
                self.withdraw(mux);
                return Some(self.give_up(mux, policy, GiveUpReason::Deadline));
            }
            None if self.is_unsent(mux) => return self.wait_unsent(mux, policy, until, now),
            None if self.is_copy_too_late(mux, now) && self.withdraw(mux) => self.refund(policy),
            None if now >= until => {
                // Of the two it is a hedge that may not have left yet.
                if self.withdraw(mux) {
                    self.refund(policy);
                }
                mux.time_out(self.key(), now);
                let cause = Cause::NoReply(self.limits(policy).attempt_timeout);
                mux.call(self.key()).trouble = Some(cause.into());
                self.plan(mux, policy, now);
            }
            None => match hedge_at {
                Some(at) if now >= at => return Some(self.hedge(mux, policy, until, now)),
                Some(at) => return Some(sleep(until.min(at).min(self.deadline()))),
                None => {
                    let too_late = self.copy_too_late_at(mux).filter(|at| *at > now);
                    let until = too_late.map_or(until, |at| until.min(at));
                    return Some(sleep(until.min(self.deadline())));
                }
            },
        }
        None
    }

    /// Whether nothing of the one attempt that is waited for has been written.
    fn is_unsent(&self, mux: &mut Mux) -> bool {
        let latest = mux.call(self.key()).attempts.last();
        let is_hedge = latest.is_some_and(|latest| latest.is_hedge);
        !is_hedge && mux.touch(self.key()) == Touch::Untouched
    }

    /// The request lies in the buffer: another copy would lie behind it, so it is only kept from
    /// leaving too late.
    fn wait_unsent(
        &mut self,
        mux: &mut Mux,
        policy: &Policy,
        until: Instant,
        now: Instant,
    ) -> Option<Step> {
        let too_late = self.too_late(mux);
        if too_late.is_some_and(|too_late| now >= too_late) && self.withdraw(mux) {
            self.stop(GiveUpReason::Window);
            return None;
        }
        if now >= until {
            let until = self.patience(policy, now);
            self.phase = Phase::Wait {
                until,
                hedge_at: None,
            };
            return None;
        }
        let wake = match too_late {
            Some(too_late) if too_late > now => until.min(too_late),
            _ => until,
        };
        Some(sleep(wake.min(self.deadline())))
    }

    fn listen(&mut self, mux: &mut Mux, policy: &Policy, stop: GiveUpReason, now: Instant) -> Step {
        if now < self.deadline() && mux.call(self.key()).is_reachable() {
            return sleep(self.deadline());
        }
        self.give_up(mux, policy, stop)
    }

    /// An attempt is over: another one, or none.
    fn plan(&mut self, mux: &mut Mux, policy: &mut Policy, now: Instant) {
        match self.next_attempt(mux, policy, now) {
            Ok(at) => self.phase = Phase::Send { at },
            Err(stop) => {
                self.refund(policy);
                self.stop(stop);
            }
        }
    }

    /// When the next attempt is to be made, or why there is none.
    fn next_attempt(
        &mut self,
        mux: &mut Mux,
        policy: &mut Policy,
        now: Instant,
    ) -> Result<Instant, GiveUpReason> {
        let limits = self.limits(policy);
        if self.used >= limits.max_attempts {
            return Err(GiveUpReason::Attempts);
        }
        let backoff = limits.backoff;
        let delay = backoff.delay(self.used, self.previous_delay, &mut policy.jitter);
        self.previous_delay = delay;
        let asked = mux.call(self.key()).not_before;
        let at = asked.map_or(after(now, delay), |asked| asked.max(after(now, delay)));
        self.is_allowed_at(mux, at)?;
        let token = policy.bucket.reserve(now, self.deadline());
        self.holds_token = token.is_some();
        let at = at.max(token.ok_or(GiveUpReason::Budget)?);
        self.is_allowed_at(mux, at).map(|()| at)
    }

    /// Whether the deadline and the server's memory leave room for an attempt at that time.
    fn is_allowed_at(&self, mux: &mut Mux, at: Instant) -> Result<(), GiveUpReason> {
        if at >= self.deadline() {
            Err(GiveUpReason::Deadline)
        } else if self.too_late(mux).is_some_and(|too_late| at >= too_late) {
            Err(GiveUpReason::Window)
        } else {
            Ok(())
        }
    }

    /// From when on the server can't be relied on to know the call again; `None` if it always can.
    fn too_late(&self, mux: &mut Mux) -> Option<Instant> {
        if !mux.may_be_forgotten(self.key()) {
            return None;
        }
        self.too_late_since(mux.call(self.key()).open_since(false), mux)
    }

    /// The same, of an attempt that was made then.
    fn too_late_since(&self, since: Option<Instant>, mux: &mut Mux) -> Option<Instant> {
        match (since, self.resend_window) {
            (Some(since), Some(window)) if mux.may_be_forgotten(self.key()) => {
                Some(after(since, window))
            }
            _ => None,
        }
    }

    /// No further attempt. One that is open may still be answered, and is waited for until the
    /// deadline: it is the caller who says how long, not the timeout of an attempt.
    fn stop(&mut self, stop: GiveUpReason) {
        self.phase = Phase::Listen { stop };
    }

    fn give_up(&self, mux: &mut Mux, policy: &Policy, stop: GiveUpReason) -> Step {
        let deadline = self.limits(policy).deadline;
        let pending = mux.call(self.key());
        let untold = match pending.attempts.last() {
            Some(latest) if latest.ended.is_none() => Some(Cause::NoReply(deadline)),
            _ => pending.trouble.take().map(|cause| *cause),
        };
        let refused = || mux.hello_refusal().map(Cause::Server);
        let cause = untold.or_else(refused).unwrap_or(Cause::NotSent(deadline));
        Step::Over(Ending::GiveUp { stop, cause })
    }

    /// Until when an attempt that is made now is waited for.
    fn patience(&self, policy: &Policy, now: Instant) -> Instant {
        match self.is_notification {
            true => self.deadline(),
            false => after(now, self.limits(policy).attempt_timeout),
        }
    }

    fn outbound(&self, policy: &Policy, number: u32, is_hedge: bool, now: Instant) -> Outbound<'_> {
        // What almost every first attempt has left is known without a subtraction.
        let left = match self.started() == Some(now) {
            true => self.limits(policy).deadline.min(YEAR),
            false => self.deadline().saturating_duration_since(now),
        };
        Outbound {
            key: self.key(),
            method: &self.method,
            params: self.params.given(),
            number,
            is_hedge,
            timeout_ms: left.as_secs() * 1000 + u64::from(left.subsec_millis()),
            traceparent: self.traceparent.as_deref(),
        }
    }
}

fn sleep(until: Instant) -> Step {
    Step::Sleep { until }
}

#[cfg(test)]
mod chaos;
#[cfg(test)]
mod tests;
