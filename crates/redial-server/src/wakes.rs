//! Wake-ups that wait for the end of a step. One commit makes many replies ready, one after the other:
//! a connection that were woken by the first would send it alone, and take the core from those
//! that come after it.

use std::{cell::RefCell, task::Waker};

/// Among so many of the latest a connection is looked for that is to be woken already.
const LOOKED_AT: usize = 16;

thread_local! {
    /// Those to be woken when the step has ended; `None` if there is no step.
    static POSTPONED: RefCell<Option<Vec<Waker>>> = const { RefCell::new(None) };
}

/// Runs a step that answers many calls: each connection is woken once, at its end.
///
/// A [`Store`](crate::store::Store) calls back inside it for all that a commit has made durable.
pub fn together<T>(step: impl FnOnce() -> T) -> T {
    let is_outermost = POSTPONED.with_borrow_mut(|postponed| {
        let is_outermost = postponed.is_none();
        postponed.get_or_insert_default();
        is_outermost
    });
    // Not `then_some`, which would drop it at once where the step is an inner one.
    let _end = is_outermost.then(|| WakeAll);
    step()
}

/// The end of the step, also by a panic.
struct WakeAll;

impl Drop for WakeAll {
    fn drop(&mut self) {
        let wakers = POSTPONED.take();
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

/// Leaves a wake-up to the end of the step, if there is one on this thread.
pub(crate) fn postpone(waker: &Waker) -> bool {
    POSTPONED.with_borrow_mut(|postponed| {
        let Some(postponed) = postponed else {
            return false;
        };
        let latest = postponed.iter().rev().take(LOOKED_AT);
        if !latest.into_iter().any(|known| known.will_wake(waker)) {
            postponed.push(waker.clone());
        }
        true
    })
}

#[cfg(test)]
mod tests {
    use std::{
        panic,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering::SeqCst},
        },
        task::Wake,
    };

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    /// A kind of fault: many answers of one step, and a wake-up for each.
    #[test]
    fn a_step_wakes_once_and_at_its_end() {
        let counts: [Arc<Count>; 2] = std::array::from_fn(|_| Arc::default());
        let wakers = counts.clone().map(Waker::from);
        let woken = || counts.clone().map(|count| count.0.load(SeqCst));
        assert!(!postpone(&wakers[0]));
        together(|| {
            together(|| wakers.iter().for_each(|waker| assert!(postpone(waker))));
            for _ in 0..5 {
                wakers.iter().for_each(|waker| assert!(postpone(waker)));
            }
            assert_eq!(woken(), [0, 0]);
        });
        assert_eq!(woken(), [1, 1]);
        assert!(!postpone(&wakers[0]));
        let panicked = panic::catch_unwind(|| together(|| assert!(!postpone(&wakers[0]))));
        assert!(panicked.is_err());
        assert_eq!(woken(), [2, 1]);
    }
}
