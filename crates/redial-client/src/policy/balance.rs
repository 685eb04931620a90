//! Which of several endpoints a call goes to: power of two choices (Mitzenmacher, "The Power of Two
//! Choices in Randomized Load Balancing", 2001), as in finagle and gRPC. Unlike the least loaded of
//! all it keeps clients that know the same loads from running to one endpoint together.

/// Takes two at random of those with the best rank, the least, and gives the one with less load.
/// `None` if none has a rank. `random` decides which two.
pub(crate) fn power_of_two<R: Ord, L: PartialOrd>(
    count: usize,
    rank: impl Fn(usize) -> Option<R>,
    load: impl Fn(usize) -> L,
    random: u64,
) -> Option<usize> {
    let best = (0..count).filter_map(&rank).min()?;
    let is_best = |at: &usize| rank(*at).as_ref() == Some(&best);
    let candidates = (0..count).filter(is_best).count();
    let nth = |n| (0..count).filter(is_best).nth(n);
    if candidates == 1 {
        return nth(0);
    }
    // A number below `range`, by the bits of a number of 32.
    let below = |range: usize, bits: u64| (((bits & 0xFFFF_FFFF) * range as u64) >> 32) as usize;
    let first = below(candidates, random);
    let second = (first + 1 + below(candidates - 1, random >> 32)) % candidates;
    let (first, second) = (nth(first)?, nth(second)?);
    Some(if load(second) < load(first) {
        second
    } else {
        first
    })
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn rng() -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(7)
    }

    /// Kind of fault: a call goes to an endpoint where it has to wait, because that one is less loaded.
    #[test]
    fn only_those_of_the_best_rank_are_chosen_however_loaded_they_are() {
        let mut rng = rng();
        let ranks = [Some(2), Some(1), None, Some(1)];
        for _ in 0..100 {
            let load = |at| if at == 0 { 0 } else { 1_000 };
            let chosen = power_of_two(4, |at| ranks[at], load, rng.random()).unwrap();
            assert!(chosen == 1 || chosen == 3, "{chosen}");
        }
        assert_eq!(power_of_two(2, |_| None::<u8>, |_| 0, rng.random()), None);
        assert_eq!(power_of_two(0, |_| Some(0), |_| 0, rng.random()), None);
        assert_eq!(
            power_of_two(3, |at| (at == 2).then_some(0), |_| 0, rng.random()),
            Some(2)
        );
    }

    /// Load that does not spread: all calls on one of several, as with "always the first".
    #[test]
    fn what_is_in_flight_spreads_and_the_one_with_the_most_is_never_chosen() {
        let (mut rng, mut loads) = (rng(), [0usize; 5]);
        for _ in 0..1_000 {
            let most = *loads.iter().max().unwrap();
            let is_alone = loads.iter().filter(|load| **load == most).count() == 1;
            let chosen = power_of_two(5, |_| Some(0), |at| loads[at], rng.random()).unwrap();
            assert!(!is_alone || loads[chosen] < most, "{loads:?}");
            loads[chosen] += 1;
        }
        let (least, most) = (loads.iter().min().unwrap(), loads.iter().max().unwrap());
        assert!(most - least <= 4, "{loads:?}");
    }
}
