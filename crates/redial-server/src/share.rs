//! How much of a limit that all have in common one of them may take: up to a fixed part of what the
//! others leave (a dynamic threshold, as Choudhury and Hahne have it for the buffers of a switch).
//!
//! So one who is alone has nearly everything, something is free for the one that comes next, and nothing
//! has to be known of the others but how much is left.

/// A part of what the others leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    /// Of this many equal parts...
    of: u32,
    /// ...all but so many.
    spare: u32,
}

impl Share {
    /// All but one part in so many.
    pub(crate) const fn all_but_one_in(of: u32) -> Self {
        Self { of, spare: 1 }
    }

    /// All but so many per cent.
    pub(crate) const fn all_but_percent(spare: u32) -> Self {
        Self { of: 100, spare }
    }

    /// Half as much is spared.
    pub(crate) const fn larger(self) -> Self {
        Self {
            of: 2 * self.of,
            spare: self.spare,
        }
    }

    /// Whether one who holds so much may take more while so much is free.
    #[inline]
    pub(crate) fn allows(self, held: usize, free: usize) -> bool {
        let taken = (held as u128) * u128::from(self.spare);
        let left = (free as u128) * u128::from(self.of - self.spare);
        free > 0 && taken < left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes one at a time for as long as that is allowed.
    fn fill(share: Share, held: &mut usize, free: &mut usize) {
        while share.allows(*held, *free) {
            *held += 1;
            *free -= 1;
        }
    }

    /// One who takes all: alone it has its part, and the next ones find something all the same.
    #[test]
    fn one_who_is_alone_has_nearly_all_and_the_next_ones_find_something() {
        let share = Share::all_but_percent(25);
        for (max, expected) in [(0, 0), (1, 1), (2, 2), (4, 3), (8, 6), (256, 192)] {
            let (mut held, mut free) = (0, max);
            fill(share, &mut held, &mut free);
            assert_eq!(held, expected, "of {max}");
        }
        let mut free = 256;
        for expected in [192, 48, 12] {
            let mut held = 0;
            fill(share, &mut held, &mut free);
            assert_eq!(held, expected);
        }
        assert!(Share::all_but_percent(0).allows(usize::MAX, 1));
        assert!(!Share::all_but_percent(0).allows(0, 0));
        assert!(share.larger().allows(223, 33) && !share.larger().allows(224, 32));
        assert!(Share::all_but_one_in(16).allows(usize::MAX / 2, usize::MAX));
    }

    /// As those who hold much return it, shares become equal.
    #[test]
    fn shares_become_equal() {
        let share = Share::all_but_percent(25);
        let (mut held, mut free) = ([0; 3], 256);
        for one in &mut held {
            fill(share, one, &mut free);
        }
        for turn in 0..10_000 {
            let at = turn % 3;
            if held[at] > 0 {
                held[at] -= 1;
                free += 1;
            }
            for one in &mut held {
                fill(share, one, &mut free);
            }
        }
        let (least, most) = (held.iter().min().unwrap(), held.iter().max().unwrap());
        assert!(most - least <= 3 && free > 20, "{held:?} {free}");
    }
}
