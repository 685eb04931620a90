//! A server that has more to do than it can: who is served, how soon, and who is not. In virtual time.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::clock;

/// Calls of one lane, which come at random.
#[derive(Clone, Copy)]
struct Load {
    lane: Lane,
    priority: Priority,
    per_s: f64,
    service: Duration,
    /// From when until when they come.
    during: (Duration, Duration),
    /// How long their callers wait while they are queued.
    gives_up: Duration,
}

/// What has become of the calls of one load.
#[derive(Clone, Debug, Default)]
struct LoadOutcome {
    /// When those that were served came, and how long they took.
    served: Vec<(Duration, Duration)>,
    refused: usize,
    /// How long those that were refused were asked to stay away, at most.
    longest_hint: Duration,
}

impl LoadOutcome {
    fn p99(&self) -> Duration {
        self.p99_of(|_| true)
    }

    fn p99_of(&self, is_it: impl Fn(Duration) -> bool) -> Duration {
        let served = self.served.iter().filter(|(came, _)| is_it(*came));
        let mut took: Vec<Duration> = served.map(|(_, took)| *took).collect();
        took.sort_unstable();
        took[took.len() * 99 / 100]
    }

    fn part_served(&self) -> f64 {
        self.served.len() as f64 / (self.served.len() + self.refused) as f64
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Come(usize),
    GiveUp(u32),
    End(u32),
}

struct LoadWorld<'a> {
    admission: &'a Admission<u32>,
    loads: &'a [Load],
    /// What is behind the handlers takes so many calls at once; the others wait there.
    backend: usize,
    behind: usize,
    waiting: VecDeque<u32>,
    /// Nothing ends in this time.
    stall: std::ops::Range<Duration>,
    epoch: Instant,
    now: Duration,
    steps: BinaryHeap<Reverse<(Duration, Step)>>,
    rng: ChaCha8Rng,
    /// Of each call: its load, when it came, when it started.
    calls: Vec<(usize, Duration, Duration)>,
    seen: Vec<LoadOutcome>,
    largest_limit: usize,
}

impl LoadWorld<'_> {
    fn run(&mut self, until: Duration) {
        for load in 0..self.loads.len() {
            self.schedule(load);
        }
        while let Some(Reverse((at, step))) = self.steps.pop() {
            if at > until {
                break;
            }
            self.now = at;
            match step {
                Step::Come(load) => {
                    self.come(load);
                    self.schedule(load);
                }
                Step::GiveUp(call) => {
                    if let Some(job) = self.admission.remove(|job| *job == call) {
                        self.refuse(job, Duration::ZERO);
                    }
                }
                Step::End(call) => self.end(call),
            }
        }
    }

    fn schedule(&mut self, load: usize) {
        let Load { per_s, during, .. } = self.loads[load];
        let gap = -(1.0 - self.rng.random::<f64>()).ln() / per_s;
        let at = self.now.max(during.0) + Duration::from_secs_f64(gap);
        if at < during.1 {
            self.steps.push(Reverse((at, Step::Come(load))));
        }
    }

    fn come(&mut self, load: usize) {
        let Load {
            lane,
            priority,
            gives_up,
            ..
        } = self.loads[load];
        let call = self.calls.len() as u32;
        self.calls.push((load, self.now, self.now));
        match self.admission.admit(lane, priority) {
            Ok((Ticket::Run, _)) => self.start(call),
            Ok((Ticket::Queue, displaced)) => {
                if let Some(Displaced { job, retry_after }) = displaced {
                    self.refuse(job, retry_after);
                }
                let since = self.epoch + self.now;
                self.admission.enqueue(lane, priority, since, call);
                if let Some(at) = self.now.checked_add(gives_up) {
                    self.steps.push(Reverse((at, Step::GiveUp(call))));
                }
                self.run_next();
            }
            Err(QueueFull { retry_after }) => self.refuse(call, retry_after),
        }
    }

    fn refuse(&mut self, call: u32, retry_after: Duration) {
        let seen = &mut self.seen[self.calls[call as usize].0];
        seen.refused += 1;
        seen.longest_hint = seen.longest_hint.max(retry_after);
    }

    fn run_next(&mut self) {
        while let Some(next) = self.admission.next(self.epoch + self.now) {
            match next {
                Dequeued::Run { job, .. } => self.start(job),
                Dequeued::Shed(shed) => self.refuse(shed.job, shed.retry_after),
            }
        }
    }

    fn start(&mut self, call: u32) {
        self.calls[call as usize].2 = self.now;
        if self.behind < self.backend {
            self.serve(call);
        } else {
            self.waiting.push_back(call);
        }
    }

    fn serve(&mut self, call: u32) {
        self.behind += 1;
        let mut end = self.now + self.loads[self.calls[call as usize].0].service;
        if self.stall.contains(&end) {
            end = self.stall.end;
        }
        self.steps.push(Reverse((end, Step::End(call))));
    }

    fn end(&mut self, call: u32) {
        self.behind -= 1;
        if let Some(next) = self.waiting.pop_front() {
            self.serve(next);
        }
        let (load, came, started) = self.calls[call as usize];
        self.seen[load].served.push((came, self.now - came));
        let lane = self.loads[load].lane;
        self.admission
            .finish(lane, self.now - started, self.epoch + self.now);
        self.run_next();
        self.largest_limit = self.largest_limit.max(self.admission.running_limit());
    }
}

