//! Many `inc` calls at once: as the client library makes them, or as a hand-made retry loop does.

pub mod record;
pub mod summary;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use indicatif::ProgressBar;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use redial_client::{CallError, CallLimits, Client, Executed, Reply, Report};
use tokio::time::Instant;

use crate::{
    events::unix_us,
    load::record::{AttemptRecord, CallRecord, Outcome},
    methods::{Counter, Get, GetParams, Inc, IncParams},
};

/// What to call, and how often.
#[derive(Clone, Debug)]
pub struct Load {
    /// How many calls.
    pub calls: u64,
    /// How many of them at once.
    pub concurrency: u64,
    /// What each call adds to which counter.
    pub params: IncParams,
    /// The limits of each call.
    pub limits: CallLimits,
    /// Gives every attempt an id of its own, as a retry loop around a plain client does.
    pub naive: bool,
    /// Makes the jitter of naive retries repeat.
    pub seed: u64,
    /// Set to begin no further call.
    pub stop: Arc<AtomicBool>,
    /// Moved on with every call that has ended.
    pub progress: ProgressBar,
}

impl Load {
    /// Makes the calls and tells what became of each, in the order of their numbers,
    /// and how long all took.
    ///
    /// # Panics
    ///
    /// If one of its own tasks does.
    pub async fn run(self, client: &Client) -> (Vec<CallRecord>, Duration) {
        let (load, next) = (Arc::new(self), Arc::new(AtomicU64::new(0)));
        let start = now();
        let workers: Vec<_> = (0..load.concurrency)
            .map(|worker| tokio::spawn(work(load.clone(), client.clone(), next.clone(), worker)))
            .collect();
        let mut records = Vec::new();
        for worker in workers {
            records.extend(worker.await.expect("a worker has no reason to panic"));
        }
        records.sort_by_key(|record: &CallRecord| record.call);
        (records, start.elapsed())
    }

    async fn call(&self, client: &Client, call: u64, jitter: &mut ChaCha8Rng) -> CallRecord {
        let start_us = unix_us();
        let (ended, attempts) = if self.naive {
            self.call_naively(client, jitter).await
        } else {
            self.call_safely(client, start_us).await
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
            attempts,
        }
    }

    async fn call_safely(&self, client: &Client, start_us: u64) -> (Ended, Vec<AttemptRecord>) {
        let call = client.call::<Inc>(self.params.clone()).limits(self.limits);
        match call.with_report().await {
            Ok(reply) => {
                let attempts = attempts(start_us, &reply.report);
                (Ok(reply), attempts)
            }
            Err(error) => {
                let attempts = attempts(start_us, error.report());
                (Err((error.executed(), error.to_string())), attempts)
            }
        }
    }

    /// The loop that is written by hand everywhere: the same limits, and a new call each time.
    async fn call_naively(
        &self,
        client: &Client,
        jitter: &mut ChaCha8Rng,
    ) -> (Ended, Vec<AttemptRecord>) {
        let (start, limits) = (now(), self.limits);
        let (mut delay, mut sent) = (Duration::ZERO, Vec::new());
        let mut may_be_executed = false;
        for attempt in 1.. {
            let left = limits.deadline.saturating_sub(start.elapsed());
            let mut once = self.clone();
            once.limits.max_attempts = 1;
            once.limits.deadline = left.clamp(Duration::from_millis(1), limits.attempt_timeout);
            let (ended, attempts) = once.call_safely(client, unix_us()).await;
            sent.extend(attempts);
            let (executed, text) = match ended {
                Err((executed, text)) if executed != Executed::Yes => (executed, text),
                over => return (over, sent),
            };
            may_be_executed |= executed == Executed::Unknown;
            delay = limits.backoff.delay(attempt, delay, jitter);
            if attempt >= limits.max_attempts || start.elapsed() + delay >= limits.deadline {
                let executed = match may_be_executed {
                    true => Executed::Unknown,
                    false => Executed::No,
                };
                return (Err((executed, text)), sent);
            }
            tokio::time::sleep(delay).await;
        }
        unreachable!("attempts are counted")
    }
}

/// What a call came to: the counter, or whether it was executed and why there is no counter.
type Ended = Result<Reply<Counter>, (Executed, String)>;

/// Asks for a counter's value, with patience: the server may be made to fail.
///
/// # Errors
///
/// [`CallError`] if there was no answer within the calls' deadline.
pub async fn value(client: &Client, key: &str, limits: CallLimits) -> Result<i64, CallError> {
    let key = key.to_owned();
    let get = client.call::<Get>(GetParams { key }).limits(limits);
    let get = get.max_attempts(100);
    Ok(get.await?.value)
}

async fn work(
    load: Arc<Load>,
    client: Client,
    next: Arc<AtomicU64>,
    worker: u64,
) -> Vec<CallRecord> {
    let mut jitter = ChaCha8Rng::seed_from_u64(load.seed);
    jitter.set_stream(worker);
    let mut records = Vec::new();
    loop {
        let call = next.fetch_add(1, Ordering::Relaxed);
        if call >= load.calls || load.stop.load(Ordering::Relaxed) {
            return records;
        }
        records.push(load.call(&client, call, &mut jitter).await);
        load.progress.inc(1);
    }
}

fn attempts(start_us: u64, report: &Report) -> Vec<AttemptRecord> {
    let at = |since: Duration| start_us + u64::try_from(since.as_micros()).unwrap_or(u64::MAX);
    report
        .history()
        .map(|attempt| AttemptRecord {
            id: attempt.id.to_string(),
            attempt: attempt.number,
            sent_us: at(attempt.started),
            end_us: at(attempt.ended),
            end: attempt.end.name(),
        })
        .collect()
}

#[expect(clippy::disallowed_methods, reason = "a program measures real time")]
fn now() -> Instant {
    Instant::now()
}
