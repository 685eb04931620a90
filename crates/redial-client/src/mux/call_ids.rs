//! Ids for calls: a number in the client's session where there is one, a random UUID where the
//! server has no sessions; and what happens to the numbers when their calls end.

use std::time::Instant;

use rand::Rng;
use redial_protocol::SessionCall;
use uuid::Uuid;

use super::{
    Mux,
    attempt::{Attempt, AttemptState},
    pending_call::{CallFlags, CallId, Home, PendingCall},
    sessions::Disposition,
    slab::Key,
    waiting::push_waiting,
};

/// Why a call can't begin under its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IdConflict {
    /// Another call runs under this id.
    InUse,
    /// The session that it was numbered in is gone.
    SessionLost,
}

impl Mux {
    /// A call begins, under an id if it has one already.
    ///
    /// # Errors
    ///
    /// [`IdConflict`] if it can't be under that id.
    #[inline]
    pub(crate) fn open(&mut self, id: Option<Uuid>, flags: CallFlags) -> Result<Key, IdConflict> {
        match id {
            Some(id) => self.open_under(id, flags),
            None => Ok(self.open_new(flags)),
        }
    }

    fn open_new(&mut self, flags: CallFlags) -> Key {
        let key = self.insert(flags);
        // Of several tables it is that of the endpoint which it is sent to.
        let has_choice = self.is_balanced || flags.is_notification;
        if !has_choice && !self.has_number_queue(0) {
            self.assign_number(key, 0);
        }
        key
    }

    fn open_under(&mut self, id: Uuid, flags: CallFlags) -> Result<Key, IdConflict> {
        if self.find(id).is_some() {
            return Err(IdConflict::InUse);
        }
        let call = SessionCall::from_uuid(id);
        let own = call.filter(|call| self.sessions.get(call.session).is_some());
        if call.is_some() && own.is_none() && flags.is_bound && !flags.is_resumed {
            return Err(IdConflict::SessionLost);
        }
        let key = self.insert(flags);
        let resumed = own.filter(|call| {
            let session = self.sessions.get_mut(call.session);
            session.is_some_and(|session| session.resume(call.number, key))
        });
        match resumed {
            Some(call) => self.call(key).id = CallId::Session(call),
            None => self.assign_plain(key, id),
        }
        Ok(key)
    }

    /// A call that has no id yet.
    fn insert(&mut self, flags: CallFlags) -> Key {
        self.calls.insert_with(|| PendingCall::new(flags))
    }

    /// The call that runs under an id.
    pub(super) fn find(&self, id: Uuid) -> Option<Key> {
        SessionCall::from_uuid(id)
            .and_then(|call| self.sessions.get(call.session)?.get(call.number))
            .or_else(|| self.by_id.get(&id).copied())
    }

    /// Whether the call has an id by which the link's server knows calls. Otherwise it is woken
    /// when it may get one.
    pub(super) fn ensure_call_id(&mut self, key: Key, link: usize, now: Instant) -> bool {
        let call = self.call(key);
        if call.flags.is_notification || call.id != CallId::Unassigned {
            return true;
        }
        let call_flags = call.flags;
        let needs_session = self.sessions.are_wanted && !self.links[link].is_plain;
        let may_go_without =
            !needs_session || call_flags.needs_no_record() && self.is_session_put_off(link);
        if may_go_without {
            let id = self.random_call_id();
            // It may be queued for a number elsewhere, which it must not get any more: under
            // another id it would be another call.
            self.call(key).queued_at = Home::NONE;
            self.assign_plain(key, id);
            return true;
        }
        let home = self.links[link].home;
        if self.sessions.current(home).is_none() {
            self.wait_for_handshake(link, key, now);
            return false;
        }
        if self.call(key).queued_at != Home::NONE {
            return false;
        }
        if !self.has_number_queue(home) && self.assign_number(key, home) {
            return true;
        }
        self.queue_for_number(key, home);
        false
    }

    fn assign_plain(&mut self, key: Key, id: Uuid) {
        self.call(key).id = CallId::Plain(id);
        self.by_id.insert(id, key);
    }

    /// Gives the call a number in the session with the table. False if none is free.
    #[inline]
    fn assign_number(&mut self, key: Key, home: usize) -> bool {
        let session = self.sessions.tables[home].current.as_mut();
        let Some(session) = session.filter(|session| session.has_room()) else {
            return false;
        };
        let call = SessionCall {
            session: session.id,
            number: session.take(key),
        };
        self.call(key).id = CallId::Session(call);
        true
    }

