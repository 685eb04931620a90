//! The sessions of one table: made, attached to, and forgotten when their lease ends.
//!
//! A session lives as long as a connection is attached to it, and for its lease after that, as in
//! NFSv4.1 (RFC 8881, section 2.10). The server makes its id out of random bits, so that a hello
//! that was held back can't bring an old session back to life. What is forgotten is unknown for
//! ever, and a call of an unknown session is never executed.

use std::{
    collections::BTreeSet,
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
    session::{Acknowledged, Cancelled, Records, Resolved},
};

/// How long a session has to be without a connection before it may go to make room: those whose
/// connection was lost just now are about to come back.
const GRACE: Duration = Duration::from_secs(10);

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

/// In what portions a session takes room for its records, in bytes: what all sessions keep
/// together is written down once for many calls, and is never less than what they do keep.
const PORTION_BYTES: usize = 4096;

/// A client's standing with the table.
#[derive(Debug)]
pub(crate) struct Session<W> {
    id: SessionId,
    account: Mutex<Account<W>>,
    /// What all sessions have taken, in bytes.
    taken: Arc<AtomicUsize>,
}

/// A session's records, and the room that was taken for them.
#[derive(Debug)]
struct Account<W> {
    records: Records<W>,
    taken_bytes: usize,
}

#[derive(Debug)]
pub(crate) struct Sessions<W> {
    registry: Mutex<Registry<W>>,
    limits: SessionLimits,
    /// See [`Session`].
    taken: Arc<AtomicUsize>,
    table: Box<str>,
}

/// Its lock is held only for a look-up: never while a session is worked on, and what waits for a
/// session's lock under it is only what looks for one to make room.
#[derive(Debug)]
struct Registry<W> {
    by_id: HashMap<u64, Entry<W>, std::hash::RandomState>,
    /// Sessions without a connection, the one first whose lease ends first.
    idle: BTreeSet<(Instant, SessionId)>,
    /// Those of them that have nothing to tell anybody.
    empty: BTreeSet<(Instant, SessionId)>,
    rng: ChaCha8Rng,
}

#[derive(Debug)]
struct Entry<W> {
    session: Arc<Session<W>>,
    /// How many connections are attached.
    connections: usize,
    /// Since when none is.
    idle_since: Instant,
    /// Somebody was told that the session is unknown, and it stays so, whatever time it is for
    /// others: each connection goes by the time of its latest read.
    is_over: bool,
}

