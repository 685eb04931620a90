//! Replies that were not ready when their request was read. Executions put them in; the connection
//! takes them out, and sends all that have gathered in one write.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicBool, AtomicU64, AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
    },
    task::Waker,
};

use crate::{activity::Activity, send_buffer::SendBuffer, unread::UnreadSince, wakes};

/// One connection's replies, shared with every execution that owes it one.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// Since when something may lie unread in the connection.
    pub(crate) unread: UnreadSince,
    pub(crate) activity: Activity,
    /// By which number the connection is entered.
    number: AtomicU64,
    /// Replies that are still owed.
    in_flight: AtomicUsize,
    /// Bytes of replies that wait for the rest of their batch.
    gathering: AtomicUsize,
    /// A fault rule has kept back a reply.
    has_withheld: AtomicBool,
    inner: Mutex<OutboxState>,
}

#[derive(Debug, Default)]
struct OutboxState {
    bytes: SendBuffer,
    waker: Option<Waker>,
    /// The connection is gone, or about to be: what comes now is discarded.
    closed: bool,
    /// A fault rule has cut the connection: what is in `bytes` still goes out.
    cut: bool,
}

impl Outbox {
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(SeqCst)
    }

    /// By which number the connection is entered among those that are open.
    pub(crate) fn number(&self) -> u64 {
        self.number.load(Relaxed)
    }

    pub(crate) fn set_number(&self, number: u64) {
        self.number.store(number, Relaxed);
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

    /// A reply is not sent: that a request has none no longer says that it was not read.
    pub(crate) fn withhold(&self) {
        self.has_withheld.store(true, SeqCst);
    }

    pub(crate) fn has_withheld(&self) -> bool {
        self.has_withheld.load(SeqCst)
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
        write(inner.bytes.open());
        wake(inner);
    }

    /// Cuts the connection after what it has been given so far.
    pub(crate) fn cut(&self) {
        let mut inner = self.lock();
        inner.cut = true;
        wake(inner);
    }

    /// Cuts the connection after these bytes. Nothing that another thread sends comes between the two: behind half
    /// a frame it would be read as the rest of that.
    pub(crate) fn send_last(&self, bytes: &[u8]) {
        let mut inner = self.lock();
        if inner.closed || inner.cut {
            return;
        }
        inner.bytes.open().extend_from_slice(bytes);
        inner.cut = true;
        wake(inner);
    }

    /// Wakes the connection, because something beside replies has changed.
    pub(crate) fn wake(&self) {
        wake(self.lock());
    }

    /// Moves everything to the end of `out`, and keeps the waker for more. Returns whether the
    /// connection has been cut.
    pub(crate) fn collect(&self, out: &mut SendBuffer, waker: &Waker) -> bool {
        let mut inner = self.lock();
        out.append(&mut inner.bytes);
        match &mut inner.waker {
            Some(known) => known.clone_from(waker),
            missing => *missing = Some(waker.clone()),
        }
        inner.cut
    }

    /// Discards what is sent from now on.
    pub(crate) fn close(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        inner.waker = None;
        inner.bytes = SendBuffer::default();
    }

    fn lock(&self) -> MutexGuard<'_, OutboxState> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes outside the lock, since the connection's first step is to take it.
fn wake(inner: MutexGuard<'_, OutboxState>) {
    let waker = inner.waker.as_ref().filter(|waker| !wakes::postpone(waker));
    let waker = waker.cloned();
    drop(inner);
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// A reply that is owed to a connection. Counted while it exists, so that the connection knows when
/// to stop reading, and when it has nothing left to wait for.
#[derive(Debug)]
pub(crate) struct ReplyPermit(Arc<Outbox>);

impl ReplyPermit {
    pub(crate) fn new(outbox: &Arc<Outbox>) -> Self {
        outbox.in_flight.fetch_add(1, SeqCst);
        Self(Arc::clone(outbox))
    }

    pub(crate) fn outbox(&self) -> &Outbox {
        &self.0
    }
}

impl Drop for ReplyPermit {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, SeqCst);
        self.0.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum OutboxStep {
        Send(Vec<u8>),
        Collect,
        SendLast(Vec<u8>),
        Cut,
        Close,
    }

    fn event() -> impl Strategy<Value = OutboxStep> {
        prop_oneof![
            6 => prop::collection::vec(any::<u8>(), 0..6).prop_map(OutboxStep::Send),
            3 => Just(OutboxStep::Collect),
            1 => prop::collection::vec(any::<u8>(), 0..6).prop_map(OutboxStep::SendLast),
            1 => Just(OutboxStep::Cut),
            1 => Just(OutboxStep::Close),
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
            let (mut expected, mut out) = (Vec::new(), SendBuffer::default());
            let (mut is_cut, mut is_closed) = (false, false);
            for event in events {
                match event {
                    OutboxStep::Send(bytes) => {
                        outbox.send(|out| out.extend_from_slice(&bytes));
                        if !is_cut && !is_closed {
                            expected.extend(bytes);
                        }
                    }
                    OutboxStep::Collect => {
                        prop_assert_eq!(outbox.collect(&mut out, Waker::noop()), is_cut);
                        prop_assert_eq!(out.front(), &expected);
                    }
                    OutboxStep::SendLast(bytes) => {
                        outbox.send_last(&bytes);
                        if !is_cut && !is_closed {
                            expected.extend(bytes);
                            is_cut = true;
                        }
                    }
                    OutboxStep::Cut => {
                        outbox.cut();
                        is_cut = true;
                    }
                    OutboxStep::Close => {
                        outbox.close();
                        is_closed = true;
                        expected = out.front().to_vec();
                    }
                }
            }
        }
    }

    /// Kind: two threads share what each does in two steps. Instance: the half of a reply, cut by a fault rule, and behind it
    /// a reply of another thread.
    #[test]
    fn nothing_comes_behind_what_is_sent_last() {
        for _ in 0..100 {
            let (outbox, mut out) = (Outbox::default(), SendBuffer::default());
            let (sends, ends) = (AtomicBool::new(false), AtomicBool::new(false));
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    while !ends.load(SeqCst) {
                        outbox.send(|out| out.push(b'r'));
                        sends.store(true, SeqCst);
                    }
                });
                while !sends.load(SeqCst) {
                    std::hint::spin_loop();
                }
                outbox.send_last(b"half");
                ends.store(true, SeqCst);
            });
            assert!(outbox.collect(&mut out, Waker::noop()));
            let mut all = Vec::new();
            while !out.is_empty() {
                all.extend_from_slice(out.front());
                out.advance(out.front().len());
            }
            assert!(all.ends_with(b"half"));
        }
    }
}
