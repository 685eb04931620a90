//! Calls with plain ids, which belong to no session: finished ones are known for a while, the TTL,
//! and then forgotten.

mod finished;
mod index;
mod ring;
mod running;
mod shard;
mod ttl;
mod usage;

use std::{
    hash::{BuildHasher, Hash, Hasher, RandomState},
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

use redial_protocol::CallKey;

use self::{
    finished::record_bytes,
    shard::{Found, Shard},
    usage::{Amount, Usage},
};
use super::{Attempt, Begin, Fingerprint, Late, Resolved, Waits, lock};

/// Enough that two threads rarely meet and that a shard grows in steps too small to be felt, and
/// few enough that what is prepared in all of them stays close to the processor.
const SHARDS: usize = 32;

/// The longest TTL that a record's expiry can be told by.
pub(crate) const MAX_TTL: Duration = ttl::Millis::MAX_SPAN;

/// The bounds of the calls with plain ids; see `Config` for what they mean to a user.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlainLimits {
    pub(crate) ttl: Duration,
    pub(crate) max_records: usize,
    pub(crate) max_bytes: usize,
    pub(crate) max_joined: usize,
}

/// A call's name with its hash, which is computed once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PlainKey {
    hash: u64,
    key: CallKey,
}

#[derive(Debug)]
pub(crate) struct PlainTable<W> {
    shards: Box<[Mutex<Shard<W>>]>,
    hasher: RandomState,
    limits: PlainLimits,
    epoch: Instant,
    usage: Usage,
}

impl<W> PlainTable<W> {
    pub(crate) fn new(limits: PlainLimits, epoch: Instant) -> Self {
        Self {
            shards: (0..SHARDS)
                .map(|_| Mutex::new(Shard::new(limits.ttl)))
                .collect(),
            hasher: RandomState::new(),
            limits,
            epoch,
            usage: Usage::new(Amount {
                records: limits.max_records,
                bytes: limits.max_bytes,
            }),
        }
    }

    pub(crate) fn key(&self, key: CallKey) -> PlainKey {
        PlainKey {
            hash: hash(&self.hasher, &key),
            key,
        }
    }

    /// One attempt of a call arrives. `admit` is asked only for a call that is new and has room;
    /// `waiter` only for one that is running; `replay` takes the outcome of one that is finished.
    pub(crate) fn begin<T, R>(
        &self,
        key: &PlainKey,
        attempt: Attempt,
        mut admit: impl FnMut() -> Result<T, R>,
        mut waiter: impl FnMut() -> W,
        replay: &mut Vec<u8>,
    ) -> Begin<T, R>
    where
        W: Waits,
    {
        let mut step = || self.step(key, attempt, &mut admit, &mut waiter, replay);
        match step() {
            // Others may hold what has expired, or have room in hand; only taken when needed.
            Begin::Full { .. } if self.gather(attempt.now) != Amount::default() => step(),
            decided => decided,
        }
    }

    fn step<T, R>(
        &self,
        key: &PlainKey,
        attempt: Attempt,
        admit: &mut impl FnMut() -> Result<T, R>,
        waiter: &mut impl FnMut() -> W,
        replay: &mut Vec<u8>,
    ) -> Begin<T, R>
    where
        W: Waits,
    {
        let now = self.at(attempt.now);
        let mut shard = self.shard(key);
        shard.expire(now, &self.usage);
        match shard.find(key, Some(attempt.fingerprint), now) {
            Found::Running(running) => {
                if running.is_crowded(self.limits.max_joined) {
                    return Begin::TooManyJoined;
                }
                running.join(waiter(), attempt.deadline);
                return Begin::Joined;
            }
            Found::Finished(outcome) => {
                let pieces = outcome.iter();
                pieces.for_each(|piece| replay.extend_from_slice(piece));
                return Begin::Replayed;
            }
            Found::OtherCall => return Begin::IdReused,
            Found::Nothing => {}
        }
        if !shard.in_hand.reserve(unfinished(key), &self.usage) {
            drop(shard);
            let retry_after = self.room_in(attempt.now);
            return Begin::Full { retry_after };
        }
        match admit() {
            Ok(ticket) => {
                shard.start(key, attempt);
                Begin::Start(ticket)
            }
            Err(refused) => {
                shard.in_hand.put(unfinished(key), &self.usage);
                Begin::Refused(refused)
            }
        }
    }

    /// The execution ended: records its outcome, and hands out who waits for it.
    pub(crate) fn finish(&self, key: &PlainKey, outcome: &[u8], now: Instant) -> Vec<W> {
        let expires = self.at(now).plus(self.limits.ttl);
        let mut shard = self.shard(key);
        shard.in_hand.take(outcome.len(), &self.usage);
        shard.finish(key, outcome, expires)
    }