fn world<'a>(admission: &'a Admission<u32>, loads: &'a [Load], seed: u64) -> LoadWorld<'a> {
    LoadWorld {
        admission,
        loads,
        backend: usize::MAX,
        behind: 0,
        waiting: VecDeque::new(),
        stall: Duration::MAX..Duration::MAX,
        epoch: clock::now(),
        now: Duration::ZERO,
        steps: BinaryHeap::new(),
        rng: ChaCha8Rng::seed_from_u64(seed),
        calls: Vec::new(),
        seen: vec![LoadOutcome::default(); loads.len()],
        largest_limit: 0,
    }
}

fn serve(admission: &Admission<u32>, loads: &[Load], seed: u64, seconds: u64) -> Vec<LoadOutcome> {
    let mut world = world(admission, loads, seed);
    world.run(Duration::from_secs(seconds));
    world.seen
}

fn with_overload(max_running: usize, reserve_percent: u32, overload: Overload) -> Admission<u32> {
    let limits = AdmissionLimits {
        max_running,
        max_queued: 1_024,
        reserve_percent,
        overload,
    };
    Admission::new(limits, [usize::MAX; METHODS].into())
}

fn load(admission: &Admission<u32>, number: u8, per_s: f64, service_ms: u64) -> Load {
    Load {
        lane: lane(admission, number, 0),
        priority: Priority::Default,
        per_s,
        service: Duration::from_millis(service_ms),
        during: (Duration::ZERO, Duration::MAX),
        gives_up: Duration::MAX,
    }
}

/// Kind: a server that is asked for more than it can do serves less, or all of it late. Instance: 1.4 and 3 times
/// its capacity, at a service time of 1 ms, from one caller and from many.
#[test]
fn under_more_than_it_can_do_a_server_serves_what_it_can_and_in_time() {
    for (seed, (peers, running), factor) in [
        (1, (1, 8), 1.4),
        (2, (1, 2), 3.0),
        (3, (50, 8), 1.4),
        (4, (50, 2), 3.0),
        (5, (1, 1), 1.4),
    ] {
        let admission = with_overload(running, 0, Overload::default());
        let capacity = running as f64 * 1_000.0;
        let loads: Vec<_> = (0..peers)
            .map(|peer| load(&admission, peer, factor * capacity / f64::from(peers), 1))
            .collect();
        let seen = serve(&admission, &loads, seed, 10);
        let all = LoadOutcome {
            served: seen.iter().flat_map(|seen| seen.served.clone()).collect(),
            refused: seen.iter().map(|seen| seen.refused).sum(),
            ..LoadOutcome::default()
        };
        let goodput = all.served.len() as f64 / 10.0 / capacity;
        let what =
            format!("{peers} peers, {running} at once, {factor} x: {goodput:.3} of capacity");
        println!("{what}, p99 {:?}", all.p99());
        assert!(goodput >= 0.95, "{what}");
        assert!(
            all.p99() < Duration::from_millis(20),
            "{what}, {:?}",
            all.p99()
        );
    }
}

/// Kind: what was measured at one setting counts at another. Instance: how long calls took while many of them waited for
/// each other, times the rounds that the queue takes when a few may run: those that were refused were asked to stay away
/// for ten seconds, while the queue was worked off in a tenth of one.
#[test]
fn who_is_refused_is_asked_to_stay_away_for_no_longer_than_the_queue_takes() {
    let admission = with_overload(256, 0, Overload::default());
    let loads = [load(&admission, 1, 3_000.0, 5)];
    let mut world = world(&admission, &loads, 1);
    world.backend = 10;
    world.run(Duration::from_secs(5));
    let seen = &world.seen[0];
    assert!(seen.refused > 0);
    let hint = seen.longest_hint;
    // A thousand at 2,000 a second.
    assert!((100..600).contains(&hint.as_millis()), "{hint:?}");
}

