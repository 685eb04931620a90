//! The connections that are open, so that all of them end with the server, and so that no peer holds
//! all of them.
//!
//! A full server makes room by max-min fairness: the peer that holds most gives up the connection
//! that has been idle longest, to a peer that holds fewer. A peer that holds most itself gets
//! another one only in place of one that it has left idle.
//!
//! Strangers (TLS handshakes, and peers that have not shown who they are, where that is asked for) displace
//! those that are known up to a sixteenth of all slots, and beyond that one another: who comes from many
//! addresses takes those of known peers no further.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use crate::{awake::AwakeClock, outbox::Outbox, peer::Peer};

/// How long a connection has been idle that goes to make room for another one of its own peer.
const SPARE_AFTER: Duration = Duration::from_secs(10);

/// The same of a stranger, where strangers displace one another: long enough for a handshake.
const STRANGER_AFTER: Duration = Duration::from_secs(1);

/// Strangers displace others up to one of so many slots.
const STRANGERS_PART: usize = 16;

/// What is known of a peer when its connection begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It has yet to shake hands, or to show who it is.
    Stranger,
    /// It has no more to show.
    Known,
}

/// Cheap to clone; all clones are the same list.
#[derive(Clone, Default)]
pub(crate) struct Connections(Arc<ConnectionList>);

#[derive(Default)]
struct ConnectionList {
    open: Mutex<OpenConnections>,
    one_closed: Notify,
}

#[derive(Default)]
struct OpenConnections {
    next: u64,
    /// In the order in which they were opened, so that the end of a server repeats in a simulation.
    outboxes: BTreeMap<u64, (Peer, Arc<Outbox>)>,
    all: PeerConnections,
    strangers: PeerConnections,
}

/// Connections by their peer.
#[derive(Default)]
struct PeerConnections {
    by_peer: BTreeMap<Peer, BTreeSet<u64>>,
    count: usize,
}

impl Connections {
    /// Adds a connection. If there are `max` already, another one has to go, and is returned; if
    /// none may, there is no registration.
    pub(crate) fn open(
        &self,
        outbox: &Arc<Outbox>,
        (peer, standing): (&Peer, Standing),
        max: usize,
        clock: &AwakeClock,
    ) -> (Option<Registration>, Option<Arc<Outbox>>) {
        let now = clock.now();
        outbox.activity.note();
        outbox.activity.look(clock, now);
        let mut open = self.lock();
        let mut displaced = None;
        if open.outboxes.len() >= max {
            let few = (max / STRANGERS_PART).max(1);
            let among_strangers = standing == Standing::Stranger && open.strangers.count >= few;
            let number = if among_strangers {
                open.dispensable_stranger(peer, clock, now)
            } else {
                open.dispensable_for(peer, clock, now)
            };
            let Some(number) = number else {
                return (None, None);
            };
            displaced = open.remove(number);
        }
        let number = open.add(outbox, peer);
        if standing == Standing::Stranger {
            open.strangers.insert(peer, number);
        }
        let registration = Registration {
            connections: self.clone(),
            number,
            outbox: Arc::clone(outbox),
        };
        (Some(registration), displaced)
    }

    /// A connection has shown all that it has to, and is this peer's.
    pub(crate) fn make_known(&self, peer: &Peer, outbox: &Outbox) {
        self.lock().make_known(peer, outbox.number());
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().outboxes.len()
    }

    /// Since when something may lie unread in any of them. Notes which are idle.
    pub(crate) fn unread_since(&self, clock: &AwakeClock) -> Option<Instant> {
        let (now, open) = (clock.now(), self.lock());
        let outboxes = open.outboxes.values();
        let since = |(_, outbox): &(Peer, Arc<Outbox>)| {
            outbox.activity.look(clock, now);
            outbox.unread.get(clock)
        };
        outboxes.filter_map(since).min()
    }

    pub(crate) async fn all_closed(&self) {
        while self.len() > 0 {
            self.0.one_closed.notified().await;
        }
    }

