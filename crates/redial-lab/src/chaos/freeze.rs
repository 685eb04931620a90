//! Processes that stand still (SIGSTOP) while the clock goes on and bytes go on arriving.

use std::time::{Duration, Instant};

use anyhow::Result;

/// Whether a process is frozen, and for how long it has been in all.
#[derive(Default)]
pub(super) struct Frost {
    thaws: Option<Instant>,
    /// The sum of all its freezes.
    pub(super) total: Duration,
}

impl Frost {
    pub(super) fn is_frozen(&self) -> bool {
        self.thaws.is_some()
    }

    /// When it is to go on.
    pub(super) fn thaws_at(&self) -> Option<Instant> {
        self.thaws
    }

    /// Freezes the process for so long with `stop`.
    pub(super) fn begin(
        &mut self,
        now: Instant,
        time: Duration,
        stop: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        stop()?;
        self.thaws = Some(now + time);
        self.total += time;
        Ok(())
    }

    /// Whether the process is frozen, and has been for long enough.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.thaws.is_some_and(|thaws| thaws <= now)
    }

    /// Has the process go on with `go_on`, if it is frozen.
    pub(super) fn end(&mut self, go_on: impl FnOnce() -> Result<()>) -> Result<()> {
        if self.thaws.take().is_some() {
            go_on()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::clock;

    #[test]
    fn a_freeze_begins_once_and_ends_once() {
        let (now, time) = (clock::now(), Duration::from_secs(2));
        let mut frost = Frost::default();
        frost.end(|| panic!("it is not frozen")).unwrap();
        frost.begin(now, time, || Ok(())).unwrap();
        assert!(frost.is_frozen() && !frost.is_over(now) && frost.is_over(now + time));
        let mut ended = 0;
        for _ in 0..2 {
            let end = frost.end(|| {
                ended += 1;
                Ok(())
            });
            end.unwrap();
        }
        assert_eq!((ended, frost.is_frozen(), frost.total), (1, false, time));
    }
}
