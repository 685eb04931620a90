//! How often tokens are guessed from one address, on however many connections. A token that this address
//! has shown before is no guess: what others behind the same address guess keeps no client waiting that
//! has been let in, and one that shows the same wrong token for ever gives nothing away.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::{meter::Meter, peer::Peer};

/// How long it takes until a wrong token is out of mind.
const PERIOD: Duration = Duration::from_millis(100);

/// How many tokens of each kind are remembered, 8 bytes each.
const REMEMBERED: usize = 4096;

#[derive(Debug)]
pub(crate) struct Guesses {
    meter: Meter,
    hasher: RandomState,
    right: Remembered,
    wrong: Remembered,
}

/// A token that may be verified.
#[derive(Debug)]
pub(crate) struct Turn {
    /// How long it has to wait for that.
    pub(crate) wait: Duration,
    peer: Peer,
    mark: u64,
    is_counted: bool,
}

impl Guesses {
    /// With so many wrong tokens of one address before further ones have to wait.
    pub(crate) fn new(burst: u32, now: Instant) -> Self {
        Self {
            meter: Meter::new(PERIOD, burst, now),
            hasher: RandomState::new(),
            right: Remembered::default(),
            wrong: Remembered::default(),
        }
    }

    /// A token has come from an address. Where it would have to wait for longer than `patience`, the
    /// error says in how long it would not.
    pub(crate) fn begin(
        &self,
        peer: Peer,
        token: &str,
        now: Instant,
        patience: Duration,
    ) -> Result<Turn, Duration> {
        let mark = self.hasher.hash_one((&peer, token));
        let is_counted = !(self.right.has(mark) || self.wrong.has(mark));
        let wait = if is_counted {
            // Counted before it is judged: a guess whose connection doesn't wait for that is one, too.
            let taken = self.meter.take(&peer, now, patience);
            taken.map_err(|wait| wait.saturating_sub(patience).max(PERIOD))?
        } else {
            Duration::ZERO
        };
        Ok(Turn {
            wait,
            peer,
            mark,
            is_counted,
        })
    }

    /// The token was right: it is no guess.
    pub(crate) fn was_right(&self, turn: &Turn) {
        self.right.add(turn.mark);
        self.could_not_tell(turn);
    }

    pub(crate) fn was_wrong(&self, turn: &Turn) {
        self.wrong.add(turn.mark);
    }

    /// Its verification has failed, which gives nothing away.
    pub(crate) fn could_not_tell(&self, turn: &Turn) {
        if turn.is_counted {
            self.meter.give_back(&turn.peer);
        }
    }
}

/// Hashes of what came last, by a key that only this process knows.
#[derive(Debug)]
struct Remembered(Mutex<Box<[u64]>>);

impl Default for Remembered {
    fn default() -> Self {
        Self(Mutex::new(vec![0; REMEMBERED].into()))
    }
}

impl Remembered {
    fn has(&self, mark: u64) -> bool {
        self.with(mark, |slot| *slot == mark)
    }

    fn add(&self, mark: u64) {
        self.with(mark, |slot| *slot = mark);
    }

    fn with<T>(&self, mark: u64, access: impl FnOnce(&mut u64) -> T) -> T {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        access(&mut slots[mark as usize % REMEMBERED])
    }
}
