//! How a connection ends with its server: what was read is answered, and the peer knows what was not
//! read.
//!
//! A peer that said hello hears it from `rpc.goaway`, twice: when the server begins to shut down, so
//! that it sends what is new elsewhere, and as the last frame, once everything that was read has been
//! answered. Whatever it sent beyond that was not read. To any other peer nothing can be said, since
//! the end of a stream doesn't say how much was read: it is answered until it falls silent, for a
//! second at most.

use std::time::{Duration, Instant};

use redial_protocol::{
    Dialect, RequestMeta,
    rpc::{self, GoAway},
    write_frame, write_request,
};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Connection, Phase};
use crate::clock;

/// How long nothing has to come or go before the end of a connection whose peer can't be asked to
/// send no more: as long as a request may be on its way.
pub(super) const LULL: Duration = Duration::from_millis(100);

/// How long such a peer is answered at most, after all calls have ended.
const ANSWERING: Duration = Duration::from_secs(1);

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Goes on to the end of the connection as far as that can be now. `settled`: no reply is owed
    /// but those that have been collected.
    pub(super) fn drain(&mut self, settled: bool, closing: bool) {
        let is_answered = settled && self.backlog.is_empty();
        if let Some(dialect) = self.scratch.said_hello
            && !self.outbox.has_withheld()
        {
            if is_answered {
                self.write_goaway(dialect, true);
                self.phase = Phase::Closing;
                return;
            }
            if !self.has_announced {
                self.has_announced = true;
                self.write_goaway(dialect, false);
            }
        }
        if closing {
            self.closing_since.get_or_insert(self.awake);
            if self.drained_at().is_some_and(|at| at <= self.awake) {
                self.phase = Phase::Closing;
            }
        }
    }

    /// When the last word of a peer has been waited for long enough.
    pub(super) fn drained_at(&self) -> Option<Instant> {
        let latest = clock::after(self.closing_since?, ANSWERING);
        if !self.is_idle() {
            return Some(latest);
        }
        Some(latest.min(clock::after(self.last_active, LULL)))
    }

    pub(super) fn write_goaway(&mut self, dialect: Dialect, last: bool) {
        // New calls have been refused everywhere for a while, so no more become known. That is so only
        // where the server ends.
        let known = if last {
            self.scratch.known()
        } else {
            Vec::new()
        };
        let params = serde_json::to_vec(&GoAway { last, known }).expect("plain members can't fail");
        let (method, meta) = (rpc::GOAWAY, RequestMeta::default());
        write_frame(self.out.open(), u32::MAX as usize, |out| {
            write_request(out, dialect, None, method, Some(&params), &meta);
        })
        .expect("no frame is too large");
    }
}
