//! What the proxy does to one frame: a seeded draw, and nothing else.

use std::time::Duration;

use rand::{Rng, RngExt};
use rand_chacha::ChaCha8Rng;

/// The direction of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From a client to the server.
    Up,
    /// From the server to a client.
    Down,
}

/// What happens to a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameFault {
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

/// How many of a thousand frames meet each fault. Those that break a connection hit everything
/// in flight on it, so they are the rarest.
const PER_THOUSAND: [(f64, FaultKind); 7] = [
    (20.0, FaultKind::Delay),
    (0.4, FaultKind::Stall),
    (1.5, FaultKind::Cut),
    (0.7, FaultKind::Truncate),
    (12.0, FaultKind::Twice),
    (10.0, FaultKind::Copy),
    (4.0, FaultKind::HoldBack),
];

#[derive(Clone, Copy)]
enum FaultKind {
    Delay,
    Stall,
    Cut,
    Truncate,
    Twice,
    Copy,
    HoldBack,
}

/// Draws the fault of a frame of so many bytes, its header included.
pub(crate) fn draw(direction: Direction, bytes: usize, rng: &mut ChaCha8Rng) -> FrameFault {
    let mut left = rng.random_range(0.0..1000.0);
    for (share, kind) in PER_THOUSAND {
        if left < share {
            return of(kind, direction, bytes, rng);
        }
        left -= share;
    }
    FrameFault::Pass
}

fn of(kind: FaultKind, direction: Direction, bytes: usize, rng: &mut impl Rng) -> FrameFault {
    let ms = Duration::from_millis;
    match (kind, direction) {
        (FaultKind::Delay, _) => FrameFault::Delay(ms(rng.random_range(1..40))),
        (FaultKind::Stall, _) => FrameFault::Stall(ms(rng.random_range(200..2000))),
        (FaultKind::Cut, _) => FrameFault::Cut(rng.random_range(0..=bytes)),
        (FaultKind::Truncate, _) => FrameFault::Truncate(rng.random_range(0..bytes)),
        (FaultKind::Twice, _) => FrameFault::Twice,
        (FaultKind::Copy, Direction::Up) => FrameFault::Copy(later(rng)),
        (FaultKind::HoldBack, Direction::Up) => FrameFault::HoldBack(later(rng)),
        // Only a client makes connections, so there is no other one to bring a reply on.
        (FaultKind::Copy | FaultKind::HoldBack, Direction::Down) => FrameFault::Pass,
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

    fn drawn(direction: Direction, seed: u64) -> Vec<FrameFault> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        (0..50_000)
            .map(|_| draw(direction, 100, &mut rng))
            .collect()
    }

    #[test]
    fn a_seed_gives_the_same_fates_again_and_every_fate_comes_up() {
        let up = drawn(Direction::Up, 1);
        assert_eq!(up, drawn(Direction::Up, 1));
        assert_ne!(up, drawn(Direction::Up, 2));
        let kinds: HashSet<_> = up.iter().map(mem::discriminant).collect();
        assert_eq!(kinds.len(), 8);
        let passed = up
            .iter()
            .filter(|fault| **fault == FrameFault::Pass)
            .count();
        assert!((46_000..49_000).contains(&passed), "{passed}");
    }

    #[test]
    fn a_cut_may_fall_on_any_byte_and_a_truncated_frame_is_never_whole() {
        let faults = drawn(Direction::Down, 1);
        let cuts: HashSet<_> = faults
            .iter()
            .filter_map(|fault| match fault {
                FrameFault::Cut(at) => Some(*at),
                FrameFault::Truncate(at) => {
                    assert!(*at < 100);
                    None
                }
                FrameFault::Copy(_) | FrameFault::HoldBack(_) => panic!("{fault:?} of a reply"),
                _ => None,
            })
            .collect();
        assert!(cuts.len() > 40 && cuts.iter().all(|at| *at <= 100));
    }
}
