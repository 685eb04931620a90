//! Admission: how many calls run at once, how many are queued, whose turn it is, and when to try
//! again.
//!
//! Pure bookkeeping: what a job is, and how it is run, is the caller's business. Calls of one method
//! that one peer sends are a *lane*. A lane has a [`Share`] of the run permits, so that handlers that
//! hang, or a peer that sends without end, leave some for others; freed permits go round the methods
//! and, within a method, round the peers. In a full queue a lane that holds more gives up its newest
//! call, which has not started, to one that holds less.

mod peers;
mod queue;

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

pub(crate) use self::peers::{DequeuedJob, Lane, PeerSlot};
use self::{peers::Peers, queue::Turns};
use crate::{peer::Peer, share::Share};

/// The shortest time a refused caller is asked to stay away.
const MIN_RETRY_AFTER: Duration = Duration::from_millis(10);

/// The longest, since a queue that takes longer says more about the past than about the future.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(10);

/// What a call is assumed to take before any has ended.
const ASSUMED_SERVICE: Duration = Duration::from_millis(50);

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

/// The bounds of what runs and what is queued; see `Config` for what they mean to a user.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdmissionLimits {
    pub(crate) max_running: usize,
    pub(crate) max_queued: usize,
    /// How many per cent of the run permits that others leave a lane leaves.
    pub(crate) reserve_percent: u32,
}

#[derive(Debug)]
pub(crate) struct Admission<J> {
    limits: AdmissionLimits,
    state: Mutex<State<J>>,
    /// Slots in the queue that are taken or reserved: the same as in the state, to be read without
    /// its lock.
    queued: AtomicUsize,
    /// A moving average of how long executions on tasks held their run permits; 0 before the first.
    mean_service_us: AtomicU64,
}

#[derive(Debug)]
struct State<J> {
    running: usize,
    /// Run permits by method.
    running_of: Box<[usize]>,
    /// How many of those a method may have.
    max_running_of: Box<[usize]>,
    /// Slots in the queue that are taken or reserved.
    queued: usize,
    peers: Peers<J>,
    turns: Turns,
}

