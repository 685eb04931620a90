//! Since when a connection has been idle, as precisely as the sweep comes by: to note the moment of
//! every byte would cost each call something, and only a full server asks.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    time::Instant,
};

use crate::awake::AwakeClock;

/// When a byte last came or went, in time awake.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    /// Something came or went since the sweep last looked.
    is_recent: AtomicBool,
    seen_ms: AtomicU64,
}

impl Activity {
    /// A byte came or went.
    pub(crate) fn note(&self) {
        self.is_recent.store(true, Relaxed);
    }

    /// Turns what was noted since the last look into a moment.
    pub(crate) fn look(&self, clock: &AwakeClock, now: Instant) {
        if self.is_recent.swap(false, Relaxed) {
            self.seen_ms.store(clock.millis(now), Relaxed);
        }
    }

    /// Since when nothing has come or gone.
    pub(crate) fn idle_since(&self, clock: &AwakeClock, now: Instant) -> Instant {
        self.look(clock, now);
        clock.moment(self.seen_ms.load(Relaxed))
    }
}
