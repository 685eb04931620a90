//! What follows the answer to a hello: a session, or none.

use std::time::Instant;

use redial_protocol::SessionId;

use super::{Mux, control::HelloReply, session::Session};

impl Mux {
    /// Whether the servers at the link's address have, or had, sessions.
    pub(super) fn has_had_sessions(&self, link: usize) -> bool {
        self.endpoints[self.endpoint_of(link)].has_had_sessions
    }

    /// # Errors
    ///
    /// Why the connection is to be closed.
    pub(super) fn on_session(
        &mut self,
        number: usize,
        reply: HelloReply,
        is_new: bool,
        now: Instant,
    ) -> Result<(), String> {
        let HelloReply::Session {
            id,
            table,
            window,
            max_frame_bytes,
        } = reply
        else {
            return Ok(());
        };
        let endpoint = self.endpoint_of(number);
        self.endpoints[endpoint].has_had_sessions = true;
        if self.is_balanced && !self.settle(number, &table, id, is_new, now)? {
            return Ok(());
        }
        let home = self.links[number].home;
        self.sessions.refusal = None;
        self.links[number].hello = None;
        self.links[number].attached = Some(id);
        self.links[number].must_attach = self.is_balanced;
        self.links[number].is_foreign = false;
        if is_new {
            self.sessions.opened += 1;
            let session = Session::new(id, table, window, max_frame_bytes).at_home(home);
            let table = &mut self.sessions.tables[home];
            table.opener = None;
            let retired = table.current.replace(session);
            self.sessions.retired.extend(retired);
            self.bound_retention();
            self.attach_others(number, id, now);
        }
        self.wake_waiting(number);
        self.wake_all_waiting();
        self.assign_queued_numbers(home);
        if !self.sessions.is_current(id) {
            self.attach(number, now);
        }
        Ok(())
    }

    /// Attaches the other connections to a new session.
    fn attach_others(&mut self, opener: usize, session: SessionId, now: Instant) {
        let home = self.links[opener].home;
        for other in 0..self.links.len() {
            let link = &mut self.links[other];
            if link.home != home {
                continue;
            }
            if std::mem::take(&mut link.is_plain) {
                link.must_attach = true;
            }
            let is_open = link.is_connected && !link.is_leaving;
            let is_free = is_open && !link.is_plain && link.hello.is_none();
            if other != opener && is_free {
                self.send_hello(other, Some(session), now);
            }
            self.wake_waiting(other);
        }
    }

    /// The server has no sessions.
    pub(super) fn on_plain_server(&mut self, number: usize, now: Instant) {
        self.links[number].hello = None;
        self.links[number].is_plain = true;
        // Without sessions wanted it was not asked, and may be Redial's.
        self.links[number].is_foreign = self.sessions.are_wanted || self.sessions.assume_plain;
        self.give_opening_up(number);
        if self.is_balanced {
            self.settle_plain(number);
        }
        let home = self.links[number].home;
        self.wake_waiting(number);
        self.wake_all_waiting();
        if self.sessions.current(home).is_none() {
            self.clear_number_queue(home);
            self.elect_opener(home, now);
        }
    }
}
