//! The table: which calls are running, which are finished, and what was answered.
//!
//! One entry per mutation, found or created in one step under one lock, before any delay, queue
//! or handler. Nothing is evicted while it could still be asked for: a full table refuses new
//! calls instead. The rules are pure; time comes in, and who waits for a reply (`W`) is opaque.

mod shard;
mod ttl;

use std::{
    hash::{BuildHasher, RandomState},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use redial_protocol::CallKey;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128_with_seed};

use self::shard::{Found, Shard};

/// Enough that two threads rarely meet, and that the largest shard's index grows in steps too
/// small to be felt.
const SHARDS: usize = 64;

/// How many expired records one hold of a shard's lock takes away when there is time.
const EXPIRED_PER_SWEEP: usize = 512;

/// The longest TTL that a record's expiry can be told by.
pub(crate) const MAX_TTL: Duration = ttl::Millis::MAX_SPAN;

/// The bounds of the table; see `Config` for what they mean to a user.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TableLimits {
    pub(crate) ttl: Duration,
    pub(crate) max_records: usize,
    pub(crate) max_bytes: usize,
    pub(crate) max_joined: usize,
}

/// What a method and its params hash to; two attempts with different ones are not one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint([u64; 2]);

impl Fingerprint {
    /// A 128-bit XXH3 of the raw params, seeded with the method's [`seed`](Self::seed).
    pub(crate) fn new(method_seed: u64, raw_params: &str) -> Self {
        let hash = xxh3_128_with_seed(raw_params.as_bytes(), method_seed);
        Self([(hash >> 64) as u64, hash as u64])
    }

    /// The part that depends on the method alone, computed once per method.
    pub(crate) fn seed(method: &str) -> u64 {
        xxh3_64(method.as_bytes())
    }
}

/// A call's name with its hash, which is computed once.
#[derive(Clone, Debug)]
pub(crate) struct TableKey {
    key: CallKey,
    hash: u32,
}

/// What became of an attempt.
#[derive(Debug, PartialEq)]
pub(crate) enum Begin<T, R> {
    /// Nobody knew the call: it is running now, and the one who asked has to run it.
    Start(T),
    /// The call is running; the waiter was added.
    Joined,
    /// The call is finished; its outcome was appended to the buffer.
    Replayed,
    /// The id belongs to another call.
    IdReused,
    /// The call is running and has as many waiters as it may have.
    TooManyJoined,
    /// A new call, and no room for its record until then.
    Full { retry_after: Duration },
    /// A new call, and admission said no.
    Refused(R),
}

#[derive(Debug)]
pub(crate) struct Table<W> {
    shards: Box<[Mutex<Shard<W>>]>,
    hasher: RandomState,
    limits: TableLimits,
    epoch: Instant,
    usage: Usage,
}

/// Over all shards: records that are running or finished, and what they keep.
#[derive(Debug, Default)]
struct Usage {
    records: AtomicUsize,
    bytes: AtomicUsize,
}

