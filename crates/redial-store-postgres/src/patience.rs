//! For how long a step is tried again, and how soon.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use redial_server::store::StoreError;
use tokio::time::{Instant, sleep};

use crate::{clock, error::Trouble, options::PostgresOptions};

/// The shortest and the longest pause.
const PAUSE: Duration = Duration::from_millis(2);
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// One step's.
#[derive(Debug)]
pub(crate) struct Patience {
    began: Instant,
    retry_for: Duration,
    join_for: Duration,
    pause: Duration,
    /// A commit had no answer, and it is not known yet whether it took place.
    is_uncertain: bool,
}

impl Patience {
    pub(crate) fn new(options: &PostgresOptions) -> Self {
        Self {
            began: clock::now(),
            retry_for: options.retry_for,
            join_for: options.join_for,
            pause: PAUSE,
            is_uncertain: false,
        }
    }

    /// Whether this is another attempt.
    pub(crate) fn is_again(&self) -> bool {
        self.pause > PAUSE
    }

    /// The id was free, so that no commit without an answer took place.
    pub(crate) fn is_certain(&mut self) {
        self.is_uncertain = false;
    }

    /// Waits before the next attempt.
    ///
    /// # Errors
    ///
    /// What to say, if there is to be none.
    pub(crate) async fn pause(&mut self, trouble: Trouble) -> Result<(), StoreError> {
        let limit = match &trouble {
            Trouble::Fatal(_) => Duration::ZERO,
            Trouble::Busy | Trouble::RunsElsewhere => self.join_for,
            _ => self.retry_for,
        };
        self.is_uncertain |= matches!(trouble, Trouble::Unanswered(_));
        if self.began.elapsed() >= limit {
            let error = trouble.into_error();
            return Err(StoreError {
                is_uncertain: self.is_uncertain || error.is_uncertain,
                ..error
            });
        }
        sleep(self.pause.mul_f64(jitter())).await;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        Ok(())
    }
}

/// From a half to one, evenly spread, so that those who met don't meet again.
fn jitter() -> f64 {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let step = COUNT.fetch_add(0x9e37_79b9_7f4a_7c15, Relaxed);
    0.5 + (step >> 32) as f64 / f64::from(u32::MAX) / 2.0
}
