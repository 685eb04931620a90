//! Sessions by id, and in the order in which they may be forgotten.
//!
//! Its lock is held only for a look-up: never while a session is worked on, and only the search
//! for a session that makes room waits for a session's lock under it.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::AtomicUsize},
    time::{Duration, Instant},
};

use hashbrown::{HashMap, HashSet};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use redial_protocol::{Principal, SessionId};

use super::{account::Session, shares::SessionShares};
use crate::{
    origin::Origin,
    peer::Peer,
    store::Acknowledged,
    table::session::{Records, SessionLimits},
};

/// How long a session has to be without a connection before it may go to make room: those whose
/// connection was lost just now are about to come back.
pub(super) const GRACE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Registry<W> {
    by_id: HashMap<u64, SessionEntry<W>, std::hash::RandomState>,
    /// The sessions of each owner, where another one's are not even looked for: that would take another
    /// time than to look for an unknown one.
    owned: Owned,
    /// Sessions without a connection, the one first whose lease ends first.
    idle: BTreeSet<(Instant, SessionId)>,
    /// Those of them that keep no outcome and run no call.
    empty: BTreeSet<(Instant, SessionId)>,
    shares: SessionShares,
    /// Those that were forgotten, until a store hears of it.
    forgotten: Vec<Forgotten>,
    rng: ChaCha8Rng,
    table: Box<str>,
    /// The process whose sessions these are; `None` if that doesn't matter.
    process: Option<u32>,
}

/// A session that this table knows no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Forgotten {
    pub(crate) id: SessionId,
    /// Its client has said that it needs it no longer.
    pub(crate) is_ended: bool,
}

type Ids = HashSet<u64, std::hash::RandomState>;

/// Ids by the owner of their session.
#[derive(Debug, Default)]
struct Owned {
    by_principal: HashMap<Principal, Ids, std::hash::RandomState>,
    /// Those of callers without a principal.
    others: Ids,
}

#[derive(Debug)]
struct SessionEntry<W> {
    session: Arc<Session<W>>,
    /// Who has opened it.
    peer: Peer,
    /// How many connections are attached.
    connections: usize,
    /// When the last connection detached; of no meaning while one is attached.
    idle_since: Instant,
    /// A peer has heard that the session is unknown, and it stays so, whatever time it is for
    /// others: each connection goes by the time of its latest read.
    is_expired: bool,
    /// Its client has said that it needs it no longer.
    is_ended: bool,
}

impl<W> Registry<W> {
    pub(super) fn new(mut rng: ChaCha8Rng, process: Option<u32>) -> Self {
        Self {
            by_id: HashMap::default(),
            owned: Owned::default(),
            idle: BTreeSet::new(),
            empty: BTreeSet::new(),
            shares: SessionShares::default(),
            forgotten: Vec::new(),
            table: table_name(&mut rng),
            rng,
            process,
        }
    }

    pub(super) fn table(&self) -> &str {
        &self.table
    }

    pub(super) fn is_of(&self, process: u32) -> bool {
        self.process.is_none_or(|own| own == process)
    }

