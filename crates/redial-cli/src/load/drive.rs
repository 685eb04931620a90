//! The loop that makes the calls: closed, where each caller waits for its call to end before it makes the
//! next one, or open, where calls start when they are meant to.
//!
//! A closed loop hides a server that stands still: while it does, nothing is sent, and one slow call per
//! caller stands for all those that others would have made (coordinated omission). An open loop goes on, and
//! times each call from its intended start.
//!
//! All calls are polled by one task, and a wait for the next start is a wait for several where they are
//! close: a call costs no task, no timer and no system call of its own.

use std::{
    future::{Future, poll_fn},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures_util::stream::{FuturesUnordered, StreamExt};
use rand_chacha::ChaCha8Rng;
use tokio::time::{Interval, MissedTickBehavior};

use super::{
    schedule::Starts,
    tally::{CallEnd, Tally},
    timer::Timer,
};
use crate::clock;

/// How many calls start before their connections get to write them.
const BATCH: usize = 256;

/// Starts that are closer than this are waited for together.
const GAP: Duration = Duration::from_micros(100);

/// How long what is counted is gathered before it is handed over.
pub(crate) const SLICE: Duration = Duration::from_millis(200);

/// How many calls that were not sent are counted one by one: more than any machine sends in a tenth of a second, and
/// fewer than it takes a moment to count.
const COUNTED: usize = 1_000_000;

/// How long after the end of a run calls are still sent that were meant to start before it.
const GRACE: Duration = Duration::from_millis(100);

/// How calls follow one another.
#[derive(Debug)]
pub(crate) enum Pacing {
    /// So many callers, each with one call at a time.
    Closed { callers: usize },
    /// At these times.
    Open {
        starts: Box<Starts<ChaCha8Rng>>,
        /// How many calls may be in flight. Those beyond wait, and that counts as theirs.
        max_in_flight: usize,
    },
}

/// How much there is to do: at least one of the two says so.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Length {
    /// The most calls.
    pub(crate) calls: Option<u64>,
    /// How long calls start.
    pub(crate) time: Option<Duration>,
}

/// A call that starts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start {
    /// Its number, from 0.
    pub(crate) number: u64,
    /// When it was meant to start, after the beginning of the run.
    pub(crate) intended: Duration,
    /// When it starts.
    pub(crate) actual: Duration,
}

/// When a slice of time ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// So long after the beginning of the run.
    pub(crate) at: Duration,
    /// How many calls are in flight then.
    pub(crate) in_flight: usize,
}

/// How a run has ended.
#[derive(Debug)]
pub(crate) struct RunEnd {
    /// What has not been handed over.
    pub(crate) rest: Tally,
    /// Until the last call had ended.
    pub(crate) elapsed: Duration,
    /// For how long calls started, or would have.
    pub(crate) sending: Duration,
    /// In how long those that started, and those that were not sent, were meant to start in an open loop.
    pub(crate) meant: Duration,
    /// How many were meant to start and were not sent: too many were in flight, or the loop was too slow.
    pub(crate) not_sent: u64,
    /// Whether it was asked to stop before its end.
    pub(crate) is_stopped: bool,
}

/// A run. `C` makes a call, `S` takes what was counted in a slice of time, or leaves it for the next one.
pub(crate) struct Driver<C, F, S> {
    pacing: Pacing,
    length: Length,
    call: C,
    in_flight: FuturesUnordered<F>,
    /// How many calls have started.
    calls: u64,
    /// When the next call is meant to start, in an open loop that has one.
    next: Option<Duration>,
    not_sent: u64,
    timer: Timer,
    /// Until when the timer waits.
    woken_at: Duration,
    start: Instant,
    /// When the last call started, and when it was meant to.
    last_start: Duration,
    last_intended: Duration,
    tally: Tally,
    slices: Interval,
    on_slice: S,
    stop: Arc<AtomicBool>,
    is_stopped: bool,
}

