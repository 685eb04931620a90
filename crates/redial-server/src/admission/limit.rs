//! How many calls run at once: fewer than the ceiling where more of them come to nothing.
//!
//! Calls that run may wait, too: for each other, or for a database that takes a few at a time. That is a
//! queue like the one before them, but for having neither order nor shares. How long calls take doesn't
//! show it, since some take long by nature; how many of them finish does. So while most calls are
//! queued before they run (multiplicative decrease on queueing, as TCP has it on loss), fewer are let
//! run, for as long as as many finish as before. When fewer do, that is undone, and more are tried next.

use std::time::{Duration, Instant};

/// The part of the limit by which a trial changes it; twice as much after each that was right, up to half of it.
const STEP: usize = 8;

/// By how many more than that a trial of more raises it. Where few calls run, the rate of those that end in step with
/// each other, or what a caller's share of the permits is rounded to, would hide what one more adds.
const RISES_BY: usize = 2;

/// The part of the ceiling by which it rises where there is no overload and hardly a queue.
const RISE: usize = 64;

/// As many calls finish as before if this part of them does.
const HELD: f64 = 0.95;

/// How much of what was measured counts in the next window, where that no longer holds.
const FADES: f64 = 0.9;

/// The first trial of an overload leaves so many times as many as are of use by what is measured.
const SLACK: f64 = 1.1;

/// The part by which the shortest time that calls took grows with each window.
const QUICKEST_FADES: u32 = 32;

/// How many calls have to finish before anything is concluded.
const LEAST_FINISHED: u32 = 64;

/// How many windows pass after a trial that failed before the next, at first and at most.
const PAUSE: u32 = 8;
const MAX_PAUSE: u32 = 128;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trial {
    None,
    Fewer,
    More,
}

impl Trial {
    fn other(self) -> Self {
        match self {
            Self::Fewer => Self::More,
            Self::None | Self::More => Self::Fewer,
        }
    }
}

#[derive(Debug)]
pub(super) struct RunningLimit {
    min: usize,
    max: usize,
    is_adaptive: bool,
    current: usize,
    window: Window,
    /// How many calls a second have finished, at best: what a trial of fewer is held against, so that many small
    /// losses don't add up.
    best: f64,
    trial: Trial,
    /// What it was before the trial, and how many calls a second finished then.
    before: usize,
    rate_before: f64,
    /// The trial after this one, and the part of the limit by which there are fewer then.
    next: Trial,
    step: usize,
    /// How many windows pass before it.
    pause: u32,
    next_pause: u32,
    /// How long calls take where they don't wait for each other: the shortest that a window of them took on
    /// average lately.
    quickest: Option<Duration>,
    /// The first trial since there was no overload has been made.
    has_leapt: bool,
    /// How many calls may have to finish until no more run than may: those were started before the limit fell.
    surplus: usize,
}

/// What is measured at one limit.
#[derive(Debug, Default)]
struct Window {
    began: Option<Instant>,
    finished: u32,
    /// How long those took together.
    service: Duration,
    /// How many have been queued in it.
    queued: u32,
    /// How many of those that finished ran into their timeout.
    timed_out: u32,
}

impl RunningLimit {
    pub(super) fn new(max: usize, min: usize, is_adaptive: bool) -> Self {
        Self {
            min: min.min(max),
            max,
            is_adaptive,
            current: max,
            window: Window::default(),
            best: 0.0,
            trial: Trial::None,
            before: max,
            rate_before: 0.0,
            next: Trial::Fewer,
            step: STEP,
            pause: 0,
            next_pause: PAUSE,
            quickest: None,
            has_leapt: false,
            surplus: 0,
        }
    }

    #[inline]
    pub(super) fn current(&self) -> usize {
        self.current
    }

    /// A call is queued. Whether it runs in the end or its caller gives up says nothing of whether more may run.
    pub(super) fn note_queued(&mut self) {
        if self.window.queued == 0 && !self.has_leapt {
            // How many finish while there is a queue is not what finished before there was one.
            self.window = Window::default();
        }
        self.window.queued = self.window.queued.saturating_add(1);
    }

    /// A call is stopped that ran for as long as it may.
    pub(super) fn note_timeout(&mut self) {
        self.window.timed_out = self.window.timed_out.saturating_add(1);
    }

    /// A call has finished that took so long, of so many that run.
    pub(super) fn finished(
        &mut self,
        interval: Duration,
        service: Duration,
        running: usize,
        now: Instant,
    ) {
        if !self.is_adaptive || self.max <= self.min {
            return;
        }
        if self.surplus > 0 {
            let is_left = running > self.current;
            self.surplus = if is_left { self.surplus - 1 } else { 0 };
            self.window = Window::default();
            return;
        }
        let window = &mut self.window;
        window.finished = window.finished.saturating_add(1);
        window.service = window.service.saturating_add(service);
        let began = *window.began.get_or_insert(now);
        let took = now.saturating_duration_since(began);
        // By the quickest: what calls take that wait for each other would make it last for seconds.
        let least = interval.max(self.quickest.unwrap_or(service).saturating_mul(2));
        if took < least || window.finished < LEAST_FINISHED && !self.is_plainly_worse(took) {
            return;
        }
        self.note_service();
        let window = &self.window;
        let rate = f64::from(window.finished) / took.as_secs_f64().max(f64::MIN_POSITIVE);
        let is_bound = window.queued >= window.finished / 2;
        let times_out = window.timed_out > window.finished / 10;
        self.window = Window {
            began: Some(now),
            ..Window::default()
        };
        if times_out {
            self.best = 0.0;
            self.set(self.fewer());
        } else if is_bound {
            self.climb(rate);
        } else {
            self.recover();
        }
    }

