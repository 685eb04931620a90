//! Frames that are not to be written any more after a time: retries of calls that a server forgets,
//! which it would take for new ones. What the driver has taken already can't be withdrawn, and may
//! have to wait for the transport for as long as that, or the process stands still.

use std::time::Instant;

use super::{
    Mux,
    link::{Transmit, WriteLimit, WriteProgress, write_progress},
    slab::Key,
};

impl Mux {
    /// The call's latest attempt, which was sent just now, is not to be written after this.
    pub(crate) fn limit_write(&mut self, key: Key, until: Instant) {
        if let Some(latest) = self.call(key).attempts.last() {
            let (link, start, end) = (latest.link, latest.start, latest.end);
            self.links[link]
                .write_limits
                .push(WriteLimit { start, end, until });
        }
    }
}

impl Mux {
    /// The machine was suspended until now: how long, a server may have counted.
    pub(crate) fn handle_suspension(&mut self, now: Instant) {
        self.suspended_at = Some(now);
        for link in &mut self.links {
            let limits = link.write_limits.iter_mut();
            limits.for_each(|limit| limit.until = now);
        }
    }

    /// Whether the machine was suspended after that.
    pub(crate) fn was_suspended_after(&self, moment: Instant) -> bool {
        self.suspended_at.is_some_and(|at| moment < at)
    }
}

impl Transmit {
    /// Whether some frame has a limit.
    pub(crate) fn has_limits(&self) -> bool {
        !self.write_limits.is_empty()
    }

    /// Skips the frames whose time has passed: for all that is known of them they were written.
    /// False if one is partly written, so that nothing else can follow.
    pub(crate) fn skip_late(&mut self, now: Instant) -> bool {
        let offset = self.offset();
        let mut may_go_on = true;
        let withdrawn = &mut self.withdrawn;
        self.write_limits.retain(|limit| {
            let progress = write_progress(limit.start, limit.end, offset);
            let is_late = limit.until <= now;
            match progress {
                WriteProgress::Unwritten if is_late => {
                    withdrawn.insert(limit.start, limit.end);
                }
                WriteProgress::Partial if is_late => may_go_on = false,
                _ => {}
            }
            !is_late && progress != WriteProgress::Complete
        });
        may_go_on
    }
}

#[cfg(test)]
mod tests {
    use std::{task::Waker, time::Duration};

    use super::*;
    use crate::{
        config::Config,
        mux::tests::{id, mux, send},
    };

    const LATE: Duration = Duration::from_secs(1);

    /// Three frames, the second with a limit, all taken by the driver; how long each is.
    fn taken(mux: &mut Mux, now: Instant) -> (Transmit, usize) {
        for n in 1..=3 {
            send(mux, n, now);
        }
        let key = mux.find(id(2)).unwrap();
        mux.limit_write(key, now + LATE);
        let mut transmit = Transmit::default();
        assert!(mux.poll_transmit(0, &mut transmit, Waker::noop()));
        let bytes = transmit.ready().len();
        (transmit, bytes / 3)
    }

    #[test]
    fn a_frame_that_is_late_is_skipped_and_what_is_behind_it_is_not() {
        let (mut mux, now) = mux(Config::default());
        let (mut transmit, frame) = taken(&mut mux, now);
        transmit.advance(frame / 2);
        assert!(transmit.skip_late(now));
        assert_eq!(transmit.ready().len(), 3 * frame - frame / 2);
        assert!(transmit.skip_late(now + LATE) && !transmit.has_limits());
        assert_eq!(transmit.ready().len(), frame - frame / 2);
        transmit.advance(frame - frame / 2);
        assert_eq!(transmit.ready().len(), frame, "the third");
        assert_eq!(transmit.offset(), 2 * frame as u64);
    }

    #[test]
    fn a_frame_that_is_late_in_its_middle_ends_the_connection() {
        let (mut mux, now) = mux(Config::default());
        let (mut transmit, frame) = taken(&mut mux, now);
        transmit.advance(frame + 1);
        assert!(transmit.skip_late(now));
        assert!(!transmit.skip_late(now + LATE));
    }

    #[test]
    fn a_frame_that_was_written_in_time_has_no_limit_any_more() {
        let (mut mux, now) = mux(Config::default());
        let (mut transmit, frame) = taken(&mut mux, now);
        transmit.advance(2 * frame);
        assert!(transmit.skip_late(now) && !transmit.has_limits());
    }
}
