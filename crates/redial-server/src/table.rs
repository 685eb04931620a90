//! The table: which calls are running, which are finished, and what was answered.
//!
//! One entry per mutation, found or created in one step under one lock, before any delay, queue
//! or handler. Nothing is evicted while it could still be asked for: a full table refuses new
//! calls instead. The rules are pure; time comes in, and what waits for a reply (`W`) is opaque.
//!
//! A call with a [plain] id is known for a while after its end. A call of a
//! [session](sessions) is known until its caller acknowledges it.

pub(crate) mod call;
pub(crate) mod plain;
pub(crate) mod session;
pub(crate) mod sessions;

use std::{sync::Arc, time::Instant};

use redial_protocol::{CallKey, Principal, SessionCall};

use crate::context::Context;

pub(crate) use self::{
    call::{
        AckedWaiters, Admitted, Attempt, Cancelled, Decision, DeferredOutcome, Fingerprint,
        Resolved, Restored, RestoredCall, StartCheck, TableWaiter, TakenOver, ToNotify,
    },
    plain::{MAX_TTL, PlainKey, PlainLimits, PlainTable},
    session::SessionLimits,
    sessions::{Forgotten, Session, Sessions},
};

/// The name of a call's entry.
#[derive(Debug)]
pub(crate) enum TableKey<W> {
    Plain(PlainKey),
    /// The call of this number.
    Session(Arc<Session<W>>, u64),
}

#[derive(Debug)]
pub(crate) struct Table<W> {
    pub(crate) plain: PlainTable<W>,
    pub(crate) sessions: Sessions<W>,
}

impl<W: TableWaiter> Table<W> {
    /// One attempt of a call arrives. `admit` is asked only for a call that is new and has room;
    /// `waiter` only for one that is running; `replay` takes the outcome of one that is finished.
    /// `look` lets the table of plain ids know what may go, and when it is.
    /// The attempt's deferred outcome and its `ack` come first; `notify` takes those who wait for
    /// the calls that they end.
    #[expect(
        clippy::too_many_arguments,
        reason = "each is asked at another step, and most calls ask for one or two"
    )]
    pub(crate) fn begin<T, R>(
        &self,
        key: &TableKey<W>,
        attempt: &Attempt<'_>,
        mut admit: impl FnMut() -> Result<Admitted<T>, R>,
        waiter: impl FnMut() -> W,
        look: impl FnOnce() -> Instant,
        replay: &mut Vec<u8>,
        notify: &mut ToNotify<W>,
    ) -> Decision<T, R> {
        match key {
            TableKey::Plain(key) => {
                let admit = || admit().map(|admitted| admitted.ticket);
                self.plain.begin(key, attempt, admit, waiter, look, replay)
            }
            TableKey::Session(session, number) => {
                let room = self.sessions.room(session);
                session.with(|records| {
                    if let Some(deferred) = attempt.deferred {
                        notify.joined = records.finish(deferred.number, deferred.outcome);
                    }
                    if let Some(ack) = attempt.ack {
                        records.acknowledge_below(ack, &mut notify.acknowledged);
                    }
                    records.begin(*number, attempt, room, admit, waiter, replay)
                })
            }
        }
    }

    /// Asked for every call whose handler did not start at once, before it does. `own` is the
    /// deadline of the attempt that brought the call; the table knows all the others.
    pub(crate) fn check_start(
        &self,
        key: &TableKey<W>,
        own: Option<Instant>,
        now: Instant,
    ) -> StartCheck<W> {
        let is_expired = own.is_some_and(|own| own <= now);
        match key {
            TableKey::Plain(key) if is_expired => match self.plain.release_if_expired(key, now) {
                Some(joined) => StartCheck::Expired(joined),
                None => StartCheck::Start,
            },
            TableKey::Plain(_) => StartCheck::Start,
            TableKey::Session(session, number) => {
                session.with(|records| records.check_start(*number, now))
            }
        }
    }

    /// The same of a call that stays queued if it may start: nothing is entered then. It may not if the
    /// connection `is_gone` that brought it, and none of those who have joined it has one any more.
    pub(crate) fn check_queued(
        &self,
        key: &TableKey<W>,
        own: Option<Instant>,
        is_gone: bool,
        now: Instant,
    ) -> StartCheck<W> {
        if own.is_some_and(|own| own <= now) {
            let check = match key {
                TableKey::Plain(_) => self.check_start(key, own, now),
                TableKey::Session(session, number) => {
                    session.with(|records| records.check_queued(*number, now))
                }
            };
            if check.is_final() {
                return check;
            }
        }
        let released = match key {
            _ if !is_gone => None,
            TableKey::Plain(key) => self.plain.release_unheard(key),
            TableKey::Session(session, number) => {
                session.with(|records| records.release_unheard(*number))
            }
        };
        released.map_or(StartCheck::Start, StartCheck::Unheard)
    }

    /// The execution finished: records its outcome, and returns its waiters. The clock is read
    /// only for a record that expires.
    pub(crate) fn finish(
        &self,
        key: &TableKey<W>,
        outcome: &[u8],
        clock: impl FnOnce() -> Instant,
    ) -> Vec<W> {
        match key {
            TableKey::Plain(key) => self.plain.finish(key, outcome, clock()),
            TableKey::Session(session, number) => session.finish(*number, outcome),
        }
    }

    /// The call never started, or had no effect: the next attempt may start it. Returns its
    /// waiters.
    pub(crate) fn release(&self, key: &TableKey<W>) -> Vec<W> {
        match key {
            TableKey::Plain(key) => self.plain.release(key),
            TableKey::Session(session, number) => session.with(|records| records.release(*number)),
        }
    }

    /// Forgets that the call runs: what it has come to is the store's to say, to the next attempt. Returns its
    /// waiters.
    pub(crate) fn reopen(&self, key: &TableKey<W>) -> Vec<W> {
        match key {
            TableKey::Plain(key) => self.plain.release(key),
            TableKey::Session(session, number) => session.with(|records| records.reopen(*number)),
        }
    }
}

impl<W> TableKey<W> {
    /// Lets a handler know the call's name.
    #[inline]
    pub(crate) fn name_in(&self, context: &mut Context) {
        match self {
            Self::Plain(key) => context.set_name(key.name()),
            Self::Session(session, number) => context.set_session_call(SessionCall {
                session: session.id(),
                number: *number,
            }),
        }
    }

    /// The principal whose call it is.
    pub(crate) fn owner(&self) -> Option<&Principal> {
        match self {
            Self::Plain(key) => key.name().principal(),
            Self::Session(session, _) => session.owner(),
        }
    }

    /// The call's name.
    pub(crate) fn call_key(&self) -> CallKey {
        match self {
            Self::Plain(key) => key.name().clone(),
            Self::Session(session, number) => CallKey::Session(SessionCall {
                session: session.id(),
                number: *number,
            }),
        }
    }
}

impl<W> Clone for TableKey<W> {
    fn clone(&self) -> Self {
        match self {
            Self::Plain(key) => Self::Plain(key.clone()),
            Self::Session(session, number) => Self::Session(Arc::clone(session), *number),
        }
    }
}
