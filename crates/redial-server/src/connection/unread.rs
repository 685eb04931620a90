//! Since when something may lie unread in a connection, so that it is judged as if it had been read
//! when it arrived: a connection that is at one of its limits, or whose thread hangs, keeps the
//! requests of its peer waiting, and the server's clock goes on.

use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite};

use super::{Connection, Phase};

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Something may have arrived, now or at any time since the last look.
    pub(super) fn begin_reading(&mut self) {
        if self.unread_since.is_none() {
            self.set_unread_since(Some(self.awake));
        }
    }

    /// There is nothing to do for now: what is unread yet, if anything, is not to be read now, or is
    /// the rest of a frame.
    pub(super) fn end_reading(&mut self) {
        let since = match self.backlog.front() {
            Some(first) => Some(first.arrived),
            None if self.phase != Phase::Open => None,
            None if self.is_clogged() => self.unread_since,
            None => self.frame_since,
        };
        if since != self.unread_since {
            self.set_unread_since(since);
        }
    }

    /// When a request that is read now has arrived at the earliest.
    pub(super) fn arrival(&self) -> Instant {
        self.unread_since.unwrap_or(self.awake)
    }

    fn set_unread_since(&mut self, since: Option<Instant>) {
        self.unread_since = since;
        self.outbox.unread.set(&self.shared.awake, since);
    }
}
