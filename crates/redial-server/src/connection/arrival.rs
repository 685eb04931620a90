//! Notes that something has arrived when the runtime sees it. The connection's task may have to wait for
//! a thread for longer than a record lives that is asked for.

use std::{
    sync::Arc,
    task::{Wake, Waker},
};

use crate::{outbox::Outbox, shared::Shared};

/// Wakes a connection's task because something has arrived.
struct Arrivals {
    shared: Arc<Shared>,
    outbox: Arc<Outbox>,
}

pub(super) fn arrival_waker(shared: &Arc<Shared>, outbox: &Arc<Outbox>) -> Waker {
    let arrivals = Arrivals {
        shared: Arc::clone(shared),
        outbox: Arc::clone(outbox),
    };
    Arc::new(arrivals).into()
}

impl Wake for Arrivals {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.shared.note_arrival(&self.outbox);
        self.outbox.wake();
    }
}
