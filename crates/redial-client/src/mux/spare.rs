//! The spare: one connection beside those of an endpoint's pool, made when all of them have gone silent, or are
//! to servers that shut down.
//!
//! A peer that vanishes without a word leaves connections on which retries are lost one after the
//! other. A server that shuts down takes no new calls, and answers those that are open. What the silent ones still bring counts, but the next attempt goes out on the spare. There
//! is one at most; where it can't be had, the silent ones have to do.

use std::time::{Duration, Instant};

use super::{Mux, link::Link, slab::Key};
use crate::clock::after;

/// Why an endpoint is left out that still has its connections.
const SILENT: &str = "nothing came from it for as long as an attempt was waited for";

impl Link {
    /// Something was heard on the connection, or the server is known to be there.
    fn is_of_use(&self) -> bool {
        let is_heard = self.heard_at.is_some() || self.attached.is_some();
        self.is_connected && (is_heard || self.is_plain)
    }
}

impl Mux {
    /// How many links there are, the spares included.
    pub(crate) fn link_count(&self) -> usize {
        self.links.len()
    }

    pub(super) fn is_spare(&self, link: usize) -> bool {
        link % self.stride() == self.pool
    }

    /// The spare, if the call should go there because the link that was `chosen` is silent, can't be
    /// connected, or takes no more calls.
    pub(super) fn spare_instead_of(
        &mut self,
        chosen: usize,
        key: Key,
        now: Instant,
    ) -> Option<usize> {
        let call = self.calls.get(key).expect("the call is pending");
        let needs_session = call.id.is_of_a_session();
        let (is_silent, is_leaving) =
            (self.links[chosen].is_suspect, self.links[chosen].is_leaving);
        let (number, patience) = (self.spare_of(self.endpoint_of(chosen)), self.hello_timeout);
        let spare = &mut self.links[number];
        if spare.is_suspect || spare.is_stuck || spare.is_leaving {
            return None;
        }
        // Of several endpoints each has to answer its hello before it is sent anything.
        let is_barred = spare.is_barred() && !self.is_balanced;
        if needs_session && (spare.is_plain || is_barred) {
            return None;
        }
        let may_be_had = if spare.is_of_use() || is_leaving {
            true
        } else if !is_silent || spare.not_before.is_some_and(|at| now < at) {
            false
        } else {
            now < after(*spare.wanted_since.get_or_insert(now), patience)
        };
        if may_be_had && let Some(link) = self.call(key).permit.take_if(|link| *link != number) {
            self.release_permit(link);
        }
        may_be_had.then_some(number)
    }

    /// When a call that waits for the spare looks for another connection.
    pub(crate) fn spare_patience(&self, key: Key) -> Option<Instant> {
        let (_, link) = self.calls.get(key)?.handshake_wait?;
        let since = self.links.get(link)?.wanted_since?;
        Some(after(since, self.hello_timeout))
    }

    /// Whether a call whose request waits for the spare to be connected could go elsewhere.
    pub(super) fn awaits_spare(&self, link: usize) -> bool {
        let is_coming = self.is_spare(link) && !self.links[link].is_connected;
        let mut pool = self.pool_of(self.endpoint_of(link)).iter();
        is_coming && pool.any(|pooled| pooled.is_connected)
    }

    /// Nothing was heard on the link's connection for as long as something was waited for there:
    /// what has not been written yet is better sent elsewhere.
    pub(super) fn suspect(&mut self, link: usize, now: Instant) {
        if std::mem::replace(&mut self.links[link].is_suspect, true) {
            return;
        }
        if self.is_balanced {
            let was_well = self.is_well(self.endpoint_of(link));
            self.note_failure(link, now);
            self.note_trouble(link, was_well, SILENT.into(), now);
            // A server that is there answers this at once, however long its handlers take.
            self.send_ping(link);
        }
        self.unblock(link);
        self.wake_waiting(link);
    }

    /// The calls that wait for room on the link look for another connection.
    pub(super) fn unblock(&mut self, link: usize) {
        for key in std::mem::take(&mut self.links[link].blocked) {
            if let Some(call) = self.calls.get_mut(key)
                && std::mem::take(&mut call.is_blocked)
            {
                self.wakers.extend(call.waker.take());
            }
        }
    }

    /// A connection stands. The spare's is closed again when it has had nothing to do for a while, and one to
    /// a server that was named when it was begun, and is no longer, at once.
    pub(super) fn watch_surplus(&mut self, link: usize, now: Instant) {
        if self.is_removed(link) {
            self.send_no_more(link);
            self.links[link].surplus_at = Some(now);
        } else if self.is_spare(link) {
            self.links[link].surplus_at = Some(after(now, self.spare_idle));
        }
    }

    /// Closes the spare's connection if it is not needed any more.
    ///
    /// # Errors
    ///
    /// Why the connection is to be closed.
    pub(crate) fn handle_surplus(&mut self, link: usize, now: Instant) -> Result<(), String> {
        let is_due = self.links[link].surplus_at.is_some_and(|at| at <= now);
        if !is_due {
            return Ok(());
        }
        if self.is_removed(link) {
            self.check_leaving(link)?;
        }
        let is_busy = self.awaits_handshake(link);
        let spare = &self.links[link];
        let is_idle = spare.in_flight == 0 && spare.unsent() == 0 && spare.hello.is_none();
        let idle_at = spare.heard_at.map_or(now, |at| after(at, self.spare_idle));
        let mut pool = self.pool_of(self.endpoint_of(link)).iter();
        let is_needed = pool.all(|pooled| pooled.is_suspect || pooled.failures > 0);
        if is_idle && !is_busy && !is_needed && idle_at <= now {
            return Err("the pool's own connections do without it".into());
        }
        let again_at = after(now, self.spare_idle);
        let next = if self.is_removed(link) {
            after(now, REMOVED_PAUSE)
        } else if idle_at > now {
            idle_at
        } else {
            again_at
        };
        self.links[link].surplus_at = Some(next);
        Ok(())
    }
}

/// How long a connection may be silent before it is pinged, and after that: a quarter of the
/// shortest deadline in flight, so that a dead peer is found when half of it has passed.
pub(crate) fn keepalive(configured: Duration, shortest_deadline_ms: Option<u64>) -> Duration {
    let quarter = |ms| Duration::from_millis(ms / 4).max(MIN_KEEPALIVE);
    shortest_deadline_ms.map_or(configured, |ms| configured.min(quarter(ms)))
}

/// A ping costs less than it seems, but a connection must not be closed for a slow moment.
const MIN_KEEPALIVE: Duration = Duration::from_secs(1);

/// How often it is looked whether a server that is no longer one of the service's owes replies.
const REMOVED_PAUSE: Duration = Duration::from_secs(1);
