//! In virtual time: a server that answers after a millisecond, and stands still for a while.

use std::cell::RefCell;

use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use tokio::time::sleep_until;

use super::*;
use crate::load::{
    schedule::{Arrivals, Ramp, Schedule},
    tally::tests::{MS, ok},
};

/// When the server stands still, and for how long.
const STALL: (Duration, Duration) = (Duration::from_millis(2_000), Duration::from_millis(100));

fn open(schedule: Schedule, max_in_flight: usize) -> Pacing {
    let rng = ChaCha8Rng::seed_from_u64(1);
    let starts = Box::new(schedule.starts(Arrivals::Even, rng));
    Pacing::Open {
        starts,
        max_in_flight,
    }
}

fn time(seconds: u64) -> Length {
    Length {
        calls: None,
        time: Some(Duration::from_secs(seconds)),
    }
}

fn calls(calls: u64) -> Length {
    Length {
        calls: Some(calls),
        time: None,
    }
}

/// A run against the server that stands still; what it counted, and the starts of its calls.
async fn run(pacing: Pacing, length: Length) -> (Tally, RunEnd, Vec<Start>) {
    let began = clock::now();
    let serve = |start: Start| async move {
        let (from, stall) = STALL;
        let stalls = from..from + stall;
        let asked = clock::now() - began;
        let resumes = if stalls.contains(&asked) {
            stalls.end
        } else {
            asked
        };
        sleep_until((began + resumes + MS).into()).await;
        (start, ok())
    };
    run_against(serve, pacing, length, Arc::default()).await
}

async fn run_against<F: Future<Output = (Start, CallEnd)>>(
    mut serve: impl FnMut(Start) -> F,
    pacing: Pacing,
    length: Length,
    stop: Arc<AtomicBool>,
) -> (Tally, RunEnd, Vec<Start>) {
    let (total, starts) = (RefCell::new(Tally::default()), RefCell::new(Vec::new()));
    let call = |start| {
        starts.borrow_mut().push(start);
        serve(start)
    };
    let on_slice = |tally: &mut Tally, _| {
        total.borrow_mut().add(tally);
        tally.clear();
    };
    let driver = Driver::new((pacing, length), Timer::coarse(), stop, call, on_slice);
    let end = driver.run().await;
    let mut total = total.into_inner();
    total.add(&end.rest);
    (total, end, starts.into_inner())
}

fn ms_at(histogram: &hdrhistogram::Histogram<u64>, quantile: f64) -> f64 {
    histogram.value_at_quantile(quantile) as f64 / 1e6
}

/// Coordinated omission: the kind of fault in which a measurement leaves out what it should show.
#[tokio::test(start_paused = true)]
async fn an_open_loop_shows_a_stall_that_a_closed_loop_hides() {
    let (open, end, _) = run(open(Schedule::constant(1000.0), 10_000), time(10)).await;
    assert_eq!((open.counts.ok, end.not_sent), (10_000, 0));
    // A hundred of ten thousand calls were meant to start while the server stood still.
    assert!(
        ms_at(&open.latency, 0.999) > 85.0,
        "{}",
        ms_at(&open.latency, 0.999)
    );
    assert!(ms_at(&open.latency, 0.995) > 45.0 && ms_at(&open.latency, 0.98) < 5.0);
    let (closed, _, _) = run(Pacing::Closed { callers: 4 }, time(10)).await;
    assert!(
        ms_at(&closed.latency, 0.999) < 5.0,
        "{}",
        ms_at(&closed.latency, 0.999)
    );
    assert!(ms_at(&closed.latency, 1.0) > 95.0);
}

/// The neighbour: calls that had to wait for others, since only so many may be in flight.
#[tokio::test(start_paused = true)]
async fn calls_that_wait_for_room_are_timed_from_their_intended_start() {
    let (tally, end, starts) = run(open(Schedule::constant(1000.0), 10), time(10)).await;
    assert_eq!((tally.counts.ok, end.not_sent), (10_000, 0));
    assert!(
        ms_at(&tally.latency, 0.999) > 85.0,
        "{}",
        ms_at(&tally.latency, 0.999)
    );
    // They were sent late, and answered at once: the service time alone would hide it.
    assert!(ms_at(&tally.service, 0.998) < 5.0 && ms_at(&tally.lateness, 0.995) > 40.0);
    assert!(starts.is_sorted_by_key(|start| (start.number, start.intended)));
}

