//! What runs beside the batches: commits of those before, and calls that run by themselves.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::timeout};

/// How long is waited for them: one may wait for another server.
const SETTLING: Duration = Duration::from_secs(1);

/// How many there are.
#[derive(Debug, Default)]
pub(crate) struct Loose {
    count: AtomicUsize,
    settled: Notify,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(crate) struct One(Arc<Loose>);

impl Loose {
    pub(crate) fn one(all: &Arc<Self>) -> One {
        all.count.fetch_add(1, SeqCst);
        One(Arc::clone(all))
    }

    /// Waits until none is left, up to a limit.
    pub(crate) async fn settle(&self) {
        let settled = async {
            while self.count.load(SeqCst) > 0 {
                self.settled.notified().await;
            }
        };
        // They may take longer.
        drop(timeout(SETTLING, settled).await);
    }
}

impl Drop for One {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, SeqCst);
        self.0.settled.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[tokio::test(start_paused = true)]
    async fn what_runs_beside_is_waited_for_and_not_for_ever() {
        let loose = Arc::<Loose>::default();
        let began = clock::now();
        loose.settle().await;
        assert_eq!(began.elapsed(), Duration::ZERO);
        let (short, long) = (Loose::one(&loose), Loose::one(&loose));
        let ends = |one: One, after| async move {
            tokio::time::sleep(Duration::from_millis(after)).await;
            drop(one);
        };
        let (.., ()) = tokio::join!(ends(short, 10), ends(long, 200), loose.settle());
        assert_eq!(began.elapsed().as_millis(), 200);
        let _stuck = Loose::one(&loose);
        loose.settle().await;
        assert!(began.elapsed() >= SETTLING);
    }
}
