//! One session: its records behind their lock, and what it has taken of the memory for all.

use std::{
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
};

use redial_protocol::{Principal, SessionId};

use crate::{
    store::Acknowledged,
    table::{
        call::{
            AckedWaiters, Cancelled, Fingerprint, Resolved, Restored, RestoredCall, TableWaiter,
            TakenOver, lock,
        },
        session::{Records, Room},
    },
};

/// In what portions a session takes room for its records, in bytes: the sum over all sessions is
/// touched once for many calls, and is never less than what they do keep.
const PORTION_BYTES: usize = 4096;

/// What one client has with one table.
#[derive(Debug)]
pub(crate) struct Session<W> {
    id: SessionId,
    /// Whose session it is.
    owner: Option<Principal>,
    /// The store could not keep it.
    is_unkept: AtomicBool,
    account: Mutex<Account<W>>,
    /// What all sessions have taken, in bytes.
    total_taken: Arc<AtomicUsize>,
    /// What those of its peer have.
    peer_taken: Arc<AtomicUsize>,
}

/// A session's records, and the room that was taken for them.
#[derive(Debug)]
struct Account<W> {
    records: Records<W>,
    taken_bytes: usize,
}

/// How an acknowledgement went.
pub(crate) struct AckResult<W> {
    /// False if a range lies further ahead than the window allows; those before it were taken.
    pub(crate) is_accepted: bool,
    /// `None` if no acknowledged call was running.
    pub(crate) waiters: Option<AckedWaiters<W>>,
}

impl<W> Session<W> {
    pub(super) fn new(
        id: SessionId,
        owner: Option<Principal>,
        total_taken: &Arc<AtomicUsize>,
        peer_taken: Arc<AtomicUsize>,
    ) -> Arc<Self> {
        Arc::new(Self {
            id,
            owner,
            is_unkept: AtomicBool::new(false),
            account: Mutex::new(Account {
                records: Records::default(),
                taken_bytes: 0,
            }),
            total_taken: Arc::clone(total_taken),
            peer_taken,
        })
    }

    pub(crate) fn id(&self) -> SessionId {
        self.id
    }

    /// Whose session it is; `None` if it is that of callers without a principal.
    pub(crate) fn owner(&self) -> Option<&Principal> {
        self.owner.as_ref()
    }

    pub(super) fn set_unkept(&self) {
        self.is_unkept.store(true, Relaxed);
    }

    /// Whether the store could not keep it, so that no client has heard of it.
    pub(crate) fn is_unkept(&self) -> bool {
        self.is_unkept.load(Relaxed)
    }

    /// The one way to the records. Those who hold a session are attached to it, or run a call of
    /// it, for which a session that was forgotten meanwhile has no slot any more.
    pub(in crate::table) fn with<T>(&self, access: impl FnOnce(&mut Records<W>) -> T) -> T {
        let account = &mut *lock(&self.account);
        let result = access(&mut account.records);
        let bytes = account.records.claimed_bytes();
        let (taken, too_much) = (account.taken_bytes, 2 * PORTION_BYTES);
        if bytes > taken || taken - bytes >= too_much || bytes == 0 && taken > 0 {
            account.taken_bytes = bytes.next_multiple_of(PORTION_BYTES);
            replace(&self.total_taken, taken, account.taken_bytes);
            replace(&self.peer_taken, taken, account.taken_bytes);
        }
        result
    }

    /// How many calls run, or have an outcome that is not acknowledged. Taken under the registry's lock.
    pub(super) fn live(&self) -> usize {
        lock(&self.account).records.live()
    }

    /// How many of those run. Taken under the registry's lock, too.
    pub(super) fn running(&self) -> usize {
        lock(&self.account).records.running()
    }

    /// See [`Records::known`].
    pub(crate) fn known(&self) -> Vec<(u64, u64)> {
        lock(&self.account).records.known()
    }

    /// What the sessions of its peer have taken, and what it has itself, in bytes.
    pub(super) fn taken_bytes(&self) -> (usize, usize) {
        let own = lock(&self.account).taken_bytes;
        (self.peer_taken.load(Relaxed), own)
    }

    /// See [`Records::acknowledged`].
    pub(crate) fn acknowledged(&self) -> Acknowledged {
        lock(&self.account).records.acknowledged()
    }

    /// See [`Records::all_acknowledged`].
    pub(crate) fn all_acknowledged(&self) -> Acknowledged {
        lock(&self.account).records.all_acknowledged()
    }

    /// See [`Records::restore`]. Taken under the registry's lock, of a session that no one has seen.
    pub(super) fn restore(&self, acknowledged: &Acknowledged) {
        self.with(|records| records.restore(acknowledged));
    }

    /// See [`Records::restore_call`].
    pub(crate) fn restore_call(&self, number: u64, call: RestoredCall<'_>) -> Restored {
        self.with(|records| records.restore_call(number, call))
    }

    /// See [`Records::take_over`].
    pub(crate) fn take_over(
        &self,
        number: u64,
        fingerprint: Fingerprint,
        waiter: W,
    ) -> TakenOver<W> {
        self.with(|records| records.take_over(number, fingerprint, waiter))
    }

    /// See [`Records::finish`].
    pub(crate) fn finish(&self, number: u64, outcome: &[u8]) -> Vec<W> {
        self.with(|records| records.finish(number, outcome))
    }
}

impl<W: TableWaiter> Session<W> {
    /// See [`Records::resolve`].
    pub(crate) fn resolve(
        &self,
        number: u64,
        room: Room<'_>,
        waiter: impl FnOnce() -> W,
        replay: &mut Vec<u8>,
    ) -> Resolved {
        self.with(|records| records.resolve(number, room, waiter, replay))
    }

    /// See [`Records::cancel`].
    pub(crate) fn cancel(&self, number: u64, room: Room<'_>) -> Cancelled<W> {
        self.with(|records| records.cancel(number, room))
    }

    /// The caller acknowledges every call below `ack`, and those in the ranges above it, which
    /// ascend.
    pub(crate) fn acknowledge(
        &self,
        ack: u64,
        above: &[(u64, u64)],
        window: usize,
    ) -> AckResult<W> {
        let mut waiters = None;
        let is_accepted = self.with(|records| {
            records.acknowledge_below(ack, &mut waiters);
            let mut ranges = above.iter().map(|(from, to)| Range {
                start: *from,
                end: *to,
            });
            let is_accepted = ranges.all(|range| records.acknowledge(range, window, &mut waiters));
            // A client with nothing in flight sends this because it has nothing else to send.
            if records.open() == 0 {
                records.shrink();
            }
            is_accepted
        });
        AckResult {
            is_accepted,
            waiters,
        }
    }
}

/// Changes one part of a total.
fn replace(total: &AtomicUsize, before: usize, after: usize) {
    if after > before {
        total.fetch_add(after - before, Relaxed);
    } else if after < before {
        total.fetch_sub(before - after, Relaxed);
    }
}
