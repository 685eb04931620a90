//! What observers hear of a connection: that it has its place, and its end.

use std::sync::Arc;

use crate::{
    caller::Caller,
    observe::{EventKind, Seen},
    shared::Shared,
};

/// Of a connection: its end is seen when this is dropped.
pub(crate) struct ConnectionSeen {
    shared: Arc<Shared>,
    seen: Seen,
}

impl ConnectionSeen {
    /// The connection has its place.
    pub(crate) fn open(shared: &Arc<Shared>, number: u64, caller: &Caller) -> Option<Self> {
        if shared.observers.is_empty() {
            return None;
        }
        let seen = Seen {
            connection: Some(number),
            peer: caller.address,
            known: caller.known().cloned(),
            ..Seen::default()
        };
        let kind = EventKind::ConnectionOpened;
        shared.observe(kind, || seen.event(kind));
        Some(Self {
            shared: Arc::clone(shared),
            seen,
        })
    }
}

impl Drop for ConnectionSeen {
    fn drop(&mut self) {
        let kind = EventKind::ConnectionClosed;
        self.shared.observe(kind, || self.seen.event(kind));
    }
}
