//! Many `inc` calls at once: as the client library makes them, or as a hand-made retry loop does.

pub mod record;
pub mod summary;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use redial_client::{CallError, CallLimits, Client, Executed, Report};
use tokio::time::Instant;

use crate::{
    load::record::{AttemptRecord, CallRecord, Outcome, unix_us},
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
}

impl Load {
    /// Makes the calls and tells what became of each, in the order of their ends.
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
        (records, start.elapsed())
    }

    async fn call(&self, client: &Client, call: u64, jitter: &mut ChaCha8Rng) -> CallRecord {
        let start_us = unix_us();
        let (result, attempts) = if self.naive {
            self.call_naively(client, jitter).await
        } else {
            self.call_safely(client, start_us).await
        };
        let end_us = unix_us();
        let (outcome, value, error) = match result {
            Ok(counter) => (Outcome::Ok, Some(counter.value), None),
            Err((executed, text)) => (executed.into(), None, Some(text)),
        };
        CallRecord {
            call,
            outcome,
            start_us,
            end_us,
            value,
            error,
            attempts,
        }
    }

    async fn call_safely(&self, client: &Client, start_us: u64) -> (Result_, Vec<AttemptRecord>) {
        let mut call = client.call::<Inc>(self.params.clone()).limits(self.limits);
        let id = call.token().id.to_string();
        match call.with_report().await {
            Ok(reply) => (Ok(reply.value), attempts(&id, start_us, &reply.report)),
            Err(error) => {
                let attempts = attempts(&id, start_us, error.report());
                (Err((error.executed(), error.to_string())), attempts)
            }
        }
    }

    /// The loop that is written by hand everywhere: the same limits, and a new call each time.
    async fn call_naively(
        &self,
        client: &Client,
        jitter: &mut ChaCha8Rng,
    ) -> (Result_, Vec<AttemptRecord>) {
        let (start, limits) = (now(), self.limits);
        let (mut delay, mut attempts) = (Duration::ZERO, Vec::new());
        for attempt in 1.. {
            let left = limits.deadline.saturating_sub(start.elapsed());
            let limits = CallLimits {
                max_attempts: 1,
                deadline: left.max(Duration::from_millis(1)),
                ..limits
            };
            let once = Self {
                limits,
                ..self.clone()
            };
            let (result, made) = once.call_safely(client, unix_us()).await;
            attempts.extend(made);
            delay = limits.backoff.delay(attempt, delay, jitter);
            let is_last = attempt >= self.limits.max_attempts
                || start.elapsed() + delay >= self.limits.deadline;
            match result {
                Err((executed, _)) if executed != Executed::Yes && !is_last => {}
                result => return (result, attempts),
            }
            tokio::time::sleep(delay).await;
        }
        unreachable!("attempts are counted")
    }
}

/// What a call came to: the counter, or whether it was executed and why there is none.
type Result_ = Result<Counter, (Executed, String)>;

/// Asks for a counter's value, with patience: the server may be made to fail.
///
/// # Errors
///
/// [`CallError`] if there was no answer within 30 s.
pub async fn value(client: &Client, key: &str, limits: CallLimits) -> Result<i64, CallError> {
    let key = key.to_owned();
    let get = client.call::<Get>(GetParams { key }).limits(limits);
    let get = get.max_attempts(100).deadline(Duration::from_secs(30));
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
        if call >= load.calls {
            return records;
        }
        records.push(load.call(&client, call, &mut jitter).await);
    }
}

fn attempts(id: &str, start_us: u64, report: &Report) -> Vec<AttemptRecord> {
    let at = |since: Duration| start_us + u64::try_from(since.as_micros()).unwrap_or(u64::MAX);
    report
        .history()
        .map(|attempt| AttemptRecord {
            id: id.to_owned(),
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
