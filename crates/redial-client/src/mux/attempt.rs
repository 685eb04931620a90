//! One sending of a call.

use std::time::Instant;

use uuid::Uuid;

use super::link::{Link, WriteProgress};
use crate::report::AttemptEnd;

/// One sending of a call.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    /// The call's id at that time; nil if it has none.
    pub(crate) id: Uuid,
    pub(crate) number: u32,
    pub(crate) is_hedge: bool,
    pub(crate) started: Instant,
    pub(crate) ended: Option<(Instant, AttemptEnd)>,
    pub(super) link: usize,
    pub(super) epoch: u32,
    /// Offsets of its frame in the stream of its connection.
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) state: AttemptState,
}

/// Whether an attempt may still be answered, and whether it may be executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AttemptState {
    /// Its connection stands: it may be both.
    Live,
    /// It was wholly written to a connection that is gone, or refused while another attempt may be
    /// running: the call may be executed.
    Orphaned,
    /// Neither: it was refused, or never arrived whole.
    Void,
}

impl Attempt {
    pub(super) fn finish(&mut self, now: Instant, end: AttemptEnd) {
        self.ended = Some((now, end));
    }

    /// There was a connection for it.
    pub(super) fn was_sent(&self) -> bool {
        !matches!(self.ended, Some((_, AttemptEnd::ConnectFailed)))
    }

    /// It was sent on this connection of the link, and may be answered there.
    pub(super) fn is_on(&self, link: usize, epoch: u32) -> bool {
        self.state == AttemptState::Live && (self.link, self.epoch) == (link, epoch)
    }

    /// A reply on the link's connection may be to it: no reply can be to what was not written whole.
    pub(super) fn can_be_answered(&self, number: usize, link: &Link) -> bool {
        self.is_on(number, link.epoch)
            && link.write_progress(self.start, self.end) == WriteProgress::Complete
    }

    pub(crate) fn may_have_executed(&self) -> bool {
        self.state != AttemptState::Void
    }
}
