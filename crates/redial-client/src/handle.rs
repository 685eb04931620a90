//! What every clone of a client holds.

use std::sync::Arc;

use crate::{layer::Layers, meter::Meter, shared::Shared};

/// What every clone of a client holds. When the last one is dropped, its connections are closed.
pub(crate) struct ClientHandle {
    pub(crate) shared: Arc<Shared>,
    /// What is around its calls, if anything is.
    pub(crate) layers: Option<Arc<Layers>>,
    /// Records its calls, if nothing is around them.
    pub(crate) meter: Meter,
}

impl Drop for ClientHandle {
    fn drop(&mut self) {
        self.shared.close();
    }
}
