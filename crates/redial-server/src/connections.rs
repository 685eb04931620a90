//! The connections that are open, so that all of them end with the server.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tokio::sync::Notify;

use crate::{awake::AwakeClock, outbox::Outbox};

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
    outboxes: BTreeMap<u64, Arc<Outbox>>,
}

impl Connections {
    /// Adds a connection, unless there are `max` already.
    pub(crate) fn open(&self, outbox: &Arc<Outbox>, max: usize) -> Option<Registration> {
        let mut open = self.lock();
        if open.outboxes.len() >= max {
            return None;
        }
        let number = open.next;
        open.next += 1;
        open.outboxes.insert(number, Arc::clone(outbox));
        Some(Registration {
            connections: self.clone(),
            number,
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().outboxes.len()
    }

    /// Since when something may lie unread in any of them.
    pub(crate) fn unread_since(&self, clock: &AwakeClock) -> Option<Instant> {
        let open = self.lock();
        let outboxes = open.outboxes.values();
        outboxes.filter_map(|outbox| outbox.unread.get(clock)).min()
    }

    pub(crate) async fn all_closed(&self) {
        while self.len() > 0 {
            self.0.one_closed.notified().await;
        }
    }

    pub(crate) fn wake_all(&self) {
        let open: Vec<Arc<Outbox>> = self.lock().outboxes.values().cloned().collect();
        for outbox in open {
            outbox.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, OpenConnections> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An open connection's entry; dropping it closes the connection's outbox.
pub(crate) struct Registration {
    connections: Connections,
    number: u64,
}

impl Drop for Registration {
    fn drop(&mut self) {
        let outbox = self.connections.lock().outboxes.remove(&self.number);
        if let Some(outbox) = outbox {
            outbox.close();
        }
        self.connections.0.one_closed.notify_one();
    }
}