    pub(crate) fn wake_all(&self) {
        let open: Vec<_> = self.lock().outboxes.values().cloned().collect();
        for (_, outbox) in open {
            outbox.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, OpenConnections> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenConnections {
    fn add(&mut self, outbox: &Arc<Outbox>, peer: &Peer) -> u64 {
        let number = self.next;
        self.next += 1;
        outbox.set_number(number);
        self.insert(number, peer, Arc::clone(outbox));
        number
    }

    fn insert(&mut self, number: u64, peer: &Peer, outbox: Arc<Outbox>) {
        self.outboxes.insert(number, (peer.clone(), outbox));
        self.all.insert(peer, number);
    }

    /// One that has been given up meanwhile stays away.
    fn make_known(&mut self, peer: &Peer, number: u64) {
        if let Some(outbox) = self.remove(number) {
            self.insert(number, peer, outbox);
        }
    }

    fn remove(&mut self, number: u64) -> Option<Arc<Outbox>> {
        let (peer, outbox) = self.outboxes.remove(&number)?;
        self.all.remove(&peer, number);
        self.strangers.remove(&peer, number);
        Some(outbox)
    }

    /// The connection that a full server gives up for a new one of this peer. Looks at every
    /// connection of one peer.
    fn dispensable_for(&self, peer: &Peer, clock: &AwakeClock, now: Instant) -> Option<u64> {
        let idlest = |numbers| self.idlest(numbers, clock, now);
        if let Some(numbers) = self.all.of_a_larger_holder(peer) {
            return Some(idlest(&mut numbers.iter())?.number);
        }
        let own = self.all.by_peer.get(peer)?;
        let idlest = idlest(&mut own.iter())?;
        idlest.is_spare(now, SPARE_AFTER).then_some(idlest.number)
    }

    /// The same of a stranger for a stranger. Looks at every stranger.
    fn dispensable_stranger(&self, peer: &Peer, clock: &AwakeClock, now: Instant) -> Option<u64> {
        let idlest = |numbers| self.idlest(numbers, clock, now);
        if let Some(numbers) = self.strangers.of_a_larger_holder(peer) {
            return Some(idlest(&mut numbers.iter())?.number);
        }
        let idlest = idlest(&mut self.strangers.by_peer.values().flatten())?;
        let may_go = idlest.is_spare(now, STRANGER_AFTER);
        may_go.then_some(idlest.number)
    }

    /// The one that has been idle longest, of those for whom no call runs if there is one.
    fn idlest(
        &self,
        numbers: &mut dyn Iterator<Item = &u64>,
        clock: &AwakeClock,
        now: Instant,
    ) -> Option<Idle> {
        let candidates = numbers.filter_map(|number| {
            let (_, outbox) = self.outboxes.get(number)?;
            Some(Idle {
                is_waiting: outbox.in_flight() > 0,
                since: outbox.activity.idle_since(clock, now),
                number: *number,
            })
        });
        candidates.min()
    }
}

/// How dispensable a connection is: the least goes first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Idle {
    is_waiting: bool,
    since: Instant,
    number: u64,
}

impl Idle {
    fn is_spare(&self, now: Instant, after: Duration) -> bool {
        !self.is_waiting && now.saturating_duration_since(self.since) >= after
    }
}

impl PeerConnections {
    fn insert(&mut self, peer: &Peer, number: u64) {
        let is_new = self.by_peer.entry(peer.clone()).or_default().insert(number);
        self.count += usize::from(is_new);
    }

    fn remove(&mut self, peer: &Peer, number: u64) {
        if let Some(numbers) = self.by_peer.get_mut(peer) {
            self.count -= usize::from(numbers.remove(&number));
            if numbers.is_empty() {
                self.by_peer.remove(peer);
            }
        }
    }

    /// Those of the peer that has most, if that is another one and has more even with one less.
    fn of_a_larger_holder(&self, peer: &Peer) -> Option<&BTreeSet<u64>> {
        let held = self.by_peer.get(peer).map_or(0, BTreeSet::len);
        let (most, numbers) = self.by_peer.iter().max_by_key(|(_, held)| held.len())?;
        (most != peer && numbers.len() > held + 1).then_some(numbers)
    }
}

/// An open connection's entry; dropping it closes the connection's outbox.
pub(crate) struct Registration {
    connections: Connections,
    number: u64,
    outbox: Arc<Outbox>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.connections.lock().remove(self.number);
        self.outbox.close();
        self.connections.0.one_closed.notify_one();
    }
}
