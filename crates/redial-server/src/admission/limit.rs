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

/// Where less than this part of what once finished does, a trial of more doubles the limit: it may be far too low, and
/// there little more is lost in the noise.
const FAR_BELOW: f64 = 0.7;

/// How much of the most that has finished still counts in the next window: half of it after half a minute and more.
const PEAK_FADES: f64 = 0.998;

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
    /// How many calls a second have finished at the most, lately.
    peak: f64,
    /// How many windows pass before it.
    pause: u32,
    next_pause: u32,
    /// How long calls take where they don't wait for each other: the shortest that a window of them took on
    /// average lately.
    quickest: Option<Duration>,
    /// Most calls were queued in the last window.
    was_bound: bool,
    /// The first trial since there was no overload has been made.
    has_leapt: bool,
    /// The trial is that one.
    is_leap: bool,
    /// How many windows pass before the next of that kind, if the last was wrong: a burst may be over soon, and what the
    /// trial has shown is not.
    leap_pause: u32,
    next_leap_pause: u32,
    /// When the last call finished.
    last: Option<Instant>,
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
    /// For how long one of them ran.
    busy: Duration,
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
            peak: 0.0,
            pause: 0,
            next_pause: PAUSE,
            quickest: None,
            was_bound: false,
            has_leapt: false,
            is_leap: false,
            leap_pause: 0,
            next_leap_pause: PAUSE,
            last: None,
            surplus: 0,
        }
    }

    #[inline]
    pub(super) fn current(&self) -> usize {
        self.current
    }

    /// A call is queued. Whether it runs in the end or its caller gives up says nothing of whether more may run.
    pub(super) fn note_queued(&mut self) {
        if self.window.queued == 0 && !self.was_bound {
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
        let since = now.saturating_duration_since(self.last.replace(now).unwrap_or(now));
        if self.surplus > 0 {
            let is_left = running > self.current;
            self.surplus = if is_left { self.surplus - 1 } else { 0 };
            self.window = Window::default();
            return;
        }
        let window = &mut self.window;
        window.finished = window.finished.saturating_add(1);
        window.service = window.service.saturating_add(service);
        if window.began.is_some() {
            window.busy = window.busy.saturating_add(service.min(since));
        }
        let began = *window.began.get_or_insert(now);
        let took = now.saturating_duration_since(began);
        // By the quickest: what calls take that wait for each other would make it last for seconds.
        let least = interval.max(self.quickest.unwrap_or(service).saturating_mul(2));
        if took < least || window.finished < LEAST_FINISHED && !self.is_plainly_worse() {
            return;
        }
        let window = &self.window;
        let is_bound = window.queued >= window.finished / 2;
        // Else all were away for a while, as those that are refused are, which says nothing of the limit.
        if is_bound && window.busy < least.mul_f64(HELD) {
            return;
        }
        self.note_service();
        self.leap_pause = self.leap_pause.saturating_sub(1);
        let window = &self.window;
        let busy = window.busy.as_secs_f64().max(f64::MIN_POSITIVE);
        let rate = f64::from(window.finished) / busy;
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
        self.was_bound = is_bound;
    }

    /// Whether a trial has halved the rate, which shows before its window is full.
    fn is_plainly_worse(&self) -> bool {
        let rate = match self.trial {
            Trial::None => return false,
            Trial::Fewer => self.best,
            Trial::More => self.rate_before,
        };
        let expected = rate * self.window.busy.as_secs_f64();
        let is_enough = expected > f64::from(LEAST_FINISHED / 2);
        is_enough && f64::from(self.window.finished) < expected / 2.0
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
        if self.trial == Trial::Fewer && self.is_leap {
            // It was over before it was known, and would be with the next burst.
            self.put_off_leaps();
            self.set(self.before);
        }
        self.end_trial(Trial::Fewer);
        self.has_leapt = self.leap_pause > 0;
        let risen = self.current.saturating_add((self.max / RISE).max(1));
        self.set(risen.min(self.max));
    }

    fn end_trial(&mut self, next: Trial) {
        (self.trial, self.next, self.step) = (Trial::None, next, STEP);
        (self.pause, self.next_pause) = (0, PAUSE);
    }

    /// Goes on with a trial that has cost nothing, and undoes one that has.
    fn climb(&mut self, rate: f64) {
        self.peak = (self.peak * PEAK_FADES).max(rate);
        match self.trial {
            Trial::Fewer if rate >= HELD * self.best => {
                (self.next_pause, self.step) = (PAUSE, (self.step / 2).max(2));
                if self.is_leap {
                    self.next_leap_pause = PAUSE;
                }
            }
            Trial::More if rate > self.expected_of_more() => {
                (self.next_pause, self.step) = (PAUSE, (self.step / 2).max(2));
            }
            Trial::Fewer | Trial::More => {
                if self.trial == Trial::Fewer && self.is_leap {
                    self.put_off_leaps();
                }
                self.surplus = self.current.saturating_sub(self.before);
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

    fn put_off_leaps(&mut self) {
        self.leap_pause = self.next_leap_pause;
        self.next_leap_pause = (self.next_leap_pause * 2).min(MAX_PAUSE);
    }

    /// How many calls a second have to finish after a trial of more: with a third of what it adds where none waits for another.
    fn expected_of_more(&self) -> f64 {
        let ratio = self.current as f64 / self.before as f64;
        self.rate_before * (2.0 + ratio) / 3.0
    }

    /// The next trial goes the other way: one of fewer after a pause, but one of more at once. That costs
    /// little, and a limit that is far too low would be raised too seldom to ever be high enough again.
    fn turn_round(&mut self) {
        if self.next == Trial::More {
            self.pause = self.next_pause;
            self.next_pause = (self.next_pause * 2).min(MAX_PAUSE);
        }
        (self.trial, self.next, self.step) = (Trial::None, self.next.other(), STEP);
    }

    fn try_next(&mut self, rate: f64) {
        let limit = match self.next {
            Trial::More if rate < FAR_BELOW * self.peak => {
                self.current.saturating_mul(2).min(self.max)
            }
            Trial::More => self.more(),
            _ => self.fewer(),
        };
        if limit == self.current {
            // It is at its end in this direction.
            return self.turn_round();
        }
        self.is_leap = self.next == Trial::Fewer && !std::mem::replace(&mut self.has_leapt, true);
        let limit = if self.is_leap {
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
mod tests;