impl<W> Table<W> {
    pub(crate) fn new(limits: TableLimits, epoch: Instant) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            limits,
            epoch,
            usage: Usage::default(),
        }
    }

    pub(crate) fn key(&self, key: CallKey) -> TableKey {
        let hash = self.hasher.hash_one(&key);
        TableKey {
            key,
            hash: (hash ^ (hash >> 32)) as u32,
        }
    }

    /// One attempt of a call arrives. `admit` is asked only for a call that is new and has room;
    /// `waiter` only for one that is running; `replay` takes the outcome of one that is finished.
    pub(crate) fn begin<T, R>(
        &self,
        key: &TableKey,
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
            // Other shards may hold what has expired; it is only taken away here when needed.
            Begin::Full { .. } if self.expire(attempt.now) > 0 => step(),
            decided => decided,
        }
    }

    fn step<T, R>(
        &self,
        key: &TableKey,
        attempt: Attempt,
        admit: &mut impl FnMut() -> Result<T, R>,
        waiter: &mut impl FnMut() -> W,
        replay: &mut Vec<u8>,
    ) -> Begin<T, R>
    where
        W: Waits,
    {
        let mut shard = self.shard(key);
        self.usage
            .give_back(shard.expire(key, self.at(attempt.now)));
        match shard.find(key, attempt.fingerprint) {
            Found::Running(running) => match running.is_crowded(self.limits.max_joined) {
                true => Begin::TooManyJoined,
                false => {
                    running.join(waiter(), attempt.deadline);
                    Begin::Joined
                }
            },
            Found::Finished(outcome) => {
                outcome
                    .iter()
                    .for_each(|piece| replay.extend_from_slice(piece));
                Begin::Replayed
            }
            Found::OtherCall => Begin::IdReused,
            Found::Nothing if !self.usage.reserve(key, &self.limits) => {
                drop(shard);
                Begin::Full {
                    retry_after: self.room_in(attempt.now),
                }
            }
            Found::Nothing => match admit() {
                Ok(ticket) => {
                    shard.start(key, attempt);
                    Begin::Start(ticket)
                }
                Err(refused) => {
                    self.usage.give_back((1, ttl::record_bytes(&key.key, 0)));
                    Begin::Refused(refused)
                }
            },
        }
    }

    /// The execution ended: records its outcome, and hands out who waits for it.
    pub(crate) fn finish(&self, key: &TableKey, outcome: &[u8], now: Instant) -> Vec<W> {
        let expires = self.at(now).plus(self.limits.ttl);
        self.usage.bytes.fetch_add(outcome.len(), Ordering::Relaxed);
        self.shard(key).finish(key, outcome, expires)
    }

    /// The call was never started, or has had no effect: its id is as good as new. Hands out who
    /// waits for it.
    pub(crate) fn release(&self, key: &TableKey) -> Vec<W> {
        self.usage.give_back((1, ttl::record_bytes(&key.key, 0)));
        self.shard(key).release(key)
    }

    /// [Releases](Self::release) a running call if the deadlines of all its attempts have passed.
    pub(crate) fn release_if_late(&self, key: &TableKey, now: Instant) -> Option<Vec<W>> {
        let mut shard = self.shard(key);
        if shard.deadline(key).is_none_or(|deadline| deadline > now) {
            return None;
        }
        self.usage.give_back((1, ttl::record_bytes(&key.key, 0)));
        Some(shard.release(key))
    }

    /// Takes away what has expired, a bounded number from each shard, and gives memory back
    /// that is no longer needed. Says how many records went.
    pub(crate) fn expire(&self, now: Instant) -> usize {
        let now = self.at(now);
        let expire = |shard: &Mutex<Shard<W>>| {
            let mut shard = lock(shard);
            let gone = shard.finished.expire(now, EXPIRED_PER_SWEEP);
            shard.finished.shrink();
            drop(shard);
            self.usage.give_back(gone);
            gone.0
        };
        self.shards.iter().map(expire).sum()
    }

    pub(crate) fn records(&self) -> usize {
        self.usage.records.load(Ordering::Relaxed)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.usage.bytes.load(Ordering::Relaxed)
    }

    /// When the next record expires, from `now`; a whole TTL if none is finished.
    fn room_in(&self, now: Instant) -> Duration {
        let now = self.at(now);
        let next = self
            .shards
            .iter()
            .filter_map(|shard| lock(shard).finished.next_expiry(now));
        next.min()
            .unwrap_or(self.limits.ttl)
            .max(Duration::from_millis(1))
    }

    fn at(&self, now: Instant) -> ttl::Millis {
        ttl::Millis::since(self.epoch, now)
    }

    fn shard(&self, key: &TableKey) -> MutexGuard<'_, Shard<W>> {
        // The index within a shard is made of the low bits, so the shard is picked by others.
        lock(&self.shards[(key.hash >> 20) as usize % SHARDS])
    }
}

/// Somebody who waits for an outcome.
pub(crate) trait Waits {
    /// Whether there is still somebody to tell.
    fn is_there(&self) -> bool;
}

/// What an attempt brings to the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt {
    pub(crate) fingerprint: Fingerprint,
    pub(crate) deadline: Option<Instant>,
    pub(crate) now: Instant,
}

impl Usage {
    /// Takes room for a new record, if there is any.
    fn reserve(&self, key: &TableKey, limits: &TableLimits) -> bool {
        let cost = ttl::record_bytes(&key.key, 0);
        let records = self.records.fetch_add(1, Ordering::Relaxed);
        let bytes = self.bytes.fetch_add(cost, Ordering::Relaxed);
        let fits = records < limits.max_records && bytes + cost <= limits.max_bytes;
        if !fits {
            self.give_back((1, cost));
        }
        fits
    }

    fn give_back(&self, (records, bytes): (usize, usize)) {
        if records > 0 {
            self.records.fetch_sub(records, Ordering::Relaxed);
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while the lock was held leaves a shard that is still whole: each step is an
    // insertion or a removal. Refusing everybody from then on would help nobody.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
