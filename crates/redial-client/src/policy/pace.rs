//! Which of several endpoints are slower than the others. What is in flight doesn't show it to a client that
//! has hardly more than one call at once: it would send each to the slow one as soon as the last came back.
//!
//! The idea is that of finagle's and linkerd's peak EWMA: load is what is in flight times how long calls take.
//! Their peak makes an endpoint look slow that has just answered a slow method. So here it is the logarithm
//! that is averaged, over methods as they come, and against that of all endpoints; and a difference counts
//! only where it is plain.

use std::time::{Duration, Instant};

/// The part of the average that is the latest answer.
const LATEST: f64 = 1.0 / 8.0;

/// The same of the average of all endpoints.
const LATEST_OF_ALL: f64 = 1.0 / 256.0;

/// An endpoint is slow that takes so many times as long as all do.
const SLOW: f64 = 3.0;

/// After this, and after so many answers of others, what is known of an endpoint counts half as much, so
/// that it is tried again; and after this in any case.
const HALVED_AFTER: Duration = Duration::from_secs(10);
const HALVED_AFTER_ANSWERS: f64 = 1_000.0;
const HALVED_AT_LAST: Duration = Duration::from_secs(60);

/// How long calls take at all endpoints together.
#[derive(Debug, Default)]
pub(crate) struct CommonPace {
    /// An average of the logarithm of microseconds.
    ln: f64,
    answers: u64,
}

/// How much longer they take at one of them.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// An average of the logarithm of how many times as long.
    excess: f64,
    /// When it was answered last, and how many answers there had been then.
    latest: Option<(Instant, u64)>,
}

impl CommonPace {
    /// A call had a result from the endpoint of this pace.
    pub(crate) fn observe(&mut self, pace: &mut Pace, took: Duration, now: Instant) {
        let ln = (took.as_secs_f64() * 1e6).max(1.0).ln();
        if self.answers == 0 {
            self.ln = ln;
        }
        self.answers += 1;
        let beyond = ln - self.ln;
        self.ln += beyond * LATEST_OF_ALL;
        let excess = pace.excess(self, now);
        pace.excess = excess + (beyond - excess) * LATEST;
        pace.latest = Some((now, self.answers));
    }
}

impl Pace {
    /// How many times as long as at all endpoints calls take here; 1 where that is not plain.
    pub(crate) fn times(&self, common: &CommonPace, now: Instant) -> f64 {
        let excess = self.excess(common, now);
        if excess < SLOW.ln() {
            1.0
        } else {
            excess.exp()
        }
    }

    fn excess(&self, common: &CommonPace, now: Instant) -> f64 {
        let Some((latest, answers)) = self.latest else {
            return 0.0;
        };
        let since = now.saturating_duration_since(latest).as_secs_f64();
        let by_answers = (common.answers - answers) as f64 / HALVED_AFTER_ANSWERS;
        let halvings = (since / HALVED_AFTER.as_secs_f64()).min(by_answers);
        let halvings = halvings.max(since / HALVED_AT_LAST.as_secs_f64());
        self.excess * (-halvings).exp2()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const QUICK: Duration = Duration::from_millis(5);

    /// Calls that go round five endpoints, each of which takes what `took` says.
    fn paces(
        rounds: u32,
        took: impl Fn(usize, u32) -> Duration,
    ) -> (CommonPace, [Pace; 5], Instant) {
        let (mut common, mut paces, mut now) = (
            CommonPace::default(),
            [(); 5].map(|()| Pace::default()),
            clock::now(),
        );
        for round in 0..rounds {
            for (at, pace) in paces.iter_mut().enumerate() {
                common.observe(pace, took(at, round), now);
                now += Duration::from_millis(1);
            }
        }
        (common, paces, now)
    }

    /// Kind of fault: a slow endpoint gets as many calls as a quick one.
    #[test]
    fn an_endpoint_that_becomes_ten_times_slower_is_slow_within_ten_answers() {
        let took = |at, round| {
            if at == 2 && round >= 100 {
                QUICK * 10
            } else {
                QUICK
            }
        };
        let times = |rounds| {
            let (common, paces, now) = paces(rounds, took);
            paces.map(|pace| pace.times(&common, now))
        };
        assert_eq!(times(100), [1.0; 5]);
        let [first, .., slow, _, _] = times(110);
        assert!(first == 1.0 && slow > SLOW, "{slow}");
        assert!((5.0..12.0).contains(&times(200)[2]), "{}", times(200)[2]);
    }

    /// Kind of fault: an endpoint is left alone because of what it was asked for.
    #[test]
    fn one_that_has_answered_a_slow_method_is_not_slow() {
        let took = |at, round| match (at, round) {
            (2, 99) => QUICK * 1_000,
            _ => QUICK * (1 + round % 3),
        };
        let (common, paces, now) = paces(100, took);
        assert_eq!(paces[2].times(&common, now), 1.0);
    }

    /// Kind of fault: an endpoint that was slow once is never called again.
    #[test]
    fn what_was_slow_is_tried_again() {
        let took = |at, _| if at == 2 { QUICK * 10 } else { QUICK };
        let (mut common, mut paces, now) = paces(100, took);
        let later = |secs| now + Duration::from_secs(secs);
        assert!(
            paces[2].times(&common, later(20)) > SLOW,
            "nothing else was answered meanwhile"
        );
        assert_eq!(paces[2].times(&common, later(90)), 1.0);
        for _ in 0..2_000 {
            common.observe(&mut paces[0], QUICK, now);
        }
        assert!(paces[2].times(&common, later(5)) > SLOW);
        assert_eq!(paces[2].times(&common, later(20)), 1.0);
    }

    #[test]
    fn an_endpoint_that_has_answered_nothing_is_not_slow() {
        let common = CommonPace::default();
        assert_eq!(Pace::default().times(&common, clock::now()), 1.0);
    }
}
