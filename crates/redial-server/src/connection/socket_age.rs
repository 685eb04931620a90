//! When what lies unread in a socket has been sent at the earliest.
//!
//! A read that finds the socket empty says that nothing lies there, unless reading had paused: then
//! more may lie in the peer's own buffer, and takes a moment to come.

use std::time::{Duration, Instant};

/// More than fits between a peer's write and the read here: what the systems of both ends buffer by
/// their usual limits (Linux: 4 and 6 MiB).
const SOCKET_BYTES: usize = 16 * 1024 * 1024;

/// How long what a pause has held up in the peer's buffer may take to come once it is read again.
const REFILL: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct SocketAge {
    since: Option<Instant>,
    pause: Option<Pause>,
}

/// Reading stopped though there may have been more, and not all that was there has been read for
/// certain.
#[derive(Debug)]
struct Pause {
    /// What had been sent by then has been read after [`SOCKET_BYTES`] more.
    mark: Instant,
    read_since: usize,
    /// When the socket was found empty first, with no pause since.
    empty_since: Option<Instant>,
}

impl SocketAge {
    /// Reading begins: something may be there.
    pub(super) fn begin(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    /// When what is unread has been sent at the earliest; `None` if nothing is.
    pub(super) fn since(&self) -> Option<Instant> {
        self.since
    }

    /// So much was read.
    pub(super) fn on_read(&mut self, count: usize, now: Instant) {
        let Some(pause) = &mut self.pause else {
            return;
        };
        pause.read_since += count;
        if pause.read_since >= SOCKET_BYTES {
            self.since = self.since.max(Some(pause.mark));
            (pause.mark, pause.read_since) = (now, 0);
        }
    }

    /// Reading stops though there may be more.
    pub(super) fn on_pause(&mut self, now: Instant) {
        self.since.get_or_insert(now);
        let pause = self.pause.get_or_insert(Pause {
            mark: now,
            read_since: 0,
            empty_since: None,
        });
        pause.empty_since = None;
    }

    /// A read found nothing. `frame_since` is when the frame began whose rest is still to come, if
    /// there is one.
    pub(super) fn on_empty(&mut self, now: Instant, frame_since: Option<Instant>) {
        let Some(pause) = &mut self.pause else {
            self.since = frame_since;
            return;
        };
        let empty_since = *pause.empty_since.get_or_insert(now);
        if now >= empty_since + REFILL {
            (self.since, self.pause) = (frame_since, None);
        }
    }

    /// When to look again whether the socket is empty.
    pub(super) fn next_look(&self) -> Option<Instant> {
        Some(self.pause.as_ref()?.empty_since? + REFILL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn an_empty_socket_holds_nothing_and_a_frame_that_is_not_whole_is_as_old_as_its_begin() {
        let (start, mut age) = (clock::now(), SocketAge::default());
        age.begin(start);
        age.begin(start + ms(5));
        assert_eq!(age.since(), Some(start));
        age.on_empty(start + ms(5), Some(start + ms(5)));
        assert_eq!(age.since(), Some(start + ms(5)));
        age.on_empty(start + ms(9), None);
        assert_eq!((age.since(), age.next_look()), (None, None));
    }

    #[test]
    fn what_a_pause_has_held_up_may_come_for_a_moment_after_the_socket_was_empty() {
        let (start, mut age) = (clock::now(), SocketAge::default());
        age.begin(start);
        age.on_pause(start);
        for (at, frame_since) in [(5_000, None), (5_999, Some(5_999))] {
            let frame_since = frame_since.map(|at| start + ms(at));
            age.begin(start + ms(at));
            age.on_empty(start + ms(at), frame_since);
            assert_eq!(age.since(), Some(start));
            assert_eq!(age.next_look(), Some(start + ms(6_000)));
        }
        age.on_empty(start + ms(6_000), None);
        assert_eq!((age.since(), age.next_look()), (None, None));
    }

    /// What the peer's buffer holds does not come while reading pauses, however often it goes on.
    #[test]
    fn a_socket_that_is_found_empty_between_two_pauses_may_have_more_to_come() {
        let (start, mut age) = (clock::now(), SocketAge::default());
        for step in 0..100 {
            let now = start + ms(step * 900);
            age.begin(now);
            age.on_empty(now, None);
            age.on_pause(now);
            assert_eq!(age.next_look(), None, "it is not read");
        }
        assert_eq!(age.since(), Some(start));
        let end = start + ms(100_000);
        age.on_empty(end, None);
        age.on_empty(end + REFILL, None);
        assert_eq!(age.since(), None);
    }

    #[test]
    fn what_is_read_beyond_a_full_socket_came_after_it_was_full() {
        let (start, mut age) = (clock::now(), SocketAge::default());
        age.begin(start);
        age.on_pause(start + ms(10));
        age.on_read(SOCKET_BYTES - 1, start + ms(20));
        assert_eq!(age.since(), Some(start));
        age.on_read(1, start + ms(30));
        assert_eq!(age.since(), Some(start + ms(10)));
        age.on_read(SOCKET_BYTES, start + ms(40));
        assert_eq!(age.since(), Some(start + ms(30)));
    }
}
