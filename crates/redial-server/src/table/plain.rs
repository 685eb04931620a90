//! Calls with plain ids, which belong to no session: finished ones are known for a while, the TTL,
//! and then forgotten.

mod finished;
mod index;
mod key;
mod owners;
mod patience;
mod ring;
mod running;
mod shard;
mod ttl;
mod usage;

use std::{
    hash::RandomState,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use redial_protocol::CallKey;

pub(crate) use self::key::PlainKey;
use self::{
    finished::record_bytes,
    owners::{OwnerUsage, Owners},
    patience::Patience,
    shard::{Shard, ShardLookup},
    ttl::Millis,
    usage::{Amount, SHARDS, Usage},
};
use super::call::{Attempt, Decision, Fingerprint, Resolved, TableWaiter, lock};

/// The longest TTL that a record can have.
pub(crate) const MAX_TTL: Duration = Millis::MAX_SPAN;

/// The bounds of the calls with plain ids; see `Config` for what they mean to a user.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlainLimits {
    pub(crate) ttl: Duration,
    pub(crate) max_records: usize,
    pub(crate) max_bytes: usize,
    pub(crate) max_joined: usize,
}

#[derive(Debug)]
pub(crate) struct PlainTable<W> {
    shards: Box<[Mutex<Shard<W>>]>,
    hasher: RandomState,
    limits: PlainLimits,
    epoch: Instant,
    usage: Usage,
    owners: Owners,
    patience: Patience,
}

impl<W> PlainTable<W> {
    pub(crate) fn new(limits: PlainLimits, epoch: Instant) -> Self {
        Self {
            shards: (0..SHARDS)
                .map(|_| Mutex::new(Shard::new(limits.ttl)))
                .collect(),
            hasher: RandomState::new(),
            limits,
            patience: Patience::new(limits.ttl),
            epoch,
            owners: Owners::default(),
            usage: Usage::new(Amount {
                records: limits.max_records,
                bytes: limits.max_bytes,
            }),
        }
    }

    pub(crate) fn key(&self, key: CallKey) -> PlainKey {
        PlainKey::new(&self.hasher, key)
    }

    /// One attempt of a call arrives. `admit` is asked only for a call that is new and has room;
    /// `waiter` only for one that is running; `replay` takes the outcome of one that is finished.
    /// `look` [sets the horizon](Self::set_horizon) if the table is full.
    pub(crate) fn begin<T, R>(
        &self,
        key: &PlainKey,
        attempt: &Attempt<'_>,
        mut admit: impl FnMut() -> Result<T, R>,
        mut waiter: impl FnMut() -> W,
        look: impl FnOnce() -> Instant,
        replay: &mut Vec<u8>,
    ) -> Decision<T, R>
    where
        W: TableWaiter,
    {
        let mut step = || self.step(key, attempt, &mut admit, &mut waiter, replay);
        match step() {
            // Other shards may hold expired records, or spare room; collected only when needed.
            full @ (Decision::Full { .. } | Decision::ShareFull { .. }) => {
                if self.make_room(look()) { step() } else { full }
            }
            decided => decided,
        }
    }