/// The weaker mode does let them wait, or the test above shows nothing.
#[test]
fn without_it_all_calls_wait_as_long_as_the_queue_is() {
    let admission = with_overload(8, 0, Overload::off());
    let loads = [load(&admission, 1, 11_200.0, 1)];
    let seen = &serve(&admission, &loads, 1, 5)[0];
    assert!(seen.p99() > Duration::from_millis(100), "{:?}", seen.p99());
}

/// Kind: a server that could do what it is asked for refuses some of it. Instance: 60 per cent of its capacity, and
/// a burst that is served within the interval.
#[test]
fn with_less_than_it_can_do_a_server_refuses_nothing() {
    let admission = with_overload(8, 0, Overload::default());
    let loads = [load(&admission, 1, 4_800.0, 1)];
    let seen = &serve(&admission, &loads, 1, 20)[0];
    let is_overloaded = admission.is_overloaded(clock::now());
    assert_eq!(
        (seen.refused, admission.running_limit(), is_overloaded),
        (0, 8, false)
    );

    let admission = with_overload(1, 0, Overload::default());
    let one = load(&admission, 1, 0.001, 1);
    let loads = [one; 90];
    let mut world = world(&admission, &loads, 1);
    (0..90).for_each(|load| world.come(load));
    world.run(Duration::from_secs(1));
    let served: usize = world.seen.iter().map(|seen| seen.served.len()).sum();
    assert_eq!(served, 90, "a burst of 90 ms");
}

/// Kind: a stall that is over goes on, because the server works off what it has gathered (a metastable failure).
/// Instance: 2 s in which nothing ends, at 93 per cent of the capacity.
#[test]
fn after_a_stall_new_calls_are_served_at_once() {
    let admission = with_overload(3, 0, Overload::default());
    let loads = [load(&admission, 1, 279.0, 10)];
    let mut world = world(&admission, &loads, 7);
    world.stall = Duration::from_secs(5)..Duration::from_secs(7);
    world.run(Duration::from_secs(20));
    let after = |came: Duration| came > Duration::from_millis(7_300);
    let p99 = world.seen[0].p99_of(after);
    assert!(p99 < Duration::from_millis(60), "{p99:?}");
    let late = world.seen[0].served.iter().filter(|(came, _)| after(*came));
    assert!(late.count() as f64 > 0.93 * 279.0 * 12.0);
}

/// Kind: one caller's calls cost another's their time. Instance: one at 12 times what each of the others sends.
#[test]
fn one_caller_at_12_times_leaves_others_their_time() {
    let p99 = |hog_per_s: f64| {
        let admission = with_overload(8, 25, Overload::default());
        let mut loads: Vec<_> = (2..8)
            .map(|peer| load(&admission, peer, 700.0, 1))
            .collect();
        loads.push(load(&admission, 1, hog_per_s, 1));
        let seen = serve(&admission, &loads, 3, 20);
        let others = &seen[..6];
        for other in others {
            assert!(other.part_served() > 0.999, "{}", other.part_served());
        }
        others.iter().map(LoadOutcome::p99).max().unwrap()
    };
    let (alone, beside) = (p99(700.0), p99(12.0 * 700.0));
    assert!(beside <= alone * 2, "{beside:?} and not {alone:?}");
}

/// Kind: what matters is refused with what doesn't. Instance: twice the capacity, of which a third is critical.
#[test]
fn the_least_important_calls_are_refused_first_and_the_critical_ones_last() {
    let admission = with_overload(8, 0, Overload::default());
    let loads = Priority::ALL.map(|priority| Load {
        priority,
        ..load(&admission, 1, 16_000.0 / 3.0, 1)
    });
    let seen = serve(&admission, &loads, 5, 10);
    let [critical, default, sheddable] = [0, 1, 2].map(|at| seen[at].part_served());
    assert!(critical > 0.999, "{critical}");
    assert!((0.4..0.6).contains(&default), "{default}");
    assert!(sheddable < 0.05, "{sheddable}");
    assert!(seen[0].p99() < Duration::from_millis(5));
}

/// Kind: a caller gets more by asking for what takes longer. Instance: calls of 10 ms beside calls of 1 ms.
#[test]
fn two_callers_have_as_much_time_whatever_their_calls_take() {
    let admission = with_overload(4, 0, Overload::default());
    let loads = [
        load(&admission, 1, 4_000.0, 1),
        load(&admission, 2, 400.0, 10),
    ];
    let seen = serve(&admission, &loads, 5, 20);
    let time =
        [0, 1].map(|at: usize| seen[at].served.len() as f64 * loads[at].service.as_secs_f64());
    let ratio = time[0] / time[1];
    assert!((0.8..1.25).contains(&ratio), "{ratio}");
}

