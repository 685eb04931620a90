//! Panics in a world: the runtime drops a panicking task silently, so they are collected here.

use std::{cell::RefCell, panic, sync::Once};

thread_local! {
    /// The panics of the world that this thread plays, if it plays one.
    static SEEN: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

static HOOK: Once = Once::new();

/// Runs `play` on this thread, and returns its panics with their locations. Handlers that are meant
/// to panic don't count: they unwind past the hook.
pub(crate) fn collected<T>(play: impl FnOnce() -> T) -> (T, Vec<String>) {
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let is_collected = SEEN.with_borrow_mut(|seen| match seen {
                Some(seen) => {
                    seen.push(info.to_string());
                    true
                }
                None => false,
            });
            if !is_collected {
                before(info);
            }
        }));
    });
    SEEN.set(Some(Vec::new()));
    let result = play();
    let seen = SEEN.take().unwrap_or_default();
    (result, seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_real_panic_is_collected_and_a_simulated_one_is_not() {
        let (_, seen) = collected(|| {
            let _ = panic::catch_unwind(|| panic!("real"));
            let _ = panic::catch_unwind(|| panic::resume_unwind(Box::new("simulated")));
        });
        assert_eq!(seen.len(), 1);
        assert!(seen[0].contains("real"), "{seen:?}");
    }
}
