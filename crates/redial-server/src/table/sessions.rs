//! The sessions of one table: made, attached to, and forgotten when their lease ends.
//!
//! A session lives as long as a connection is attached to it, and for its lease after that, as in
//! NFSv4.1 (RFC 8881, section 2.10). The server makes its id out of random bits, so that a hello
//! that was held back can't bring an old session back to life. What is forgotten is unknown for
//! ever, and a call of an unknown session is never executed.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use hashbrown::HashMap;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use redial_protocol::SessionId;

use super::{
    Waits, lock,
    session::{Cancelled, Records, Resolved},
};

/// How many sessions are looked at to find one that can make room for a new one.
const LOOKS: usize = 64;

/// The bounds of sessions; see `Config` for what they mean to a user.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SessionLimits {
    pub(crate) lease: Duration,
    pub(crate) window: usize,
    pub(crate) max_sessions: usize,
    /// Of the outcomes of one session.
    pub(crate) max_bytes: usize,
    /// Of the outcomes of all sessions.
    pub(crate) max_total_bytes: usize,
    pub(crate) max_joined: usize,
}

/// A client's standing with the table.
#[derive(Debug)]
pub(crate) struct Session<W> {
    id: SessionId,
    inner: Mutex<Inner<W>>,
    totals: Arc<Totals>,
}

#[derive(Debug)]
struct Inner<W> {
    records: Records<W>,
    /// How many connections are attached.
    connections: usize,
    /// Since when none is.
    idle_since: Instant,
    /// It is in the list of those that may expire.
    is_listed: bool,
}

/// What all sessions keep together.
#[derive(Debug, Default)]
struct Totals {
    open: AtomicUsize,
    bytes: AtomicUsize,
}

#[derive(Debug)]
pub(crate) struct Sessions<W> {
    registry: Mutex<Registry<W>>,
    limits: SessionLimits,
    totals: Arc<Totals>,
    table: Box<str>,
}

#[derive(Debug)]
struct Registry<W> {
    by_id: HashMap<u64, Arc<Session<W>>, std::hash::RandomState>,
    /// Sessions that had no connection at that moment, in the order in which that was so.
    idle: VecDeque<(Instant, SessionId)>,
    rng: ChaCha8Rng,
}

impl<W> Sessions<W> {
    pub(crate) fn new(limits: SessionLimits, mut rng: ChaCha8Rng) -> Self {
        let table = format!("{:016x}", rng.next_u64()).into();
        Self {
            registry: Mutex::new(Registry {
                by_id: HashMap::default(),
                idle: VecDeque::new(),
                rng,
            }),
            limits,
            totals: Arc::default(),
            table,
        }
    }

    /// A name for the table that no other one has.
    pub(crate) fn table(&self) -> &str {
        &self.table
    }

    pub(crate) fn limits(&self) -> &SessionLimits {
        &self.limits
    }

    /// Whether the outcomes of all sessions keep as many bytes as they may.
    pub(super) fn is_full(&self) -> bool {
        self.bytes() >= self.limits.max_total_bytes
    }

    /// Makes a session and attaches a connection to it. `None` if there are too many that could
    /// still be asked for something.
    pub(crate) fn open(&self, now: Instant) -> Option<Arc<Session<W>>> {
        let mut registry = lock(&self.registry);
        if registry.by_id.len() >= self.limits.max_sessions && !registry.make_room() {
            return None;
        }
        let id = registry.new_id();
        let session = Arc::new(Session {
            id,
            inner: Mutex::new(Inner {
                records: Records::default(),
                connections: 1,
                idle_since: now,
                is_listed: false,
            }),
            totals: Arc::clone(&self.totals),
        });
        registry.by_id.insert(id.bits(), Arc::clone(&session));
        Some(session)
    }

    /// Attaches a connection to a session, if it is known and its lease has not ended.
    pub(crate) fn attach(&self, id: SessionId, now: Instant) -> Option<Arc<Session<W>>> {
        let registry = lock(&self.registry);
        let session = registry.by_id.get(&id.bits())?;
        let mut inner = lock(&session.inner);
        // The sweep may not have come by yet.
        if inner.is_expired(self.limits.lease, now) {
            return None;
        }
        inner.connections += 1;
        Some(Arc::clone(session))
    }

    /// A connection is gone: if it was the last one, the lease begins.
    pub(crate) fn detach(&self, session: &Session<W>, now: Instant) {
        let mut registry = lock(&self.registry);
        let mut inner = lock(&session.inner);
        inner.connections -= 1;
        if inner.connections > 0 {
            return;
        }
        inner.idle_since = now;
        inner.records.shrink();
        if !std::mem::replace(&mut inner.is_listed, true) {
            registry.idle.push_back((now, session.id));
        }
    }