    fn step<T, R>(
        &self,
        key: &PlainKey,
        attempt: &Attempt<'_>,
        admit: &mut impl FnMut() -> Result<T, R>,
        waiter: &mut impl FnMut() -> W,
        replay: &mut Vec<u8>,
    ) -> Decision<T, R>
    where
        W: TableWaiter,
    {
        let now = self.at(attempt.now);
        let mut shard = self.shard(key);
        shard.expire(self.patience.horizon(), &self.usage);
        match shard.find(key, Some(attempt.fingerprint), now) {
            ShardLookup::Running(running) => {
                if running.interest.is_crowded(self.limits.max_joined) {
                    return Decision::TooManyJoined;
                }
                running.interest.join(waiter(), attempt.deadline);
                return Decision::Joined;
            }
            ShardLookup::Finished(outcome) => {
                replay.extend_from_slice(outcome[0]);
                replay.extend_from_slice(outcome[1]);
                return Decision::Replayed;
            }
            ShardLookup::OtherCall => return Decision::IdReused,
            ShardLookup::Nothing if self.patience.may_have_forgotten(now) => {
                return Decision::Forgotten;
            }
            ShardLookup::Nothing => {}
        }
        let expected_bytes = self.usage.expected_outcome();
        let reservation = reservation(key, expected_bytes);
        let owner = self.owner(key);
        if owner.as_ref().is_some_and(|owner| !self.may_take(owner)) {
            drop(shard);
            let retry_after = self.next_room_in(attempt.now);
            return Decision::ShareFull { retry_after };
        }
        if !shard.quota.reserve(reservation, &self.usage) {
            drop(shard);
            let retry_after = self.next_room_in(attempt.now);
            return Decision::Full { retry_after };
        }
        match admit() {
            Ok(ticket) => {
                shard.start(key, attempt, expected_bytes, owner);
                Decision::Start(ticket)
            }
            Err(refused) => {
                shard.quota.put(reservation, &self.usage);
                Decision::Refused(refused)
            }
        }
    }

    /// What the principal has whose call it is, if it is that of one.
    #[inline]
    fn owner(&self, key: &PlainKey) -> Option<Arc<OwnerUsage>> {
        let principal = key.name().principal()?;
        Some(self.owners.usage(principal))
    }

    fn may_take(&self, owner: &OwnerUsage) -> bool {
        owner.may_take(self.usage.free())
    }

    /// Restores a call that a store has kept, as running. To be [finished](Self::finish) with its
    /// outcome, if it has one.
    pub(crate) fn restore(&self, key: &PlainKey, fingerprint: Fingerprint, now: Instant) {
        let attempt = Attempt {
            fingerprint,
            deadline: None,
            now,
            number: 1,
            ack: None,
            deferred: None,
            is_numbered: false,
        };
        let mut shard = self.shard(key);
        shard.quota.take_all(reservation(key, 0), &self.usage);
        shard.start(key, &attempt, 0, self.owner(key));
    }

    /// The execution finished: records its outcome, and returns its waiters.
    pub(crate) fn finish(&self, key: &PlainKey, outcome: &[u8], now: Instant) -> Vec<W> {
        let expires = self.at(now).plus(self.limits.ttl);
        let mut shard = self.shard(key);
        let (waiters, expected_bytes) = shard.finish(key, outcome, expires);
        shard
            .quota
            .settle(expected_bytes, outcome.len(), &self.usage);
        waiters
    }

    /// The call never started, or had no effect: its id is as good as new. Returns its waiters.
    pub(crate) fn release(&self, key: &PlainKey) -> Vec<W> {
        let mut shard = self.shard(key);
        self.release_in(&mut shard, key)
    }

    /// [Releases](Self::release) a running call if the deadlines of all its attempts have passed.
    pub(crate) fn release_if_expired(&self, key: &PlainKey, now: Instant) -> Option<Vec<W>> {
        let mut shard = self.shard(key);
        if shard.deadline(key).is_none_or(|deadline| deadline > now) {
            return None;
        }
        Some(self.release_in(&mut shard, key))
    }

    /// [Releases](Self::release) a call that has not started, if none of those who have joined it has a
    /// connection any more.
    pub(crate) fn release_unheard(&self, key: &PlainKey) -> Option<Vec<W>>
    where
        W: TableWaiter,
    {
        let mut shard = self.shard(key);
        if shard.is_heard(key) {
            return None;
        }
        Some(self.release_in(&mut shard, key))
    }

    fn release_in(&self, shard: &mut Shard<W>, key: &PlainKey) -> Vec<W> {
        let (waiters, expected_bytes) = shard.release(key);
        let reservation = reservation(key, expected_bytes);
        shard.quota.put(reservation, &self.usage);
        waiters
    }