impl<C, F, S> Driver<C, F, S>
where
    C: FnMut(Start) -> F,
    F: Future<Output = (Start, CallEnd)>,
    S: FnMut(&mut Tally, Moment),
{
    /// Begins a run, now. It stops early where `stop` is set.
    pub(crate) fn new(
        (mut pacing, length): (Pacing, Length),
        timer: Timer,
        stop: Arc<AtomicBool>,
        call: C,
        on_slice: S,
    ) -> Self {
        let start = clock::now();
        let mut slices = tokio::time::interval_at((start + SLICE).into(), SLICE);
        slices.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let next = match &mut pacing {
            Pacing::Closed { .. } => None,
            Pacing::Open { starts, .. } => starts.next(),
        };
        Self {
            pacing,
            length,
            call,
            in_flight: FuturesUnordered::new(),
            calls: 0,
            next,
            not_sent: 0,
            timer,
            woken_at: Duration::ZERO,
            start,
            last_start: Duration::ZERO,
            last_intended: Duration::ZERO,
            tally: Tally::default(),
            slices,
            on_slice,
            stop,
            is_stopped: false,
        }
    }

    /// Makes all calls, and waits for the last one to end.
    pub(crate) async fn run(mut self) -> RunEnd {
        poll_fn(|context| self.poll(context)).await;
        let elapsed = self.elapsed();
        let is_open = matches!(self.pacing, Pacing::Open { .. });
        let (meant, sending) = match self.length.time {
            Some(time) if !self.is_stopped && !self.has_all_calls() => (time, time),
            // The time of a call ends where that of the next one begins, which may be long after its own end.
            _ if is_open => {
                let meant = self.next.unwrap_or(self.last_intended);
                (meant, meant.max(self.last_start))
            }
            _ => (self.last_start, self.last_start),
        };
        RunEnd {
            rest: self.tally,
            elapsed,
            sending,
            meant,
            not_sent: self.not_sent,
            is_stopped: self.is_stopped,
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.is_stopped |= self.stop.load(Ordering::Relaxed);
        let now = self.elapsed();
        let has_more = self.start_due(now);
        while let Poll::Ready(Some((start, ended))) = self.in_flight.poll_next_unpin(context) {
            let now = self.elapsed();
            let (latency, service) = (now - start.intended, now - start.actual);
            self.tally.end(latency, service, ended);
            if matches!(self.pacing, Pacing::Closed { .. }) {
                self.start_due(now);
            }
        }
        while self.slices.poll_tick(context).is_ready() {
            let moment = Moment {
                at: self.elapsed(),
                in_flight: self.in_flight.len(),
            };
            (self.on_slice)(&mut self.tally, moment);
        }
        if self.in_flight.is_empty() && self.is_over(self.elapsed()) {
            return Poll::Ready(());
        }
        if has_more || self.poll_timer(context).is_ready() {
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }

    fn elapsed(&self) -> Duration {
        clock::now().saturating_duration_since(self.start)
    }

    fn has_all_calls(&self) -> bool {
        self.length.calls.is_some_and(|calls| self.calls >= calls)
    }

    /// Whether no further call starts.
    fn is_over(&self, now: Duration) -> bool {
        let is_past = |time| match self.pacing {
            Pacing::Closed { .. } => now >= time,
            Pacing::Open { .. } => self.next.is_none_or(|next| next >= time),
        };
        let has_no_more = matches!(self.pacing, Pacing::Open { .. }) && self.next.is_none();
        let is_past = self.length.time.is_some_and(is_past);
        self.is_stopped || self.has_all_calls() || has_no_more || is_past
    }

    /// Starts what is due. Whether there is more of it.
    fn start_due(&mut self, now: Duration) -> bool {
        for _ in 0..BATCH {
            if self.is_over(now) {
                return false;
            }
            let intended = match &mut self.pacing {
                Pacing::Closed { callers } if self.in_flight.len() < *callers => now,
                Pacing::Closed { .. } => return false,
                Pacing::Open {
                    starts,
                    max_in_flight,
                } => {
                    let Some(next) = self.next.filter(|next| *next <= now) else {
                        return false;
                    };
                    let is_full = self.in_flight.len() >= *max_in_flight;
                    let is_late = |time| now >= time && is_full || now >= time + GRACE;
                    if self.length.time.is_some_and(is_late) {
                        self.abandon();
                        return false;
                    }
                    if is_full {
                        return false;
                    }
                    self.next = starts.next();
                    next
                }
            };
            self.begin(intended, now);
        }
        true
    }

    fn begin(&mut self, intended: Duration, actual: Duration) {
        let start = Start {
            number: self.calls,
            intended,
            actual,
        };
        self.calls += 1;
        (self.last_start, self.last_intended) = (actual, intended);
        self.tally.start(actual - intended);
        self.in_flight.push((self.call)(start));
    }

    /// The time is over, and calls that were meant to start in it are not sent any more.
    fn abandon(&mut self) {
        let Pacing::Open { starts, .. } = &mut self.pacing else {
            return;
        };
        let time = self.length.time.unwrap_or(Duration::MAX);
        let left = self.length.calls.map(|calls| calls - self.calls);
        let due = self.next.take().into_iter().chain(starts.by_ref());
        let due = due.take_while(|start| *start < time).take(COUNTED).count();
        let others = if due == COUNTED {
            starts.left_before(time).round() as u64
        } else {
            0
        };
        let due = due as u64 + others;
        self.not_sent = left.map_or(due, |left| left.min(due));
    }

    /// Waits for the next start, unless that has to wait for the end of a call.
    fn poll_timer(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let now = self.elapsed();
        let (Some(next), Pacing::Open { max_in_flight, .. }) = (self.next, &self.pacing) else {
            return Poll::Pending;
        };
        if self.in_flight.len() >= *max_in_flight || self.is_over(now) {
            return Poll::Pending;
        }
        // To set it again costs more than it would gain.
        let is_set = self.woken_at > now && (next..=next + GAP).contains(&self.woken_at);
        if !is_set {
            self.woken_at = next.max(now + GAP);
        }
        let (due, now) = (self.start + self.woken_at, self.start + now);
        self.timer.poll(due, now, context)
    }
}

#[cfg(test)]
mod tests;
