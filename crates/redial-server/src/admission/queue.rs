//! Whose turn it is to run: round the peers, within a peer by priority, then round its methods.
//!
//! The peers by deficit round robin (Shreedhar and Varghese, SIGCOMM '95): each turn is worth as much.
//! What a call costs is how long the calls of its lane have held their run permits lately: a peer whose
//! calls take ten times as long gets a tenth as many. It isn't known before a call has run, so a peer
//! may go into debt by one call, and pays before its next turn (surplus round robin).

use std::{collections::VecDeque, time::Instant};

use redial_protocol::Priority;

use super::{
    Dequeued, Shed,
    peers::{JobId, Lane, PeerSlot},
    state::State,
};

/// The peers that have jobs in the queue, or had some a moment ago, the next one first.
#[derive(Debug, Default)]
pub(super) struct Turns {
    ring: VecDeque<PeerSlot>,
}

impl<J> State<J> {
    /// A peer has jobs in the queue now.
    pub(super) fn enter_ring(&mut self, peer: PeerSlot) {
        let quantum = self.quantum_us();
        let turn = self.peers.turn(peer);
        if !turn.is_in_ring {
            (turn.is_in_ring, turn.credit_us) = (true, quantum);
            self.turns.ring.push_back(peer);
        }
    }

    /// A job that may run, with its run permit; or one that has been queued for too long.
    pub(super) fn next(&mut self, now: Instant) -> Option<Dequeued<J>> {
        let (lane, priority) = self.choose()?;
        let is_overloaded = self.is_overloaded(lane);
        if is_overloaded && let Some(late) = self.late(lane, now) {
            return self.shed(lane, late, now);
        }
        let (oldest, bounds) = (self.peers.longest_wait(lane, now), self.bounds_of(lane));
        if self.limits.overload.is_seen() {
            self.codel.take(oldest, bounds, now);
            self.peers.turn(lane.peer).codel.take(oldest, bounds, now);
        }
        let place = if is_overloaded {
            self.peers.newest(lane, priority)?
        } else {
            self.peers.oldest(lane, priority)?
        };
        self.charge(lane);
        // First, or the peer would be forgotten for a moment.
        self.run(lane);
        self.queued -= 1;
        Some(Dequeued::Run {
            job: self.peers.remove(place)?,
            is_overloaded,
        })
    }

    /// A job that has been queued for too long: of the lane whose turn it is, or of another one of its peer,
    /// whose turn might not come.
    fn late(&mut self, lane: Lane, now: Instant) -> Option<JobId> {
        let other = self.peers.look_round(lane.peer);
        let mut lanes = [lane, other].into_iter();
        lanes.find_map(|lane| {
            let bounds = self.patience_of(lane);
            self.peers.late(lane, bounds, now)
        })
    }

    fn shed(&mut self, lane: Lane, late: JobId, now: Instant) -> Option<Dequeued<J>> {
        self.codel.note_shed();
        self.peers.turn(lane.peer).codel.note_shed();
        let retry_after = self.retry_after().max(self.bounds_of(lane).interval);
        let waited = self.peers.waited(late, now);
        self.queued -= 1;
        Some(Dequeued::Shed(Shed {
            job: self.peers.remove(late)?,
            waited,
            retry_after,
        }))
    }

    /// The lane and the priority whose turn it is. Passes over peers that have their share, and over those
    /// that are in debt, who pay as they are passed over.
    fn choose(&mut self) -> Option<(Lane, Priority)> {
        let quantum = self.quantum_us();
        let (mut passed_over, mut rounds, mut runnable) = (0, None::<i64>, None);
        loop {
            if passed_over >= self.turns.ring.len() {
                self.pay(rounds.take()?.saturating_mul(quantum));
                passed_over = 0;
            }
            let peer = *self.turns.ring.front()?;
            if !self.peers.has_jobs(peer) {
                self.peers.turn(peer).is_in_ring = false;
                self.turns.ring.pop_front();
                continue;
            }
            let next = match runnable {
                Some(methods) if !self.peers.may_have_jobs_of(peer, methods) => None,
                _ => self.peers.next_of(peer, |lane| self.may_run(lane)),
            };
            let turn = self.peers.turn(peer);
            match next {
                Some(next) if turn.credit_us > 0 => return Some(next),
                Some(_) => {
                    turn.credit_us = turn.credit_us.saturating_add(quantum);
                    let left = turn.credit_us;
                    let needed = if left > 0 { 0 } else { 1 - left / quantum };
                    rounds = Some(rounds.unwrap_or(needed).min(needed));
                }
                None if runnable.is_none() => {
                    // There may be many like it, where a method has all that it may.
                    let methods = self.runnable_methods();
                    if methods.is_empty() {
                        return None;
                    }
                    runnable = Some(methods);
                }
                None => {}
            }
            self.turns.ring.rotate_left(1);
            passed_over += 1;
        }
    }

    /// All that may run are in debt: as many rounds pass as it takes until one is not.
    #[cold]
    fn pay(&mut self, credit_us: i64) {
        for at in 0..self.turns.ring.len() {
            let turn = self.peers.turn(self.turns.ring[at]);
            if turn.credit_us <= 0 {
                turn.credit_us = turn.credit_us.saturating_add(credit_us);
            }
        }
    }

    /// A peer, whose turn it is, takes a run permit for a call of this lane.
    fn charge(&mut self, lane: Lane) {
        let quantum = self.quantum_us();
        let service = self.peers.lane(lane).service.mean();
        let service = service.unwrap_or_else(|| self.mean_service());
        let cost = i64::try_from(service.as_micros()).unwrap_or(i64::MAX);
        let methods = self.peers.methods();
        let turn = self.peers.turn(lane.peer);
        turn.next_method = (lane.method + 1) % methods;
        turn.credit_us = turn.credit_us.saturating_sub(cost.max(1));
        if turn.credit_us <= 0 {
            turn.credit_us = turn.credit_us.saturating_add(quantum);
            self.turns.ring.rotate_left(1);
        }
    }
}
