//! Since when something may lie unread in a connection, so that it is judged as if it had been read
//! when it arrived: a connection that is at one of its limits, or waits for a thread, keeps the
//! requests of its peer waiting, and the server's clock goes on.

use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite};

use super::{Connection, Phase};

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Something may have arrived, now or at any time since the last look.
    pub(super) fn begin_reading(&mut self) {
        let arrival = self.outbox.unread.arrival(&self.shared.awake);
        let since = arrival.map_or(self.awake, |at| at.min(self.awake));
        self.socket.begin(since);
        if self.unread_since.is_none_or(|noted| since < noted) {
            self.set_unread_since(Some(since));
        }
        if arrival.is_some() {
            self.outbox.unread.end_arrival();
        }
    }

    /// There is nothing to do for now: what is unread yet, if anything, is not to be read now, or is
    /// still to come.
    pub(super) fn end_reading(&mut self) {
        let since = match self.phase {
            Phase::Open => self.backlog_since().or(self.socket.since()),
            Phase::HalfClosed => self.backlog_since(),
            Phase::Closing | Phase::Lingering { .. } => None,
        };
        if since != self.unread_since {
            self.set_unread_since(since);
        }
    }

    /// A read has found nothing. If the task has used up its turn, that says nothing of the socket.
    pub(super) fn on_nothing_read(&mut self) {
        if tokio::task::coop::has_budget_remaining() {
            self.socket.on_empty(self.awake, self.frame_since);
        } else {
            self.socket.on_pause(self.awake);
        }
    }

    /// When a request that is read now has arrived at the earliest.
    pub(super) fn arrival(&self) -> Instant {
        self.socket.since().unwrap_or(self.awake)
    }

    /// When the oldest frame that was read and waits has arrived, which was before all that is in
    /// the socket.
    fn backlog_since(&self) -> Option<Instant> {
        self.backlog.front().map(|first| first.arrived)
    }

    fn set_unread_since(&mut self, since: Option<Instant>) {
        self.unread_since = since;
        self.outbox.unread.set(&self.shared.awake, since);
    }
}
