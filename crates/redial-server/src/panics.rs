//! The only place that catches panics: what a handler, its values or an observer throws ends one
//! call, never a connection or a table.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
};

use redial_protocol::cut;

/// Runs `step`; a panic becomes its message, of at most 200 bytes.
///
/// What the step has changed must be whole after a panic, or thrown away.
#[inline]
pub(crate) fn catch<T>(step: impl FnOnce() -> T) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(step)) {
        Ok(value) => Ok(value),
        Err(payload) => Err(panic_message(payload)),
    }
}

/// Drops what may panic as it goes. A second panic's payload is leaked, since dropping it might
/// panic again.
pub(crate) fn drop_quietly<T>(value: T) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
        std::mem::forget(payload);
    }
}

#[cold]
fn panic_message(payload: Box<dyn Any + Send>) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
    let message = cut(text.unwrap_or("(no text)")).to_owned();
    drop_quietly(payload);
    message
}

#[cfg(test)]
mod tests {
    use std::panic::panic_any;

    use super::*;

    struct PanicsOnDrop;

    impl Drop for PanicsOnDrop {
        fn drop(&mut self) {
            panic_any(0_u8);
        }
    }

    #[test]
    fn a_panic_becomes_its_message() {
        assert_eq!(catch(|| 7), Ok(7));
        assert_eq!(catch(|| panic!("as text")), Err::<(), _>("as text".into()));
        assert_eq!(
            catch(|| panic!("with {}", 1)),
            Err::<(), _>("with 1".into())
        );
        let nested = catch(|| panic_any(PanicsOnDrop));
        assert_eq!(nested, Err::<(), _>("(no text)".into()));
        drop_quietly(PanicsOnDrop);
    }
}