    /// Whether a trial of fewer has halved the rate, which shows before its window is full.
    fn is_plainly_worse(&self, took: Duration) -> bool {
        let expected = self.best * took.as_secs_f64();
        let is_enough = expected > f64::from(LEAST_FINISHED / 2);
        self.trial == Trial::Fewer && is_enough && f64::from(self.window.finished) < expected / 2.0
    }

    /// What the calls of the window took may be the quickest. What was is forgotten slowly.
    fn note_service(&mut self) {
        let mean = self.window.service / self.window.finished.max(1);
        let before = self
            .quickest
            .map(|quickest| quickest + quickest / QUICKEST_FADES);
        self.quickest = Some(before.map_or(mean, |before| before.min(mean)));
    }

    /// Few calls are queued: more may run, little by little (additive increase).
    fn recover(&mut self) {
        self.best *= FADES;
        self.end_trial(Trial::Fewer);
        self.has_leapt = false;
        let risen = self.current.saturating_add((self.max / RISE).max(1));
        self.set(risen.min(self.max));
    }

    fn end_trial(&mut self, next: Trial) {
        (self.trial, self.next, self.step) = (Trial::None, next, STEP);
        (self.pause, self.next_pause) = (0, PAUSE);
    }

    /// Goes on with a trial that has cost nothing, and undoes one that has.
    fn climb(&mut self, rate: f64) {
        match self.trial {
            Trial::Fewer if rate >= HELD * self.best => {
                (self.next_pause, self.step) = (PAUSE, (self.step / 2).max(2));
            }
            Trial::More if rate > self.expected_of_more() => {
                (self.next_pause, self.step) = (PAUSE, (self.step / 2).max(2));
            }
            Trial::Fewer | Trial::More => {
                self.set(self.before);
                return self.turn_round();
            }
            // Calls take another time than they did, or others are made.
            Trial::None if rate < HELD * self.best => {
                self.best = FADES * self.best + (1.0 - FADES) * rate;
            }
            Trial::None => {}
        }
        self.best = self.best.max(rate);
        if self.pause > 0 {
            self.pause -= 1;
            self.trial = Trial::None;
            return;
        }
        self.try_next(rate);
    }

    /// How many calls a second have to finish after a trial of more: with a third of what it adds where none waits for another.
    fn expected_of_more(&self) -> f64 {
        let ratio = self.current as f64 / self.before as f64;
        self.rate_before * (2.0 + ratio) / 3.0
    }

    /// The next trial goes the other way: one of fewer after a pause, but one of more at once. That costs next to
    /// nothing, and a limit that is far too low would be raised too seldom to ever be high enough again.
    fn turn_round(&mut self) {
        if self.next == Trial::More {
            self.pause = self.next_pause;
            self.next_pause = (self.next_pause * 2).min(MAX_PAUSE);
        }
        (self.trial, self.next, self.step) = (Trial::None, self.next.other(), STEP);
    }

    fn try_next(&mut self, rate: f64) {
        let limit = match self.next {
            Trial::More => self.more(),
            _ => self.fewer(),
        };
        if limit == self.current {
            // It is at its end in this direction.
            return self.turn_round();
        }
        let leaps = self.next == Trial::Fewer && !std::mem::replace(&mut self.has_leapt, true);
        let limit = if leaps {
            limit.min(self.of_use(rate)).max(self.min)
        } else {
            limit
        };
        (self.before, self.rate_before, self.trial) = (self.current, rate, self.next);
        self.surplus = self.current.saturating_sub(limit);
        self.set(limit);
    }

    /// How many calls run at once where none waits for another (Little's law), and somewhat more.
    fn of_use(&self, rate: f64) -> usize {
        let quickest = self
            .quickest
            .map_or(f64::INFINITY, |time| time.as_secs_f64());
        (rate * quickest * SLACK).ceil() as usize
    }

    fn fewer(&self) -> usize {
        let fewer = self.current - (self.current / self.step).max(1);
        fewer.max(self.min)
    }

    fn more(&self) -> usize {
        let more = self
            .current
            .saturating_add(self.current / self.step + RISES_BY);
        more.min(self.max)
    }

    fn set(&mut self, limit: usize) {
        self.current = limit;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock;

    const INTERVAL: Duration = Duration::from_millis(100);

    /// Lets calls finish for so long, as many a second as `rate` says for the limit.
    fn run(
        limit: &mut RunningLimit,
        now: &mut Instant,
        seconds: u64,
        is_queued: bool,
        rate: impl Fn(usize) -> f64,
    ) {
        let end = *now + Duration::from_secs(seconds);
        while *now < end {
            *now += Duration::from_secs_f64(1.0 / rate(limit.current()));
            if is_queued {
                limit.note_queued();
            }
            limit.finished(INTERVAL, Duration::from_millis(1), 0, *now);
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
                    limit.finished(INTERVAL, Duration::from_millis(1), 0, now);
                    prop_assert!((min.min(max)..=max).contains(&limit.current()));
                }
            }
            run(&mut limit, &mut now, 20, false, |_| 1_000.0);
            prop_assert_eq!(limit.current(), max);
        }
    }
}
