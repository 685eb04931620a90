//! What each peer has of the run permits and of the queue, by method and by priority.

use std::time::{Duration, Instant};

use hashbrown::HashMap;
use redial_protocol::Priority;

use super::{
    codel::{Bounds, Codel},
    jobs::{JobList, Jobs},
    ranking::Ranking,
    service::ServiceTime,
};
use crate::peer::Peer;

pub(super) use super::jobs::JobId;

/// A peer, as long as it has a connection, or a call that runs or is queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PeerSlot(pub(super) u32);

/// The calls of one method that one peer sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lane {
    pub(crate) peer: PeerSlot,
    /// The method's index in the router.
    pub(crate) method: usize,
}

/// A job that was taken out of its slot, which is still reserved.
#[derive(Debug)]
pub(crate) struct DequeuedJob<J> {
    place: JobId,
    pub(crate) job: J,
}

#[derive(Debug, Default)]
pub(super) struct LaneState {
    /// Run permits.
    pub(super) running: usize,
    /// Slots in the queue that are taken or reserved.
    pub(super) queued: usize,
    /// How many of those are taken.
    jobs: usize,
    /// By priority.
    lists: [JobList; Priority::ALL.len()],
    /// How long executions on tasks have held their permits.
    pub(super) service: ServiceTime,
}

#[derive(Debug)]
struct PeerState {
    peer: Peer,
    connections: usize,
    running: usize,
    /// Slots in the queue that are taken or reserved.
    queued: usize,
    /// How many of those are taken.
    jobs: usize,
    /// The same by priority.
    jobs_of: [usize; Priority::ALL.len()],
    /// The methods that it has jobs of.
    methods: MethodSet,
    lanes: Box<[LaneState]>,
    turn: PeerTurn,
}

/// Methods, as one word. Those whose indices differ by 64 share a bit: a closer look distinguishes them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct MethodSet(u64);

/// Where a peer is in its turns.
#[derive(Debug, Default)]
pub(super) struct PeerTurn {
    /// It is in the ring of those that have jobs, or had some a moment ago.
    pub(super) is_in_ring: bool,
    /// How long the permits may be held that it may still take in this turn, in microseconds.
    pub(super) credit_us: i64,
    /// The method whose turn it is.
    pub(super) next_method: usize,
    /// The lane that is looked at next for jobs that have waited too long.
    pub(super) next_look: usize,
    pub(super) codel: Codel,
}

#[derive(Debug)]
pub(super) struct Peers<J> {
    methods: usize,
    slots: Vec<PeerState>,
    free: Vec<PeerSlot>,
    by_peer: HashMap<Peer, PeerSlot, std::hash::RandomState>,
    jobs: Jobs<J>,
    ranking: Ranking,
    /// How many peers have jobs in the queue.
    with_jobs: usize,
    /// How many jobs there are of each method.
    jobs_of_method: Box<[usize]>,
}

impl MethodSet {
    const BITS: usize = u64::BITS as usize;

    pub(super) fn insert(&mut self, method: usize) {
        self.0 |= 1 << (method % Self::BITS);
    }

