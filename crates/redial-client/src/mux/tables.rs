//! Which endpoints share a table of calls: their servers say so when they answer a hello.

use std::time::Instant;

use redial_protocol::SessionId;

use super::{
    Mux,
    pending_call::{CallId, Home},
    session::Session,
    sessions::Table,
    slab::Key,
};

/// Why a connection is closed whose server has another table than it was taken to have.
pub(super) const OTHER_TABLE: &str =
    "the server has another table of calls than the one that opened the session";

impl Mux {
    /// A table of which nothing is known.
    pub(super) fn fresh_table(&mut self) -> usize {
        let is_used = |home: usize| {
            let mut endpoints = self.endpoints.iter();
            let mut sessions = self.sessions.iter();
            let mut calls = self.calls.values();
            endpoints.any(|endpoint| endpoint.home == home)
                || sessions.any(|session| session.home == home)
                || calls.any(|call| call.home == Home::of(home))
        };
        let tables = &self.sessions.tables;
        let free = (0..tables.len()).find(|home| !is_used(*home));
        match free {
            Some(free) => self.sessions.tables[free] = Table::default(),
            None => self.sessions.tables.push(Table::default()),
        }
        free.unwrap_or(self.sessions.tables.len() - 1)
    }

    /// Forgets the sessions with tables that no endpoint has any more, unless a call or a token of this process
    /// uses them: servers that come and go would leave one each.
    pub(super) fn forget_tables(&mut self) {
        let Self {
            endpoints,
            sessions,
            ..
        } = self;
        let has = |home| endpoints.iter().any(|endpoint| endpoint.home == home);
        let is_over = |session: &Session<Key>| !has(session.home) && session.is_unused();
        sessions.retired.retain(|session| !is_over(session));
        for table in sessions.tables.iter_mut() {
            let _: Option<Session<Key>> = table.current.take_if(|current| is_over(current));
        }
    }

    /// The table that servers call so, whether or not an endpoint has it.
    pub(super) fn table_named(&mut self, name: &str) -> usize {
        let known = self.sessions.tables.named(name);
        known.unwrap_or_else(|| {
            let fresh = self.fresh_table();
            self.sessions.tables[fresh].name = Some(name.into());
            fresh
        })
    }

    /// The name of the table that knows a call of this id, for its token.
    pub(crate) fn table_name(&self, id: CallId, home: Home) -> Option<Box<str>> {
        let session = match id {
            CallId::Session(call) => self.sessions.get(call.session),
            CallId::Unassigned | CallId::Plain(_) => None,
        };
        match session {
            Some(session) => Some(session.table.clone()),
            None => self.sessions.tables[home.get()?].name.clone(),
        }
    }

    /// Puts the endpoint of a link where its server's table is, which has that name. False if the new
    /// session is one too many: the client has one with the table, which the connection is attached
    /// to.
    ///
    /// # Errors
    ///
    /// Why the connection is to be closed.
    pub(super) fn settle(
        &mut self,
        number: usize,
        name: &str,
        session: SessionId,
        is_new: bool,
        now: Instant,
    ) -> Result<bool, String> {
        let home = self.links[number].home;
        if self.sessions.tables[home].name.as_deref() == Some(name) {
            return Ok(true);
        }
        let known = self.sessions.tables.named(name);
        if !is_new {
            return Err(OTHER_TABLE.to_owned());
        }
        if known.is_none() && self.sessions.tables[home].name.is_none() {
            self.sessions.tables[home].name = Some(name.into());
            return Ok(true);
        }
        let home = self.table_named(name);
        self.move_endpoint(number, home);
        let refused = self.links[number].refused.take();
        let current = self.sessions.current(home).map(|session| session.id);
        match current {
            None => Ok(true),
            Some(current) if Some(current) == refused && self.is_attached(current) => {
                Err("its server doesn't know the session that another one has in its table".into())
            }
            // Its own table doesn't know it any more.
            Some(current) if Some(current) == refused => {
                self.drop_session(current, now);
                Ok(true)
            }
            Some(_) => {
                self.links[number].hello = None;
                self.end_session_on(number, session);
                self.attach_endpoint(number, now);
                Ok(false)
            }
        }
    }

    /// A server without sessions is a table of its own, which tokens know by the address: one may have named
    /// it before.
    pub(super) fn settle_plain(&mut self, number: usize) {
        let home = self.links[number].home;
        if self.sessions.tables[home].name.is_some() {
            return;
        }
        let name = format!("at {}", self.peer(number));
        match self.sessions.tables.named(&name) {
            Some(known) => {
                self.move_endpoint(number, known);
                // It is the server that they were meant for, by whatever name.
                let calls = self.calls.values_mut();
                for call in calls.filter(|call| call.home == Home::of(home)) {
                    call.home = Home::of(known);
                }
            }
            None => self.sessions.tables[home].name = Some(name.into()),
        }
    }

    /// Whether some connection is attached to the session.
    fn is_attached(&self, session: SessionId) -> bool {
        let mut links = self.links.iter();
        links.any(|link| link.attached == Some(session))
    }

    /// The endpoint of a link has another table than it was taken to have.
    fn move_endpoint(&mut self, number: usize, home: usize) {
        let (endpoint, old) = (self.endpoint_of(number), self.links[number].home);
        for link in self.links_of(endpoint) {
            self.give_opening_up(link);
            self.links[link].home = home;
        }
        self.endpoints[endpoint].home = home;
        self.abandon_number_queue(old);
        self.wake_homeless();
    }

    /// Whether another endpoint is taken to have the table of this link's, or may have the session though it
    /// is no longer among the addresses of the service: what is open there is still answered.
    pub(super) fn is_had_elsewhere(&self, number: usize, session: SessionId) -> bool {
        let (own, home) = (self.endpoint_of(number), self.links[number].home);
        let mut others = self.endpoints().filter(|at| *at != own);
        let mut links = self.links.iter().enumerate();
        self.is_balanced
            && (others.any(|at| self.endpoints[at].home == home)
                || links.any(|(at, link)| self.endpoint_of(at) != own && link.may_have(session)))
    }

    /// Whether the link's endpoint is no longer taken to have the table of the session, which another of its
    /// links was asked for: it says nothing of the servers that have that table.
    pub(super) fn has_left_table(&self, number: usize, session: SessionId) -> bool {
        let known = self.sessions.get(session);
        known.is_some_and(|known| known.home != self.links[number].home)
    }

    /// The server at the other end of the link has not the table that other endpoints have: it is asked
    /// which it has, with a session of its own.
    pub(super) fn leave_table(&mut self, number: usize, session: SessionId, now: Instant) {
        let fresh = self.fresh_table();
        self.move_endpoint(number, fresh);
        let link = &mut self.links[number];
        (link.refused, link.hello) = (Some(session), None);
        self.attach_endpoint(number, now);
    }

    /// Attaches those connections of a link's endpoint that are attached to nothing.
    fn attach_endpoint(&mut self, number: usize, now: Instant) {
        for other in self.links_of(self.endpoint_of(number)) {
            let link = &self.links[other];
            let is_open = link.is_connected && !link.is_leaving && !link.is_plain;
            if is_open && link.hello.is_none() && link.attached.is_none() {
                self.attach(other, now);
            }
        }
    }
}
