//! Since when something may lie unread in a connection. The sweep looks at that of every connection,
//! and forgets no record that what lies there may ask for.

use std::{
    sync::atomic::{
        AtomicU64,
        Ordering::{AcqRel, Acquire, Relaxed, Release},
    },
    time::Instant,
};

use crate::awake::AwakeClock;

/// A moment in time awake, or none. It is what the connection has noted itself or what has arrived
/// since it ran last, if that is earlier.
#[derive(Debug, Default)]
pub(crate) struct UnreadSince {
    noted: AtomicU64,
    /// When something arrived first that the connection's task has not looked for yet.
    arrived: AtomicU64,
}

impl UnreadSince {
    pub(crate) fn set(&self, clock: &AwakeClock, since: Option<Instant>) {
        self.noted.store(to_word(clock, since), Release);
    }

    pub(crate) fn get(&self, clock: &AwakeClock) -> Option<Instant> {
        // In this order: the connection notes what has arrived before it ends the arrival.
        let arrived = from_word(clock, self.arrived.load(Acquire));
        let noted = from_word(clock, self.noted.load(Acquire));
        arrived.into_iter().chain(noted).min()
    }

    /// Something has arrived, and the connection's task may have to wait for a thread.
    pub(crate) fn begin_arrival(&self, clock: &AwakeClock, at: Instant) {
        let word = to_word(clock, Some(at));
        // What arrived before it is older, and read first.
        let _ = (self.arrived).compare_exchange(0, word, AcqRel, Relaxed);
    }

    pub(crate) fn arrival(&self, clock: &AwakeClock) -> Option<Instant> {
        from_word(clock, self.arrived.load(Acquire))
    }

    /// It is about to be read. What arrives from now on is read after it.
    pub(crate) fn end_arrival(&self) {
        self.arrived.swap(0, AcqRel);
    }
}

fn to_word(clock: &AwakeClock, since: Option<Instant>) -> u64 {
    since.map_or(0, |since| clock.millis(since) + 1)
}

fn from_word(clock: &AwakeClock, word: u64) -> Option<Instant> {
    word.checked_sub(1).map(|millis| clock.moment(millis))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{clock, config::Config};

    /// Kind: what lay unread is taken for new. Instance: between an arrival and the turn of the
    /// connection's task a sweep comes by.
    #[test]
    fn it_is_since_the_first_arrival_until_the_connection_has_noted_that() {
        let epoch = clock::now();
        let clock = AwakeClock::new(&Config::default(), epoch);
        let at = |ms| epoch + Duration::from_millis(ms);
        let unread = UnreadSince::default();
        assert_eq!((unread.get(&clock), unread.arrival(&clock)), (None, None));
        unread.begin_arrival(&clock, at(20));
        unread.begin_arrival(&clock, at(30));
        assert_eq!(unread.get(&clock), Some(at(20)));
        // The task goes on with what it knew before.
        unread.set(&clock, Some(at(40)));
        assert_eq!(unread.get(&clock), Some(at(20)));
        unread.set(&clock, unread.arrival(&clock));
        unread.end_arrival();
        assert_eq!(unread.get(&clock), Some(at(20)));
        // Something arrives while it reads; the end of that reading is not its end.
        unread.begin_arrival(&clock, at(50));
        unread.set(&clock, None);
        assert_eq!(unread.get(&clock), Some(at(50)));
        unread.end_arrival();
        assert_eq!(unread.get(&clock), None);
    }
}
