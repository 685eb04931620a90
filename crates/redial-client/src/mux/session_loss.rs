//! A server that doesn't know the session: another one, one that was restarted, or one at which the
//! lease has ended. Decides which of the session's calls can still be sent, and which end as
//! *unknown*.

use std::{sync::Arc, time::Instant};

use redial_protocol::SessionId;

use super::{
    Mux,
    attempt::AttemptState,
    control::HelloReply,
    pending_call::{Answer, CallId, Signal},
    session::Session,
    slab::Key,
    tables::OTHER_TABLE,
};
use crate::{cause::Cause, report::AttemptEnd};

/// How a server showed that it doesn't know a session.
#[derive(Clone, Copy, Debug)]
pub(super) enum UnknownSource {
    /// It refused to attach a connection to it.
    Hello,
    /// It refused a call of it.
    Call,
}

impl Mux {
    /// The server at the other end of the link doesn't know the session.
    ///
    /// # Errors
    ///
    /// Why the connection is to be closed, if another one shows that the session stands.
    pub(super) fn handle_unknown_session(
        &mut self,
        number: usize,
        session: SessionId,
        source: UnknownSource,
        now: Instant,
    ) -> Result<(), String> {
        // It never knew it, since nothing was written before the hello. Otherwise it may have known it
        // until now, and have executed even this attempt, or a copy.
        let was_never_known = matches!(source, UnknownSource::Hello)
            && self.links[number].hello_session == Some(session);
        if was_never_known {
            self.roll_back_attempts(number, session, now);
        }
        let is_hello = matches!(source, UnknownSource::Hello);
        if self.has_left_table(number, session) {
            if is_hello {
                self.links[number].hello = None;
                self.attach(number, now);
                return Ok(());
            }
            // A call had followed the hello that has shown it. The session stands where its table is, and the
            // call is sent again there.
            self.links[number].is_proven = false;
            return Err("its server has another table than the session of a call".into());
        }
        let is_had_elsewhere = is_hello && self.is_had_elsewhere(number, session);
        if was_never_known && !is_had_elsewhere && self.is_left_behind(number, session) {
            self.leave_session(number, session, now);
            return Ok(());
        }
        if self.is_attached_beside(number, session) {
            // So that the next one is not made without pause.
            self.links[number].is_proven = false;
            return Err("its server doesn't know the session that another connection has".into());
        }
        if is_had_elsewhere {
            self.leave_table(number, session, now);
            return Ok(());
        }
        self.drop_session(session, now);
        if self.links[number].attached.is_none() {
            self.links[number].hello = None;
            self.attach(number, now);
        }
        Ok(())
    }

    /// Whether another connection to the link's endpoint is attached to the session.
    fn is_attached_beside(&self, number: usize, session: SessionId) -> bool {
        let mut others = self.links_of(self.endpoint_of(number));
        others.any(|other| other != number && self.links[other].attached == Some(session))
    }

    /// Whether a server that has attached a connection to a session of this client has another table
    /// of calls than the one that opened it.
    pub(super) fn is_of_another_table(&self, session: SessionId, reply: &HelloReply) -> bool {
        let HelloReply::Session { table, .. } = reply else {
            return false;
        };
        let known = self.sessions.get(session);
        known.is_some_and(|known| known.table != *table)
    }

    /// The server at the other end of the link has another table, in which nothing is known of the
    /// session's calls. It took the session for one of its own, and what followed the hello may have
    /// been executed there.
    ///
    /// # Errors
    ///
    /// Why the connection is to be closed, if another one shows that the session stands.
    pub(super) fn handle_other_table(
        &mut self,
        number: usize,
        session: SessionId,
        now: Instant,
    ) -> Result<(), String> {
        self.fail_calls_on(number, &OTHER_TABLE.into());
        if self.is_balanced && !self.is_attached_beside(number, session) {
            self.leave_table(number, session, now);
            return Ok(());
        }
        self.handle_unknown_session(number, session, UnknownSource::Call, now)
    }

    /// What was written to the link's connection may have been executed by a server that has no
    /// sessions: another one has no record of it, and would execute it again.
    pub(super) fn fail_calls_on(&mut self, number: usize, reason: &Arc<str>) {
        let link = &self.links[number];
        for call in self.calls.values_mut() {
            let mut attempts = call.attempts.iter();
            let is_numbered = call.id.is_of_a_session() && !call.flags.is_query;
            if is_numbered && attempts.any(|attempt| attempt.can_be_answered(number, link)) {
                let answer = Answer::NoSessions(reason.clone());
                call.answer.get_or_insert(answer);
                self.wakers.extend(call.waker.take());
            }
        }
    }

    /// No attempt on the link's connection was executed: its server never knew the session.
    fn roll_back_attempts(&mut self, number: usize, session: SessionId, now: Instant) {
        let epoch = self.links[number].epoch;
        for key in self.calls_of(session) {
            let call = self.calls.get_mut(key).expect("it has a number");
            let mut voided = 0;
            for attempt in call.attempts.iter_mut() {
                if attempt.is_on(number, epoch) {
                    voided += 1;
                    attempt.state = AttemptState::Void;
                    if attempt.ended.is_none() {
                        attempt.finish(now, AttemptEnd::Refused);
                    }
                }
            }
            if voided > 0 {
                call.rolled_back += voided;
                call.last_cause = Some(Cause::SessionLost.into());
                self.wakers.extend(call.waker.take());
                (0..voided).for_each(|_| self.release_permit(number));
            }
        }
    }

    fn calls_of(&self, session: SessionId) -> Vec<Key> {
        let session = self.sessions.get(session).into_iter();
        session.flat_map(Session::calls).collect()
    }

    /// The session is gone: what was never written under it goes to the next one, and what may have
    /// been executed ends as *unknown*.
    pub(super) fn drop_session(&mut self, id: SessionId, now: Instant) {
        let Some(session) = self.sessions.remove(id) else {
            return;
        };
        self.sessions.lost += 1;
        for link in &mut self.links {
            link.attached = link.attached.filter(|attached| *attached != id);
        }
        for key in session.calls() {
            self.on_session_dropped(key, now);
        }
    }

    /// The call's session is gone.
    fn on_session_dropped(&mut self, key: Key, now: Instant) {
        if self.call(key).answer.is_some() {
            return;
        }
        let was_withdrawn = self.withdraw(key);
        let call = self.calls.get_mut(key).expect("it has a number");
        if was_withdrawn {
            call.signal_end(true, Signal::Unsent, Cause::SessionLost);
        }
        if call.flags.is_bound || call.must_not_repeat() {
            call.answer.get_or_insert(Answer::SessionLost);
        } else {
            // Only a query can have attempts here, whose replies would match no call any more.
            let mut live = Vec::new();
            for attempt in call.attempts.iter_mut() {
                if attempt.state == AttemptState::Live {
                    live.push(attempt.link);
                    attempt.state = AttemptState::Orphaned;
                }
                if attempt.ended.is_none() {
                    call.rolled_back += 1;
                    attempt.finish(now, AttemptEnd::Refused);
                }
            }
            call.last_cause = Some(Cause::SessionLost.into());
            call.id = CallId::Unassigned;
            live.into_iter().for_each(|link| self.release_permit(link));
        }
        let waker = self.call(key).waker.take();
        self.wakers.extend(waker);
    }
}
