//! Admission: how many calls run at once, how many are queued, whose turn it is, which are refused
//! because they would be served too late, and when to try again.
//!
//! Pure bookkeeping: what a job is, and how it is run, is the caller's business, and time is an
//! argument. Calls of one method that one peer sends are a *lane*. A lane has a [`Share`] of the run
//! permits, so that handlers that hang, or a peer that sends without end, leave some for others; freed
//! permits go round the peers, by how long their calls take, and within a peer to the highest priority,
//! round its methods. Calls that are queued for too long all the time are [overload](Overload): then the
//! newest run first, and those that have waited longest are refused. In a full queue a lane that holds
//! more gives up its newest call, which has not started, to one that holds less.
//!
//! [`Share`]: crate::share::Share

mod codel;
mod jobs;
mod limit;
mod peers;
mod queue;
mod ranking;
mod service;
mod state;

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use redial_protocol::Priority;

pub(crate) use self::peers::{DequeuedJob, Lane, PeerSlot};
use self::state::State;
use crate::{overload::Overload, peer::Peer};

/// How a call was admitted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ticket {
    /// Run now, and [`release`](Admission::release_run_permit) the permit in the end.
    Run,
    /// A slot in the queue is reserved: [`enqueue`](Admission::enqueue) the job, or
    /// [release](Admission::release_queue_slot) the slot.
    Queue,
}

/// There is no run permit for the call, and no slot in the queue.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct QueueFull {
    pub(crate) retry_after: Duration,
}

/// A queued job whose slot has gone to another one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Displaced<J> {
    pub(crate) job: J,
    pub(crate) retry_after: Duration,
}

/// A job that leaves the queue.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Dequeued<J> {
    /// It has a run permit now. With whether there is overload: then it is not run for callers that are
    /// gone.
    Run { job: J, is_overloaded: bool },
    /// It is to be refused.
    Shed(Shed<J>),
}

/// A job that was queued for too long while there was overload.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Shed<J> {
    pub(crate) job: J,
    pub(crate) waited: Duration,
    pub(crate) retry_after: Duration,
}

/// The bounds of what runs and what is queued; see `Config` for what they mean to a user.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdmissionLimits {
    pub(crate) max_running: usize,
    pub(crate) max_queued: usize,
    /// How many per cent of the run permits that others leave a lane leaves.
    pub(crate) reserve_percent: u32,
    pub(crate) overload: Overload,
}

#[derive(Debug)]
pub(crate) struct Admission<J> {
    state: Mutex<State<J>>,
    /// Slots in the queue that are taken or reserved: the same as in the state, to be read without
    /// its lock.
    queued: AtomicUsize,
}

impl<J> Admission<J> {
    /// With the run permits that each method may have.
    pub(crate) fn new(limits: AdmissionLimits, max_running_of: Box<[usize]>) -> Self {
        Self {
            state: Mutex::new(State::new(limits, max_running_of)),
            queued: AtomicUsize::new(0),
        }
    }

    /// A connection of a peer is open.
    pub(crate) fn enter(&self, peer: &Peer) -> PeerSlot {
        self.lock().peers.enter(peer)
    }

    /// A connection of a peer is gone.
    pub(crate) fn leave(&self, slot: PeerSlot) {
        self.lock().peers.leave(slot);
    }

    /// Takes a run permit, or reserves a slot in the queue, if need be that of a job that is returned.
    /// No call overtakes those of its lane.
    pub(crate) fn admit(
        &self,
        lane: Lane,
        priority: Priority,
    ) -> Result<(Ticket, Option<Displaced<J>>), QueueFull> {
        let mut state = self.lock();
        if state.peers.lane(lane).queued == 0 && state.may_run(lane) {
            state.run(lane);
            return Ok((Ticket::Run, None));
        }
        let mut displaced = None;
        if state.queued >= state.limits.max_queued {
            let retry_after = state.retry_after();
            let Some(job) = state.displace_for(lane, priority) else {
                return Err(QueueFull { retry_after });
            };
            displaced = Some(Displaced { job, retry_after });
        }
        state.queued += 1;
        state.note_queued(lane);
        state.peers.reserve(lane);
        self.queued.store(state.queued, SeqCst);
        Ok((Ticket::Queue, displaced))
    }

