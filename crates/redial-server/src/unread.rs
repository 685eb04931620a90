//! Since when something may lie unread in a connection. The sweep looks at that of every connection,
//! and forgets no record that what lies there may ask for.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Instant,
};

use crate::awake::AwakeClock;

/// A moment in time awake, or none.
#[derive(Debug, Default)]
pub(crate) struct UnreadSince(AtomicU64);

impl UnreadSince {
    pub(crate) fn set(&self, clock: &AwakeClock, since: Option<Instant>) {
        let word = since.map_or(0, |since| clock.millis(since) + 1);
        self.0.store(word, Relaxed);
    }

    pub(crate) fn get(&self, clock: &AwakeClock) -> Option<Instant> {
        let millis = self.0.load(Relaxed).checked_sub(1)?;
        Some(clock.moment(millis))
    }
}
