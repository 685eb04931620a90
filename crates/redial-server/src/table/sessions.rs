//! The sessions of one table: made, attached to, and forgotten when their lease ends.
//!
//! A session lives as long as a connection is attached to it, and for its lease after that, as in
//! NFSv4.1 (RFC 8881, section 2.10). The server makes its id out of random bits, so that a hello
//! that was held back can't bring an old session back to life. What is forgotten is unknown for
//! ever, and a call of an unknown session is never executed.

mod account;
mod registry;
mod shares;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Instant,
};

use rand_chacha::ChaCha8Rng;
use redial_protocol::{Principal, SessionCall, SessionId};

use self::registry::Registry;
pub(crate) use self::{account::Session, registry::Forgotten};
use super::{
    call::lock,
    session::{Records, Room, SessionLimits},
};
use crate::{origin::Origin, peer::Peer, share::Share, store::Acknowledged};

/// What the sessions of one peer may keep of the bytes for all.
const KEPT: Share = Share::all_but_one_in(16);

/// A session that has no more than one part in so many goes on when others of its peer have taken the
/// peer's share: one client behind an address doesn't stop the others.
const SMALL_PART: usize = 1024;

#[derive(Debug)]
pub(crate) struct Sessions<W> {
    registry: Mutex<Registry<W>>,
    limits: SessionLimits,
    /// What all sessions have taken, in bytes.
    taken: Arc<AtomicUsize>,
}

/// Sessions that were forgotten because their lease has ended.
pub(crate) struct ExpiredSessions<W> {
    pub(crate) count: usize,
    /// Those who still wait for a call of one.
    pub(crate) waiters: Vec<W>,
}

/// What all sessions keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SessionUsage {
    /// Calls that run, or have an outcome that is not acknowledged.
    pub(crate) records: usize,
    /// What all records take, in bytes.
    pub(crate) bytes: usize,
}

impl<W> Sessions<W> {
    /// With a process, that alone may use the table; a copy of it [starts anew](Self::renew).
    pub(crate) fn new(limits: SessionLimits, rng: ChaCha8Rng, process: Option<u32>) -> Self {
        Self {
            registry: Mutex::new(Registry::new(rng, process)),
            limits,
            taken: Arc::default(),
        }
    }

    /// A name for the table that no other one has.
    pub(crate) fn table(&self) -> Box<str> {
        lock(&self.registry).table().into()
    }

    /// To be called before a session is made: its id is drawn anew. In a process that was forked
    /// from the one before, the sessions of that one are forgotten, and the table is another.
    pub(crate) fn renew(&self, origin: &Origin) {
        if lock(&self.registry).renew(origin) {
            self.taken.store(0, Relaxed);
        }
    }

    /// Whether the table is this process's own.
    pub(crate) fn is_of(&self, process: u32) -> bool {
        lock(&self.registry).is_of(process)
    }

    pub(crate) fn limits(&self) -> &SessionLimits {
        &self.limits
    }

