//! Where replies wait that were not ready when their request was read. Executions put them in;
//! the connection takes them out, and sends all that have gathered in one write.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::Waker,
};

/// One connection's, shared with every execution that owes it a reply.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// Replies that are still owed.
    in_flight: AtomicUsize,
    /// Bytes of replies that wait for the rest of their batch.
    gathering: AtomicUsize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    bytes: Vec<u8>,
    waker: Option<Waker>,
    /// The connection is gone, or about to be: what comes now is thrown away.
    closed: bool,
    /// A fault rule has broken the connection: what is in `bytes` still goes out.
    cut: bool,
}

impl Outbox {
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(SeqCst)
    }

    pub(crate) fn gathering(&self) -> usize {
        self.gathering.load(SeqCst)
    }

    /// A reply waits for the rest of its batch.
    pub(crate) fn gather(&self, bytes: usize) {
        self.gathering.fetch_add(bytes, SeqCst);
    }

    /// Replies that waited for the rest of their batch wait no more.
    pub(crate) fn gathered(&self, bytes: usize) {
        self.gathering.fetch_sub(bytes, SeqCst);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Lets the connection send what `write` appends.
    pub(crate) fn send(&self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut inner = self.lock();
        if inner.closed || inner.cut {
            return;
        }
        write(&mut inner.bytes);
        wake(inner);
    }

    /// Breaks the connection after what it has been given so far.
    pub(crate) fn cut(&self) {
        let mut inner = self.lock();
        inner.cut = true;
        wake(inner);
    }

    /// Lets the connection look around, because something beside replies has changed.
    pub(crate) fn nudge(&self) {
        wake(self.lock());
    }

    /// Moves everything to the end of `out`, and remembers whom to wake for more. Says whether
    /// the connection has been cut.
    pub(crate) fn collect(&self, out: &mut Vec<u8>, waker: &Waker) -> bool {
        let mut inner = self.lock();
        if out.is_empty() {
            std::mem::swap(out, &mut inner.bytes);
        } else {
            out.append(&mut inner.bytes);
        }
        match &mut inner.waker {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
        inner.cut
    }

    /// From now on what is sent is thrown away.
    pub(crate) fn close(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        inner.waker = None;
        inner.bytes = Vec::new();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes outside the lock, since the connection's first step is to take it.
fn wake(inner: MutexGuard<'_, Inner>) {
    let waker = inner.waker.clone();
    drop(inner);
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// A reply that is owed to a connection. Counted as long as it exists, so that the connection
/// knows when to stop reading, and when it has nothing left to wait for.
#[derive(Debug)]
pub(crate) struct Owed(Arc<Outbox>);

impl Owed {
    pub(crate) fn to(outbox: &Arc<Outbox>) -> Self {
        outbox.in_flight.fetch_add(1, SeqCst);
        Self(Arc::clone(outbox))
    }

    pub(crate) fn outbox(&self) -> &Outbox {
        &self.0
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, SeqCst);
        self.0.nudge();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Event {
        Send(Vec<u8>),
        Collect,
        Cut,
        Close,
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            6 => prop::collection::vec(any::<u8>(), 0..6).prop_map(Event::Send),
            3 => Just(Event::Collect),
            1 => Just(Event::Cut),
            1 => Just(Event::Close),
        ]
    }

    proptest! {
        /// Against one string of bytes: what is sent comes out once and in order, until the
        /// connection is cut, which says so, or closed, which takes what is left with it.
        #[test]
        fn what_is_sent_comes_out_once_and_in_order(
            events in prop::collection::vec(event(), 0..40),
        ) {
            let outbox = Outbox::default();
            let (mut expected, mut out) = (Vec::new(), Vec::new());
            let (mut is_cut, mut is_closed) = (false, false);
            for event in events {
                match event {
                    Event::Send(bytes) => {
                        outbox.send(|out| out.extend_from_slice(&bytes));
                        if !is_cut && !is_closed {
                            expected.extend(bytes);
                        }
                    }
                    Event::Collect => {
                        prop_assert_eq!(outbox.collect(&mut out, Waker::noop()), is_cut);
                        prop_assert_eq!(&out, &expected);
                    }
                    Event::Cut => {
                        outbox.cut();
                        is_cut = true;
                    }
                    Event::Close => {
                        outbox.close();
                        is_closed = true;
                        expected.clone_from(&out);
                    }
                }
            }
        }
    }
}
