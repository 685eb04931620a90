//! A server that shuts down: it is sent nothing more, and what it has not read is sent to another.
//!
//! It says so itself (`rpc.goaway`), or refuses a request because of it. Then no request goes out on
//! the connection any more, so that none is on its way when the server ends the stream; new calls
//! go out on another one at once, and the connection is closed once nothing is owed on it. With its last frame a server says that all it has
//! read has been answered: what has no reply was not read. Copies of it may have come on another
//! connection, so the server says which calls it knows all the same.

use redial_protocol::rpc::{GoAway, KnownCalls};

use super::{Mux, attempt::Attempt, pending_call::CallId, slab::Key};

const REASON: &str = "the server is shutting down";

impl Mux {
    /// The server sends no more than what it owes, and nothing behind its last frame.
    ///
    /// # Errors
    ///
    /// Why the connection is to be closed: this was its last frame.
    pub(super) fn handle_goaway(&mut self, number: usize, goaway: GoAway) -> Result<(), String> {
        self.send_no_more(number);
        if !goaway.last {
            return Ok(());
        }
        // A frame that was no message may have been a reply.
        let link = &mut self.links[number];
        link.unread = (link.protocol_errors == 0).then_some(goaway.known);
        Err(REASON.to_owned())
    }

    /// Nothing more is sent on the link's connection. Calls that wait for room there look for
    /// another.
    pub(super) fn send_no_more(&mut self, number: usize) {
        let link = &mut self.links[number];
        if std::mem::replace(&mut link.is_leaving, true) {
            return;
        }
        link.blocked.clear();
        for call in self.calls.values_mut() {
            let has_permit = call.permit.take_if(|link| *link == number).is_some();
            self.links[number].in_flight -= usize::from(has_permit);
            if has_permit || std::mem::take(&mut call.is_blocked) {
                self.wakers.extend(call.waker.take());
            }
        }
    }

    /// Whether a server that shuts down may still answer the call, which another one knows nothing of: it
    /// would execute a call with a plain id once more.
    pub(super) fn awaits_leaving_server(&mut self, key: Key) -> bool {
        let call = self.calls.get(key).expect("the call is pending");
        let is_plain = !call.id.is_of_a_session();
        is_plain && call.must_not_repeat() && call.may_be_answered()
    }

    /// # Errors
    ///
    /// Why the connection is to be closed, if nothing can come on it any more.
    pub(super) fn check_leaving(&mut self, number: usize) -> Result<(), String> {
        let link = &self.links[number];
        if !link.is_leaving {
            return Ok(());
        }
        let epoch = link.epoch;
        let is_owed = |attempt: &Attempt| attempt.is_on(number, epoch);
        let mut calls = self.calls.values_mut();
        if calls.any(|call| call.answer.is_none() && call.attempts.iter().any(is_owed)) {
            return Ok(());
        }
        Err(REASON.to_owned())
    }
}

/// Whether a call that was not read on its connection is not executed, as far as the last frame says:
/// of a session that it doesn't name nothing is said.
pub(super) fn is_not_executed(known: &[KnownCalls], id: CallId) -> bool {
    let CallId::Session(call) = id else {
        return true;
    };
    let mut sessions = known.iter();
    let session = sessions.find(|known| known.session == call.session);
    session.is_some_and(|known| {
        let mut ranges = known.calls.iter();
        !ranges.any(|(from, to)| (*from..*to).contains(&call.number))
    })
}
