//! The retry budget: a token bucket, so that a fleet in trouble isn't multiplied by its retries.
//!
//! The idea is that of Finagle's and tower's retry budgets. A limit of attempts per call can't do
//! this: when everything fails, five attempts per call are five times the load. As in gRPC (A6, "Retry
//! Throttling") it is what succeeds that pays for retries: a server that answers nothing earns none, so
//! that retries which come on top of the calls can't be what keeps it from answering.

use std::time::{Duration, Instant};

/// How many retries a client may make, all its calls together.
///
/// Each retry takes a token; first attempts and free resends take none. A retry that finds no
/// token is postponed until there is one, and its call listens for late replies meanwhile.
///
/// Of several endpoints each has a budget of its own, too, which every retry that goes there takes a token
/// of: half of `min_per_second` and of `burst`, and `percent_of_calls` of the calls that it answered itself.
/// So one endpoint, however dead, leaves the retries to others half of what there is.
///
/// ```
/// use redial_client::RetryBudget;
///
/// let frugal = RetryBudget { percent_of_calls: 5.0, ..RetryBudget::default() };
/// assert_eq!(frugal.burst, 100.0);
/// assert!(RetryBudget::unlimited().is_unlimited());
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryBudget {
    /// Tokens that each call brings that the server has executed and answered, in hundredths. Default 20:
    /// one retry per five such calls. More of them help where a part of the calls fails for long, and are
    /// that much more load for a server that is busy; where everything fails they bring nothing.
    pub percent_of_calls: f64,
    /// Tokens that come by themselves, per second. Default 10, so that a client with few calls
    /// can retry at all.
    pub min_per_second: f64,
    /// The most tokens that are kept, which is also what a client starts with. Default 100,
    /// which is 10 s worth of `min_per_second`.
    pub burst: f64,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self {
            percent_of_calls: 20.0,
            min_per_second: 10.0,
            burst: 100.0,
        }
    }
}

impl RetryBudget {
    /// No limit but each call's own. Of use in tests; in production this is how an outage of a
    /// second becomes one of an hour.
    #[must_use]
    pub fn unlimited() -> Self {
        Self {
            burst: f64::INFINITY,
            ..Self::default()
        }
    }

    /// Whether retries are not limited.
    #[must_use]
    pub fn is_unlimited(&self) -> bool {
        self.burst == f64::INFINITY
    }

    /// What each of several endpoints has.
    pub(crate) fn of_endpoint(self) -> Self {
        Self {
            min_per_second: self.min_per_second / 2.0,
            burst: (self.burst / 2.0).max(1.0),
            ..self
        }
    }

    /// What is wrong with the numbers, if anything.
    pub(crate) fn problem(&self) -> Option<String> {
        let bad = |number: f64| number.is_nan() || number < 0.0;
        if bad(self.percent_of_calls) || bad(self.min_per_second) || bad(self.burst) {
            return Some(format!("{self:?}; expected numbers from 0"));
        }
        (self.burst < 1.0).then(|| format!("burst is {}; expected 1 or more tokens", self.burst))
    }
}

/// The bucket. It may go below zero: those tokens are promised to retries that wait for them.
#[derive(Debug)]
pub(crate) struct TokenBucket {
    budget: RetryBudget,
    tokens: f64,
    /// When time last brought tokens. `None` before that, when it is full.
    filled_at: Option<Instant>,
}

impl TokenBucket {
    pub(crate) fn new(budget: RetryBudget) -> Self {
        Self {
            budget,
            tokens: budget.burst,
            filled_at: None,
        }
    }

    /// A call was executed and answered.
    #[inline]
    pub(crate) fn deposit(&mut self) {
        self.add(self.budget.percent_of_calls / 100.0);
    }

    /// A token that was reserved is not used.
    pub(crate) fn refund(&mut self) {
        self.add(1.0);
    }

    /// Reserves a token and says when it is there, or `None` if it can't be before `latest`:
    /// then nothing is reserved. Tokens of calls to come are not foreseen.
    pub(crate) fn reserve(&mut self, now: Instant, latest: Instant) -> Option<Instant> {
        self.tokens = self.tokens_at(now);
        self.filled_at = self.filled_at.max(Some(now));
        let missing = (1.0 - self.tokens).max(0.0);
        let wait = if missing > 0.0 {
            Duration::try_from_secs_f64(missing / self.budget.min_per_second).ok()?
        } else {
            Duration::ZERO
        };
        let at = now.checked_add(wait).filter(|at| *at <= latest)?;
        self.tokens -= 1.0;
        Some(at)
    }

    /// Takes a token, promised or not: an attempt was made that another budget had paid for.
    pub(crate) fn charge(&mut self) {
        self.tokens -= 1.0;
    }

    /// How many tokens there are.
    pub(crate) fn tokens_at(&self, now: Instant) -> f64 {
        let since = self.filled_at.unwrap_or(now);
        let passed = now.saturating_duration_since(since).as_secs_f64();
        (self.tokens + passed * self.budget.min_per_second).min(self.budget.burst)
    }

