//! Queues of calls that wait for something, in the order in which they came. A call that has ended, or waits no
//! longer, stays in them until its turn comes, which may be never.

use std::collections::{HashSet, VecDeque};

use super::{
    pending_call::PendingCall,
    slab::{Key, Slab},
};

/// How many of those that wait no longer are not worth a look at all.
const SLACK: usize = 16;

/// The call waits from now on. `waits` says which of the others still do.
pub(super) fn push_waiting(
    queue: &mut VecDeque<Key>,
    key: Key,
    calls: &Slab<PendingCall>,
    waits: impl Fn(&PendingCall) -> bool,
) {
    // No more than half of them can wait then, so that a look at all comes to one at each.
    if queue.len() >= 2 * calls.len() + SLACK {
        let mut seen = HashSet::new();
        queue.retain(|key| calls.get(*key).is_some_and(&waits) && seen.insert(*key));
    }
    queue.push_back(key);
}
