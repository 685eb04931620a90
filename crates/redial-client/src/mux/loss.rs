//! A server that doesn't know the session: another one, one that was restarted, or one at which the
//! lease has ended. Which of the session's calls can still be sent, and of which nobody will ever
//! know.

use std::time::Instant;

use redial_protocol::SessionId;

use super::{
    Mux,
    pending::{Answer, Fate, Name, Signal},
    slab::Key,
};
use crate::{error::Cause, report::AttemptEnd, session::Session};

/// What a server has said that doesn't know a session.
#[derive(Clone, Copy, Debug)]
pub(super) enum Said {
    /// It was asked to attach a connection to it.
    ToHello,
    /// It was sent a call of it.
    ToCall,
    /// It has no sessions.
    NoSessions,
}

impl Mux {
    /// The server at the other end of the link doesn't know the session.
    ///
    /// # Errors
    ///
    /// Why the connection is to be closed, if another one shows that the session stands.
    pub(super) fn session_unknown(
        &mut self,
        number: usize,
        session: SessionId,
        said: Said,
        now: Instant,
    ) -> Result<(), String> {
        let link = &self.links[number];
        match said {
            // It never knew it, since nothing was written before it was asked.
            Said::ToHello if link.named_first == Some(session) => {
                self.disown(number, session, now);
            }
            // It may have known it until now, and have executed even this attempt, or a copy of it.
            Said::ToHello | Said::ToCall => {}
            Said::NoSessions => self.give_up_on(number, session),
        }
        let mut others = self.links.iter().enumerate();
        if others.any(|(other, link)| other != number && link.attached == Some(session)) {
            // So that the next one is not made without pause.
            self.links[number].heard = false;
            return Err("its server doesn't know the session that another connection has".into());
        }
        self.lose(session, now);
        if self.links[number].attached.is_none() {
            self.links[number].ask = None;
            self.stand(number, now);
        }
        Ok(())
    }

    /// What was written to the link's connection may have been executed by a server that knows no
    /// sessions: another one has no record of it, and would execute it again.
    fn give_up_on(&mut self, number: usize, session: SessionId) {
        let session = self.sessions.get(session);
        let keys: Vec<Key> = session.into_iter().flat_map(Session::calls).collect();
        let epoch = self.links[number].epoch;
        for key in keys {
            let pending = self.calls.get_mut(key).expect("it has a number");
            let mut attempts = pending.attempts.iter();
            if !pending.nature.is_query && attempts.any(|attempt| attempt.is_on(number, epoch)) {
                pending.answer.get_or_insert(Answer::SessionLost);
                self.woken.extend(pending.waker.take());
            }
        }
    }

    /// No attempt on the link's connection was executed: its server never knew the session.
    fn disown(&mut self, number: usize, session: SessionId, now: Instant) {
        let keys: Vec<Key> = self
            .sessions
            .get(session)
            .into_iter()
            .flat_map(Session::calls)
            .collect();
        let epoch = self.links[number].epoch;
        for key in keys {
            let pending = self.calls.get_mut(key).expect("it has a number");
            let mut closed = 0;
            for attempt in pending.attempts.iter_mut() {
                if attempt.is_on(number, epoch) {
                    closed += 1;
                    attempt.fate = Fate::Closed;
                    if attempt.ended.is_none() {
                        attempt.finish(now, AttemptEnd::Refused);
                    }
                }
            }
            if closed > 0 {
                pending.disowned += closed;
                pending.trouble = Some(Cause::SessionLost.into());
                self.woken.extend(pending.waker.take());
                (0..closed).for_each(|_| self.release(number));
            }
        }
    }

    /// The session is gone: what was never written under it goes to the next one, and of what may
    /// have been executed nobody will ever know.
    fn lose(&mut self, id: SessionId, now: Instant) {
        let is_current = self
            .sessions
            .current
            .as_ref()
            .is_some_and(|current| current.id == id);
        let session = match is_current {
            true => self.sessions.current.take(),
            false => {
                let place = self
                    .sessions
                    .retired
                    .iter()
                    .position(|other| other.id == id);
                place.map(|place| self.sessions.retired.swap_remove(place))
            }
        };
        let Some(session) = session else {
            return;
        };
        self.sessions.lost += 1;
        for link in &mut self.links {
            link.attached = link.attached.filter(|attached| *attached != id);
        }
        for key in session.calls() {
            self.orphan(key, now);
        }
    }

    /// The call's session is gone.
    fn orphan(&mut self, key: Key, now: Instant) {
        if self.call(key).answer.is_some() {
            return;
        }
        let was_withdrawn = self.withdraw(key);
        let pending = self.calls.get_mut(key).expect("it has a number");
        if was_withdrawn {
            pending.tell(true, Signal::Unsent, Cause::SessionLost);
        }
        if pending.nature.is_bound || pending.is_delicate() {
            pending.answer.get_or_insert(Answer::SessionLost);
        } else {
            // Only a query can have attempts here, whose replies nobody would recognise.
            let mut live = Vec::new();
            for attempt in pending.attempts.iter_mut() {
                if attempt.fate == Fate::Live {
                    live.push(attempt.link);
                    attempt.fate = Fate::Lost;
                }
                if attempt.ended.is_none() {
                    pending.disowned += 1;
                    attempt.finish(now, AttemptEnd::Refused);
                }
            }
            pending.trouble = Some(Cause::SessionLost.into());
            pending.name = Name::None;
            live.into_iter().for_each(|link| self.release(link));
        }
        let waker = self.call(key).waker.take();
        self.woken.extend(waker);
    }
}
