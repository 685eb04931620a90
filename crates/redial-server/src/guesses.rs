//! How often tokens are guessed from one address, on however many connections. A token that this address
//! has shown before is no guess: what others behind the same address guess keeps no client waiting that
//! has been let in, and one that shows the same wrong token for ever gives nothing away.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::{meter::Meter, peer::Peer};

/// After how long one wrong token more is forgiven.
const PERIOD: Duration = Duration::from_millis(100);

/// The same of a token that is known to have been wrong: showing it again costs a verification, and reveals
/// nothing.
const PERIOD_AGAIN: Duration = Duration::from_millis(10);

/// How many tokens of each kind are remembered, 8 bytes each.
const REMEMBERED: usize = 4096;

#[derive(Debug)]
pub(crate) struct Guesses {
    new: Meter,
    again: Meter,
    hasher: RandomState,
    right: Remembered,
    wrong: Remembered,
}

/// A token that may be verified.
#[derive(Debug)]
pub(crate) struct GuessPermit {
    /// How long it has to wait for that.
    pub(crate) wait: Duration,
    peer: Peer,
    mark: u64,
    kind: Kind,
}

/// What is known of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// This address has not shown it before, or long ago.
    New,
    /// It was wrong before.
    Again,
    /// It was right before.
    Right,
}

impl Guesses {
    /// `burst`: how many wrong tokens of one address are looked at before further ones have to wait.
    pub(crate) fn new(burst: u32, now: Instant) -> Self {
        Self {
            new: Meter::new(PERIOD, burst, now),
            again: Meter::new(PERIOD_AGAIN, burst, now),
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
    ) -> Result<GuessPermit, Duration> {
        let mark = self.hasher.hash_one((&peer, token));
        let kind = match (self.right.has(mark), self.wrong.has(mark)) {
            (true, _) => Kind::Right,
            (false, true) => Kind::Again,
            (false, false) => Kind::New,
        };
        let wait = match self.meter(kind) {
            // Counted before it is judged: a guess whose connection doesn't wait for that is one, too.
            Some(meter) => {
                let taken = meter.take(&peer, now, patience);
                taken.map_err(|wait| wait.saturating_sub(patience).max(PERIOD))?
            }
            None => Duration::ZERO,
        };
        Ok(GuessPermit {
            wait,
            peer,
            mark,
            kind,
        })
    }

    fn meter(&self, kind: Kind) -> Option<&Meter> {
        match kind {
            Kind::New => Some(&self.new),
            Kind::Again => Some(&self.again),
            Kind::Right => None,
        }
    }

    /// The token was right: it is no guess.
    pub(crate) fn was_right(&self, permit: &GuessPermit) {
        self.right.add(permit.mark);
        self.could_not_tell(permit);
    }

    pub(crate) fn was_wrong(&self, permit: &GuessPermit) {
        // It may have been right until now.
        self.right.forget(permit.mark);
        self.wrong.add(permit.mark);
    }

    /// Its verification has failed, which gives nothing away.
    pub(crate) fn could_not_tell(&self, permit: &GuessPermit) {
        if let Some(meter) = self.meter(permit.kind) {
            meter.give_back(&permit.peer);
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

    fn forget(&self, mark: u64) {
        self.with(mark, |slot| {
            if *slot == mark {
                *slot = 0;
            }
        });
    }

    fn with<T>(&self, mark: u64, access: impl FnOnce(&mut u64) -> T) -> T {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        access(&mut slots[mark as usize % REMEMBERED])
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::clock;

    /// Kind: what was true of a token once counts for ever. Instance: one that was right and is not any more,
    /// which could be shown as often as one liked.
    #[test]
    fn a_token_that_is_right_no_longer_waits_like_any_that_was_wrong() {
        let (now, peer) = (clock::now(), Peer::V4(Ipv4Addr::LOCALHOST));
        let guesses = Guesses::new(1, now);
        let show = || guesses.begin(peer.clone(), "token", now, Duration::ZERO);
        guesses.was_right(&show().unwrap());
        for _ in 0..2 {
            let again = show().unwrap();
            assert_eq!(again.kind, Kind::Right);
            guesses.was_right(&again);
        }
        guesses.was_wrong(&show().unwrap());
        guesses.was_wrong(&show().unwrap());
        assert!(show().is_err());
    }
}
