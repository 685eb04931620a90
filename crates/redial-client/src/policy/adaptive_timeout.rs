//! How long an attempt is waited for, by how long calls took lately.
//!
//! A timeout that is measured has to be kept from feeding itself. If attempts that time out left no sample,
//! those that are quick enough would say how long to wait, and a server that becomes slower would see ever more
//! retries. So an attempt that timed out is a sample of at least its timeout, and each further attempt of a
//! call is waited for twice as long, as TCP does (RFC 6298, with Karn's algorithm).

use std::time::Duration;

use super::latency::Latency;

/// Has each attempt be waited for as long as the slowest calls of its method took lately at its endpoint, and
/// some, instead of [`attempt_timeout`](crate::CallLimits::attempt_timeout), which is the most then, and what
/// counts until 100 calls of the method have been answered.
///
/// A lost request is noticed sooner so where calls are quick, and a slow method is left in peace. After a
/// timeout the call's next attempt is waited for twice as long.
///
/// ```
/// use std::time::Duration;
/// use redial_client::{AdaptiveTimeout, CallLimits};
///
/// let limits = CallLimits {
///     // Never longer than this.
///     attempt_timeout: Duration::from_secs(2),
///     adaptive_timeout: Some(AdaptiveTimeout::default()),
///     ..CallLimits::default()
/// };
/// # let _ = limits;
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdaptiveTimeout {
    /// The least that an attempt is waited for. Default 50 ms: less than the pauses of a scheduler, a
    /// collector of garbage or a disk would have each of them cost a retry.
    pub floor: Duration,
    /// How many times as long as 99 % of the calls took. Default 3. Nearer to 1 more attempts are made for
    /// nothing; further from it a loss is noticed later.
    pub multiplier: f64,
}

impl Default for AdaptiveTimeout {
    fn default() -> Self {
        Self {
            floor: Duration::from_millis(50),
            multiplier: 3.0,
        }
    }
}

impl AdaptiveTimeout {
    /// What is wrong with the numbers, if anything.
    pub(crate) fn problem(&self) -> Option<String> {
        let Self { floor, multiplier } = *self;
        if floor.is_zero() {
            return Some("adaptive_timeout.floor is 0; expected more than 0".to_owned());
        }
        let is_bad = !multiplier.is_finite() || multiplier < 1.0;
        is_bad.then(|| {
            format!("adaptive_timeout.multiplier is {multiplier}; expected a number from 1")
        })
    }

    /// How long to wait for an attempt before which `timeouts` of its call have passed. `most` counts where
    /// nothing is known, and is never exceeded.
    pub(crate) fn timeout(self, p99: Option<Duration>, timeouts: u32, most: Duration) -> Duration {
        let Some(p99) = p99 else {
            return most;
        };
        let doubled = 2f64.powi(timeouts.min(64) as i32);
        let seconds = (p99.as_secs_f64() * self.multiplier).max(self.floor.as_secs_f64()) * doubled;
        Duration::try_from_secs_f64(seconds).map_or(most, |timeout| timeout.min(most))
    }
}

/// How many methods of an endpoint have an estimate of their own, 256 bytes each. All others count as one.
const MAX_METHODS: usize = 32;

/// How long the calls of each method took at an endpoint.
#[derive(Debug)]
pub(crate) struct MethodLatencies {
    /// By a hash of the method's name.
    methods: Vec<(u64, Latency)>,
    others: Latency,
}

impl MethodLatencies {
    pub(crate) fn new() -> Self {
        Self {
            methods: Vec::new(),
            others: Latency::forgetful(),
        }
    }

    /// An answer has come after so long, or none has.
    pub(crate) fn record(&mut self, method: &str, took: Duration) {
        let hash = hash(method);
        if let Some((_, known)) = self.methods.iter_mut().find(|(known, _)| *known == hash) {
            known.record(took);
        } else if self.methods.len() < MAX_METHODS {
            let mut latency = Latency::forgetful();
            latency.record(took);
            self.methods.push((hash, latency));
        } else {
            self.others.record(took);
        }
    }

    /// What 99 % of the calls took no longer than.
    pub(crate) fn p99(&self, method: &str) -> Option<Duration> {
        let hash = hash(method);
        let known = self.methods.iter().find(|(known, _)| *known == hash);
        known.map_or(&self.others, |(_, known)| known).p99()
    }
}

