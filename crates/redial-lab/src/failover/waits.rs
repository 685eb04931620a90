//! A fail-over, and how long calls waited for it.

use serde::Serialize;

use crate::{
    crash::lives::Outage,
    harness::events::{Call, Outcome},
    report::scale::median,
};

/// One fail-over, in microseconds of Unix time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Failover {
    /// Whether the standby stood still before the primary was killed, so that it lacked commits.
    pub(crate) is_standby_frozen: bool,
    /// Whether the new primary answered before it had a standby of its own.
    pub(crate) is_alone: bool,
    /// How many commits waited for the standby when the primary was killed.
    pub(crate) held: u64,
    pub(crate) killed_us: u64,
    /// When the standby took writes.
    pub(crate) promoted_us: u64,
    /// When it had a standby of its own.
    pub(crate) standby_us: u64,
}

/// The calls that were open when the primary was killed, or began before the next one took writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Waited {
    pub(crate) calls: u64,
    /// How long half of them took at most.
    pub(crate) median_us: Option<u64>,
    pub(crate) longest_us: Option<u64>,
    /// From the kill to the first answer of the new primary's.
    pub(crate) first_us: Option<u64>,
}

impl Failover {
    /// What the standby did before the primary was killed.
    pub(crate) fn before(&self) -> &'static str {
        if self.is_standby_frozen {
            "frozen"
        } else {
            "running"
        }
    }

    /// The standby that the new primary had when it answered.
    pub(crate) fn after(&self) -> &'static str {
        if self.is_alone { "none" } else { "waited for" }
    }

    /// As the picture of a run shows it.
    pub(crate) fn outage(&self) -> Outage {
        Outage {
            from_us: self.killed_us,
            to_us: if self.is_alone {
                self.promoted_us
            } else {
                self.standby_us
            },
        }
    }

    /// How long these calls waited for it, as far as they did.
    pub(crate) fn waited<'a>(&self, calls: impl Iterator<Item = &'a Call>) -> Waited {
        let mut took = Vec::new();
        let mut first_us = None;
        for call in calls.filter(|call| call.end_us >= self.killed_us) {
            if call.start_us < self.promoted_us {
                took.push(call.took_us());
            }
            if call.outcome == Outcome::Ok && call.end_us > self.promoted_us {
                let since = call.end_us - self.killed_us;
                first_us = Some(first_us.map_or(since, |first: u64| first.min(since)));
            }
        }
        took.sort_unstable();
        Waited {
            calls: took.len() as u64,
            median_us: median(took.iter().map(|us| *us as f64)).map(|us| us as u64),
            longest_us: took.last().copied(),
            first_us,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_were_open_in_between_have_waited_and_no_others() {
        let failover = Failover {
            is_standby_frozen: false,
            is_alone: true,
            held: 0,
            killed_us: 100,
            promoted_us: 200,
            standby_us: 900,
        };
        let call = |start_us, end_us, outcome| Call {
            number: 0,
            outcome,
            start_us,
            end_us,
            value: None,
            error: None,
            attempts: Vec::new(),
        };
        let calls = [
            call(0, 99, Outcome::Ok),
            call(50, 101, Outcome::Ok),
            call(60, 260, Outcome::Ok),
            call(150, 250, Outcome::Unknown),
            call(201, 251, Outcome::Ok),
            call(0, 50, Outcome::Ok),
        ];
        let expected = Waited {
            calls: 3,
            median_us: Some(100),
            longest_us: Some(200),
            first_us: Some(151),
        };
        assert_eq!(failover.waited(calls.iter()), expected);
        assert_eq!(failover.waited([].iter()), Waited::default());
    }
}
