//! How old a connection may get, where the server limits that, so that its clients spread anew over the
//! servers that there are: its peer hears that it is to go on elsewhere, and the connection ends when
//! nothing is owed on it.
//!
//! As at the end of a server, but for the last word: other connections go on, so what was not read here
//! may become known there. What a peer has sent and was not read is to it what a cut connection leaves.

use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite};

use super::{Connection, Phase, drain::LULL};
use crate::clock;

/// How far a connection of a limited age has come.
#[derive(Debug)]
pub(super) enum Age {
    /// It may get as old as it likes.
    Unlimited,
    /// It is too old from then on.
    Until(Instant),
    /// Its peer is to go on elsewhere, and what it still sends is read until then.
    Over { reads_until: Instant },
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Ends a connection that is too old, as far as that can be now. `settled`: no reply is owed but
    /// those that have been collected.
    pub(super) fn retire(&mut self, settled: bool) {
        if let Age::Until(at) = self.age
            && at <= self.awake
        {
            let grace = self.shared.config.drain_timeout;
            self.age = Age::Over {
                reads_until: clock::after(self.awake, grace),
            };
            if let Some(dialect) = self.scratch.said_hello {
                self.write_goaway(dialect, false);
                self.has_announced = true;
            }
        }
        // What was read and not dispatched by the end of the grace is dropped with the connection.
        let is_held = !self.backlog.is_empty() && !self.is_retired();
        let is_owed = !settled || is_held;
        if !is_owed && self.retired_at().is_some_and(|at| at <= self.awake) {
            self.phase = Phase::Closing;
        }
    }

    /// When to close a connection that is too old, if nothing is owed on it by then.
    fn retired_at(&self) -> Option<Instant> {
        let Age::Over { reads_until } = self.age else {
            return None;
        };
        Some(reads_until.min(clock::after(self.last_active, LULL)))
    }

    /// Whether the peer has had its time to go on elsewhere: nothing more is dispatched, unless the server
    /// ends, too, which answers everything that was read.
    pub(super) fn is_retired(&self) -> bool {
        matches!(self.age, Age::Over { reads_until } if reads_until <= self.awake)
            && !self.shared.is_draining()
    }

    /// When the age of the connection has to be looked at: not while the server ends, since it counts for
    /// nothing then.
    pub(super) fn age_due(&self) -> Option<Instant> {
        if self.shared.is_draining() {
            return None;
        }
        match self.age {
            Age::Unlimited => None,
            Age::Until(at) => Some(at),
            Age::Over { .. } if self.is_idle() => self.retired_at(),
            Age::Over { reads_until } => Some(reads_until).filter(|at| self.awake < *at),
        }
    }
}