    fn add(&mut self, tokens: f64) {
        self.tokens = (self.tokens + tokens).min(self.budget.burst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use proptest::prelude::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn bucket(percent: f64, per_second: f64, burst: f64) -> (TokenBucket, Instant) {
        let now = clock::now();
        let budget = RetryBudget {
            percent_of_calls: percent,
            min_per_second: per_second,
            burst,
        };
        (TokenBucket::new(budget), now)
    }

    #[test]
    fn the_burst_is_there_at_once_and_then_tokens_come_one_by_one() {
        let (mut bucket, now) = bucket(0.0, 10.0, 2.0);
        let waits: Vec<_> = (0..4)
            .map(|_| bucket.reserve(now, now + HOUR).unwrap() - now)
            .collect();
        let ms = Duration::from_millis;
        assert_eq!(waits, [ms(0), ms(0), ms(100), ms(200)]);
    }

    #[test]
    fn five_calls_bring_one_retry() {
        let (mut bucket, now) = bucket(20.0, 0.0, 1.0);
        assert_eq!(bucket.reserve(now, now + HOUR), Some(now));
        for _ in 0..4 {
            bucket.deposit();
            assert_eq!(bucket.reserve(now, now + HOUR), None);
        }
        bucket.deposit();
        assert_eq!(bucket.reserve(now, now + HOUR), Some(now));
    }

    #[test]
    fn a_token_that_comes_too_late_is_not_reserved() {
        let (mut bucket, now) = bucket(0.0, 1.0, 1.0);
        assert_eq!(bucket.reserve(now, now), Some(now));
        let half = Duration::from_millis(500);
        assert_eq!(bucket.reserve(now, now + half), None);
        assert_eq!(bucket.reserve(now, now + HOUR), Some(now + half * 2));
    }

    #[test]
    fn a_refund_is_there_for_the_next() {
        let (mut bucket, now) = bucket(0.0, 0.0, 1.0);
        assert!(bucket.reserve(now, now + HOUR).is_some());
        assert!(bucket.reserve(now, now + HOUR).is_none());
        bucket.refund();
        assert!(bucket.reserve(now, now + HOUR).is_some());
    }

    #[test]
    fn never_more_than_the_burst_however_long_no_call_retries() {
        let (mut bucket, now) = bucket(20.0, 10.0, 3.0);
        let later = now + HOUR;
        (0..1000).for_each(|_| bucket.deposit());
        let at_once = (0..10)
            .filter(|_| bucket.reserve(later, later).is_some())
            .count();
        assert_eq!(at_once, 3);
    }

    #[test]
    fn unlimited_never_waits() {
        let now = clock::now();
        let mut bucket = TokenBucket::new(RetryBudget::unlimited());
        for _ in 0..100_000 {
            assert_eq!(bucket.reserve(now, now), Some(now));
        }
    }

    #[derive(Clone, Copy, Debug)]
    enum BudgetEvent {
        Call,
        Retry { patience_ms: u64 },
        Refund,
        Wait { ms: u64 },
    }

    fn event() -> impl Strategy<Value = BudgetEvent> {
        prop_oneof![
            3 => Just(BudgetEvent::Call),
            3 => (0u64..3000).prop_map(|patience_ms| BudgetEvent::Retry { patience_ms }),
            1 => Just(BudgetEvent::Refund),
            2 => (0u64..2000).prop_map(|ms| BudgetEvent::Wait { ms }),
        ]
    }

    proptest! {
        /// Against whole thousandths of tokens: with 10 a second each millisecond brings ten of
        /// them, and a call of 20 % brings 200. A retry is promised the moment at which its token
        /// is there, and if that is too late nothing is taken.
        #[test]
        fn tokens_are_those_of_a_bucket_that_is_counted_in_thousandths(
            burst in 1i64..5,
            events in prop::collection::vec(event(), 0..60),
        ) {
            const PER_MS: i64 = 10;
            const PER_CALL: i64 = 200;
            let (mut bucket, mut now) = bucket(20.0, 10.0, burst as f64);
            let (full, mut tokens, mut promised) = (burst * 1000, burst * 1000, 0);
            let mut unfilled_ms = 0;
            for event in events {
                match event {
                    BudgetEvent::Call => {
                        bucket.deposit();
                        tokens = (tokens + PER_CALL).min(full);
                    }
                    BudgetEvent::Refund if promised > 0 => {
                        promised -= 1;
                        bucket.refund();
                        tokens = (tokens + 1000).min(full);
                    }
                    BudgetEvent::Refund => {}
                    BudgetEvent::Wait { ms } => {
                        now += Duration::from_millis(ms);
                        unfilled_ms += ms as i64;
                    }
                    BudgetEvent::Retry { patience_ms } => {
                        let latest = now + Duration::from_millis(patience_ms);
                        let given = bucket.reserve(now, latest);
                        tokens = (tokens + std::mem::take(&mut unfilled_ms) * PER_MS).min(full);
                        let wait_ms = (1000 - tokens).max(0) as f64 / PER_MS as f64;
                        // Where a float decides by a hair, either is right.
                        if (wait_ms - patience_ms as f64).abs() > 0.001 {
                            prop_assert_eq!(given.is_some(), wait_ms < patience_ms as f64);
                        }
                        if let Some(at) = given {
                            let waits_ms = (at - now).as_secs_f64() * 1e3;
                            prop_assert!((waits_ms - wait_ms).abs() < 0.001, "{waits_ms} {wait_ms}");
                            tokens -= 1000;
                            promised += 1;
                        }
                    }
                }
            }
        }
    }
}
