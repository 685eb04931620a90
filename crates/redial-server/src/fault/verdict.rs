//! What the rules decide about one request: whether it arrives, when it is run, and what becomes of
//! the reply.

use std::time::Duration;

use rand::Rng;

use super::{CutPoint, Fault, FaultRule};

/// What happens to a request before it reaches the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Arrival {
    #[default]
    Pass,
    Drop,
    Cut,
}

/// What happens to a reply on its way out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Departure {
    #[default]
    Pass,
    Drop,
    CutBefore,
    CutMid,
    CutAfter,
}

/// All that is decided about one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) arrival: Arrival,
    pub(crate) duplicate: bool,
    pub(crate) delay_execution: Option<Duration>,
    pub(crate) departure: Departure,
    pub(crate) delay_reply: Option<Duration>,
}

impl Verdict {
    /// Whether the reply may go the short way: into the buffer, now.
    pub(crate) fn replies_plainly(&self) -> bool {
        self.departure == Departure::Pass && self.delay_reply.is_none()
    }

    pub(super) fn of(rules: &[FaultRule], method: &str, rng: &mut impl Rng) -> Self {
        let mut verdict = Self::default();
        for rule in rules {
            if rule.fires(method, rng) {
                verdict.add(rule.fault, rng);
            }
        }
        verdict
    }

    /// The first of each kind wins.
    fn add(&mut self, fault: Fault, rng: &mut impl Rng) {
        match fault {
            Fault::DropRequest => self.arrive(Arrival::Drop),
            Fault::Cut(CutPoint::BeforeExecution) => self.arrive(Arrival::Cut),
            Fault::DropReply => self.depart(Departure::Drop),
            Fault::Cut(CutPoint::BeforeReply) => self.depart(Departure::CutBefore),
            Fault::Cut(CutPoint::MidReply) => self.depart(Departure::CutMid),
            Fault::Cut(CutPoint::AfterReply) => self.depart(Departure::CutAfter),
            Fault::Duplicate => self.duplicate = true,
            Fault::DelayExecution(delay) => {
                self.delay_execution
                    .get_or_insert_with(|| delay.sample(rng));
            }
            Fault::DelayReply(delay) => {
                self.delay_reply.get_or_insert_with(|| delay.sample(rng));
            }
        }
    }

    fn arrive(&mut self, arrival: Arrival) {
        if self.arrival == Arrival::Pass {
            self.arrival = arrival;
        }
    }

    fn depart(&mut self, departure: Departure) {
        if self.departure == Departure::Pass {
            self.departure = departure;
        }
    }
}
