//! What observers hear of a connection: that it has its slot, and its end.

use std::sync::Arc;

use crate::{
    caller::Caller,
    observe::{EventContext, EventKind},
    shared::Shared,
};

/// Of a connection: its end is seen when this is dropped.
pub(crate) struct ConnectionEvents {
    shared: Arc<Shared>,
    context: EventContext,
}

impl ConnectionEvents {
    /// The connection has its slot.
    pub(crate) fn open(shared: &Arc<Shared>, number: u64, caller: &Caller) -> Option<Self> {
        let kinds = [EventKind::ConnectionOpened, EventKind::ConnectionClosed];
        if !kinds.iter().any(|kind| shared.observers.want(*kind)) {
            return None;
        }
        let context = EventContext {
            connection: Some(number),
            peer: caller.address,
            known: caller.known().cloned(),
            ..EventContext::default()
        };
        let kind = EventKind::ConnectionOpened;
        shared.observe(kind, || context.event(kind));
        Some(Self {
            shared: Arc::clone(shared),
            context,
        })
    }
}

impl Drop for ConnectionEvents {
    fn drop(&mut self) {
        let kind = EventKind::ConnectionClosed;
        self.shared.observe(kind, || self.context.event(kind));
    }
}
