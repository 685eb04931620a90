//! Which peer has most jobs in the queue, in constant time.
//!
//! Peers with as many jobs are a list, and one job more or less moves a peer to the next list.

use super::peers::PeerSlot;

/// No peer.
const NONE: u32 = u32::MAX;

#[derive(Debug, Default)]
pub(super) struct Ranking {
    /// The first peer that has so many jobs.
    heads: Vec<u32>,
    /// Before and after each peer in its list.
    links: Vec<(u32, u32)>,
    most: usize,
}

impl Ranking {
    /// A peer had so many jobs, and has one more or one less now.
    pub(super) fn change(&mut self, PeerSlot(peer): PeerSlot, before: usize, now: usize) {
        if before > 0 {
            self.remove(peer, before);
        }
        if now > 0 {
            self.add(peer, now);
        }
        // The peer that had most may be alone, and has one less now, or other peers have as many.
        self.most = self.most.max(now);
        while self.most > 0 && self.head(self.most) == NONE {
            self.most -= 1;
        }
    }

    /// One that has most, and how many.
    pub(super) fn most(&self) -> Option<(usize, PeerSlot)> {
        let head = self.head(self.most);
        (head != NONE).then_some((self.most, PeerSlot(head)))
    }

    fn head(&self, jobs: usize) -> u32 {
        self.heads.get(jobs).copied().unwrap_or(NONE)
    }

    fn add(&mut self, peer: u32, jobs: usize) {
        if self.heads.len() <= jobs {
            self.heads.resize(jobs + 1, NONE);
        }
        if self.links.len() <= peer as usize {
            self.links.resize(peer as usize + 1, (NONE, NONE));
        }
        let head = std::mem::replace(&mut self.heads[jobs], peer);
        self.links[peer as usize] = (NONE, head);
        if head != NONE {
            self.links[head as usize].0 = peer;
        }
    }

    fn remove(&mut self, peer: u32, jobs: usize) {
        let (before, after) = self.links[peer as usize];
        if before == NONE {
            self.heads[jobs] = after;
        } else {
            self.links[before as usize].1 = after;
        }
        if after != NONE {
            self.links[after as usize].0 = before;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a map: what it says has most has most.
        #[test]
        fn it_knows_who_has_most(steps in prop::collection::vec((0u32..5, any::<bool>()), 0..200)) {
            let (mut ranking, mut jobs) = (Ranking::default(), BTreeMap::<u32, usize>::new());
            for (peer, is_more) in steps {
                let before = jobs.get(&peer).copied().unwrap_or(0);
                let now = if is_more { before + 1 } else { before.saturating_sub(1) };
                if now != before {
                    ranking.change(PeerSlot(peer), before, now);
                    jobs.insert(peer, now);
                }
                let most = jobs.values().copied().max().filter(|most| *most > 0);
                let found = ranking.most();
                prop_assert_eq!(found.map(|(jobs, _)| jobs), most);
                if let Some((count, PeerSlot(peer))) = found {
                    prop_assert_eq!(jobs[&peer], count);
                }
            }
        }
    }
}
