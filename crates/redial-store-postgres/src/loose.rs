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
        self.settle_to(0, SETTLING, || false).await;
    }

    /// Waits until no more than so many are left, up to a limit, unless there is no need to, which is asked again
    /// after [`look_again`](Self::look_again).
    pub(crate) async fn settle_to(
        &self,
        most: usize,
        limit: Duration,
        is_needless: impl Fn() -> bool,
    ) {
        let settled = async {
            while self.count.load(SeqCst) > most && !is_needless() {
                self.settled.notified().await;
            }
        };
        // They may take longer.
        drop(timeout(limit, settled).await);
    }

    pub(crate) fn look_again(&self) {
        self.settled.notify_one();
    }
}

impl Drop for One {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, SeqCst);
        self.0.look_again();
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

    /// A wait that goes on when there is no need for it any more.
    #[tokio::test(start_paused = true)]
    async fn what_is_needless_is_not_waited_for() {
        let loose = Arc::<Loose>::default();
        let (_one, is_full) = (Loose::one(&loose), std::cell::Cell::new(false));
        let limit = Duration::from_millis(50);
        let began = clock::now();
        loose.settle_to(0, limit, || true).await;
        assert_eq!(began.elapsed(), Duration::ZERO);
        let fills = async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            is_full.set(true);
            loose.look_again();
        };
        tokio::join!(loose.settle_to(0, limit, || is_full.get()), fills);
        assert_eq!(began.elapsed().as_millis(), 10);
        loose.settle_to(1, limit, || false).await;
        assert_eq!(began.elapsed().as_millis(), 10);
        loose.settle_to(0, limit, || false).await;
        assert_eq!(began.elapsed().as_millis(), 60);
    }
}
