//! Large frames take turns, and a connection that has moved many bytes gives way: what one peer sends and
//! asks for in megabytes costs milliseconds of a thread, in which no other peer is to wait for all of it.

use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::PollSemaphore;

/// A frame of so many bytes waits for a permit.
pub(super) const LARGE_BYTES: usize = 64 * 1024;

/// A connection that has read and written so much lets all others that are ready go first.
pub(super) const MUCH_BYTES: usize = 256 * 1024;

/// A connection's permit to dispatch a large frame.
#[derive(Debug, Default)]
pub(super) enum LargeFramePermit {
    #[default]
    None,
    Awaited(PollSemaphore),
    Held(#[expect(dead_code, reason = "ends when it is dropped")] OwnedSemaphorePermit),
}

impl LargeFramePermit {
    /// Ready when it is there. A permit that is awaited has to be polled or given back when it comes, since
    /// no other comes before.
    pub(super) fn poll(&mut self, all: &Arc<Semaphore>, cx: &mut Context<'_>) -> Poll<()> {
        if let Self::None = self {
            *self = Self::Awaited(PollSemaphore::new(Arc::clone(all)));
        }
        if let Self::Awaited(semaphore) = self {
            match semaphore.poll_acquire(cx) {
                Poll::Ready(Some(permit)) => *self = Self::Held(permit),
                // It is never closed.
                Poll::Ready(None) => *self = Self::None,
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(())
    }

    pub(super) fn is_held(&self) -> bool {
        matches!(self, Self::Held(_))
    }

    /// Gives it back, or does not wait for it any more.
    #[inline]
    pub(super) fn end(&mut self) {
        if !matches!(self, Self::None) {
            *self = Self::None;
        }
    }
}

/// How many large frames are looked at at once: on half of the cores.
pub(crate) fn permits() -> Arc<Semaphore> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Arc::new(Semaphore::new((cores / 2).max(1)))
}

/// Has the task go on after all that are ready, those included that the runtime finds to be ready now.
pub(super) fn give_way(cx: &mut Context<'_>) {
    let _: Poll<()> = pin!(tokio::task::yield_now()).poll(cx);
}