impl<J> Admission<J> {
    /// With the run permits that each method may have.
    pub(crate) fn new(limits: AdmissionLimits, max_running_of: Box<[usize]>) -> Self {
        let methods = max_running_of.len();
        Self {
            limits,
            state: Mutex::new(State {
                running: 0,
                running_of: vec![0; methods].into(),
                max_running_of,
                queued: 0,
                peers: Peers::new(methods),
                turns: Turns::new(methods),
            }),
            queued: AtomicUsize::new(0),
            mean_service_us: AtomicU64::new(0),
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
    pub(crate) fn admit(&self, lane: Lane) -> Result<(Ticket, Option<Displaced<J>>), QueueFull> {
        let mut state = self.lock();
        if state.peers.lane(lane).queued == 0 && state.may_run(&self.limits, lane) {
            state.run(lane);
            return Ok((Ticket::Run, None));
        }
        let mut displaced = None;
        if state.queued >= self.limits.max_queued {
            let retry_after = self.retry_after(state.queued);
            let Some(job) = state.displace_for(lane) else {
                return Err(QueueFull { retry_after });
            };
            displaced = Some(Displaced { job, retry_after });
        }
        state.queued += 1;
        state.peers.reserve(lane);
        self.queued.store(state.queued, SeqCst);
        Ok((Ticket::Queue, displaced))
    }

    /// Puts the job into the slot that was reserved for it. Ask for the [`next_runnable`]
    /// afterwards: a run permit may have become free since.
    ///
    /// [`next_runnable`]: Self::next_runnable
    pub(crate) fn enqueue(&self, lane: Lane, job: J) {
        let state = &mut *self.lock();
        if state.peers.push(lane, job) {
            state.turns.add(lane);
        }
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

    /// Releases a run permit. Ask for the [`next_runnable`](Self::next_runnable) afterwards.
    pub(crate) fn release_run_permit(&self, lane: Lane) {
        let state = &mut *self.lock();
        state.running -= 1;
        state.running_of[lane.method] -= 1;
        state.peers.stop(lane);
    }

    /// A queued job that may run now, with its run permit.
    pub(crate) fn next_runnable(&self) -> Option<J> {
        // A slot in the queue is counted before its job looks for a free run permit, and a permit is
        // freed before this looks at the count, so at least one of the two sees the other.
        if self.queued() == 0 {
            return None;
        }
        let mut state = self.lock();
        let lane = state.next_lane(&self.limits)?;
        // First, or the peer would be forgotten for a moment.
        state.run(lane);
        let job = state.take_out(lane, |jobs| jobs.pop_front());
        self.queued.store(state.queued, SeqCst);
        job
    }

    /// Takes a job out of the queue.
    pub(crate) fn remove(&self, is_it: impl Fn(&J) -> bool) -> Option<J> {
        let mut state = self.lock();
        let (lane, at) = state.peers.find(is_it)?;
        let job = state.take_out(lane, |jobs| jobs.remove(at));
        self.queued.store(state.queued, SeqCst);
        job
    }

    /// Takes jobs out of the queue and leaves their slots reserved: [put back](Self::put_back) the jobs
    /// that are to stay, and [release](Self::release_queue_slot) the slots of the others. With where
    /// each was in its lane.
    pub(crate) fn take_where(&self, is_it: impl Fn(&J) -> bool) -> Vec<DequeuedJob<J>> {
        let state = &mut *self.lock();
        let turns = &mut state.turns;
        state
            .peers
            .take_where(is_it, |emptied| turns.remove(emptied))
    }

    /// Puts a job back into its slot of its lane. Ask for the [`next_runnable`](Self::next_runnable)
    /// afterwards.
    pub(crate) fn put_back(&self, dequeued: DequeuedJob<J>) {
        let (state, lane) = (&mut *self.lock(), dequeued.lane);
        if state.peers.put_back(dequeued) {
            state.turns.add(lane);
        }
    }

    /// Takes all jobs out of the queue, for a server that is about to stop.
    pub(crate) fn drain(&self) -> Vec<J> {
        let (mut state, mut jobs) = (self.lock(), Vec::new());
        while let Some((lane, at)) = state.peers.find(|_| true) {
            jobs.extend(state.take_out(lane, |jobs| jobs.remove(at)));
        }
        self.queued.store(state.queued, SeqCst);
        jobs
    }

    /// Takes note of how long an execution held its run permit.
    pub(crate) fn record_service(&self, service: Duration) {
        let sample = u64::try_from(service.as_micros()).unwrap_or(u64::MAX);
        let mean = self.mean_service_us.load(SeqCst);
        let next = if mean == 0 {
            sample
        } else {
            mean - mean / 8 + sample / 8
        };
        self.mean_service_us.store(next, SeqCst);
    }

    pub(crate) fn running(&self) -> usize {
        self.lock().running
    }

    pub(crate) fn queued(&self) -> usize {
        self.queued.load(SeqCst)
    }

    /// How long the queue as it stands will take: it grows with the queue (Little's law).
    fn retry_after(&self, queued: usize) -> Duration {
        let rounds = queued.div_ceil(self.limits.max_running.max(1)).max(1);
        let mean = match self.mean_service_us.load(SeqCst) {
            0 => ASSUMED_SERVICE,
            mean_us => Duration::from_micros(mean_us),
        };
        let wait = mean.saturating_mul(u32::try_from(rounds).unwrap_or(u32::MAX));
        wait.clamp(MIN_RETRY_AFTER, MAX_RETRY_AFTER)
    }

    fn lock(&self) -> MutexGuard<'_, State<J>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AdmissionLimits {
    /// What a lane may have of the run permits; all lanes of one peer, and all of one method, may
    /// have the [larger](Share::larger) share.
    fn share(&self) -> Share {
        Share::all_but_percent(self.reserve_percent)
    }
}

impl<J> State<J> {
    /// Whether there is a run permit for a call of the lane.
    fn may_run(&self, limits: &AdmissionLimits, lane: Lane) -> bool {
        self.method_may_run(limits, lane.method) && self.peer_may_run(limits, lane)
    }

    fn method_may_run(&self, limits: &AdmissionLimits, method: usize) -> bool {
        let free = limits.max_running.saturating_sub(self.running);
        let running = self.running_of[method];
        running < self.max_running_of[method] && limits.share().larger().allows(running, free)
    }

    fn peer_may_run(&self, limits: &AdmissionLimits, lane: Lane) -> bool {
        let free = limits.max_running.saturating_sub(self.running);
        let share = limits.share();
        let of_peer = self.peers.running(lane.peer);
        let of_lane = self.peers.lane(lane).running;
        share.allows(of_lane, free) && share.larger().allows(of_peer, free)
    }

    /// Takes a run permit.
    fn run(&mut self, lane: Lane) {
        self.running += 1;
        self.running_of[lane.method] += 1;
        self.peers.start(lane);
    }

    /// Whose turn it is. Passes over those that have their share: at most as many as hold three
    /// permits or more.
    fn next_lane(&mut self, limits: &AdmissionLimits) -> Option<Lane> {
        let mut turns = std::mem::take(&mut self.turns);
        let next = turns.next(
            |method| self.method_may_run(limits, method),
            |lane| self.peer_may_run(limits, lane),
        );
        self.turns = turns;
        next
    }

    /// Takes a job out of a lane's queue.
    fn take_out(
        &mut self,
        lane: Lane,
        take: impl FnOnce(&mut std::collections::VecDeque<J>) -> Option<J>,
    ) -> Option<J> {
        let (job, is_empty) = self.peers.take(lane, take)?;
        self.queued -= 1;
        if is_empty {
            self.turns.remove(lane);
        }
        Some(job)
    }

    /// Takes the newest job of the peer that has most of them in the queue out of it, for a call of a
    /// peer that has fewer; or else that of the same peer's longest lane.
    fn displace_for(&mut self, lane: Lane) -> Option<J> {
        let longest = self.peers.longest_for(lane)?;
        self.take_out(longest, |jobs| jobs.pop_back())
    }
}

#[cfg(test)]
mod tests;
