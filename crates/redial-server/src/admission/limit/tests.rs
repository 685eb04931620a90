//! The running limit, held against rates that are known.

use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::clock;

const INTERVAL: Duration = Duration::from_millis(100);

/// Lets calls finish for so many seconds, as many a second as `rate` says for the limit, which is made use of if calls
/// are queued.
fn run(
    limit: &mut RunningLimit,
    now: &mut Instant,
    seconds: u64,
    is_queued: bool,
    rate: impl FnMut(usize) -> f64,
) {
    run_for(limit, now, Duration::from_secs(seconds), is_queued, rate);
}

fn run_for(
    limit: &mut RunningLimit,
    now: &mut Instant,
    time: Duration,
    is_queued: bool,
    mut rate: impl FnMut(usize) -> f64,
) {
    let end = *now + time;
    while *now < end {
        let every = Duration::from_secs_f64(1.0 / rate(limit.current()));
        *now += every;
        let service = if is_queued {
            limit.note_queued();
            every * u32::try_from(limit.current()).unwrap()
        } else {
            Duration::from_millis(1)
        };
        limit.finished(INTERVAL, service, 0, *now);
    }
}

#[test]
fn it_falls_to_what_is_of_use_and_rises_when_more_is() {
    let (mut limit, mut now) = (RunningLimit::new(256, 4, true), clock::now());
    let up_to = |most: usize| move |limit: usize| 100.0 * limit.min(most) as f64;
    run(&mut limit, &mut now, 60, true, up_to(20));
    assert!((17..=24).contains(&limit.current()), "{limit:?}");
    run(&mut limit, &mut now, 120, true, up_to(100));
    assert!((80..=120).contains(&limit.current()), "{limit:?}");
    run(&mut limit, &mut now, 60, false, up_to(100));
    assert_eq!(limit.current(), 256);
}

/// Kind: a limit that is taken for a queue. Instance: each call that runs more is one that finishes more.
#[test]
fn what_every_call_adds_to_is_left_alone() {
    let (mut limit, mut now) = (RunningLimit::new(64, 4, true), clock::now());
    run(&mut limit, &mut now, 10, true, |limit| 100.0 * limit as f64);
    assert!(limit.current() >= 56, "{limit:?}");
}

/// Kind: a measurement of something else. Instance: callers that were refused all at once, and were away for most of a
/// window: as few calls finished as if the limit of that window were wrong.
#[test]
fn a_window_in_which_all_were_away_says_nothing() {
    let (mut limit, mut now) = (RunningLimit::new(256, 4, true), clock::now());
    let up_to_40 = |limit: usize| 100.0 * limit.min(40) as f64;
    run(&mut limit, &mut now, 60, true, up_to_40);
    let before = limit.current();
    for _ in 0..200 {
        now += Duration::from_millis(150);
        for _ in 0..64 {
            now += Duration::from_micros(250);
            limit.note_queued();
            limit.finished(INTERVAL, Duration::from_millis(10), 0, now);
        }
    }
    assert_eq!(limit.current(), before, "{limit:?}");
}

/// Kind: what is seen where much goes on is lost in the noise where little does. Instance: calls that share the commits of
/// a database, after a spell in which that took few at once. Of each that runs more more than half is gained, and of one
/// more of ten nothing is seen.
#[test]
fn a_limit_that_is_far_too_low_rises_though_the_rate_varies() {
    for seed in 0..20 {
        let (mut limit, mut now) = (RunningLimit::new(256, 4, true), clock::now());
        let shared = |limit: usize| 1_000.0 * (limit as f64).powf(0.7);
        run(&mut limit, &mut now, 5, true, shared);
        run(&mut limit, &mut now, 20, true, |limit| {
            1_000.0 * limit.min(10) as f64
        });
        assert!(limit.current() < 20, "{limit:?}");
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        for _ in 0..100 {
            let swing = rng.random_range(0.85..1.15);
            let time = Duration::from_millis(100);
            run_for(&mut limit, &mut now, time, true, |limit| {
                shared(limit) * swing
            });
        }
        assert!(limit.current() > 120, "seed {seed}: {limit:?}");
    }
}

/// Kind: a pause that ends before what it is for. Instance: bursts with calm between them, to each of which the first
/// trial came again: a tenth of a second each at a fraction of the rate.
#[test]
fn the_first_trial_that_was_wrong_is_not_made_again_in_the_next_burst() {
    let (mut limit, mut now) = (RunningLimit::new(256, 4, true), clock::now());
    let (mut leaps, mut before) = (0, 256);
    for _ in 0..50 {
        // Few calls take 1 ms, and many of them 16.
        let half = Duration::from_millis(500);
        run_for(&mut limit, &mut now, half, false, |_| 500.0);
        let many = |limit: usize| {
            leaps += usize::from(limit < before / 2);
            before = limit;
            1_000.0 * (limit as f64).sqrt()
        };
        run_for(&mut limit, &mut now, half, true, many);
    }
    assert!((1..15).contains(&leaps), "{leaps}");
}

#[test]
fn timeouts_lower_it_and_the_floor_holds() {
    let (mut limit, mut now) = (RunningLimit::new(64, 10, true), clock::now());
    for _ in 0..10_000 {
        now += Duration::from_millis(5);
        limit.note_timeout();
        limit.finished(INTERVAL, Duration::from_millis(1), 0, now);
    }
    assert_eq!(limit.current(), 10);
}

proptest! {
    /// Whatever happens, it stays within its bounds; and where calls need not queue it is at its ceiling in the end.
    #[test]
    fn it_stays_within_its_bounds(
        (max, min) in (1usize..300, 1usize..20),
        steps in prop::collection::vec((0u64..300, any::<bool>(), any::<bool>()), 0..500),
    ) {
        let (mut limit, mut now) = (RunningLimit::new(max, min, true), clock::now());
        for (gap, is_queued, times_out) in steps {
            for _ in 0..8 {
                now += Duration::from_millis(gap);
                if is_queued {
                    limit.note_queued();
                }
                if times_out {
                    limit.note_timeout();
                }
                let service = Duration::from_millis(gap.max(1));
                limit.finished(INTERVAL, service, max / 2, now);
                prop_assert!((min.min(max)..=max).contains(&limit.current()));
            }
        }
        run(&mut limit, &mut now, 20, false, |_| 1_000.0);
        prop_assert_eq!(limit.current(), max);
    }
}
