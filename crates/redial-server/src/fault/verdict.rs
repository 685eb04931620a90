//! What the rules decide about one request: whether it arrives, when it is run, and what happens to
//! the reply.

use std::time::Duration;

use rand::Rng;

use super::{CutPoint, Fault, FaultRule};

/// What happens to a request before it reaches the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum RequestFault {
    #[default]
    None,
    Drop,
    Cut,
}

/// What happens to a reply on its way out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ReplyFault {
    #[default]
    None,
    Drop,
    CutBefore,
    CutMid,
    CutAfter,
}

/// All that is decided about one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) request: RequestFault,
    pub(crate) duplicate: bool,
    pub(crate) delay_execution: Option<Duration>,
    pub(crate) reply: ReplyFault,
    pub(crate) delay_reply: Option<Duration>,
}

impl Verdict {
    /// Whether the reply may go straight into the buffer, now.
    pub(crate) fn leaves_reply_alone(&self) -> bool {
        self.reply == ReplyFault::None && self.delay_reply.is_none()
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
            Fault::DropRequest => self.on_request(RequestFault::Drop),
            Fault::Cut(CutPoint::BeforeExecution) => self.on_request(RequestFault::Cut),
            Fault::DropReply => self.on_reply(ReplyFault::Drop),
            Fault::Cut(CutPoint::BeforeReply) => self.on_reply(ReplyFault::CutBefore),
            Fault::Cut(CutPoint::MidReply) => self.on_reply(ReplyFault::CutMid),
            Fault::Cut(CutPoint::AfterReply) => self.on_reply(ReplyFault::CutAfter),
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

    fn on_request(&mut self, fault: RequestFault) {
        if self.request == RequestFault::None {
            self.request = fault;
        }
    }

    fn on_reply(&mut self, fault: ReplyFault) {
        if self.reply == ReplyFault::None {
            self.reply = fault;
        }
    }
}