/// Kind: calls wait where neither order nor shares are. Instance: a database that takes 4 calls at a time, and a
/// server that runs 256.
#[test]
fn before_a_slow_database_few_calls_run_at_once() {
    let admission = with_overload(256, 25, Overload::default());
    let loads = [load(&admission, 1, 560.0, 10)];
    let mut world = world(&admission, &loads, 5);
    world.backend = 4;
    world.run(Duration::from_secs(60));
    let limit = admission.running_limit();
    assert!(limit <= 16, "{limit}");
    let late = |came: Duration| came > Duration::from_secs(30);
    let p99 = world.seen[0].p99_of(late);
    assert!(p99 < Duration::from_millis(150), "{p99:?}");
    let served = world.seen[0].served.iter().filter(|(came, _)| late(*came));
    assert!(served.count() as f64 > 0.93 * 400.0 * 30.0);
}

/// Kind: a setting that switches another one off. Instance: the running limit where nothing is overload.
#[test]
fn without_a_target_the_running_limit_is_measured_all_the_same() {
    let overload = Overload {
        target: Duration::MAX,
        ..Overload::default()
    };
    let admission = with_overload(256, 25, overload);
    let loads = [load(&admission, 1, 560.0, 10)];
    let mut world = world(&admission, &loads, 5);
    world.backend = 4;
    world.run(Duration::from_secs(60));
    let limit = admission.running_limit();
    assert!(limit <= 16, "{limit}");
}

/// Kind: what was seen long ago is said of now. Instances: overload whose callers left an hour before, and the
/// first call after that.
#[test]
fn there_is_no_overload_where_nothing_was_queued_for_long() {
    let admission = with_overload(1, 0, Overload::default());
    let loads = [load(&admission, 1, 3_000.0, 1)];
    let mut world = world(&admission, &loads, 1);
    world.run(Duration::from_secs(1));
    let then = world.epoch + world.now;
    assert!(admission.is_overloaded(then));
    assert!(!admission.drain().is_empty());
    let later = then + Duration::from_secs(3_600);
    assert!(!admission.is_overloaded(later));
    let lane = loads[0].lane;
    let ticket = admission.admit(lane, Priority::Default);
    assert_eq!(ticket, Ok((Ticket::Queue, None)));
    admission.enqueue(lane, Priority::Default, later, 0);
    admission.release_run_permit(lane);
    let next = Dequeued::Run {
        job: 0,
        is_overloaded: false,
    };
    assert_eq!(admission.next(later), Some(next));
}

/// Kind: fewer calls run than could. Instance: handlers that only wait for time, of which as many end as run.
#[test]
fn where_more_calls_at_once_get_more_done_hardly_fewer_run() {
    let admission = with_overload(256, 0, Overload::default());
    let loads = [load(&admission, 1, 3_584.0, 100)];
    let seen = &serve(&admission, &loads, 5, 30)[0];
    let goodput = seen.served.len() as f64 / 30.0 / 2_560.0;
    assert!(goodput > 0.95, "{goodput}");
    let limit = admission.running_limit();
    assert!(limit >= 200, "{limit}");
}

/// Kind: a storm that is over keeps a server down. Instance: calls of 5 s, of which few run and the others are given
/// up in the queue, and then half of what the server can do, all from one caller.
#[test]
fn after_a_storm_of_calls_that_are_given_up_as_much_is_served_as_before() {
    let admission = with_overload(256, 25, Overload::default());
    let s = Duration::from_secs;
    let calls = load(&admission, 1, 960.0, 100);
    let of = |during, calls| Load { during, ..calls };
    let storm = Load {
        gives_up: Duration::from_millis(20),
        ..of((s(5), s(15)), load(&admission, 1, 960.0, 5_000))
    };
    let loads = [
        of((s(0), s(5)), calls),
        storm,
        of((s(15), Duration::MAX), calls),
    ];
    let seen = &serve(&admission, &loads, 1, 45)[2];
    let is_good = |(came, took): &&(Duration, Duration)| *came > s(25) && *took < s(1);
    let good = seen.served.iter().filter(is_good).count() as f64 / (960.0 * 20.0);
    assert!(good > 0.95, "{good}");
}

/// Kind: a queue goes unseen. Instance: one before a slow database, whose calls are given up before they run.
#[test]
fn where_queued_calls_are_given_up_no_more_run_than_are_of_use_either() {
    let admission = with_overload(256, 25, Overload::default());
    let storm = Load {
        gives_up: Duration::from_micros(200),
        ..load(&admission, 1, 1_600.0, 10)
    };
    let loads = [storm];
    let mut world = world(&admission, &loads, 5);
    world.backend = 4;
    world.run(Duration::from_secs(20));
    let limit = admission.running_limit();
    assert!(limit <= 16, "{limit}");
}
