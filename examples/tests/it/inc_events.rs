//! Notifies a test of what happens to attempts of `inc`.

use redial_examples::methods::Inc;
use redial_protocol::Method;
use redial_server::{Event, EventKind, Observer};
use tokio::sync::mpsc;

pub(crate) struct IncEvents(pub(crate) mpsc::UnboundedSender<EventKind>);

impl Observer for IncEvents {
    fn observe(&self, event: &Event<'_>) {
        if event.method == Inc::NAME {
            let _ = self.0.send(event.kind);
        }
    }
}
