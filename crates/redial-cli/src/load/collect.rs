//! The thread that adds up what the run's loop has counted, and shows it: neither a long look at a
//! histogram nor a slow terminal makes a call late.

use std::{
    mem,
    sync::mpsc::{Receiver, SyncSender, TrySendError, channel, sync_channel},
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result};

use super::{drive::Moment, tally::Tally};

/// How many slices may wait to be added up. The loop keeps counting in its own while there is no room.
const QUEUE: usize = 4;

/// What is known of one slice of time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Point {
    /// When it began, after the beginning of the run.
    pub(crate) from: Duration,
    /// When it ended.
    pub(crate) until: Duration,
    /// How many calls started.
    pub(crate) started: u64,
    /// How many ended, with a value or without.
    pub(crate) ended: u64,
    /// How many ended without a value.
    pub(crate) errors: u64,
    /// Percentiles of the latency of those that ended, in microseconds.
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) max_us: f64,
}

/// What has been counted so far.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    pub(crate) total: Tally,
    pub(crate) points: Vec<Point>,
}

impl Collected {
    /// Adds a slice that ended then.
    pub(crate) fn add(&mut self, slice: &Tally, until: Duration) {
        let from = self
            .points
            .last()
            .map_or(Duration::ZERO, |point| point.until);
        let us = |quantile| slice.latency.value_at_quantile(quantile) as f64 / 1e3;
        self.points.push(Point {
            from,
            until,
            started: slice.counts.started,
            ended: slice.counts.ended(),
            errors: slice.counts.errors(),
            p50_us: us(0.5),
            p99_us: us(0.99),
            max_us: us(1.0),
        });
        self.total.add(slice);
    }
}

/// Hands slices of time to the thread.
pub(crate) struct Collector {
    slices: SyncSender<(Tally, Moment)>,
    cleared: Receiver<Tally>,
    thread: JoinHandle<Collected>,
}

impl Collector {
    /// Starts the thread. It shows each slice, and what has been collected up to then.
    pub(crate) fn start(
        mut show: impl FnMut(&Collected, &Tally, Moment) + Send + 'static,
    ) -> Result<Self> {
        let (slices, incoming) = sync_channel::<(Tally, Moment)>(QUEUE);
        let (give_back, cleared) = channel();
        let collect = move || {
            let mut collected = Collected::default();
            for (mut slice, moment) in incoming {
                collected.add(&slice, moment.at);
                show(&collected, &slice, moment);
                slice.clear();
                let _ = give_back.send(slice);
            }
            collected
        };
        let thread = thread::Builder::new().name("collect".to_owned());
        Ok(Self {
            slices,
            cleared,
            thread: thread.spawn(collect).context("cannot start a thread")?,
        })
    }

    /// Takes a slice, and puts an empty one in its place, unless the thread is behind.
    pub(crate) fn take(&mut self, slice: &mut Tally, moment: Moment) {
        let empty = self.cleared.try_recv().unwrap_or_default();
        let full = mem::replace(slice, empty);
        if let Err(TrySendError::Full((full, _)) | TrySendError::Disconnected((full, _))) =
            self.slices.try_send((full, moment))
        {
            *slice = full;
        }
    }

    /// Everything, with what the loop had counted last.
    pub(crate) fn finish(self, rest: &Tally, at: Duration) -> Result<Collected> {
        drop(self.slices);
        let collected = self.thread.join();
        let mut collected =
            collected.map_err(|_| anyhow::anyhow!("the counting thread panicked"))?;
        if rest.counts.started > 0 || rest.counts.ended() > 0 {
            collected.add(rest, at);
        }
        Ok(collected)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::load::tally::tests::{MS, ok};

    fn moment(ms: u32) -> Moment {
        Moment {
            at: MS * ms,
            in_flight: 0,
        }
    }

    /// A terminal that takes nothing for a while must cost neither calls nor counts.
    #[test]
    fn nothing_is_lost_while_the_view_is_slow() {
        let (go_on, waits) = channel::<()>();
        let collector = Collector::start(move |_, _, _| {
            let _ = waits.recv();
        });
        let (mut collector, mut slice) = (collector.unwrap(), Tally::default());
        for call in 0..100 {
            slice.start(MS);
            slice.end(MS * 2, MS, ok());
            collector.take(&mut slice, moment(call));
        }
        assert!(slice.counts.started > 0, "it was not slow");
        drop(go_on);
        let collected = collector.finish(&slice, MS * 100).unwrap();
        assert_eq!(
            (collected.total.counts.ok, collected.total.latency.len()),
            (100, 100)
        );
        let ended = collected
            .points
            .iter()
            .map(|point| point.ended)
            .sum::<u64>();
        assert_eq!(ended, 100);
        let follow = |pair: &[Point]| pair[0].until == pair[1].from;
        assert!(collected.points.windows(2).all(follow));
    }
}
