//! Whose turn it is to run: round the methods, and within a method round the peers that have calls of
//! it in the queue.

use std::collections::VecDeque;

use super::peers::{Lane, PeerSlot};

#[derive(Debug, Default)]
pub(super) struct Turns {
    /// For each method the peers that have jobs in the queue, the next one first.
    rings: Box<[VecDeque<PeerSlot>]>,
    /// The method whose turn it is.
    next: usize,
}

impl Turns {
    pub(super) fn new(methods: usize) -> Self {
        Self {
            rings: (0..methods).map(|_| VecDeque::new()).collect(),
            next: 0,
        }
    }

    /// The lane has a job now.
    pub(super) fn add(&mut self, lane: Lane) {
        self.rings[lane.method].push_back(lane.peer);
    }

    /// The lane has none any more.
    pub(super) fn remove(&mut self, lane: Lane) {
        let ring = &mut self.rings[lane.method];
        // The one whose turn it was is the last of them now.
        if ring.back() == Some(&lane.peer) {
            ring.pop_back();
        } else {
            ring.retain(|peer| *peer != lane.peer);
        }
    }

    /// The next lane that may run, whose next turn comes after all others.
    pub(super) fn next(
        &mut self,
        method_may_run: impl Fn(usize) -> bool,
        lane_may_run: impl Fn(Lane) -> bool,
    ) -> Option<Lane> {
        let methods = self.rings.len();
        for method in (self.next..methods).chain(0..self.next) {
            let ring = &mut self.rings[method];
            if ring.is_empty() || !method_may_run(method) {
                continue;
            }
            let at = ring.iter().position(|peer| {
                let peer = *peer;
                lane_may_run(Lane { peer, method })
            });
            if let Some(peer) = at.and_then(|at| ring.remove(at)) {
                ring.push_back(peer);
                self.next = (method + 1) % methods;
                return Some(Lane { peer, method });
            }
        }
        None
    }
}
