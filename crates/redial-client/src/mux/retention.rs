//! How many ended calls keep their record at the server for the sake of their tokens.
//!
//! An error of unknown outcome holds a token, and a program may hold any number of errors. So there
//! is a bound, and beyond it the call that ended first is let go: its number is acknowledged like any
//! other, and new calls find room whatever the program keeps.

use super::{Mux, session::Session, sessions::Table};

/// How many sessions are kept at most beside the current one. A server takes 16 per connection, and one
/// may be on its way.
const MAX_RETIRED: usize = 14;

impl Mux {
    /// Ended calls whose record the server keeps for a token.
    pub(crate) fn retained_calls(&self) -> usize {
        self.sessions.iter().map(Session::retained).sum()
    }

    /// Whether the server was asked for a session for new calls, and has no room for it. One that is about to end,
    /// or whose disk is full, may open one soon, or another server may.
    fn lacks_room_for_next_session(&self, table: &Table) -> bool {
        let opener = table.opener.map(|link| &self.links[link]);
        let hello = opener.and_then(|link| link.hello.as_ref());
        hello.is_some_and(|hello| hello.lacks_room)
    }

    /// Lets go of the calls that ended first, where more are retained than may be.
    pub(super) fn bound_retention(&mut self) {
        let mut changed = Vec::new();
        let surplus = self.sessions.retired.len().saturating_sub(MAX_RETIRED);
        for session in &mut self.sessions.retired[..surplus] {
            while session.let_go_oldest() {}
            changed.push(session.id);
        }
        for home in 0..self.sessions.tables.len() {
            if self.lacks_room_for_next_session(&self.sessions.tables[home])
                && let Some(current) = &mut self.sessions.tables[home].current
            {
                while current.is_cramped() && current.let_go_oldest() {}
                changed.push(current.id);
            }
        }
        for _ in self.max_retained_calls..self.retained_calls() {
            let sessions = &mut self.sessions;
            let current = sessions.tables.iter_mut();
            let current = current.filter_map(|table| table.current.as_mut());
            let mut oldest_first = sessions.retired.iter_mut().chain(current);
            let oldest =
                oldest_first.find_map(|session| session.let_go_oldest().then_some(session.id));
            changed.extend(oldest);
        }
        changed.dedup();
        for session in changed {
            self.on_numbers_ended(session);
        }
    }
}
