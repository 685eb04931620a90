//! A process that stands still, as after SIGSTOP: none of its code runs, while the time of the world
//! goes on and bytes go on arriving.

use std::{
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Whether a process is frozen. All clones are about the same one.
#[derive(Clone, Default)]
pub(crate) struct Frost(Arc<Mutex<FrostState>>);

#[derive(Default)]
struct FrostState {
    is_frozen: bool,
    /// For how long it has been frozen in all.
    total: Duration,
    /// What would have run meanwhile.
    waiting: Vec<Waker>,
}

impl Frost {
    pub(crate) fn freeze(&self) {
        self.lock().is_frozen = true;
    }

    /// Ends a freeze that has lasted so long.
    pub(crate) fn thaw(&self, lasted: Duration) {
        let mut state = self.lock();
        state.is_frozen = false;
        state.total += lasted;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Whether the process stands still.
    pub(crate) fn is_frozen(&self) -> bool {
        self.lock().is_frozen
    }

    /// The sum of all freezes that have ended.
    pub(crate) fn total(&self) -> Duration {
        self.lock().total
    }

    /// Whether the process is frozen. If so, the task is woken when it thaws.
    pub(crate) fn holds(&self, context: &Context<'_>) -> bool {
        let mut state = self.lock();
        if !state.is_frozen {
            return false;
        }
        state.wait(context.waker());
        true
    }

    /// A connection whose events reach the process only while it is not frozen: a waker is code of the
    /// process, too.
    pub(crate) fn hold<S>(&self, connection: S) -> Held<S> {
        Held {
            connection,
            frost: self.clone(),
        }
    }

    fn waker(&self, waker: &Waker) -> Waker {
        Waker::from(Arc::new(HeldWaker {
            frost: self.clone(),
            waker: waker.clone(),
        }))
    }

    /// Runs this while the process is not frozen.
    pub(crate) async fn around<T>(self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        poll_fn(|context| {
            if self.holds(context) {
                return Poll::Pending;
            }
            work.as_mut().poll(context)
        })
        .await
    }

    fn lock(&self) -> MutexGuard<'_, FrostState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FrostState {
    fn wait(&mut self, waker: &Waker) {
        if !self.waiting.iter().any(|other| other.will_wake(waker)) {
            self.waiting.push(waker.clone());
        }
    }
}

/// A waker that waits for its process to thaw.
struct HeldWaker {
    frost: Frost,
    waker: Waker,
}

impl Wake for HeldWaker {
    fn wake(self: Arc<Self>) {
        let mut state = self.frost.lock();
        if state.is_frozen {
            state.wait(&self.waker);
        } else {
            drop(state);
            self.waker.wake_by_ref();
        }
    }
}

/// A connection of a process that may be frozen.
pub(crate) struct Held<S> {
    connection: S,
    frost: Frost,
}

impl<S: Unpin> Held<S> {
    fn poll<T>(
        &mut self,
        context: &Context<'_>,
        poll: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> T,
    ) -> T {
        let waker = self.frost.waker(context.waker());
        let mut context = Context::from_waker(&waker);
        poll(Pin::new(&mut self.connection), &mut context)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Held<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll(context, |connection, context| {
            connection.poll_read(context, buffer)
        })
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Held<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll(context, |connection, context| {
            connection.poll_write(context, bytes)
        })
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(context, AsyncWrite::poll_flush)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(context, AsyncWrite::poll_shutdown)
    }
}