impl<W> Sessions<W> {
    pub(crate) fn new(limits: SessionLimits, mut rng: ChaCha8Rng) -> Self {
        let table = format!("{:016x}", rng.next_u64()).into();
        Self {
            registry: Mutex::new(Registry {
                by_id: HashMap::default(),
                idle: BTreeSet::new(),
                empty: BTreeSet::new(),
                rng,
            }),
            limits,
            taken: Arc::default(),
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

    /// The limits, and whether all sessions together keep as many bytes as they may.
    pub(super) fn room(&self) -> (&SessionLimits, bool) {
        let taken = self.taken.load(Relaxed);
        (&self.limits, taken >= self.limits.max_total_bytes)
    }

    /// Makes a session and attaches a connection to it. `None` if there are too many that could
    /// still be asked for something. To `gone` is added who waits for a call of a session that has
    /// made room.
    pub(crate) fn open(&self, now: Instant, gone: &mut Vec<W>) -> Option<Arc<Session<W>>> {
        let mut registry = lock(&self.registry);
        let is_full = registry.by_id.len() >= self.limits.max_sessions;
        if is_full && !registry.make_room(self.limits.lease, now, gone) {
            return None;
        }
        let id = registry.new_id();
        let session = Arc::new(Session {
            id,
            account: Mutex::default(),
            taken: Arc::clone(&self.taken),
        });
        let entry = Entry {
            session: Arc::clone(&session),
            connections: 1,
            idle_since: now,
            is_over: false,
        };
        registry.by_id.insert(id.bits(), entry);
        Some(session)
    }

    /// Attaches a connection to a session, if it is known and its lease has not ended.
    pub(crate) fn attach(&self, id: SessionId, now: Instant) -> Option<Arc<Session<W>>> {
        let registry = &mut *lock(&self.registry);
        let entry = registry.by_id.get_mut(&id.bits())?;
        if entry.connections == 0 {
            // The sweep may not have come by yet.
            entry.is_over |= has_ended(entry.idle_since, self.limits.lease, now);
            if entry.is_over {
                return None;
            }
            registry.idle.remove(&(entry.idle_since, id));
            registry.empty.remove(&(entry.idle_since, id));
        }
        entry.connections += 1;
        Some(Arc::clone(&entry.session))
    }

    /// A connection is gone: if it was the last one, the lease begins.
    pub(crate) fn detach(&self, session: &Session<W>, now: Instant) {
        let id = session.id;
        // Outside the lock of all. If another connection changes it meanwhile, that one detaches
        // later, or whoever looks for room finds out.
        let is_empty = session.with(|records| {
            records.shrink();
            records.live() == 0
        });
        let registry = &mut *lock(&self.registry);
        let Some(entry) = registry.by_id.get_mut(&id.bits()) else {
            return;
        };
        entry.connections -= 1;
        if entry.connections == 0 {
            entry.idle_since = now;
            registry.idle.insert((now, id));
            if is_empty {
                registry.empty.insert((now, id));
            }
        }
    }

    /// Forgets up to `at_most` sessions whose lease has ended. Says how many, and hands out who
    /// still waits for a call of theirs.
    pub(crate) fn expire(&self, now: Instant, at_most: usize) -> (usize, Vec<W>) {
        let mut gone = Vec::new();
        let mut registry = lock(&self.registry);
        while gone.len() < at_most
            && let Some(session) = registry.forget_expired(self.limits.lease, now)
        {
            gone.push(session);
        }
        drop(registry);
        let waiters = gone.iter().flat_map(|session| session.with(Records::clear));
        (gone.len(), waiters.collect())
    }

    pub(crate) fn len(&self) -> usize {
        lock(&self.registry).by_id.len()
    }

    /// How many calls of all sessions run, or have an outcome that is not acknowledged, and what
    /// their records take, in bytes. Looks at every session.
    pub(crate) fn usage(&self) -> (usize, usize) {
        let registry = lock(&self.registry);
        let entries = registry.by_id.values();
        let sessions: Vec<_> = entries.map(|entry| Arc::clone(&entry.session)).collect();
        drop(registry);
        let usage =
            |session: Arc<Session<W>>| session.with(|records| (records.live(), records.bytes()));
        let add = |sum: (usize, usize), one: (usize, usize)| (sum.0 + one.0, sum.1 + one.1);
        sessions.into_iter().map(usage).fold((0, 0), add)
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

    /// Forgets a session whose lease has ended, or one that has no connection and nothing to tell
    /// anybody: its calls are not executed either when it is unknown.
    fn make_room(&mut self, lease: Duration, now: Instant, gone: &mut Vec<W>) -> bool {
        if let Some(session) = self.forget_expired(lease, now) {
            gone.extend(session.with(Records::clear));
            return true;
        }
        while let Some((since, id)) = self.empty.first().copied()
            && has_ended(since, GRACE, now)
        {
            self.empty.pop_first();
            let entry = self.by_id.get(&id.bits());
            if entry.is_some_and(|entry| lock(&entry.session.account).records.live() > 0) {
                continue;
            }
            self.idle.remove(&(since, id));
            if let Some(entry) = self.by_id.remove(&id.bits()) {
                entry.session.with(Records::clear);
            }
            return true;
        }
        false
    }

    fn forget_expired(&mut self, lease: Duration, now: Instant) -> Option<Arc<Session<W>>> {
        let (since, id) = *self.idle.first()?;
        if !has_ended(since, lease, now) {
            return None;
        }
        self.idle.remove(&(since, id));
        self.empty.remove(&(since, id));
        Some(self.by_id.remove(&id.bits())?.session)
    }
}

impl<W> Session<W> {
    pub(crate) fn id(&self) -> SessionId {
        self.id
    }

    /// The one way to the records. Whoever holds a session is attached to it, or has a call of it
    /// to run, for which a session that was forgotten meanwhile has no slot any more.
    pub(super) fn with<T>(&self, access: impl FnOnce(&mut Records<W>) -> T) -> T {
        let account = &mut *lock(&self.account);
        let result = access(&mut account.records);
        let bytes = account.records.bytes();
        let (taken, too_much) = (account.taken_bytes, 2 * PORTION_BYTES);
        if bytes > taken || taken - bytes >= too_much || bytes == 0 && taken > 0 {
            account.taken_bytes = bytes.next_multiple_of(PORTION_BYTES);
            update(&self.taken, taken, account.taken_bytes);
        }
        result
    }
}

impl<W> Session<W> {
    /// See [`Records::finish`].
    pub(crate) fn finish(&self, number: u64, outcome: &[u8]) -> Vec<W> {
        self.with(|records| records.finish(number, outcome))
    }
}

impl<W: Waits> Session<W> {
    /// See [`Records::resolve`].
    pub(crate) fn resolve(
        &self,
        number: u64,
        sessions: &Sessions<W>,
        waiter: impl FnOnce() -> W,
        replay: &mut Vec<u8>,
    ) -> Resolved {
        self.with(|records| records.resolve(number, sessions.room(), waiter, replay))
    }

    /// See [`Records::cancel`].
    pub(crate) fn cancel(&self, number: u64, sessions: &Sessions<W>) -> Cancelled<W> {
        self.with(|records| records.cancel(number, sessions.room()))
    }

    /// Its caller is done with every call below `ack`, and with those in the ranges above it, which
    /// ascend. Says whether all of it could be taken.
    pub(crate) fn acknowledge(
        &self,
        ack: u64,
        above: &[(u64, u64)],
        limits: &SessionLimits,
    ) -> (bool, Acknowledged<W>) {
        let mut told = None;
        let is_taken = self.with(|records| {
            records.acknowledge_below(ack, &mut told);
            let mut ranges = above.iter();
            let is_taken = ranges.all(|range| records.acknowledge(*range, limits, &mut told));
            // Who has nothing under way has sent this because there was nothing else to send.
            if records.open() == 0 {
                records.shrink();
            }
            is_taken
        });
        (is_taken, told.unwrap_or_default())
    }
}

impl<W> Default for Account<W> {
    fn default() -> Self {
        Self {
            records: Records::default(),
            taken_bytes: 0,
        }
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
