//! A session that only a server which shuts down still knows, or one that has not answered a hello for
//! it: what is open in it is waited for there, and nothing more is sent under it. New calls, and those
//! that were not executed, go on in another session at once.

use std::time::Instant;

use redial_protocol::{SessionCall, SessionId};

use super::{
    Mux,
    link::Link,
    pending_call::{CallId, Signal},
    session::Session,
    sessions::Disposition,
    slab::Key,
};
use crate::cause::Cause;

impl Link {
    /// Whether replies to calls of the session may come on the connection: its server knows it, or has
    /// not said.
    pub(super) fn may_have(&self, session: SessionId) -> bool {
        let is_asked = self
            .hello
            .is_some_and(|hello| hello.attach == Some(session));
        self.attached == Some(session) || is_asked
    }
}

impl Mux {
    /// Whether the session may be had on other connections to the link's endpoint, but on none to a
    /// server that knows it and takes new calls.
    pub(super) fn is_left_behind(&self, number: usize, session: SessionId) -> bool {
        let others = self.links_of(self.endpoint_of(number));
        let others = others.filter(|other| *other != number);
        let others = others.map(|other| &self.links[other]);
        let mut are_any = false;
        for link in others.filter(|link| link.may_have(session)) {
            are_any = true;
            if link.attached == Some(session) && !link.is_leaving {
                return false;
            }
        }
        are_any
    }

    /// The server at the other end of the link doesn't know the session, while one that shuts down
    /// still owes replies in it.
    pub(super) fn leave_session(&mut self, number: usize, id: SessionId, now: Instant) {
        if let Some(table) = self.sessions.tables.find_current(id) {
            self.sessions.retired.extend(table.current.take());
        }
        if let Some(session) = self.sessions.get_mut(id) {
            session.is_left = true;
            for key in session.calls().collect::<Vec<_>>() {
                if self.call(key).answer.is_none() && self.withdraw(key) {
                    self.call(key)
                        .signal_end(true, Signal::Unsent, Cause::SessionLost);
                }
                self.may_send_number(key);
            }
        }
        self.links[number].hello = None;
        self.attach(number, now);
    }

    /// Whether the call may be sent, as far as its number goes: one of a session that was left is given
    /// up if nothing is lost with it, and otherwise waits for the end of that session's connections.
    pub(super) fn may_send_number(&mut self, key: Key) -> bool {
        let CallId::Session(id) = self.call(key).id else {
            return true;
        };
        let session = self.sessions.get(id.session);
        if !session.is_some_and(|session| session.is_left) {
            return true;
        }
        let call = self.call(key);
        let is_tied = call.flags.is_bound || call.must_not_repeat() || call.may_be_answered();
        if !is_tied && call.answer.is_none() {
            self.give_number_up(key, id);
        }
        !is_tied
    }

    fn give_number_up(&mut self, key: Key, id: SessionCall) {
        let call = self.call(key);
        call.id = CallId::Unassigned;
        let waker = call.waker.take();
        self.wakers.extend(waker);
        self.end_number(id, Disposition::Acknowledge);
    }

    /// A connection is gone: sessions that were left, and can be had on no other one, are lost.
    pub(super) fn drop_left_sessions(&mut self, now: Instant) {
        let is_lost = |session: &&Session<Key>| {
            let mut links = self.links.iter();
            session.is_left && links.all(|link| !link.may_have(session.id))
        };
        let lost = self.sessions.retired.iter().filter(is_lost);
        for session in lost.map(|session| session.id).collect::<Vec<_>>() {
            self.drop_session(session, now);
        }
    }
}
