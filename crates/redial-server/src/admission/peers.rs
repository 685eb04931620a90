//! What each peer has of the run permits and of the queue, by method.

use std::collections::{BTreeSet, VecDeque};

use hashbrown::HashMap;

use crate::peer::Peer;

/// A peer, as long as it has a connection, or a call that runs or is queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PeerSlot(u32);

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
    pub(crate) lane: Lane,
    /// How many of its lane came before it.
    pub(crate) at: usize,
    pub(crate) job: J,
}

#[derive(Debug)]
pub(super) struct LaneState<J> {
    /// Run permits.
    pub(super) running: usize,
    /// Slots in the queue that are taken or reserved.
    pub(super) queued: usize,
    jobs: VecDeque<J>,
}

#[derive(Debug)]
struct PeerState<J> {
    peer: Peer,
    connections: usize,
    running: usize,
    /// Slots in the queue that are taken or reserved.
    queued: usize,
    /// How many of those are taken.
    jobs: usize,
    lanes: Box<[LaneState<J>]>,
}

#[derive(Debug)]
pub(super) struct Peers<J> {
    methods: usize,
    slots: Vec<PeerState<J>>,
    free: Vec<PeerSlot>,
    by_peer: HashMap<Peer, PeerSlot, std::hash::RandomState>,
    /// The peers that have jobs in the queue, the one that has most last.
    ranking: BTreeSet<(usize, PeerSlot)>,
}

impl<J> Peers<J> {
    pub(super) fn new(methods: usize) -> Self {
        Self {
            methods,
            slots: Vec::new(),
            free: Vec::new(),
            by_peer: HashMap::default(),
            ranking: BTreeSet::new(),
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

    pub(super) fn lane(&self, lane: Lane) -> &LaneState<J> {
        &self.slots[lane.peer.0 as usize].lanes[lane.method]
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

    /// Puts a job into its slot. True if it is the only one of its lane.
    pub(super) fn push(&mut self, lane: Lane, job: J) -> bool {
        self.insert(lane, |jobs| jobs.push_back(job))
    }

    /// The same for one that was [taken](Self::take_where).
    pub(super) fn put_back(&mut self, dequeued: DequeuedJob<J>) -> bool {
        let DequeuedJob { lane, at, job } = dequeued;
        self.insert(lane, |jobs| jobs.insert(at.min(jobs.len()), job))
    }

    fn insert(&mut self, lane: Lane, insert: impl FnOnce(&mut VecDeque<J>)) -> bool {
        let peer = self.at(lane.peer);
        let jobs = &mut peer.lanes[lane.method].jobs;
        insert(jobs);
        let is_first = jobs.len() == 1;
        peer.jobs += 1;
        let jobs = peer.jobs;
        self.rank(lane.peer, jobs - 1, jobs);
        is_first
    }

    /// Takes a job out of its slot, and releases that. True if the lane has no other.
    pub(super) fn take(
        &mut self,
        lane: Lane,
        take: impl FnOnce(&mut VecDeque<J>) -> Option<J>,
    ) -> Option<(J, bool)> {
        let peer = self.at(lane.peer);
        let jobs = &mut peer.lanes[lane.method].jobs;
        let job = take(jobs)?;
        let is_empty = jobs.is_empty();
        if is_empty {
            *jobs = VecDeque::new();
        }
        peer.jobs -= 1;
        let jobs = peer.jobs;
        self.rank(lane.peer, jobs + 1, jobs);
        self.unreserve(lane);
        Some((job, is_empty))
    }

    /// Takes jobs out of their slots, which stay reserved. `emptied` hears of the lanes that have no
    /// other.
    pub(super) fn take_where(
        &mut self,
        is_it: impl Fn(&J) -> bool,
        mut emptied: impl FnMut(Lane),
    ) -> Vec<DequeuedJob<J>> {
        let (mut dequeued, ranking) = (Vec::new(), self.ranking.clone());
        for (before, peer) in ranking {
            let state = self.at(peer);
            for (method, lane) in state.lanes.iter_mut().enumerate() {
                let named = Lane { peer, method };
                let queued = lane.jobs.len();
                for at in 0..queued {
                    match lane.jobs.pop_front() {
                        Some(job) if is_it(&job) => dequeued.push(DequeuedJob {
                            lane: named,
                            at,
                            job,
                        }),
                        job => lane.jobs.extend(job),
                    }
                }
                state.jobs -= queued - lane.jobs.len();
                if queued > 0 && lane.jobs.is_empty() {
                    emptied(named);
                }
            }
            let jobs = state.jobs;
            self.rank(peer, before, jobs);
        }
        dequeued
    }

    /// A job in the queue, and where in its lane it is.
    pub(super) fn find(&self, is_it: impl Fn(&J) -> bool) -> Option<(Lane, usize)> {
        self.ranking.iter().find_map(|(_, slot)| {
            let lanes = self.slots[slot.0 as usize].lanes.iter().enumerate();
            lanes.into_iter().find_map(|(method, lane)| {
                let at = lane.jobs.iter().position(&is_it)?;
                let peer = *slot;
                Some((Lane { peer, method }, at))
            })
        })
    }

    /// The lane whose newest job gives its slot up to a call of this one: the longest of the peer
    /// that has most in the queue, if that is more than this peer has; or else of this peer, if it is
    /// longer than this lane.
    pub(super) fn longest_for(&self, lane: Lane) -> Option<Lane> {
        let (most, holder) = *self.ranking.last()?;
        let own = &self.slots[lane.peer.0 as usize];
        let is_others = holder != lane.peer && most > own.queued + 1;
        let from = if is_others { holder } else { lane.peer };
        let lanes = self.slots[from.0 as usize].lanes.iter().enumerate();
        let lengths = lanes.map(|(method, lane)| (lane.jobs.len(), method));
        let (length, method) = lengths.max()?;
        let may_give = is_others || length > own.lanes[lane.method].queued + 1;
        let longest = Lane { peer: from, method };
        (length > 0 && may_give).then_some(longest)
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.by_peer.is_empty()
    }

    fn at(&mut self, slot: PeerSlot) -> &mut PeerState<J> {
        &mut self.slots[slot.0 as usize]
    }

    fn add(&mut self, peer: &Peer) -> PeerSlot {
        let lanes = (0..self.methods).map(|_| LaneState {
            running: 0,
            queued: 0,
            jobs: VecDeque::new(),
        });
        let state = PeerState {
            peer: peer.clone(),
            connections: 0,
            running: 0,
            queued: 0,
            jobs: 0,
            lanes: lanes.collect(),
        };
        let slot = match self.free.pop() {
            Some(slot) => {
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

    fn rank(&mut self, slot: PeerSlot, before: usize, jobs: usize) {
        self.ranking.remove(&(before, slot));
        if jobs > 0 {
            self.ranking.insert((jobs, slot));
        }
    }
}
