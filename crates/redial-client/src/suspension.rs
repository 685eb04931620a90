//! Notices that the machine was suspended. Its clock stands still meanwhile, and that of a server
//! elsewhere does not: what the server keeps for a time is gone sooner than it seems.

use std::time::Duration;

/// What no time that matters is counted in.
const MOMENT: Duration = Duration::from_secs(1);

/// How long the machine has been suspended in all, where the system says so.
#[derive(Debug)]
pub(crate) struct Suspension {
    total: Duration,
}

impl Suspension {
    pub(crate) fn new() -> Self {
        Self {
            total: suspended_in_all(),
        }
    }

    /// Whether the machine was suspended since the last look.
    pub(crate) fn has_been(&mut self) -> bool {
        self.look(suspended_in_all())
    }

    fn look(&mut self, total: Duration) -> bool {
        let grew = total.saturating_sub(self.total) > MOMENT;
        if grew {
            self.total = total;
        }
        grew
    }
}

/// One of the two clocks runs on in a suspended machine.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn suspended_in_all() -> Duration {
    use rustix::time::{ClockId, clock_gettime};

    let read = |clock| {
        let time = clock_gettime(clock);
        let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
        Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
    };
    read(ClockId::Boottime).saturating_sub(read(ClockId::Monotonic))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn suspended_in_all() -> Duration {
    Duration::ZERO
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suspension_is_noticed_once() {
        let mut suspension = Suspension::new();
        assert!(!suspension.has_been(), "no machine is suspended here");
        let hour = suspension.total + Duration::from_secs(3_600);
        assert!(suspension.look(hour) && !suspension.look(hour));
        assert!(
            !suspension.look(hour + MOMENT / 2),
            "the two are not read at once"
        );
    }
}