    /// Puts the job into the slot that was reserved for it, where it is queued since then. Ask for the
    /// [`next`](Self::next) afterwards: a run permit may have become free since.
    pub(crate) fn enqueue(&self, lane: Lane, priority: Priority, since: Instant, job: J) {
        let state = &mut *self.lock();
        state.forget_what_is_over(lane, since);
        state.peers.push(lane, priority, since, job);
        state.enter_ring(lane.peer);
    }

    /// Takes a run permit for a call that is run whether there is room or not.
    pub(crate) fn take_run_permit(&self, lane: Lane) {
        self.lock().run(lane);
    }

    /// Releases a reserved slot in the queue.
    pub(crate) fn release_queue_slot(&self, lane: Lane) {
        let mut state = self.lock();
        state.peers.unreserve(lane);
        state.queued -= 1;
        self.queued.store(state.queued, SeqCst);
    }

    /// Releases a run permit. Ask for the [`next`](Self::next) job afterwards.
    pub(crate) fn release_run_permit(&self, lane: Lane) {
        self.lock().stop(lane);
    }

    /// The same after an execution that has held the permit for so long.
    pub(crate) fn finish(&self, lane: Lane, service: Duration, now: Instant) {
        let state = &mut *self.lock();
        state.record_service(lane, service, now);
        state.stop(lane);
    }

    /// An execution ran into its timeout.
    pub(crate) fn note_timeout(&self) {
        self.lock().limit.note_timeout();
    }

    /// The job that leaves the queue next, to run or to be refused; `None` if none may.
    pub(crate) fn next(&self, now: Instant) -> Option<Dequeued<J>> {
        let mut state = self.lock();
        let next = state.next(now);
        self.queued.store(state.queued, SeqCst);
        next
    }

    /// Takes a job out of the queue.
    pub(crate) fn remove(&self, is_it: impl Fn(&J) -> bool) -> Option<J> {
        let mut state = self.lock();
        let place = state.peers.find(is_it)?;
        state.queued -= 1;
        let job = state.peers.remove(place);
        self.queued.store(state.queued, SeqCst);
        job
    }

    /// Takes jobs out of the queue and leaves their slots as they are: [put back](Self::put_back) the jobs
    /// that are to stay, and [give up](Self::give_up) the others. With whether there is overload.
    pub(crate) fn take_where(
        &self,
        is_it: impl Fn(&J, bool) -> bool,
    ) -> (Vec<DequeuedJob<J>>, bool) {
        let mut state = self.lock();
        let is_overloaded = state.codel.is_overloaded();
        let taken = state.peers.take_where(|job| is_it(job, is_overloaded));
        (taken, is_overloaded)
    }

    /// Puts a job back to where it was. Ask for the [`next`](Self::next) one afterwards.
    pub(crate) fn put_back(&self, taken: DequeuedJob<J>) {
        let state = &mut *self.lock();
        let peer = state.peers.put_back(taken);
        state.enter_ring(peer);
    }

    /// Releases the slot of a job that was taken out.
    pub(crate) fn give_up(&self, taken: DequeuedJob<J>) -> J {
        let mut state = self.lock();
        state.queued -= 1;
        let job = state.peers.give_up(taken);
        self.queued.store(state.queued, SeqCst);
        job
    }

    /// Takes all jobs out of the queue, for a server that is about to stop.
    pub(crate) fn drain(&self) -> Vec<J> {
        let state = &mut *self.lock();
        let taken = state.peers.take_where(|_| true);
        state.queued -= taken.len();
        self.queued.store(state.queued, SeqCst);
        let peers = &mut state.peers;
        taken
            .into_iter()
            .map(|taken| peers.give_up(taken))
            .collect()
    }

    pub(crate) fn running(&self) -> usize {
        self.lock().running
    }

    /// How many calls may run at once now.
    pub(crate) fn running_limit(&self) -> usize {
        self.lock().limit.current()
    }

    /// Whether there is overload now.
    pub(crate) fn is_overloaded(&self, now: Instant) -> bool {
        self.lock().is_overloaded_at(now)
    }

    pub(crate) fn queued(&self) -> usize {
        self.queued.load(SeqCst)
    }

    fn lock(&self) -> MutexGuard<'_, State<J>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
