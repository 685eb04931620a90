//! What comes out of the bookkeeping: bytes for a driver to write, its other duties, and the times
//! at which calls are to be woken.

use std::{
    task::{Poll, Waker},
    time::Instant,
};

use super::{Mux, link::Transmit, slab::Key};
use crate::{lateness::is_late, wake_list::replace_waker};

/// What a driver has to do besides reading and writing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Housekeeping {
    /// When the hello is to be sent again, or a token shown again.
    pub(crate) handshake_at: Option<Instant>,
    /// Whether this driver sends acks when nothing has been written for a while.
    pub(crate) sends_acks: bool,
    /// When to look whether the connection is still needed.
    pub(crate) surplus_at: Option<Instant>,
    /// The shortest deadline of the calls that may be in flight, in milliseconds.
    pub(crate) shortest_deadline_ms: Option<u64>,
    /// The client is gone: when everything is written, the connection is closed.
    pub(crate) is_closing: bool,
}

impl Mux {
    /// Records how far the driver has written, and gives it what is ready. False if nothing is: the
    /// driver is then woken when something comes.
    pub(crate) fn poll_transmit(
        &mut self,
        link: usize,
        transmit: &mut Transmit,
        waker: &Waker,
    ) -> bool {
        self.handle_written(link, transmit.offset());
        let link = &mut self.links[link];
        if link.has_output() {
            link.hand_out(transmit);
            return true;
        }
        self.wakers.extend(replace_waker(&mut link.driver, waker));
        false
    }

    /// The driver has more to write than the transport takes: it is woken when the client closes.
    pub(crate) fn handle_stuck(&mut self, link: usize, waker: &Waker) {
        let link = &mut self.links[link];
        link.is_stuck = true;
        self.wakers.extend(replace_waker(&mut link.driver, waker));
    }

    pub(crate) fn housekeeping(&self, link: usize) -> Housekeeping {
        let sends_acks = self.sessions.ack_link == Some(link);
        let link = &self.links[link];
        Housekeeping {
            handshake_at: link.handshake_at(),
            sends_acks,
            surplus_at: link.surplus_at,
            shortest_deadline_ms: link.shortest_deadline_ms(),
            is_closing: self.is_closing,
        }
    }

    /// Ready when no connection stands any more.
    pub(crate) fn poll_closed(&mut self, waker: &Waker) -> Poll<()> {
        if self.links.iter().any(|link| link.is_connected) {
            self.wakers.extend(replace_waker(&mut self.closer, waker));
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// Has the timer task wake the call then, and not at the time that was set before.
    pub(crate) fn set_timer(&mut self, task: usize, key: Key, at: Instant) {
        let waker = self.timers.set(task, key, at, &mut self.calls);
        self.wakers.extend(waker);
    }

    /// When the task is to come back, if it is.
    pub(crate) fn timer_due(&self, task: usize) -> Option<Instant> {
        self.timers.due(task)
    }

    /// When the call's time came, if its timer task has not seen that yet, though it should have by
    /// now: it is about to have the connections read, and will then wake the call.
    pub(crate) fn overdue_since(&self, key: Key, now: Instant) -> Option<Instant> {
        let (_, at) = self.calls.get(key)?.wake_at?;
        is_late(at, now).then_some(at)
    }

    /// Wakes the calls whose time has come, and gives the next time for the task to come back. With
    /// none it sleeps until it is woken.
    pub(crate) fn handle_timeout(
        &mut self,
        task: usize,
        now: Instant,
        waker: &Waker,
    ) -> Option<Instant> {
        let Self {
            timers,
            calls,
            wakers,
            ..
        } = self;
        timers.expire(task, now, waker, calls, wakers)
    }

    /// The timer task is gone, with its runtime.
    pub(crate) fn remove_timer_task(&mut self, task: usize) {
        let Self {
            timers,
            calls,
            wakers,
            ..
        } = self;
        timers.remove_task(task, calls, wakers);
    }
}
