//! What a server's handlers need to get on: so many workers, each with one call at a time.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Semaphore, watch},
    task::spawn_blocking,
    time::sleep,
};

use super::recorder::Recorder;
use crate::clock;

/// A pool of workers, whose queue is first come, first served. All clones are the same one.
#[derive(Clone)]
pub(crate) struct Workers {
    idle: Arc<Semaphore>,
    count: usize,
    /// How long a call holds one.
    service: Arc<watch::Sender<Duration>>,
    is_stalled: Arc<watch::Sender<bool>>,
    is_real: bool,
}

impl Workers {
    pub(crate) fn new(count: usize, service: Duration) -> Self {
        Self {
            idle: Arc::new(Semaphore::new(count)),
            count,
            service: Arc::new(watch::Sender::new(service)),
            is_stalled: Arc::new(watch::Sender::new(false)),
            is_real: false,
        }
    }

    /// The same in real time, in which timers are too coarse: each worker is a thread.
    pub(crate) fn real(mut self, is_real: bool) -> Self {
        self.is_real = is_real;
        self
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// From now on a call takes this long.
    pub(crate) fn set_service(&self, service: Duration) {
        self.service.send_replace(service);
    }

    /// No worker gets on until the time is over: what a pause of a garbage collector or of a disk does.
    pub(crate) async fn stall(&self, time: Duration) {
        self.is_stalled.send_replace(true);
        sleep(time).await;
        self.is_stalled.send_replace(false);
    }

    /// Has a worker do a call, which takes this long instead of what others take.
    pub(crate) async fn work(&self, instead: Option<Duration>, recorder: &Recorder) {
        let arrived = clock::now();
        let _worker = self.idle.acquire().await;
        let mut stalled = self.is_stalled.subscribe();
        // Neither is ever closed.
        let _ = stalled.wait_for(|is_stalled| !is_stalled).await;
        recorder.waited(clock::now() - arrived);
        let service = instead.unwrap_or_else(|| *self.service.borrow());
        if self.is_real {
            let worker = spawn_blocking(move || std::thread::sleep(service));
            worker.await.expect("sleep does not panic");
        } else {
            sleep(service).await;
        }
    }
}