    /// Not to be asked while the session is worked on.
    pub(crate) fn room(&self, session: &Session<W>) -> Room<'_> {
        let (taken, max) = (self.taken.load(Relaxed), self.limits.max_total_bytes);
        Room {
            limits: &self.limits,
            // Nothing is short as long as no peer could have its share.
            is_full: taken > max / 2 && is_full(session, max, max.saturating_sub(taken)),
        }
    }

    /// Whether the session may keep no more although its own limits allow it: all sessions keep as much
    /// as they may, or those of its peer its share. Not to be asked while the session is worked on.
    pub(crate) fn is_full(&self, session: &Session<W>) -> bool {
        self.room(session).is_full
    }

    /// Whether this peer gets no session because it has its share, while there are some for others.
    pub(crate) fn has_share(&self, peer: &Peer) -> bool {
        lock(&self.registry).has_share(peer, self.limits.max_sessions)
    }

    /// Makes a session and attaches a connection of its peer to it. `None` if the peer has its share,
    /// or if there are too many that don't go for one of it. To `waiters` are added those who wait for
    /// a call of a session that has made room.
    pub(crate) fn open(
        &self,
        peer: &Peer,
        owner: Option<&Principal>,
        now: Instant,
        waiters: &mut Vec<W>,
    ) -> Option<Arc<Session<W>>> {
        let mut registry = lock(&self.registry);
        let has_room = self.has_room(&mut registry, peer, now, waiters);
        has_room.then(|| registry.open(peer, owner.cloned(), now, &self.taken))
    }

    /// Takes the name of a table that a store has kept.
    pub(crate) fn set_table(&self, name: String) {
        lock(&self.registry).set_table(name.into());
    }

    /// Restores a session that a store has kept, attached until it is
    /// [detached](Self::detach).
    pub(crate) fn restore(
        &self,
        id: SessionId,
        owner: Option<Principal>,
        acknowledged: &Acknowledged,
        now: Instant,
    ) -> Arc<Session<W>> {
        let session = lock(&self.registry).restore(id, owner, now, &self.taken);
        session.restore(acknowledged);
        session
    }

    /// Takes in a session of this owner that another server has opened on the same store, and attaches a
    /// connection of this peer to it. `None` if there is no room for another; see [`open`](Self::open).
    pub(crate) fn adopt(
        &self,
        id: SessionId,
        peer: &Peer,
        owner: Option<&Principal>,
        acknowledged: &Acknowledged,
        now: Instant,
        waiters: &mut Vec<W>,
    ) -> Option<Arc<Session<W>>> {
        let mut registry = lock(&self.registry);
        if registry.knows(id) {
            // Another connection was faster.
            return registry.attach(id, owner, &self.limits, now);
        }
        if !self.has_room(&mut registry, peer, now, waiters) {
            return None;
        }
        Some(registry.adopt(id, peer, owner, acknowledged, now, &self.taken))
    }

    /// Whether a peer may have a session more, after one has gone for it if need be.
    fn has_room(
        &self,
        registry: &mut Registry<W>,
        peer: &Peer,
        now: Instant,
        waiters: &mut Vec<W>,
    ) -> bool {
        let limits = &self.limits;
        registry.allows(peer, limits.max_sessions)
            && (registry.len() < limits.max_sessions
                || registry.make_room(peer, limits, now, waiters))
    }

    /// Attaches a connection to a session of this owner, if it is known and its lease has not ended.
    pub(crate) fn attach(
        &self,
        id: SessionId,
        owner: Option<&Principal>,
        now: Instant,
    ) -> Option<Arc<Session<W>>> {
        lock(&self.registry).attach(id, owner, &self.limits, now)
    }

    /// A connection is gone: if it was the last one, the lease begins, or the session is forgotten, if
    /// its client has said goodbye. True if it is.
    pub(crate) fn detach(&self, session: &Session<W>, now: Instant) -> bool {
        // Outside the registry's lock. If another connection changes it meanwhile, that one
        // detaches later, or the search for room finds out.
        let is_empty = session.with(|records| {
            records.shrink();
            records.live() == 0
        });
        let ended = lock(&self.registry).detach(session.id(), is_empty, now);
        // Nothing of it runs, so nothing waits.
        ended.is_some_and(|session| session.with(Records::clear).is_empty())
    }

    /// The client needs a session no longer: it ends with its last connection, and not only with its
    /// lease, if no call of it runs or has an outcome that is not acknowledged by then.
    pub(crate) fn end(&self, id: SessionId) {
        lock(&self.registry).end(id);
    }

    /// The store could not keep a new session, so that no client has heard of it: it goes with its
    /// connection, or when that opens another.
    pub(crate) fn abandon(&self, session: &Session<W>) {
        session.set_unkept();
        self.end(session.id());
    }

    /// A call that is fenced here is on record elsewhere.
    pub(crate) fn lift_fence(&self, call: SessionCall) {
        let session = lock(&self.registry).get(call.session);
        if let Some(session) = session {
            session.with(|records| records.lift_fence(call.number));
        }
    }

    /// Forgets up to `at_most` sessions whose lease has ended.
    pub(crate) fn expire(&self, now: Instant, at_most: usize) -> ExpiredSessions<W> {
        let mut expired = Vec::new();
        let mut registry = lock(&self.registry);
        while expired.len() < at_most
            && let Some(session) = registry.forget_expired(&self.limits, now)
        {
            expired.push(session);
        }
        drop(registry);
        let waiters = expired.iter();
        let waiters = waiters.flat_map(|session| session.with(Records::clear));
        ExpiredSessions {
            count: expired.len(),
            waiters: waiters.collect(),
        }
    }

    /// The sessions that were forgotten since this was asked last.
    pub(crate) fn take_forgotten(&self) -> Vec<Forgotten> {
        lock(&self.registry).take_forgotten()
    }

    /// Whether a session is known here, of any owner.
    pub(crate) fn knows(&self, id: SessionId) -> bool {
        lock(&self.registry).knows(id)
    }

    pub(crate) fn len(&self) -> usize {
        lock(&self.registry).len()
    }

    /// What all sessions keep. Looks at every session.
    pub(crate) fn usage(&self) -> SessionUsage {
        let sessions: Vec<_> = lock(&self.registry).all().cloned().collect();
        let mut usage = SessionUsage::default();
        for session in sessions {
            session.with(|records| {
                usage.records += records.live();
                usage.bytes += records.bytes();
            });
        }
        usage
    }
}

/// Whether a session may keep no more where so many bytes of `max` are free: its peer has its share,
/// and so has the session of what is left to a peer that has.
#[cold]
fn is_full<W>(session: &Session<W>, max: usize, free: usize) -> bool {
    let (of_peer, own) = session.taken_bytes();
    let is_small = own <= max / SMALL_PART;
    let may = KEPT.allows(of_peer, free) || is_small && KEPT.larger().allows(of_peer, free);
    !may
}

#[cfg(test)]
mod tests;
