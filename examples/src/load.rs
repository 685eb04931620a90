//! Many `inc` calls at once: as the client library makes them, or as a hand-made retry loop does.

pub mod record;
mod recorder;
pub mod summary;

use std::{
    fs::File,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use indicatif::ProgressBar;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use redial_client::{
    AttemptEnd, AttemptReport, CallError, CallLimits, Client, Executed, Reply, Report,
};
use tokio::time::Instant;

use self::{
    record::{AttemptRecord, CallRecord, Outcome},
    recorder::Recorder,
    summary::Summary,
};
use crate::{
    events::unix_us,
    methods::{Counter, Get, GetParams, Inc, IncParams},
};

/// The calls to make, and their limits.
#[derive(Clone, Debug)]
pub struct Load {
    /// How many calls.
    pub calls: u64,
    /// How many of them are in flight at once.
    pub concurrency: u64,
    /// The counter of each call.
    pub key: Key,
    /// What each call adds to its counter.
    pub delta: i64,
    /// The limits of each call.
    pub limits: CallLimits,
    /// Gives every attempt its own id, as a retry loop around a plain client does.
    pub naive: bool,
    /// Makes the jitter of naive retries repeat.
    pub seed: u64,
    /// Set to start no further call.
    pub stop: Arc<AtomicBool>,
    /// Advanced by every finished call.
    pub progress: ProgressBar,
}

/// Which counters the calls add to.
#[derive(Clone, Debug)]
pub enum Key {
    /// One counter for all calls.
    Same(String),
    /// The counter `PREFIX-n` for call n alone: its value says how often the call took effect.
    PerCall(String),
}

impl Key {
    fn of(&self, call: u64) -> String {
        match self {
            Self::Same(key) => key.clone(),
            Self::PerCall(prefix) => format!("{prefix}-{call}"),
        }
    }
}

/// What a run shares between its workers.
struct Run {
    load: Load,
    client: Client,
    next: AtomicU64,
    recorder: Recorder,
}

impl Load {
    /// Makes the calls, writes each to `events` as soon as it has finished, and sums up. Memory
    /// does not grow with the number of calls.
    ///
    /// # Errors
    ///
    /// Next to the summary, if an event could not be written: the calls go on without events.
    ///
    /// # Panics
    ///
    /// If one of its own tasks panics.
    pub async fn run(self, client: &Client, events: Option<File>) -> (Summary, io::Result<()>) {
        let run = Arc::new(Run {
            client: client.clone(),
            next: AtomicU64::new(0),
            recorder: Recorder::new(events),
            load: self,
        });
        let start = now();
        let workers: Vec<_> = (0..run.load.concurrency)
            .map(|worker| tokio::spawn(run.clone().work(worker)))
            .collect();
        for worker in workers {
            worker.await.expect("a worker does not panic");
        }
        let elapsed = start.elapsed();
        let (summary, written) = run.recorder.finish(elapsed);
        let naive = run.load.naive;
        (Summary { naive, ..summary }, written)
    }
}

impl Run {
    async fn work(self: Arc<Self>, worker: u64) {
        let mut jitter = ChaCha8Rng::seed_from_u64(self.load.seed);
        jitter.set_stream(worker);
        loop {
            let call = self.next.fetch_add(1, Ordering::Relaxed);
            if call >= self.load.calls || self.load.stop.load(Ordering::Relaxed) {
                return;
            }
            let record = self.call(call, &mut jitter).await;
            let expected = match self.load.key {
                Key::Same(_) => None,
                Key::PerCall(_) => Some(self.load.delta),
            };
            self.recorder.record(record, expected);
            self.load.progress.inc(1);
        }
    }

    async fn call(&self, call: u64, jitter: &mut ChaCha8Rng) -> CallRecord {
        let params = IncParams {
            key: self.load.key.of(call),
            delta: self.load.delta,
        };
        let start_us = unix_us();
        let (ended, sent) = if self.load.naive {
            self.call_naively(params, jitter).await
        } else {
            self.call_safely(params, self.load.limits, start_us).await
        };
        let end_us = unix_us();
        let (outcome, value, replayed, error) = match ended {
            Ok(reply) => {
                let replayed = reply.report.replayed();
                (Outcome::Ok, Some(reply.value.value), replayed, None)
            }
            Err((executed, text)) => (executed.into(), None, None, Some(text)),
        };
        CallRecord {
            call,
            outcome,
            start_us,
            end_us,
            value,
            replayed,
            error,
            sendings: sent.count,
            hedges: sent.hedges,
            attempts: sent.attempts,
        }
    }

    async fn call_safely(
        &self,
        params: IncParams,
        limits: CallLimits,
        start_us: u64,
    ) -> (Ended, Sent) {
        let call = self.client.call::<Inc>(params).limits(limits);
        match call.with_report().await {
            Ok(reply) => {
                let sent = self.sent(start_us, &reply.report);
                (Ok(reply), sent)
            }
            Err(error) => {
                let sent = self.sent(start_us, error.report());
                (Err((error.executed(), error.to_string())), sent)
            }
        }
    }

    fn sent(&self, start_us: u64, report: &Report) -> Sent {
        let at = |since: Duration| start_us + u64::try_from(since.as_micros()).unwrap_or(u64::MAX);
        let record = |attempt: &AttemptReport| AttemptRecord {
            id: attempt.id.to_string(),
            attempt: attempt.number,
            hedge: attempt.is_hedge,
            sent_us: at(attempt.started),
            end_us: at(attempt.ended),
            end: attempt.end.name(),
        };
        let attempts = if self.recorder.has_events() {
            report.history().map(record).collect()
        } else {
            Vec::new()
        };
        Sent {
            count: report.history().filter(is_sending).count(),
            hedges: report.hedges(),
            attempts,
        }
    }

    /// The usual hand-made retry loop: the same limits, and a new call for each attempt.
    async fn call_naively(&self, params: IncParams, jitter: &mut ChaCha8Rng) -> (Ended, Sent) {
        let (start, limits) = (now(), self.load.limits);
        let (mut delay, mut sent) = (Duration::ZERO, Sent::default());
        let mut may_be_executed = false;
        for attempt in 1.. {
            let left = limits.deadline.saturating_sub(start.elapsed());
            let once = CallLimits {
                max_attempts: 1,
                deadline: left.clamp(Duration::from_millis(1), limits.attempt_timeout),
                ..limits
            };
            let (ended, one) = self.call_safely(params.clone(), once, unix_us()).await;
            sent.count += one.count;
            sent.hedges += one.hedges;
            sent.attempts.extend(one.attempts);
            let (executed, text) = match ended {
                Err((executed, text)) if executed != Executed::Yes => (executed, text),
                ended => return (ended, sent),
            };
            may_be_executed |= executed == Executed::Unknown;
            delay = limits.backoff.delay(attempt, delay, jitter);
            if attempt >= limits.max_attempts || start.elapsed() + delay >= limits.deadline {
                let executed = if may_be_executed {
                    Executed::Unknown
                } else {
                    Executed::No
                };
                return (Err((executed, text)), sent);
            }
            tokio::time::sleep(delay).await;
        }
        unreachable!("attempts are counted")
    }
}

/// How a call ended: with the counter, or whether it was executed and why there is no counter.
type Ended = Result<Reply<Counter>, (Executed, String)>;

/// Reads a counter's value, with many attempts, since the server may inject faults.
///
/// # Errors
///
/// [`CallError`] if no reply arrived before the deadline.
pub async fn value(client: &Client, key: &str, limits: CallLimits) -> Result<i64, CallError> {
    let key = key.to_owned();
    let get = client.call::<Get>(GetParams { key }).limits(limits);
    let get = get.max_attempts(100);
    Ok(get.await?.value)
}

/// What was sent for a call.
#[derive(Default)]
struct Sent {
    count: usize,
    hedges: u32,
    /// Every attempt, if there is an events file.
    attempts: Vec<AttemptRecord>,
}

#[expect(clippy::disallowed_methods, reason = "a program measures real time")]
fn now() -> Instant {
    Instant::now()
}

/// Whether the attempt was sent: not if there was no connection.
fn is_sending(attempt: &&AttemptReport) -> bool {
    attempt.end != AttemptEnd::ConnectFailed
}
