//! A server that shuts down: it is sent nothing more, and what it has not read is sent to another.
//!
//! It says so itself (`rpc.goaway`), or refuses a request because of it. Then no request goes out on
//! the connection any more, so that none is on its way when the server ends the stream; the
//! connection is closed once nothing is owed on it. With its last frame a server says that all it has
//! read has been answered: what has no reply was not read.

use super::{Mux, attempt::Attempt};

const REASON: &str = "the server is shutting down";

impl Mux {
    /// The server sends no more than what it owes, and nothing behind its last frame.
    ///
    /// # Errors
    ///
    /// Why the connection is to be closed: this was its last frame.
    pub(super) fn handle_goaway(&mut self, number: usize, is_last: bool) -> Result<(), String> {
        self.send_no_more(number);
        if !is_last {
            return Ok(());
        }
        // A frame that was no message may have been a reply.
        let link = &mut self.links[number];
        link.is_unread = link.protocol_errors == 0;
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