    /// Finds the outcome of a call. One that isn't here may have expired.
    pub(crate) fn resolve(
        &self,
        key: &PlainKey,
        now: Instant,
        waiter: impl FnOnce() -> W,
        replay: &mut Vec<u8>,
    ) -> Resolved
    where
        W: TableWaiter,
    {
        let now = self.at(now);
        let mut shard = self.shard(key);
        shard.expire(self.patience.horizon(), &self.usage);
        match shard.find(key, None, now) {
            ShardLookup::Running(running) => {
                if running.interest.is_crowded(self.limits.max_joined) {
                    return Resolved::TooManyJoined;
                }
                running.interest.join(waiter(), None);
                Resolved::Joined
            }
            ShardLookup::Finished(outcome) => {
                replay.extend_from_slice(outcome[0]);
                replay.extend_from_slice(outcome[1]);
                Resolved::Done
            }
            ShardLookup::OtherCall | ShardLookup::Nothing => Resolved::Unknown,
        }
    }

    /// Until when records that have expired may go: what has arrived before is read, in every
    /// connection.
    pub(crate) fn set_horizon(&self, horizon: Instant) {
        self.patience.set_horizon(self.at(horizon));
    }

    /// Removes the records that have expired before the horizon, and returns memory that is no longer
    /// needed. Returns how many records went.
    pub(crate) fn expire(&self) -> usize {
        let horizon = self.patience.horizon();
        let expire = |mut shard: MutexGuard<'_, Shard<W>>| {
            let gone = shard.expire_all(horizon, &self.usage);
            shard.finished.shrink();
            gone.records
        };
        self.all().map(expire).sum()
    }

    /// Frees what the shards hold without need, and if that is nothing, what is kept only for
    /// requests that have lain unread for long. False if nothing is to be had.
    fn make_room(&self, now: Instant) -> bool {
        if self.reclaim(self.patience.horizon()) != Amount::default() {
            return true;
        }
        let horizon = self.patience.horizon_for_room(self.at(now));
        horizon.is_some_and(|horizon| self.reclaim(horizon) != Amount::default())
    }

    /// Frees all that the shards hold without need. Returns how much, or more: expired records are
    /// counted once as they go and once more in a shard's quota.
    fn reclaim(&self, now: Millis) -> Amount {
        let reclaim = |mut shard: MutexGuard<'_, Shard<W>>| {
            let gone = shard.expire_all(now, &self.usage);
            gone.plus(shard.quota.return_all(&self.usage))
        };
        self.all()
            .map(reclaim)
            .fold(Amount::default(), Amount::plus)
    }

    pub(crate) fn records(&self) -> usize {
        self.held().records
    }

    pub(crate) fn bytes(&self) -> usize {
        self.held().bytes
    }

    /// What the shards have taken, less their unused quotas. All shards are locked meanwhile, or
    /// what one has just taken would be counted without being in its quota yet.
    fn held(&self) -> Amount {
        let shards: Vec<_> = self.all().collect();
        let quota = shards.iter().map(|shard| shard.quota.amount());
        let quota = quota.fold(Amount::default(), Amount::plus);
        self.usage.taken().less(quota)
    }

    /// How long until the next record expires; a whole TTL if there isn't one.
    fn next_room_in(&self, now: Instant) -> Duration {
        let now = self.at(now);
        let next = self
            .all()
            .filter_map(|shard| shard.finished.next_expiry(now));
        next.min()
            .unwrap_or(self.limits.ttl)
            .max(Duration::from_millis(1))
    }

    fn at(&self, now: Instant) -> Millis {
        Millis::since(self.epoch, now)
    }

    fn shard(&self, key: &PlainKey) -> MutexGuard<'_, Shard<W>> {
        lock(&self.shards[(key.hash >> u32::BITS) as usize % SHARDS])
    }

    /// One after the other.
    fn all(&self) -> impl Iterator<Item = MutexGuard<'_, Shard<W>>> {
        self.shards.iter().map(lock)
    }
}

/// What is reserved for a call until the length of its outcome is known.
fn reservation(key: &PlainKey, expected_bytes: usize) -> Amount {
    Amount {
        records: 1,
        bytes: record_bytes(&key.key, expected_bytes),
    }
}

#[cfg(test)]
mod tests;