    /// The call waits for a number, first come, first served.
    fn queue_for_number(&mut self, key: Key, home: usize) {
        self.call(key).queued_at = Home::of(home);
        let queue = &mut self.sessions.tables[home].queue;
        push_waiting(queue, key, &self.calls, |call| {
            call.queued_at == Home::of(home)
        });
        self.flush_urgent_acks();
    }

    /// Gives what numbers there are to the calls that have waited longest, and wakes them.
    pub(super) fn assign_queued_numbers(&mut self, home: usize) {
        while let Some(key) = self.sessions.tables[home].queue.front().copied() {
            // A call that has ended needs no number.
            let is_queued = |call: &PendingCall| call.queued_at == Home::of(home);
            if self.calls.get(key).is_some_and(is_queued) {
                if !self.assign_number(key, home) {
                    return;
                }
                let call = self.call(key);
                call.queued_at = Home::NONE;
                let waker = call.waker.take();
                self.wakers.extend(waker);
            }
            self.sessions.tables[home].queue.pop_front();
        }
    }

    /// There are no numbers to wait for.
    pub(super) fn clear_number_queue(&mut self, home: usize) {
        for key in std::mem::take(&mut self.sessions.tables[home].queue) {
            if let Some(call) = self.calls.get_mut(key)
                && call.queued_at == Home::of(home)
            {
                call.queued_at = Home::NONE;
                self.wakers.extend(call.waker.take());
            }
        }
    }

    /// Whether some call waits for a number in the session with the table.
    pub(super) fn has_number_queue(&mut self, home: usize) -> bool {
        let queue = &mut self.sessions.tables[home].queue;
        while let Some(first) = queue.front() {
            let is_queued = |call: &PendingCall| call.queued_at == Home::of(home);
            if self.calls.get(*first).is_some_and(is_queued) {
                return true;
            }
            // It has ended, or waits no longer.
            queue.pop_front();
        }
        false
    }

    /// Whether a server keeps its record of the call for a limited time only.
    pub(crate) fn server_may_forget(&mut self, key: Key) -> bool {
        !self.call(key).id.is_of_a_session()
    }

    /// A random UUID (version 4, RFC 9562).
    pub(crate) fn random_call_id(&mut self) -> Uuid {
        let mut bytes = [0; 16];
        self.ids.fill_bytes(&mut bytes);
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }

    /// The call that ran under the number has ended.
    #[inline]
    pub(super) fn end_number(&mut self, call: SessionCall, disposition: Disposition) {
        let Some(session) = self.sessions.get_mut(call.session) else {
            return;
        };
        match disposition {
            Disposition::Acknowledge => drop(session.finish(call.number)),
            Disposition::Retain => {
                session.retain(call.number);
                self.bound_retention();
            }
            Disposition::Reserve => session.reserve(call.number),
        }
        self.on_numbers_ended(call.session);
    }

    /// This process has dropped its last token of a call; `is_exported` if others may have one.
    pub(crate) fn drop_token(&mut self, call: SessionCall, is_exported: bool) {
        let Some(session) = self.sessions.get_mut(call.session) else {
            return;
        };
        if is_exported {
            session.export(call.number);
            self.bound_retention();
        } else {
            session.release(call.number);
        }
        self.on_numbers_ended(call.session);
    }

    /// A call's outcome is needed no longer. It may be of a session of this client or of another.
    pub(crate) fn acknowledge(&mut self, id: Uuid, table: Option<&str>) {
        let Some(call) = SessionCall::from_uuid(id) else {
            return;
        };
        match self.sessions.get(call.session) {
            Some(_) if self.find(id).is_some() => {}
            Some(_) => self.end_number(call, Disposition::Acknowledge),
            None => self.acknowledge_foreign(call, table),
        }
    }

    /// Has the server cancel a call whose future was dropped, unless its handler has begun. To be
    /// preceded by [`withdraw`](Self::withdraw): what is left has been written.
    pub(crate) fn cancel(&mut self, key: Key) {
        let Some(call) = self.calls.get(key) else {
            return;
        };
        let CallId::Session(id) = call.id else {
            return;
        };
        let live = |attempt: &&Attempt| attempt.state == AttemptState::Live;
        let link = call.attempts.iter().rev().find(live).map(|live| live.link);
        if let Some(link) = link
            && call.answer.is_none()
        {
            self.send_cancel(link, id.uuid());
        }
    }

    pub(crate) fn sessions_opened(&self) -> u64 {
        self.sessions.opened
    }

    pub(crate) fn sessions_lost(&self) -> u64 {
        self.sessions.lost
    }
}