    /// The call was never started, or has had no effect: its id is as good as new. Hands out who
    /// waits for it.
    pub(crate) fn release(&self, key: &PlainKey) -> Vec<W> {
        let mut shard = self.shard(key);
        shard.in_hand.put(unfinished(key), &self.usage);
        shard.release(key)
    }

    /// [Releases](Self::release) a running call if the deadlines of all its attempts have passed.
    pub(crate) fn release_if_late(&self, key: &PlainKey, now: Instant) -> Option<Late<W>> {
        let mut shard = self.shard(key);
        if shard.deadline(key).is_none_or(|deadline| deadline > now) {
            return None;
        }
        shard.in_hand.put(unfinished(key), &self.usage);
        Some(shard.release(key))
    }

    /// Somebody asks what became of a call. One that isn't here may have expired.
    pub(crate) fn resolve(
        &self,
        key: &PlainKey,
        now: Instant,
        waiter: impl FnOnce() -> W,
        replay: &mut Vec<u8>,
    ) -> Resolved
    where
        W: Waits,
    {
        let now = self.at(now);
        let mut shard = self.shard(key);
        shard.expire(now, &self.usage);
        match shard.find(key, None, now) {
            Found::Running(running) => match running.is_crowded(self.limits.max_joined) {
                true => Resolved::TooManyJoined,
                false => {
                    running.join(waiter(), None);
                    Resolved::Joined
                }
            },
            Found::Finished(outcome) => {
                let pieces = outcome.iter();
                pieces.for_each(|piece| replay.extend_from_slice(piece));
                Resolved::Done
            }
            Found::OtherCall | Found::Nothing => Resolved::Unknown,
        }
    }

    /// Takes away what has expired, and gives memory back that is no longer needed. Says how many
    /// records went.
    pub(crate) fn expire(&self, now: Instant) -> usize {
        let now = self.at(now);
        let expire = |mut shard: MutexGuard<'_, Shard<W>>| {
            let gone = shard.expire_all(now, &self.usage);
            shard.finished.shrink();
            gone.records
        };
        self.all().map(expire).sum()
    }

    /// Frees all that the shards hold without need. Says how much, or more: what has expired may
    /// have come into a hand first.
    fn gather(&self, now: Instant) -> Amount {
        let now = self.at(now);
        let gather = |mut shard: MutexGuard<'_, Shard<W>>| {
            let gone = shard.expire_all(now, &self.usage);
            gone.plus(shard.in_hand.give_back(&self.usage))
        };
        self.all().map(gather).fold(Amount::default(), Amount::plus)
    }

    pub(crate) fn records(&self) -> usize {
        self.held().records
    }

    pub(crate) fn bytes(&self) -> usize {
        self.held().bytes
    }

    /// What the shards have taken and not in hand. All are kept from taking meanwhile, or what one
    /// has just taken would be counted and that it has it in hand would not.
    fn held(&self) -> Amount {
        let shards: Vec<_> = self.all().collect();
        let in_hand = shards.iter().map(|shard| shard.in_hand.amount());
        let in_hand = in_hand.fold(Amount::default(), Amount::plus);
        self.usage.taken().less(in_hand)
    }

    /// When the next record expires, from `now`; a whole TTL if none is finished.
    fn room_in(&self, now: Instant) -> Duration {
        let now = self.at(now);
        let next = self
            .all()
            .filter_map(|shard| shard.finished.next_expiry(now));
        next.min()
            .unwrap_or(self.limits.ttl)
            .max(Duration::from_millis(1))
    }

    fn at(&self, now: Instant) -> ttl::Millis {
        ttl::Millis::since(self.epoch, now)
    }

    fn shard(&self, key: &PlainKey) -> MutexGuard<'_, Shard<W>> {
        lock(&self.shards[(key.hash >> u32::BITS) as usize % SHARDS])
    }

    /// One after the other.
    fn all(&self) -> impl Iterator<Item = MutexGuard<'_, Shard<W>>> {
        self.shards.iter().map(lock)
    }
}

/// Keyed, so that nobody can choose ids that meet. Of a UUID its 16 bytes are hashed and nothing
/// else; what tells it from the other kinds is looked at when keys are compared.
fn hash(hasher: &RandomState, key: &CallKey) -> u64 {
    let mut state = hasher.build_hasher();
    match key {
        CallKey::Uuid(bytes) => state.write(bytes),
        key => key.hash(&mut state),
    }
    state.finish()
}

impl PlainKey {
    /// What a record keeps of the hash: the part that did not choose the shard.
    fn short_hash(&self) -> u32 {
        self.hash as u32
    }
}

/// What is reserved for a call until it is known how long its outcome is.
fn unfinished(key: &PlainKey) -> Amount {
    Amount {
        records: 1,
        bytes: record_bytes(&key.key, 0),
    }
}

#[cfg(test)]
mod tests;