    fn remove(&mut self, method: usize) {
        self.0 &= !(1 << (method % Self::BITS));
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl PeerState {
    /// It has more jobs of this method than it had, or fewer.
    fn note_method(&mut self, method: usize) {
        let first = method % MethodSet::BITS;
        let mut alike = self.lanes.iter().skip(first).step_by(MethodSet::BITS);
        if alike.any(|lane| lane.jobs > 0) {
            self.methods.insert(method);
        } else {
            self.methods.remove(method);
        }
    }
}

impl<J> Peers<J> {
    pub(super) fn new(methods: usize) -> Self {
        Self {
            methods,
            slots: Vec::new(),
            free: Vec::new(),
            by_peer: HashMap::default(),
            jobs: Jobs::new(),
            ranking: Ranking::default(),
            with_jobs: 0,
            jobs_of_method: vec![0; methods].into(),
        }
    }

    pub(super) fn enter(&mut self, peer: &Peer) -> PeerSlot {
        let slot = match self.by_peer.get(peer) {
            Some(slot) => *slot,
            None => self.add(peer),
        };
        self.at(slot).connections += 1;
        slot
    }

    pub(super) fn leave(&mut self, slot: PeerSlot) {
        self.at(slot).connections -= 1;
        self.free_if_unused(slot);
    }

    pub(super) fn running(&self, slot: PeerSlot) -> usize {
        self.slots[slot.0 as usize].running
    }

    pub(super) fn lane(&self, lane: Lane) -> &LaneState {
        &self.slots[lane.peer.0 as usize].lanes[lane.method]
    }

    pub(super) fn methods(&self) -> usize {
        self.methods
    }

    pub(super) fn turn(&mut self, slot: PeerSlot) -> &mut PeerTurn {
        &mut self.at(slot).turn
    }

    /// Whether it has jobs in the queue.
    pub(super) fn has_jobs(&self, slot: PeerSlot) -> bool {
        self.slots[slot.0 as usize].jobs > 0
    }

    /// Whether no peer has.
    pub(super) fn are_without_jobs(&self) -> bool {
        self.with_jobs == 0
    }

    /// Whether it may have jobs of these methods.
    pub(super) fn may_have_jobs_of(&self, slot: PeerSlot, methods: MethodSet) -> bool {
        self.slots[slot.0 as usize].methods.0 & methods.0 != 0
    }

    /// Whether there are jobs of this method in the queue.
    pub(super) fn are_jobs_of(&self, method: usize) -> bool {
        self.jobs_of_method[method] > 0
    }

    /// Whether it has less than half of what each that has jobs in a queue of so many has on average.
    pub(super) fn has_little(&self, slot: PeerSlot, queued: usize) -> bool {
        self.slots[slot.0 as usize].jobs * self.with_jobs * 2 < queued
    }

    /// A call takes a run permit.
    pub(super) fn start(&mut self, lane: Lane) {
        let peer = self.at(lane.peer);
        peer.running += 1;
        peer.lanes[lane.method].running += 1;
    }

    /// A call releases its run permit.
    pub(super) fn stop(&mut self, lane: Lane) {
        let peer = self.at(lane.peer);
        peer.running -= 1;
        peer.lanes[lane.method].running -= 1;
        self.free_if_unused(lane.peer);
    }

    /// A call has held its run permit for so long.
    pub(super) fn record_service(&mut self, lane: Lane, service: Duration, epoch: u32) {
        let lane = &mut self.at(lane.peer).lanes[lane.method];
        lane.service.record(service, epoch);
    }

    /// Reserves a slot in the queue.
    pub(super) fn reserve(&mut self, lane: Lane) {
        let peer = self.at(lane.peer);
        peer.queued += 1;
        peer.lanes[lane.method].queued += 1;
    }

    /// Releases a slot in the queue.
    pub(super) fn unreserve(&mut self, lane: Lane) {
        let peer = self.at(lane.peer);
        peer.queued -= 1;
        peer.lanes[lane.method].queued -= 1;
        self.free_if_unused(lane.peer);
    }

    /// Puts a job into its slot, where it is queued since then.
    pub(super) fn push(&mut self, lane: Lane, priority: Priority, since: Instant, job: J) {
        let state = &mut self.slots[lane.peer.0 as usize].lanes[lane.method];
        let list = &mut state.lists[priority as usize];
        self.jobs.push(list, lane, priority, since, job);
        self.count(lane, priority, true);
    }

    /// Takes a job out of its slot, and releases that.
    pub(super) fn remove(&mut self, place: JobId) -> Option<J> {
        let (lane, priority) = self.jobs.lane(place);
        let state = &mut self.slots[lane.peer.0 as usize].lanes[lane.method];
        let job = self
            .jobs
            .remove(&mut state.lists[priority as usize], place)?;
        self.count(lane, priority, false);
        self.unreserve(lane);
        Some(job)
    }

    /// Takes jobs out of their slots, which stay as they are.
    pub(super) fn take_where(&mut self, is_it: impl Fn(&J) -> bool) -> Vec<DequeuedJob<J>> {
        let places: Vec<JobId> = self.jobs.find(is_it).collect();
        let taken = places.into_iter().filter_map(|place| {
            let job = self.jobs.take_out(place)?;
            let (lane, priority) = self.jobs.lane(place);
            self.count(lane, priority, false);
            Some(DequeuedJob { place, job })
        });
        taken.collect()
    }

    /// Puts a job back. Returns whose it is.
    pub(super) fn put_back(&mut self, taken: DequeuedJob<J>) -> PeerSlot {
        let (lane, priority) = self.jobs.lane(taken.place);
        self.jobs.put_back(taken.place, taken.job);
        self.count(lane, priority, true);
        lane.peer
    }

    /// Releases the slot of a job that was taken out.
    pub(super) fn give_up(&mut self, taken: DequeuedJob<J>) -> J {
        let (lane, priority) = self.jobs.lane(taken.place);
        let state = &mut self.slots[lane.peer.0 as usize].lanes[lane.method];
        let list = &mut state.lists[priority as usize];
        self.jobs.remove(list, taken.place);
        self.unreserve(lane);
        taken.job
    }

    /// A job is in the queue that was not, or the other way round.
    fn count(&mut self, lane: Lane, priority: Priority, is_there: bool) {
        let peer = self.at(lane.peer);
        let before = peer.jobs;
        let counts = [
            &mut peer.jobs,
            &mut peer.jobs_of[priority as usize],
            &mut peer.lanes[lane.method].jobs,
        ];
        for count in counts {
            *count = if is_there { *count + 1 } else { *count - 1 };
        }
        peer.note_method(lane.method);
        let now = peer.jobs;
        let of_method = &mut self.jobs_of_method[lane.method];
        *of_method = if is_there {
            *of_method + 1
        } else {
            *of_method - 1
        };
        match (before, now) {
            (0, _) => self.with_jobs += 1,
            (_, 0) => self.with_jobs -= 1,
            _ => {}
        }
        self.ranking.change(lane.peer, before, now);
    }

    /// A job in the queue.
    pub(super) fn find(&self, is_it: impl Fn(&J) -> bool) -> Option<JobId> {
        self.jobs.find(is_it).next()
    }

    /// What a peer would run next, of the lanes that may: of the highest priority that it has jobs of,
    /// round its methods.
    pub(super) fn next_of(
        &self,
        slot: PeerSlot,
        may_run: impl Fn(Lane) -> bool,
    ) -> Option<(Lane, Priority)> {
        let peer = &self.slots[slot.0 as usize];
        let (methods, first) = (peer.lanes.len(), peer.turn.next_method);
        let priorities = Priority::ALL.into_iter();
        let mut present = priorities.filter(|priority| peer.jobs_of[*priority as usize] > 0);
        present.find_map(|priority| {
            let mut turns = (first..methods).chain(0..first);
            let method = turns.find(|method| {
                let (peer, method) = (slot, *method);
                self.oldest(Lane { peer, method }, priority).is_some()
                    && may_run(Lane { peer, method })
            })?;
            Some((Lane { peer: slot, method }, priority))
        })
    }

    pub(super) fn oldest(&self, lane: Lane, priority: Priority) -> Option<JobId> {
        let lane = self.lane(lane);
        let list = lane.lists[priority as usize];
        (lane.jobs > 0).then(|| self.jobs.oldest(list)).flatten()
    }

    pub(super) fn newest(&self, lane: Lane, priority: Priority) -> Option<JobId> {
        self.jobs.newest(self.lane(lane).lists[priority as usize])
    }

    /// How long a job has been queued.
    pub(super) fn waited(&self, place: JobId, now: Instant) -> Duration {
        now.saturating_duration_since(self.jobs.since(place))
    }

    /// How long the oldest job of a lane has.
    pub(super) fn longest_wait(&self, lane: Lane, now: Instant) -> Duration {
        let oldest = Priority::ALL.into_iter();
        let oldest = oldest.filter_map(|priority| self.oldest(lane, priority));
        let waited = oldest.map(|place| self.waited(place, now));
        waited.max().unwrap_or_default()
    }

    /// A job of the lane that has waited longer than its priority lets it, the least important first.
    pub(super) fn late(&self, lane: Lane, bounds: Bounds, now: Instant) -> Option<JobId> {
        let mut priorities = Priority::ALL.into_iter().rev();
        priorities.find_map(|priority| {
            let oldest = self.oldest(lane, priority)?;
            let is_late = self.waited(oldest, now) > bounds.patience(priority);
            is_late.then_some(oldest)
        })
    }

    /// The lane of a peer that is looked at next, whether it may run or not.
    pub(super) fn look_round(&mut self, peer: PeerSlot) -> Lane {
        let methods = self.methods;
        let turn = self.turn(peer);
        let method = turn.next_look;
        turn.next_look = (method + 1) % methods;
        Lane { peer, method }
    }

    /// Whose newest job gives its slot up to a call of this lane, and of which priority: the peer's that has
    /// most in the queue, if that is more than this one has; or else this peer's, of a lower priority, or
    /// if it has another lane that is longer.
    pub(super) fn giver_for(&self, lane: Lane, priority: Priority) -> Option<(Lane, Priority)> {
        let (most, holder) = self.ranking.most()?;
        let own = &self.slots[lane.peer.0 as usize];
        if holder != lane.peer && most > own.queued + 1 {
            return self.longest_of(holder, self.lowest_of(holder)?);
        }
        let lowest = self.lowest_of(lane.peer)?;
        let longest = self.longest_of(lane.peer, lowest)?;
        let is_longer = self.lane(longest.0).jobs > self.lane(lane).queued + 1;
        (lowest > priority || lowest == priority && is_longer).then_some(longest)
    }

    /// The lowest priority that a peer has jobs of.
    fn lowest_of(&self, slot: PeerSlot) -> Option<Priority> {
        let peer = &self.slots[slot.0 as usize];
        let mut priorities = Priority::ALL.into_iter().rev();
        priorities.find(|priority| peer.jobs_of[*priority as usize] > 0)
    }

    /// The longest lane of a peer that has jobs of this priority.
    fn longest_of(&self, slot: PeerSlot, priority: Priority) -> Option<(Lane, Priority)> {
        let lanes = (0..self.methods).map(|method| Lane { peer: slot, method });
        let lanes = lanes.filter(|lane| self.oldest(*lane, priority).is_some());
        let longest = lanes.max_by_key(|lane| self.lane(*lane).jobs)?;
        Some((longest, priority))
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.by_peer.is_empty()
    }

    fn at(&mut self, slot: PeerSlot) -> &mut PeerState {
        &mut self.slots[slot.0 as usize]
    }

    fn add(&mut self, peer: &Peer) -> PeerSlot {
        let mut state = PeerState {
            peer: peer.clone(),
            connections: 0,
            running: 0,
            queued: 0,
            jobs: 0,
            jobs_of: [0; Priority::ALL.len()],
            methods: MethodSet::default(),
            lanes: (0..self.methods).map(|_| LaneState::default()).collect(),
            turn: PeerTurn::default(),
        };
        let slot = match self.free.pop() {
            Some(slot) => {
                // The ring may still have the one before it.
                state.turn.is_in_ring = self.at(slot).turn.is_in_ring;
                *self.at(slot) = state;
                slot
            }
            None => {
                self.slots.push(state);
                PeerSlot(self.slots.len() as u32 - 1)
            }
        };
        self.by_peer.insert(peer.clone(), slot);
        slot
    }

    fn free_if_unused(&mut self, slot: PeerSlot) {
        let state = self.at(slot);
        if state.connections == 0 && state.running == 0 && state.queued == 0 {
            let peer = state.peer.clone();
            state.lanes = Box::default();
            self.by_peer.remove(&peer);
            self.free.push(slot);
        }
    }
}
