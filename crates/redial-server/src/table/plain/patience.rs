//! How long expired records are kept for requests that arrived before they expired and lie unread
//! in some connection. They are the first to go when room is needed; it is remembered then that a
//! request from before may have been a retry.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use super::ttl::Millis;

/// Where room is needed, a request may lie unread for this part of the TTL.
const PART: u32 = 4;

/// And for no less than this, which is more than the last look at the connections is old.
const MIN_GRACE: Duration = Duration::from_millis(64);

#[derive(Debug)]
pub(super) struct Patience {
    /// What had expired by then is asked for by no request that is unread.
    horizon: AtomicU32,
    /// What had expired by then was forgotten, though something from before is unread.
    forgotten_until: Moment,
    grace: Duration,
}

impl Patience {
    pub(super) fn new(ttl: Duration) -> Self {
        Self {
            horizon: AtomicU32::new(Millis::default().bits()),
            forgotten_until: Moment::none(),
            grace: (ttl / PART).max(MIN_GRACE),
        }
    }

    pub(super) fn set_horizon(&self, horizon: Millis) {
        self.horizon.store(horizon.bits(), Relaxed);
        let until = self.forgotten_until.get();
        if until.is_some_and(|until| until.has_come(horizon)) {
            self.forgotten_until.set(None);
        }
    }

    /// What has expired by this moment is asked for by no request that is unread. It is as old as
    /// the last look at the connections: any of them may have stopped reading since.
    pub(super) fn horizon(&self) -> Millis {
        Millis::from_bits(self.horizon.load(Relaxed))
    }

    /// The same where room is needed, if that makes a difference.
    pub(super) fn horizon_for_room(&self, now: Millis) -> Option<Millis> {
        let horizon = now.minus(self.grace);
        let is_later = !horizon.has_come(self.horizon());
        is_later.then(|| {
            self.forgotten_until.set(Some(horizon));
            horizon
        })
    }

    /// Whether the record of a request that arrived then may have been forgotten before it was read.
    pub(super) fn may_have_forgotten(&self, arrived: Millis) -> bool {
        let until = self.forgotten_until.get();
        until.is_some_and(|until| !until.has_come(arrived))
    }
}

/// Read for every call that is new, and written where room is needed.
#[derive(Debug)]
struct Moment(AtomicU64);

impl Moment {
    const NONE: u64 = u64::MAX;

    fn none() -> Self {
        Self(AtomicU64::new(Self::NONE))
    }

    fn set(&self, moment: Option<Millis>) {
        let word = moment.map_or(Self::NONE, |moment| moment.bits().into());
        self.0.store(word, Relaxed);
    }

    fn get(&self) -> Option<Millis> {
        let bits = u32::try_from(self.0.load(Relaxed)).ok()?;
        Some(Millis::from_bits(bits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u32) -> Millis {
        Millis::from_bits(ms)
    }

    fn patience() -> Patience {
        Patience::new(Duration::from_millis(10_000))
    }

    #[test]
    fn what_goes_for_room_is_remembered_for_as_long_as_something_may_ask_for_it() {
        let patience = patience();
        patience.set_horizon(at(3_000));
        assert_eq!(
            patience.horizon_for_room(at(5_000)),
            None,
            "within the grace"
        );
        assert_eq!(patience.horizon_for_room(at(9_000)), Some(at(6_500)));
        let forgotten = [5_999, 6_499, 6_500].map(|ms| patience.may_have_forgotten(at(ms)));
        assert_eq!(forgotten, [true, true, false]);
        patience.set_horizon(at(6_400));
        assert!(patience.may_have_forgotten(at(6_400)));
        patience.set_horizon(at(6_500));
        assert!(!patience.may_have_forgotten(at(6_400)), "nothing can ask");
    }

    #[test]
    fn moments_are_compared_by_their_difference() {
        let patience = patience();
        patience.set_horizon(at(u32::MAX - 10));
        assert_eq!(patience.horizon_for_room(at(2_400)), None);
        assert_eq!(patience.horizon_for_room(at(9_000)), Some(at(6_500)));
    }
}
