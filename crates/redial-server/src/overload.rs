//! How a server decides that it has more to do than it can, and what it does then.

use std::time::Duration;

/// What a server does that has more to do than it can: it refuses some calls early, so that the others
/// are served in time. [`Config::overload`](crate::Config::overload).
///
/// The defaults need no tuning: both times grow with how long calls take, and the running limit is
/// measured. [`off`](Self::off) is the weaker mode without all of it.
///
/// ```
/// use std::time::Duration;
/// use redial_server::{Config, Overload};
///
/// let overload = Overload { target: Duration::from_millis(20), ..Overload::default() };
/// let config = Config { overload, ..Config::default() };
/// assert_eq!(config.overload.interval, Duration::from_millis(100));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overload {
    /// How long calls may be queued all the time. Default 5 ms, as in CoDel (RFC 8289); more than 0, and no
    /// more than `interval`. Where calls usually take longer than this, as long as they take: a queue
    /// that is one call deep is no overload. If calls wait longer throughout an `interval`, there is overload:
    /// the newest run first, and those that have waited twice as long (1.5 times of
    /// [`Sheddable`](crate::Priority::Sheddable) ones, 3 times of
    /// [`Critical`](crate::Priority::Critical) ones) are refused (-32001), with a `retry_after_ms` of an
    /// `interval` or more. The smaller, the sooner calls are refused that could still have been served;
    /// the larger, the longer all that are served have waited. `Duration::MAX`: calls are refused
    /// where the queue is full, and run in the order in which they came.
    pub target: Duration,
    /// How long a queue may last that is no overload: a burst that is served within this time. Default 100
    /// ms, as in CoDel; `target` or more. Where calls take long, four times the target that counts. The
    /// smaller, the fewer bursts are served; the larger, the later an overload is seen.
    pub interval: Duration,
    /// Whether the [priority](crate::Priority) that a caller gives its calls counts. Default true. Among
    /// the calls of one caller only: none gets ahead of another caller by it.
    pub priorities: bool,
    /// Whether fewer than `max_running` calls run where more of them at once get no more done: where they wait
    /// for each other, or for a database that takes a few at a time. Default true. While most calls are
    /// queued before they run fewer run, at first as many as would do if none waited for another, by how long the
    /// quickest took lately, for as long as as many finish as before; when fewer do, or few calls are queued,
    /// more may again, and twice as many where far fewer finish than did in the last half a minute. It costs a part of the throughput for the time
    /// of one trial, after which the next is put off. Calls then wait in the queue, where their priority and their
    /// caller's share count, and not in their handlers.
    pub adaptive: bool,
    /// The fewest calls that may run at once, whatever is measured. Default 4, or `max_running` if that is
    /// less; 1 or more. The larger, the more calls wait in their handlers.
    pub min_running: usize,
}

impl Default for Overload {
    fn default() -> Self {
        Self {
            target: Duration::from_millis(5),
            interval: Duration::from_millis(100),
            priorities: true,
            adaptive: true,
            min_running: 4,
        }
    }
}

impl Overload {
    /// The weaker mode: calls are refused where the queue is full and not before, run in the order in which
    /// they came, all of the same priority, `max_running` at once. Under a load that it can't serve such a
    /// server lets all calls wait as long as its queue is, and works for callers that have gone.
    #[must_use]
    pub fn off() -> Self {
        Self {
            target: Duration::MAX,
            priorities: false,
            adaptive: false,
            ..Self::default()
        }
    }

    /// Whether there may be overload at all.
    pub(crate) fn is_seen(&self) -> bool {
        self.target != Duration::MAX
    }
}
