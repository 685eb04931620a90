//! All observers of a server, and which events each of them wants.

use std::sync::Arc;

use super::{Event, EventKind, Observer};
use crate::{panics, stats::Stats};

/// A bit for each kind of event that happens to an attempt.
const OF_ATTEMPTS: u32 = {
    let (mut bits, mut at) = (0, 0);
    while at < EventKind::ALL.len() {
        if EventKind::ALL[at].is_of_attempt() {
            bits |= EventKind::ALL[at].bit();
        }
        at += 1;
    }
    bits
};

/// The observers, in the order in which they were added.
#[derive(Default)]
pub(crate) struct Observers {
    /// A bit for each kind that one of them wants. Looked at for each event, before that is made.
    wanted: u32,
    /// Each with the bits of what it wants.
    all: Box<[(u32, Arc<dyn Observer>)]>,
}

impl Observers {
    pub(crate) fn new(all: impl Iterator<Item = Arc<dyn Observer>>, methods: &[&str]) -> Self {
        let with_bits = |observer: Arc<dyn Observer>| {
            observer.observe_methods(methods);
            let kinds = EventKind::ALL.into_iter();
            let kinds = kinds.filter(|kind| observer.wants(*kind));
            (kinds.fold(0, |bits, kind| bits | kind.bit()), observer)
        };
        let all: Box<[_]> = all.map(with_bits).collect();
        Self {
            wanted: all.iter().fold(0, |bits, (own, _)| bits | own),
            all,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether one of them wants to see events of this kind.
    #[inline(always)]
    pub(crate) fn want(&self, kind: EventKind) -> bool {
        self.wanted & kind.bit() != 0
    }

    /// Whether one of them wants to see something of attempts.
    #[inline]
    pub(crate) fn want_attempts(&self) -> bool {
        self.wanted & OF_ATTEMPTS != 0
    }

    /// How many of them want to see events of this kind.
    #[cfg(feature = "metrics")]
    pub(crate) fn wanting(&self, kind: EventKind) -> usize {
        let wanting = self.all.iter().filter(|(bits, _)| bits & kind.bit() != 0);
        wanting.count()
    }

    /// Out of line, since most servers have no observer. In the middle of a call a panic would take its
    /// outcome, its permit and its waiters along.
    #[inline(never)]
    pub(crate) fn notify(&self, event: &Event<'_>) {
        let bit = event.kind.bit();
        for (_, observer) in self.all.iter().filter(|(bits, _)| bits & bit != 0) {
            let _: Result<(), String> = panics::catch(|| observer.observe(event));
        }
    }

    pub(crate) fn notify_stats(&self, stats: &Stats) {
        for (_, observer) in &self.all {
            let _: Result<(), String> = panics::catch(|| observer.observe_stats(stats));
        }
    }
}
