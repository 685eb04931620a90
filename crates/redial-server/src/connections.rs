//! The connections that are open, so that all of them end with the server, and so that no peer holds
//! all of them.
//!
//! A full server makes room by max-min fairness: the peer that holds most gives up the connection
//! that has been idle longest, to a peer that holds fewer. A peer that holds most itself gets
//! another one only in place of one that it has left idle.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use crate::{awake::AwakeClock, outbox::Outbox, peer::Peer};

/// How long a connection has been idle that goes to make room for another one of its own peer.
const SPARE_AFTER: Duration = Duration::from_secs(10);

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
    /// The numbers of those of each peer.
    by_peer: BTreeMap<Peer, BTreeSet<u64>>,
}

impl Connections {
    /// Adds a connection. If there are `max` already, another one has to go, and is returned; if
    /// none may, there is no registration.
    pub(crate) fn open(
        &self,
        outbox: &Arc<Outbox>,
        peer: &Peer,
        max: usize,
        clock: &AwakeClock,
    ) -> (Option<Registration>, Option<Arc<Outbox>>) {
        let now = clock.now();
        outbox.activity.note();
        outbox.activity.look(clock, now);
        let mut open = self.lock();
        let mut displaced = None;
        if open.outboxes.len() >= max {
            let Some(number) = open.dispensable_for(peer, clock, now) else {
                return (None, None);
            };
            displaced = open.remove(number);
        }
        let number = open.add(outbox, peer);
        let registration = Registration {
            connections: self.clone(),
            number,
            outbox: Arc::clone(outbox),
        };
        (Some(registration), displaced)
    }

    /// A connection turns out to be another peer's.
    pub(crate) fn move_to(&self, peer: &Peer, outbox: &Outbox) {
        self.lock().move_to(peer, outbox.number());
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
        self.by_peer.entry(peer.clone()).or_default().insert(number);
    }

    /// One that has been given up meanwhile stays away.
    fn move_to(&mut self, peer: &Peer, number: u64) {
        if let Some(outbox) = self.remove(number) {
            self.insert(number, peer, outbox);
        }
    }

    fn remove(&mut self, number: u64) -> Option<Arc<Outbox>> {
        let (peer, outbox) = self.outboxes.remove(&number)?;
        if let Entry::Occupied(mut numbers) = self.by_peer.entry(peer) {
            numbers.get_mut().remove(&number);
            if numbers.get().is_empty() {
                numbers.remove();
            }
        }
        Some(outbox)
    }

    /// The connection that a full server gives up for a new one of this peer. Looks at every
    /// connection of one peer.
    fn dispensable_for(&self, peer: &Peer, clock: &AwakeClock, now: Instant) -> Option<u64> {
        let held = self.by_peer.get(peer).map_or(0, BTreeSet::len);
        let (most, numbers) = self.by_peer.iter().max_by_key(|(_, held)| held.len())?;
        let is_others = most != peer && numbers.len() > held + 1;
        let numbers = if is_others {
            numbers
        } else {
            self.by_peer.get(peer)?
        };
        let candidates = numbers.iter().filter_map(|number| {
            let (_, outbox) = self.outboxes.get(number)?;
            let is_waiting = outbox.in_flight() > 0;
            Some((is_waiting, outbox.activity.idle_since(clock, now), *number))
        });
        let (is_waiting, since, number) = candidates.min()?;
        let is_spare = !is_waiting && now.saturating_duration_since(since) >= SPARE_AFTER;
        (is_others || is_spare).then_some(number)
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
