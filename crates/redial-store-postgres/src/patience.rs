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

    /// For a step that may have been tried before, with a commit that had no answer.
    pub(crate) fn after(is_uncertain: bool, options: &PostgresOptions) -> Self {
        Self {
            is_uncertain,
            ..Self::new(options)
        }
    }

    /// Whether this is another attempt.
    pub(crate) fn is_again(&self) -> bool {
        self.pause > PAUSE
    }

    /// The id was free, so that no commit without an answer took place.
    pub(crate) fn found_free(&mut self) {
        self.is_uncertain = false;
    }

    /// Waits before the next attempt.
    ///
    /// # Errors
    ///
    /// What to say, if there is to be none.
    pub(crate) async fn pause(&mut self, trouble: Trouble) -> Result<(), StoreError> {
        self.is_uncertain |= matches!(trouble, Trouble::Unanswered(_));
        let limit = match &trouble {
            Trouble::Fatal(_) => Duration::ZERO,
            Trouble::Busy | Trouble::RunsElsewhere => self.join_for,
            // What it came to is asked for longer than it would be tried again: its caller could not do that.
            _ if self.is_uncertain => self.retry_for.max(self.join_for),
            _ => self.retry_for,
        };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::PostgresStore;

    /// Kind of fault: a call whose commit had no answer ends as unknown, while the database is away for
    /// longer than steps are tried again, as in a fail-over.
    #[tokio::test(start_paused = true)]
    async fn what_a_commit_without_an_answer_came_to_is_asked_for_longer() {
        let options = PostgresStore::options()
            .retry_for(Duration::from_secs(10))
            .join_for(Duration::from_secs(60));
        let away = || Trouble::Away("gone".to_owned());
        for (first, seconds, is_uncertain) in [
            (away(), 10, false),
            (Trouble::Unanswered("gone".to_owned()), 60, true),
        ] {
            let (mut patience, began) = (Patience::new(&options), clock::now());
            patience.pause(first).await.unwrap();
            let error = loop {
                if let Err(error) = patience.pause(away()).await {
                    break error;
                }
            };
            let waited = began.elapsed().as_secs_f64();
            assert!((waited - f64::from(seconds)).abs() < 0.2, "{waited}");
            assert_eq!(error.is_uncertain, is_uncertain);
        }
    }
}
