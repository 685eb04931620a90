//! Panics in a world: a task that panics is dropped by the runtime without a word, and so much
//! else goes on that nobody might notice.

use std::{cell::RefCell, panic, sync::Once};

thread_local! {
    /// What has panicked in the world that this thread plays, if it plays one.
    static SEEN: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

static HOOK: Once = Once::new();

/// Plays something on this thread, and gives what panicked meanwhile, with the place where it did.
/// Handlers whose panics are part of the play don't count: they unwind past the hook.
pub(crate) fn watched<T>(play: impl FnOnce() -> T) -> (T, Vec<String>) {
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let is_noted = SEEN.with_borrow_mut(|seen| match seen {
                Some(seen) => {
                    seen.push(info.to_string());
                    true
                }
                None => false,
            });
            if !is_noted {
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
    fn a_panic_is_seen_and_one_that_is_played_is_not() {
        let (_, seen) = watched(|| {
            let _ = panic::catch_unwind(|| panic!("for real"));
            let _ = panic::catch_unwind(|| panic::resume_unwind(Box::new("played")));
        });
        assert_eq!(seen.len(), 1);
        assert!(seen[0].contains("for real"), "{seen:?}");
    }
}
