//! Calls, one after the other in each of some tasks, and what was heard of them.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use redial_client::{CallError, CallLimits, Client, ClientBuilder, Config, RetryBudget};
use redial_examples::methods::{Inc, IncParams};
use tokio::task::JoinSet;

use super::servers::CutOffServer;

const CALLERS: usize = 8;

pub(crate) const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(200);

pub(crate) fn builder() -> ClientBuilder {
    Client::builder().config(Config {
        call: CallLimits {
            attempt_timeout: ATTEMPT_TIMEOUT,
            max_attempts: 50,
            deadline: Duration::from_secs(2),
            ..CallLimits::default()
        },
        retry_budget: RetryBudget::unlimited(),
        ..Config::default()
    })
}

#[expect(clippy::disallowed_methods, reason = "what a caller waits is measured")]
pub(crate) fn clock() -> Instant {
    Instant::now()
}

/// Calls that are being made.
pub(crate) struct Load {
    callers: JoinSet<()>,
    is_over: Arc<AtomicBool>,
    heard: Arc<Mutex<Vec<Heard>>>,
}

#[derive(Clone)]
struct Heard {
    key: String,
    began: Instant,
    took: Duration,
    end: End,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Done,
    NotExecuted,
    Unknown,
}

/// What was heard of some calls.
pub(crate) struct Calls(Vec<Heard>);

impl Load {
    /// Each call has a counter of its own, whose name begins so.
    pub(crate) fn start(client: &Client, prefix: &str) -> Self {
        let mut load = Self {
            callers: JoinSet::new(),
            is_over: Arc::default(),
            heard: Arc::default(),
        };
        for caller in 0..CALLERS {
            let (client, prefix) = (client.clone(), format!("{prefix}-{caller}"));
            let (is_over, heard) = (load.is_over.clone(), load.heard.clone());
            load.callers.spawn(async move {
                for n in 0.. {
                    let one = call(&client, format!("{prefix}-{n}")).await;
                    heard
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(one);
                    if is_over.load(Relaxed) {
                        return;
                    }
                }
            });
        }
        load
    }

    /// Goes on for so long. Gives all calls since its start.
    pub(crate) async fn run_for(self, time: Duration) -> Calls {
        tokio::time::sleep(time).await;
        self.is_over.store(true, Relaxed);
        self.callers.join_all().await;
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        Calls(std::mem::take(&mut *heard))
    }
}

async fn call(client: &Client, key: String) -> Heard {
    let began = clock();
    let params = IncParams {
        key: key.clone(),
        delta: 1,
    };
    let end = match client.call::<Inc>(params).await {
        Ok(_) => End::Done,
        Err(CallError::Unknown { .. }) => End::Unknown,
        Err(_) => End::NotExecuted,
    };
    let took = clock() - began;
    Heard {
        key,
        began,
        took,
        end,
    }
}

impl Calls {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Those that ended after this, or began then.
    pub(crate) fn since(&self, at: Instant) -> Self {
        self.only(|one| one.began + one.took >= at)
    }

    /// Those that began before this.
    pub(crate) fn until(&self, at: Instant) -> Self {
        self.only(|one| one.began < at)
    }

    /// Those that began after this.
    pub(crate) fn begun_since(&self, at: Instant) -> Self {
        self.only(|one| one.began >= at)
    }

    fn only(&self, is_it: impl Fn(&Heard) -> bool) -> Self {
        Self(self.0.iter().filter(|one| is_it(one)).cloned().collect())
    }

    pub(crate) fn slower_than(&self, limit: Duration) -> usize {
        self.0.iter().filter(|one| one.took > limit).count()
    }

    pub(crate) fn unknown(&self) -> usize {
        let all = self.0.iter();
        all.filter(|one| one.end == End::Unknown).count()
    }

    /// Prints how long they took. Whether few enough were slow.
    pub(crate) fn report(&self, what: &str, limit: Duration, most_percent: f64) -> bool {
        let mut took: Vec<_> = self.0.iter().map(|one| one.took).collect();
        took.sort_unstable();
        if took.is_empty() {
            println!("{what}: no calls");
            return false;
        }
        // By nearest rank: the shortest that so many are not above.
        let at = |share: f64| took[((took.len() as f64 * share).ceil() as usize).max(1) - 1];
        let slow = self.slower_than(limit);
        let percent = slow as f64 * 100.0 / took.len() as f64;
        println!(
            "{what}: {} calls, {slow} ({percent:.3} %) took over {limit:?}; median {:?}, 99.9 % {:?}, slowest {:?}; \
             {} unknown",
            took.len(),
            at(0.5),
            at(0.999),
            at(1.0),
            self.unknown(),
        );
        percent <= most_percent
    }

    /// How many calls were executed twice, and how many did not have the effect that was heard.
    pub(crate) fn check(&self, servers: &[CutOffServer]) -> (usize, usize) {
        let effects = |one: &Heard| {
            servers
                .iter()
                .map(|server| server.value(&one.key))
                .sum::<i64>()
        };
        let (mut twice, mut wrong) = (0, 0);
        for one in &self.0 {
            let effects = effects(one);
            twice += usize::from(effects > 1);
            wrong += usize::from(match one.end {
                End::Done => effects != 1,
                End::NotExecuted => effects != 0,
                End::Unknown => false,
            });
        }
        (twice, wrong)
    }
}