#[tokio::test(start_paused = true)]
async fn calls_start_when_they_are_meant_to() {
    let (_, end, starts) = run(open(Schedule::constant(500.0), 10_000), calls(2_000)).await;
    assert_eq!(starts.len(), 2_000);
    assert_eq!(starts[1_999].intended, MS * 3_998);
    let late = starts
        .iter()
        .map(|start| start.actual - start.intended)
        .max()
        .unwrap();
    assert!(late <= MS * 2, "{late:?}");
    assert!(
        end.elapsed < MS * 4_010 && end.sending > MS * 3_997,
        "{end:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_ramp_that_ends_at_0_ends_the_run() {
    let ramp = Ramp {
        from: 200.0,
        to: 0.0,
        length: Duration::from_secs(2),
    };
    let length = Length {
        calls: None,
        time: None,
    };
    let (tally, ..) = run(open(Schedule::ramps(vec![ramp]), 1000), length).await;
    assert_eq!(tally.counts.ok, 200);
}

#[tokio::test(start_paused = true)]
async fn each_caller_has_one_call_in_flight() {
    let (tally, _, starts) = run(Pacing::Closed { callers: 3 }, calls(1_000)).await;
    assert_eq!((tally.counts.started, tally.counts.ok), (1_000, 1_000));
    assert!(
        starts
            .windows(4)
            .all(|four| four[3].actual >= four[0].actual + MS)
    );
}

/// What was not sent is said, and not left out.
#[tokio::test(start_paused = true)]
async fn calls_for_which_there_was_never_room_are_counted() {
    let never = |start: Start| async move {
        tokio::time::sleep(Duration::from_secs(3)).await;
        (start, ok())
    };
    let pacing = open(Schedule::constant(100.0), 5);
    let (tally, end, _) = run_against(never, pacing, time(2), Arc::default()).await;
    assert_eq!((tally.counts.ok, end.not_sent), (5, 195));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_asked_to_stop_waits_for_its_calls_alone() {
    for pacing in [
        open(Schedule::constant(100.0), 1000),
        Pacing::Closed { callers: 4 },
    ] {
        let stop = Arc::new(AtomicBool::new(false));
        let serve = |start: Start| {
            let stop = stop.clone();
            async move {
                tokio::time::sleep(MS * 50).await;
                stop.store(start.intended >= MS * 500, Ordering::Relaxed);
                (start, ok())
            }
        };
        let (tally, end, _) = run_against(serve, pacing, time(3600), stop.clone()).await;
        assert!(
            end.is_stopped && end.elapsed < Duration::from_secs(1),
            "{end:?}"
        );
        assert_eq!(tally.counts.started, tally.counts.ok);
    }
}

/// Kind: a rate over another time than that of its calls. Instance: calls so rare that the run is over long before
/// the last one's time is.
#[tokio::test(start_paused = true)]
async fn a_slow_rate_is_counted_over_the_time_that_was_asked_for() {
    for (rate, length, count, ms) in [
        (0.1, time(10), 1, 10_000),
        (5.0, time(2), 10, 2_000),
        (2.0, calls(1), 1, 500),
    ] {
        let (_, end, starts) = run(open(Schedule::constant(rate), 100), length).await;
        assert_eq!(starts.len(), count, "{rate}/s");
        assert_eq!((end.meant, end.sending), (MS * ms, MS * ms), "{rate}/s");
    }
}

/// The neighbours: a run that ends by its number of calls, or is stopped, behind what it was to do.
#[tokio::test(start_paused = true)]
async fn a_run_that_is_behind_says_what_rate_was_wanted() {
    let slow = |start: Start| async move {
        tokio::time::sleep(MS * 10).await;
        (start, ok())
    };
    let pacing = || open(Schedule::constant(1000.0), 1);
    let (_, end, starts) = run_against(slow, pacing(), calls(100), Arc::default()).await;
    assert_eq!((starts.len(), end.meant), (100, MS * 100));
    assert!(end.sending > MS * 900, "{end:?}");

    let stop = Arc::new(AtomicBool::new(false));
    let stopping = |start: Start| {
        let stop = stop.clone();
        async move {
            tokio::time::sleep(MS * 10).await;
            stop.store(start.number == 49, Ordering::Relaxed);
            (start, ok())
        }
    };
    let (_, end, starts) = run_against(stopping, pacing(), time(3600), stop.clone()).await;
    assert_eq!((starts.len(), end.meant), (50, MS * 50), "{end:?}");
    assert!(end.sending > MS * 450, "{end:?}");
}

/// Kind: a run that goes on after its end. Instance: as many calls to count as no loop gets through.
#[tokio::test(start_paused = true)]
async fn calls_that_were_not_sent_are_counted_however_many_they_are() {
    let never = |start: Start| async move {
        tokio::time::sleep(Duration::from_secs(3)).await;
        (start, ok())
    };
    let wanted = 10_000_000_000_000;
    let pacing = open(Schedule::constant(wanted as f64), 5);
    let (_, end, _) = run_against(never, pacing, time(1), Arc::default()).await;
    assert!(end.not_sent.abs_diff(wanted) < 1_000, "{end:?}");
}