    /// Forgets up to `at_most` sessions whose lease has ended. Says how many it looked at, and
    /// hands out who still waits for a call of theirs.
    pub(crate) fn expire(&self, now: Instant, at_most: usize) -> (usize, Vec<W>) {
        let mut registry = lock(&self.registry);
        let (mut looks, mut waiters) = (0, Vec::new());
        while looks < at_most
            && let Some((since, id)) = registry.idle.front().copied()
            && has_ended(since, self.limits.lease, now)
        {
            looks += 1;
            registry.idle.pop_front();
            let Some(session) = registry.by_id.get(&id.bits()).cloned() else {
                continue;
            };
            let mut inner = lock(&session.inner);
            if inner.is_expired(self.limits.lease, now) {
                registry.by_id.remove(&id.bits());
                waiters.append(&mut session.access(&mut inner, Records::clear));
            } else if inner.connections > 0 {
                inner.is_listed = false;
            } else {
                // It was attached in between, and has a new lease.
                registry.idle.push_back((inner.idle_since, id));
            }
        }
        (looks, waiters)
    }

    pub(crate) fn len(&self) -> usize {
        lock(&self.registry).by_id.len()
    }

    /// How many calls of all sessions are not acknowledged.
    pub(crate) fn open_calls(&self) -> usize {
        self.totals.open.load(Relaxed)
    }

    /// How long the outcomes of all sessions are.
    pub(crate) fn bytes(&self) -> usize {
        self.totals.bytes.load(Relaxed)
    }
}

impl<W> Registry<W> {
    fn new_id(&mut self) -> SessionId {
        loop {
            let id = SessionId::from_bits(self.rng.next_u64());
            if !self.by_id.contains_key(&id.bits()) {
                return id;
            }
        }
    }

    /// Forgets a session that has no connection, and no call that anybody could ask for: what
    /// is over is refused just as well when the session is unknown.
    fn make_room(&mut self) -> bool {
        let dispensable = |(_, id): &(Instant, SessionId)| {
            let session = self.by_id.get(&id.bits());
            session.is_none_or(|session| lock(&session.inner).is_dispensable())
        };
        let Some(place) = self.idle.iter().take(LOOKS).position(dispensable) else {
            return false;
        };
        let (_, id) = self.idle.remove(place).expect("it was found just now");
        self.by_id.remove(&id.bits());
        true
    }
}

impl<W> Inner<W> {
    fn is_expired(&self, lease: Duration, now: Instant) -> bool {
        self.connections == 0 && has_ended(self.idle_since, lease, now)
    }

    fn is_dispensable(&self) -> bool {
        self.connections == 0 && self.records.open() == 0
    }
}

impl<W> Session<W> {
    pub(crate) fn id(&self) -> SessionId {
        self.id
    }

    /// The one way to the records. Whoever holds a session is attached to it, or has a call of it
    /// to run, for which a session that was forgotten meanwhile has no slot any more.
    pub(super) fn with<T>(&self, access: impl FnOnce(&mut Records<W>) -> T) -> T {
        self.access(&mut lock(&self.inner), access)
    }

    fn access<T>(&self, inner: &mut Inner<W>, access: impl FnOnce(&mut Records<W>) -> T) -> T {
        let (open, bytes) = (inner.records.open(), inner.records.bytes());
        let result = access(&mut inner.records);
        update(&self.totals.open, open, inner.records.open());
        update(&self.totals.bytes, bytes, inner.records.bytes());
        result
    }
}

impl<W: Waits> Session<W> {
    /// See [`Records::resolve`].
    pub(crate) fn resolve(
        &self,
        number: u64,
        limits: &SessionLimits,
        waiter: impl FnOnce() -> W,
        replay: &mut Vec<u8>,
    ) -> Resolved {
        self.with(|records| records.resolve(number, limits, waiter, replay))
    }

    /// See [`Records::cancel`].
    pub(crate) fn cancel(&self, number: u64, limits: &SessionLimits) -> Cancelled<W> {
        self.with(|records| records.cancel(number, limits))
    }

    /// Its caller is done with every call below `ack`, and with those in the ranges above it.
    /// Hands out who still waits for one of them.
    pub(crate) fn acknowledge(
        &self,
        ack: u64,
        above: &[(u64, u64)],
        limits: &SessionLimits,
    ) -> Vec<W> {
        let mut waiters = Vec::new();
        self.with(|records| {
            records.acknowledge_below(ack, &mut waiters);
            for (from, to) in above {
                records.acknowledge(*from, *to, limits, &mut waiters);
            }
            // Who has nothing under way has sent this because there was nothing else to send.
            if records.open() == 0 {
                records.shrink();
            }
        });
        waiters
    }
}

fn has_ended(since: Instant, lease: Duration, now: Instant) -> bool {
    now.saturating_duration_since(since) >= lease
}

fn update(total: &AtomicUsize, before: usize, after: usize) {
    if after > before {
        total.fetch_add(after - before, Relaxed);
    } else if after < before {
        total.fetch_sub(before - after, Relaxed);
    }
}

#[cfg(test)]
mod tests;
