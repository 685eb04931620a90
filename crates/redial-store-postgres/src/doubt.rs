//! Whether the calls of a batch are claimed before their handlers run: when some of the last batches had calls that may
//! not run, as those of a client that has lost its server and comes to this one.

/// For how many batches that holds at first, and at most: the more of them in a row are undone, the longer.
const FEWEST: u32 = 8;
const MOST: u32 = 1024;

#[derive(Debug, Default)]
pub(crate) struct Doubt {
    /// For how many batches yet.
    left: u32,
    /// For how many, the last time that it arose.
    last: u32,
}

impl Doubt {
    /// Whether the next batch claims first.
    pub(crate) fn claims_first(&mut self) -> bool {
        let claims_first = self.left > 0;
        self.left = self.left.saturating_sub(1);
        claims_first
    }

    /// A batch that did not claim first is undone.
    pub(crate) fn arise(&mut self) {
        self.last = (self.last * 2).clamp(FEWEST, MOST);
        self.left = self.last;
    }

    /// One that did not is committed.
    pub(crate) fn settle(&mut self) {
        self.last = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim_first(doubt: &mut Doubt) -> u32 {
        let mut count = 0;
        while doubt.claims_first() {
            count += 1;
        }
        count
    }

    #[test]
    fn doubt_lasts_longer_each_time_and_starts_anew_after_a_success() {
        let mut doubt = Doubt::default();
        assert_eq!(claim_first(&mut doubt), 0);
        for expected in [8, 16, 32] {
            doubt.arise();
            assert_eq!(claim_first(&mut doubt), expected);
        }
        for _ in 0..20 {
            doubt.arise();
        }
        assert_eq!(claim_first(&mut doubt), MOST);
        doubt.settle();
        doubt.arise();
        assert_eq!(claim_first(&mut doubt), FEWEST);
    }
}