/// FNV-1a. Two methods of one hash would share their timeout, and no more.
fn hash(method: &str) -> u64 {
    method.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MOST: Duration = Duration::from_secs(1);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// One method of a server that takes so long, and the timeouts of the client.
    struct World {
        latencies: MethodLatencies,
        adaptive: AdaptiveTimeout,
    }

    impl World {
        fn new() -> Self {
            Self {
                latencies: MethodLatencies::new(),
                adaptive: AdaptiveTimeout::default(),
            }
        }

        fn timeout(&self) -> Duration {
            self.adaptive.timeout(self.latencies.p99("m"), 0, MOST)
        }

        /// Makes a call. Gives how many attempts it took until one was waited for long enough.
        fn call(&mut self, takes: Duration) -> u32 {
            let p99 = self.latencies.p99("m");
            let mut waited = Duration::ZERO;
            for timeouts in 0..20 {
                let timeout = self.adaptive.timeout(p99, timeouts, MOST);
                // The reply to any attempt ends the call.
                if waited + timeout >= takes {
                    if timeouts == 0 {
                        self.latencies.record("m", takes);
                    }
                    return timeouts + 1;
                }
                waited += timeout;
                self.latencies.record("m", timeout);
            }
            20
        }
    }

    /// Timeouts that come of answers alone: those that are too late say nothing, and all others are quick.
    #[test]
    fn a_server_that_becomes_slow_is_soon_waited_for() {
        let mut world = World::new();
        (0..2_000).for_each(|_| assert_eq!(world.call(ms(5)), 1));
        assert_eq!(world.timeout(), ms(50), "the floor");
        let attempts: Vec<u32> = (0..500).map(|_| world.call(ms(400))).collect();
        let retries: u32 = attempts.iter().map(|attempts| attempts - 1).sum();
        assert!(retries < 60, "{retries} for 500 calls");
        assert!(attempts[100..].iter().all(|attempts| *attempts == 1));
        assert!(world.timeout() >= ms(400));
    }

    /// A server that is never quick enough, whatever the timeout: it is not asked ever more often.
    #[test]
    fn constant_timeouts_raise_the_timeout_to_the_most() {
        let mut world = World::new();
        (0..2_000).for_each(|_| assert_eq!(world.call(ms(1)), 1));
        let mut timeouts = Vec::new();
        for _ in 0..1_000 {
            timeouts.push(world.timeout());
            world.call(Duration::MAX);
        }
        assert!(timeouts.is_sorted(), "it never falls: {timeouts:?}");
        assert_eq!(timeouts[300], MOST);
    }

    /// A timeout that stays long for ever after a slow minute.
    #[test]
    fn the_timeout_falls_when_the_server_is_quick_again() {
        let mut world = World::new();
        for _ in 0..5_000 {
            world.call(ms(300));
        }
        assert!(world.timeout() >= ms(900));
        for _ in 0..5_000 {
            world.call(ms(4));
        }
        assert_eq!(world.timeout(), ms(50));
    }

    /// A slow method that has the timeout of a quick one, or more methods than there is room for.
    #[test]
    fn methods_have_estimates_of_their_own_and_those_beyond_share_one() {
        let mut latencies = MethodLatencies::new();
        for _ in 0..200 {
            for method in 0..40u64 {
                latencies.record(&format!("m{method}"), ms(method + 1));
            }
        }
        assert!(latencies.p99("m0").unwrap() < ms(2));
        assert!((ms(32)..ms(41)).contains(&latencies.p99("m31").unwrap()));
        let others = latencies.p99("m39");
        assert_eq!(latencies.p99("m35"), others);
        assert!(others.unwrap() >= ms(39));
        assert_eq!(latencies.methods.len(), MAX_METHODS);
    }

    proptest! {
        /// Against a sorted list: the timeout is the multiple of what 99 % took, up to the width of a bucket, between
        /// its bounds.
        #[test]
        fn the_timeout_is_a_multiple_of_what_most_took_within_its_bounds(
            mut samples in prop::collection::vec(1u64..10_000, 0..600),
            multiplier in 1.0f64..10.0,
            floor_ms in 1u64..100,
            timeouts in 0u32..70,
        ) {
            let mut latencies = MethodLatencies::new();
            samples.iter().for_each(|sample| latencies.record("m", ms(*sample)));
            samples.sort_unstable_by(|one, other| other.cmp(one));
            let adaptive = AdaptiveTimeout { floor: ms(floor_ms), multiplier };
            prop_assert_eq!(adaptive.problem(), None);
            let found = adaptive.timeout(latencies.p99("m"), timeouts, MOST);
            let expected = |took: f64| {
                let once = (took * multiplier).max(floor_ms as f64);
                (once * 2f64.powi(timeouts as i32)).min(MOST.as_millis() as f64)
            };
            let found_ms = found.as_secs_f64() * 1e3;
            if samples.len() < 100 {
                prop_assert_eq!(found, MOST);
            } else {
                let took = samples[samples.len() / 100] as f64;
                prop_assert!(found_ms >= expected(took) - 0.01, "{found_ms} for {took}");
                prop_assert!(found_ms <= expected(took * 1.26) + 0.01, "{found_ms} for {took}");
            }
        }
    }
}