    /// Makes sure that the next id is drawn by no copy of this table, and that a copy in another
    /// process has none of the sessions. True if this was one.
    pub(super) fn renew(&mut self, origin: &Origin) -> bool {
        if self.process.is_none() {
            return false;
        }
        origin.mix_into(&mut self.rng);
        if self.is_of(origin.process()) {
            return false;
        }
        // Those who wait for their calls are the other process's to answer.
        self.by_id.clear();
        self.owned.clear();
        self.idle.clear();
        self.empty.clear();
        self.shares.clear();
        self.table = table_name(&mut self.rng);
        self.process = Some(origin.process());
        true
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Session<W>>> {
        self.by_id.values().map(|entry| &entry.session)
    }

    /// Makes a session with one connection.
    pub(super) fn open(
        &mut self,
        peer: &Peer,
        owner: Option<Principal>,
        now: Instant,
        taken: &Arc<AtomicUsize>,
    ) -> Arc<Session<W>> {
        let id = self.new_id();
        self.insert(id, owner, peer, now, taken)
    }

    /// Restores a session that a store has kept, with one connection.
    pub(super) fn restore(
        &mut self,
        id: SessionId,
        owner: Option<Principal>,
        now: Instant,
        taken: &Arc<AtomicUsize>,
    ) -> Arc<Session<W>> {
        let peer = owner.clone().map_or(Peer::Recovered, Peer::Principal);
        self.insert(id, owner, &peer, now, taken)
    }

    /// Takes in a session that another server has opened on the same store, with one connection of this
    /// peer.
    pub(super) fn adopt(
        &mut self,
        id: SessionId,
        peer: &Peer,
        owner: Option<&Principal>,
        acknowledged: &Acknowledged,
        now: Instant,
        taken: &Arc<AtomicUsize>,
    ) -> Arc<Session<W>> {
        let session = self.insert(id, owner.cloned(), peer, now, taken);
        // Before any other connection can find it.
        session.restore(acknowledged);
        session
    }

    fn insert(
        &mut self,
        id: SessionId,
        owner: Option<Principal>,
        peer: &Peer,
        now: Instant,
        taken: &Arc<AtomicUsize>,
    ) -> Arc<Session<W>> {
        self.owned.insert(owner.as_ref(), id);
        let session = Session::new(id, owner, taken, self.shares.open(peer));
        let entry = SessionEntry {
            session: Arc::clone(&session),
            peer: peer.clone(),
            connections: 1,
            idle_since: now,
            is_expired: false,
            is_ended: false,
        };
        self.by_id.insert(id.bits(), entry);
        session
    }

    /// Takes the name of a table that a store has kept.
    pub(super) fn set_table(&mut self, name: Box<str>) {
        self.table = name;
    }

    /// The session of this owner, with one connection more. Another owner's is as unknown as one that
    /// never was.
    pub(super) fn attach(
        &mut self,
        id: SessionId,
        owner: Option<&Principal>,
        limits: &SessionLimits,
        now: Instant,
    ) -> Option<Arc<Session<W>>> {
        self.owned.of(owner)?.get(&id.bits())?;
        let entry = self.by_id.get_mut(&id.bits())?;
        if entry.connections == 0 {
            // The sweep may not have come by yet. Of a session that is shared the store has the lease.
            entry.is_expired |=
                !limits.is_shared && has_passed(entry.idle_since, limits.lease, now);
            if entry.is_expired {
                return None;
            }
            let abandoned = (entry.idle_since, id);
            self.idle.remove(&abandoned);
            self.empty.remove(&abandoned);
            self.shares.attach(&entry.peer, abandoned);
        }
        entry.connections += 1;
        Some(Arc::clone(&entry.session))
    }

    /// Its client needs a session no longer.
    pub(super) fn end(&mut self, id: SessionId) {
        if let Some(entry) = self.by_id.get_mut(&id.bits()) {
            entry.is_ended = true;
        }
    }

    /// Gives the session, if it is forgotten now: a goodbye that came before its time takes no call
    /// along.
    pub(super) fn detach(
        &mut self,
        id: SessionId,
        is_empty: bool,
        now: Instant,
    ) -> Option<Arc<Session<W>>> {
        let entry = self.by_id.get_mut(&id.bits())?;
        entry.connections -= 1;
        if entry.connections == 0 {
            entry.idle_since = now;
            self.idle.insert((now, id));
            self.shares.abandon(&entry.peer, (now, id));
            if is_empty {
                self.empty.insert((now, id));
            }
            // Asked again, now that no connection can change it.
            if entry.is_ended && entry.session.live() == 0 {
                return self.forget(id);
            }
        }
        None
    }

    /// Whether a peer may have another session with a connection, of so many.
    pub(super) fn allows(&self, peer: &Peer, max: usize) -> bool {
        self.shares.allows(peer, max)
    }

    pub(super) fn has_share(&self, peer: &Peer, max: usize) -> bool {
        self.shares.attached() < max && !self.allows(peer, max)
    }

    /// Forgets a session whose lease has ended, or else one that has no connection, no call and no
    /// outcome, or else the longest abandoned one of the peer that has most: its calls are not
    /// executed either once it is unknown. False if there isn't one. To `waiters` are added those who
    /// wait for a call of the session that has gone.
    pub(super) fn make_room(
        &mut self,
        peer: &Peer,
        limits: &SessionLimits,
        now: Instant,
        waiters: &mut Vec<W>,
    ) -> bool {
        let gone = self
            .forget_expired(limits, now)
            .or_else(|| self.forget_empty(now))
            .or_else(|| {
                let id = self
                    .shares
                    .dispensable_for(peer, limits.max_sessions, now)?;
                self.forget(id)
            });
        let Some(session) = gone else {
            return false;
        };
        waiters.extend(session.with(Records::clear));
        true
    }

    /// Forgets a session that has had no connection for a while, and no call and no outcome.
    fn forget_empty(&mut self, now: Instant) -> Option<Arc<Session<W>>> {
        while let Some((since, id)) = self.empty.first().copied()
            && has_passed(since, GRACE, now)
        {
            self.empty.pop_first();
            let entry = self.by_id.get(&id.bits());
            if entry.is_some_and(|entry| entry.session.live() > 0) {
                continue;
            }
            return self.forget(id);
        }
        None
    }

    pub(super) fn forget_expired(
        &mut self,
        limits: &SessionLimits,
        now: Instant,
    ) -> Option<Arc<Session<W>>> {
        loop {
            let (since, id) = *self.idle.first()?;
            if !has_passed(since, limits.lease, now) {
                return None;
            }
            if !limits.is_shared || !self.stays_while_it_runs(id, now) {
                return self.forget(id);
            }
        }
    }

    /// A session without a connection of which a call still runs begins its time anew. False if none
    /// does.
    fn stays_while_it_runs(&mut self, id: SessionId, now: Instant) -> bool {
        let Some(entry) = self.by_id.get_mut(&id.bits()) else {
            return false;
        };
        if entry.session.running() == 0 {
            return false;
        }
        let (before, after) = ((entry.idle_since, id), (now, id));
        entry.idle_since = now;
        self.idle.remove(&before);
        self.idle.insert(after);
        self.empty.remove(&before);
        self.shares.attach(&entry.peer, before);
        self.shares.abandon(&entry.peer, after);
        true
    }

    /// Forgets a session without a connection.
    fn forget(&mut self, id: SessionId) -> Option<Arc<Session<W>>> {
        let entry = self.by_id.remove(&id.bits())?;
        let abandoned = (entry.idle_since, id);
        self.idle.remove(&abandoned);
        self.empty.remove(&abandoned);
        self.shares.forget(&entry.peer, abandoned);
        self.owned.remove(entry.session.owner(), id);
        self.forgotten.push(Forgotten {
            id,
            is_ended: entry.is_ended,
        });
        Some(entry.session)
    }

    /// The session, of any owner.
    pub(super) fn get(&self, id: SessionId) -> Option<Arc<Session<W>>> {
        let entry = self.by_id.get(&id.bits())?;
        Some(Arc::clone(&entry.session))
    }

    pub(super) fn knows(&self, id: SessionId) -> bool {
        self.by_id.contains_key(&id.bits())
    }

    pub(super) fn take_forgotten(&mut self) -> Vec<Forgotten> {
        std::mem::take(&mut self.forgotten)
    }

    #[cfg(test)]
    pub(super) fn is_disowned(&self) -> bool {
        self.owned.by_principal.is_empty() && self.owned.others.is_empty()
    }

    fn new_id(&mut self) -> SessionId {
        loop {
            let id = SessionId::from_bits(self.rng.next_u64());
            if !self.by_id.contains_key(&id.bits()) {
                return id;
            }
        }
    }
}

impl Owned {
    fn of(&self, owner: Option<&Principal>) -> Option<&Ids> {
        match owner {
            Some(owner) => self.by_principal.get(owner),
            None => Some(&self.others),
        }
    }

    fn insert(&mut self, owner: Option<&Principal>, id: SessionId) {
        let ids = match owner {
            Some(owner) => self.by_principal.entry_ref(owner).or_default(),
            None => &mut self.others,
        };
        ids.insert(id.bits());
    }

    fn remove(&mut self, owner: Option<&Principal>, id: SessionId) {
        let Some(owner) = owner else {
            self.others.remove(&id.bits());
            return;
        };
        if let Some(ids) = self.by_principal.get_mut(owner) {
            ids.remove(&id.bits());
            if ids.is_empty() {
                self.by_principal.remove(owner);
            }
        }
    }

    fn clear(&mut self) {
        self.by_principal.clear();
        self.others.clear();
    }
}

fn table_name(rng: &mut ChaCha8Rng) -> Box<str> {
    format!("{:016x}", rng.next_u64()).into()
}

pub(super) fn has_passed(since: Instant, time: Duration, now: Instant) -> bool {
    now.saturating_duration_since(since) >= time
}
