//! Whose the sessions are: how many each peer has, and which of them it has abandoned, so that a full
//! table takes the room for a new session from the peer that has most.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::AtomicUsize},
    time::Instant,
};

use hashbrown::HashMap;
use redial_protocol::SessionId;

use super::registry::{GRACE, has_passed};
use crate::{peer::Peer, share::Share};

/// What one peer may have of the sessions with a connection: they don't go to make room.
const ATTACHED: Share = Share::all_but_one_in(16);

/// A session without a connection, and since when.
type Abandoned = (Instant, SessionId);

#[derive(Debug, Default)]
pub(super) struct SessionShares {
    by_peer: HashMap<Peer, PeerSessions, std::hash::RandomState>,
    /// The peers that have abandoned some, the one with the most sessions last.
    ranking: BTreeSet<(usize, Peer)>,
    /// How many sessions have a connection.
    attached: usize,
}

#[derive(Debug, Default)]
struct PeerSessions {
    count: usize,
    abandoned: BTreeSet<Abandoned>,
    taken_bytes: Arc<AtomicUsize>,
}

impl SessionShares {
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Whether a peer may attach to one more of so many.
    pub(super) fn allows(&self, peer: &Peer, max: usize) -> bool {
        let has = self.by_peer.get(peer);
        let attached = has.map_or(0, |has| has.count - has.abandoned.len());
        ATTACHED.allows(attached, max.saturating_sub(self.attached))
    }

    /// How many sessions have a connection.
    pub(super) fn attached(&self) -> usize {
        self.attached
    }

    /// A session is opened, with a connection. Returns what counts the bytes that those of the peer
    /// have taken.
    pub(super) fn open(&mut self, peer: &Peer) -> Arc<AtomicUsize> {
        self.attached += 1;
        self.change(peer, |has| {
            has.count += 1;
            Arc::clone(&has.taken_bytes)
        })
    }

    /// A session has a connection again.
    pub(super) fn attach(&mut self, peer: &Peer, abandoned: Abandoned) {
        self.attached += 1;
        self.change(peer, |has| {
            has.abandoned.remove(&abandoned);
        });
    }

    /// A session has lost its last connection.
    pub(super) fn abandon(&mut self, peer: &Peer, abandoned: Abandoned) {
        self.attached -= 1;
        self.change(peer, |has| {
            has.abandoned.insert(abandoned);
        });
    }

    /// A session without a connection is forgotten.
    pub(super) fn forget(&mut self, peer: &Peer, abandoned: Abandoned) {
        self.change(peer, |has| {
            has.count -= 1;
            has.abandoned.remove(&abandoned);
        });
    }

    /// The session that goes for a new one of this peer: the longest abandoned one of the peer that
    /// has most, or of its own. What was abandoned just now is about to be attached to again, unless
    /// that is most of what the peer should have at all.
    pub(super) fn dispensable_for(
        &self,
        peer: &Peer,
        max: usize,
        now: Instant,
    ) -> Option<SessionId> {
        let own = self.by_peer.get(peer);
        let count = own.map_or(0, |own| own.count);
        let (most, holder) = self.ranking.last()?;
        let from = if *most > count + 1 {
            self.by_peer.get(holder)
        } else {
            own
        };
        let from = from?;
        let (since, id) = *from.abandoned.first()?;
        let peers = self.by_peer.len() + usize::from(own.is_none());
        let is_crowd = from.abandoned.len().saturating_mul(4) > (max / peers).saturating_mul(3);
        (is_crowd || has_passed(since, GRACE, now)).then_some(id)
    }

    fn change<T>(&mut self, peer: &Peer, change: impl FnOnce(&mut PeerSessions) -> T) -> T {
        let has = self.by_peer.entry_ref(peer).or_default();
        let before = has.rank(peer);
        let result = change(has);
        let after = has.rank(peer);
        if has.count == 0 {
            self.by_peer.remove(peer);
        }
        if before != after {
            before.map(|rank| self.ranking.remove(&rank));
            after.map(|rank| self.ranking.insert(rank));
        }
        result
    }
}

impl PeerSessions {
    fn rank(&self, peer: &Peer) -> Option<(usize, Peer)> {
        (!self.abandoned.is_empty()).then(|| (self.count, peer.clone()))
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, time::Duration};

    use super::*;
    use crate::clock;

    const HOG: Peer = Peer::V4(Ipv4Addr::new(192, 0, 2, 1));
    const OTHER: Peer = Peer::V4(Ipv4Addr::new(192, 0, 2, 2));
    const THIRD: Peer = Peer::V4(Ipv4Addr::new(192, 0, 2, 3));

    fn abandoned(at: Instant, number: u64) -> Abandoned {
        (at, SessionId::from_bits(number))
    }

    /// One peer leaves sessions behind: those go for others, the longest abandoned first, and none of
    /// a peer that has fewer.
    #[test]
    fn the_peer_that_has_most_gives_up_what_it_abandoned_first() {
        let (mut shares, now) = (SessionShares::default(), clock::now());
        let later = now + Duration::from_secs(1);
        for (peer, at, number) in [
            (HOG, later, 1),
            (HOG, now, 2),
            (HOG, now, 3),
            (OTHER, now, 4),
        ] {
            shares.open(&peer);
            shares.abandon(&peer, abandoned(at, number));
        }
        let longest = Some(SessionId::from_bits(2));
        let after = now + GRACE;
        for peer in [OTHER, THIRD, HOG] {
            assert_eq!(shares.dispensable_for(&peer, 4, after), longest, "{peer:?}");
        }
        // What was abandoned just now stays, unless its peer has far too many.
        assert_eq!(shares.dispensable_for(&THIRD, 40, later), None);
        assert_eq!(shares.dispensable_for(&THIRD, 4, later), longest);
        for number in [2, 3] {
            shares.attach(&HOG, abandoned(now, number));
        }
        assert_eq!(
            shares.dispensable_for(&OTHER, 4, after + GRACE),
            Some(SessionId::from_bits(1))
        );
        shares.forget(&HOG, abandoned(later, 1));
        // The hog has two with a connection, and the other none to give up to it.
        assert_eq!(shares.dispensable_for(&HOG, 4, after + GRACE), None);
        shares.forget(&OTHER, abandoned(now, 4));
        assert!(shares.ranking.is_empty() && shares.by_peer.len() == 1);
    }

    /// What has a connection does not go, so that one peer may not have it all.
    #[test]
    fn a_peer_has_a_part_of_what_others_leave() {
        let mut shares = SessionShares::default();
        let open = |shares: &mut SessionShares, peer| {
            let may = shares.allows(&peer, 160);
            if may {
                shares.open(&peer);
            }
            may
        };
        assert_eq!((0..200).filter(|_| open(&mut shares, HOG)).count(), 150);
        assert_eq!((0..200).filter(|_| open(&mut shares, OTHER)).count(), 10);
    }
}
