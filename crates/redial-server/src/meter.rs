//! How often each peer does something that costs: as often at once as a burst allows, and then once in
//! each period. It takes the same memory for any number of peers.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::peer::Peer;

/// A peer has a slot in each row, by a hash that only this process knows, and the one that says less
/// counts: others share one by chance, and hardly ever both (a count-min sketch).
const ROWS: usize = 2;
const SLOTS: usize = 4096;

/// A leaky bucket for each peer (GCRA, as in ITU-T I.371).
#[derive(Debug)]
pub(crate) struct Meter {
    epoch: Instant,
    /// After how long one more is allowed.
    period: Duration,
    burst: u32,
    rows: [RandomState; ROWS],
    /// When a peer has its whole burst again, in nanoseconds since the epoch.
    empty_at: Mutex<Box<[[u64; SLOTS]]>>,
}

impl Meter {
    pub(crate) fn new(period: Duration, burst: u32, now: Instant) -> Self {
        Self {
            epoch: now,
            period,
            burst,
            rows: Default::default(),
            empty_at: Mutex::new(vec![[0; SLOTS]; ROWS].into()),
        }
    }

    /// Counts one more, and says how long it has to wait. If that is longer than `patience`, nothing is
    /// counted, and the time comes as an error.
    pub(crate) fn take(
        &self,
        peer: &Peer,
        now: Instant,
        patience: Duration,
    ) -> Result<Duration, Duration> {
        let now = nanos(now.saturating_duration_since(self.epoch));
        let (period, at) = (nanos(self.period), self.slots_of(peer));
        let mut empty_at = self.lock();
        let known = (0..ROWS).map(|row| empty_at[row][at[row]]).min();
        let next = known.unwrap_or(0).max(now).saturating_add(period);
        let allowed = now.saturating_add(period.saturating_mul(u64::from(self.burst)));
        let wait = Duration::from_nanos(next.saturating_sub(allowed));
        if wait > patience {
            return Err(wait);
        }
        for row in 0..ROWS {
            let slot = &mut empty_at[row][at[row]];
            *slot = next.max(*slot);
        }
        Ok(wait)
    }

    /// Undoes a [`take`](Self::take): what it counted turned out to cost nothing.
    pub(crate) fn give_back(&self, peer: &Peer) {
        let (period, at) = (nanos(self.period), self.slots_of(peer));
        let mut empty_at = self.lock();
        for row in 0..ROWS {
            let slot = &mut empty_at[row][at[row]];
            *slot = slot.saturating_sub(period);
        }
    }

    fn slots_of(&self, peer: &Peer) -> [usize; ROWS] {
        let rows = &self.rows;
        std::array::from_fn(|row| rows[row].hash_one(peer) as usize % SLOTS)
    }

    fn lock(&self) -> MutexGuard<'_, Box<[[u64; SLOTS]]>> {
        self.empty_at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::clock;

    const PERIOD: Duration = Duration::from_millis(100);

    fn peer(number: u32) -> Peer {
        Peer::V4(Ipv4Addr::from_bits(number))
    }

    /// Times since the meter was made.
    struct World {
        begin: Instant,
        meter: Meter,
    }

    impl World {
        fn new(burst: u32) -> Self {
            let begin = clock::now();
            let meter = Meter::new(PERIOD, burst, begin);
            Self { begin, meter }
        }

        fn take(&self, number: u32, at_ms: u64, patience_ms: u64) -> Result<u64, u64> {
            let at = self.begin + Duration::from_millis(at_ms);
            let taken = self
                .meter
                .take(&peer(number), at, Duration::from_millis(patience_ms));
            let ms = |wait: Duration| wait.as_millis() as u64;
            taken.map(ms).map_err(ms)
        }
    }

    #[test]
    fn a_peer_has_a_burst_and_then_one_for_each_period() {
        let world = World::new(3);
        let taken: Vec<_> = (0..6).map(|_| world.take(1, 0, 200)).collect();
        let expected = [Ok(0), Ok(0), Ok(0), Ok(100), Ok(200), Err(300)];
        assert_eq!(taken, expected);
        // Refused ones don't count, and each period sets one free.
        assert_eq!(world.take(1, 0, 200), Err(300));
        assert_eq!(world.take(1, 100, 200), Ok(200));
        assert_eq!(world.take(1, 600, 0), Ok(0));
        // However long it has been away, it has its burst again and no more.
        let again: Vec<_> = (0..4).map(|_| world.take(1, 100_000, 0)).collect();
        assert_eq!(again, [Ok(0), Ok(0), Ok(0), Err(100)]);
    }

    #[test]
    fn what_was_none_is_given_back() {
        let world = World::new(2);
        for _ in 0..1_000 {
            assert_eq!(world.take(1, 0, 0), Ok(0));
            world.meter.give_back(&peer(1));
        }
        world.meter.give_back(&peer(2));
        let taken: Vec<_> = (0..3).map(|_| world.take(2, 0, 0)).collect();
        assert_eq!(taken, [Ok(0), Ok(0), Err(100)]);
    }

    /// A crowd of peers that do all they may costs another peer something by chance, and hardly ever.
    #[test]
    fn others_pay_for_a_crowd_hardly_ever() {
        let world = World::new(4);
        for number in 0..200 {
            for _ in 0..100 {
                let _ = world.take(number, 0, 0);
            }
        }
        let others = 1_000_000..1_001_000;
        let hit = others.filter(|number| world.take(*number, 0, 0).is_err());
        let hit = hit.count();
        assert!(hit < 30, "{hit} of 1000");
    }

    #[test]
    fn a_clock_that_stands_still_or_a_limit_without_end_breaks_nothing() {
        let world = World::new(u32::MAX);
        for at in [0, 5, 5, 0] {
            assert_eq!(world.take(1, at, 0), Ok(0));
        }
        let before = world.begin.checked_sub(PERIOD).unwrap_or(world.begin);
        assert!(world.meter.take(&peer(1), before, PERIOD).is_ok());
    }
}
