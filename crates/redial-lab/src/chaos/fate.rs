//! What the proxy does to one frame: a seeded draw, and nothing else.

use std::time::Duration;

use rand::{Rng, RngExt};
use rand_chacha::ChaCha8Rng;

/// The way that a frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// From a client to the server.
    Up,
    /// From the server to a client.
    Down,
}

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Pass,
    /// It and what follows wait for so long.
    Delay(Duration),
    /// The same, for longer than an attempt waits.
    Stall(Duration),
    /// So many of its bytes go through, then the connection breaks.
    Cut(usize),
    /// So many of its bytes go through, then this direction ends, and the other goes on.
    Truncate(usize),
    /// It goes through twice.
    Twice,
    /// It goes through, and once more after so long, on another connection.
    Copy(Duration),
    /// It does not go through before so long, and then on another connection.
    HoldBack(Duration),
}

/// How many of a thousand frames meet each fate. Those that break a connection hit everything
/// that is under way on it, so they are the rarest.
const PER_THOUSAND: [(f64, Kind); 7] = [
    (20.0, Kind::Delay),
    (0.4, Kind::Stall),
    (1.5, Kind::Cut),
    (0.7, Kind::Truncate),
    (12.0, Kind::Twice),
    (10.0, Kind::Copy),
    (4.0, Kind::HoldBack),
];

#[derive(Clone, Copy)]
enum Kind {
    Delay,
    Stall,
    Cut,
    Truncate,
    Twice,
    Copy,
    HoldBack,
}

/// Draws the fate of a frame of so many bytes, its header included.
pub(crate) fn draw(way: Way, bytes: usize, rng: &mut ChaCha8Rng) -> Fate {
    let mut left = rng.random_range(0.0..1000.0);
    for (share, kind) in PER_THOUSAND {
        if left < share {
            return of(kind, way, bytes, rng);
        }
        left -= share;
    }
    Fate::Pass
}

fn of(kind: Kind, way: Way, bytes: usize, rng: &mut impl Rng) -> Fate {
    let ms = Duration::from_millis;
    match (kind, way) {
        (Kind::Delay, _) => Fate::Delay(ms(rng.random_range(1..40))),
        (Kind::Stall, _) => Fate::Stall(ms(rng.random_range(200..2000))),
        (Kind::Cut, _) => Fate::Cut(rng.random_range(0..=bytes)),
        (Kind::Truncate, _) => Fate::Truncate(rng.random_range(0..bytes)),
        (Kind::Twice, _) => Fate::Twice,
        (Kind::Copy, Way::Up) => Fate::Copy(later(rng)),
        (Kind::HoldBack, Way::Up) => Fate::HoldBack(later(rng)),
        // Connections are the client's to make: there is no other one to bring a reply on.
        (Kind::Copy | Kind::HoldBack, Way::Down) => Fate::Pass,
    }
}

/// From 10 ms to 10 s, each power of ten alike: before the reply, among the retries, and long
/// after all of it, when the server may be another one.
fn later(rng: &mut impl Rng) -> Duration {
    Duration::from_secs_f64(10f64.powf(rng.random_range(-2.0..1.0)))
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, mem};

    use rand::SeedableRng;

    use super::*;

    fn drawn(way: Way, seed: u64) -> Vec<Fate> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        (0..50_000).map(|_| draw(way, 100, &mut rng)).collect()
    }

    #[test]
    fn a_seed_gives_the_same_fates_again_and_every_fate_comes_up() {
        let up = drawn(Way::Up, 1);
        assert_eq!(up, drawn(Way::Up, 1));
        assert_ne!(up, drawn(Way::Up, 2));
        let kinds: HashSet<_> = up.iter().map(mem::discriminant).collect();
        assert_eq!(kinds.len(), 8);
        let passed = up.iter().filter(|fate| **fate == Fate::Pass).count();
        assert!((46_000..49_000).contains(&passed), "{passed}");
    }

    #[test]
    fn a_cut_may_fall_on_any_byte_and_a_truncated_frame_is_never_whole() {
        let fates = drawn(Way::Down, 1);
        let cuts: HashSet<_> = fates
            .iter()
            .filter_map(|fate| match fate {
                Fate::Cut(at) => Some(*at),
                Fate::Truncate(at) => {
                    assert!(*at < 100);
                    None
                }
                Fate::Copy(_) | Fate::HoldBack(_) => panic!("{fate:?} of a reply"),
                _ => None,
            })
            .collect();
        assert!(cuts.len() > 40 && cuts.iter().all(|at| *at <= 100));
    }
}
