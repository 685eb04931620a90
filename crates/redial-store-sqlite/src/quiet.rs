//! What a handler's values or a callback throw as they go never ends the writer's thread.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs a step that may panic and whose result is of no interest. A panic's payload is leaked, since
/// dropping it might panic again.
pub(crate) fn quietly(step: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(step)) {
        std::mem::forget(payload);
    }
}
