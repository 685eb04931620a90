//! The wakers to be woken when the lock has been released.

use std::task::Waker;

/// The wakers to be woken. One or two, as there are after most steps of a call, are moved out of
/// the list, so that it keeps its allocation.
pub(crate) enum WakeList {
    Inline([Option<Waker>; 2]),
    Heap(Vec<Waker>),
}

impl WakeList {
    pub(crate) fn take(list: &mut Vec<Waker>) -> Self {
        if list.len() > 2 {
            return Self::Heap(std::mem::take(list));
        }
        let mut inline = [None, None];
        inline
            .iter_mut()
            .zip(list.drain(..))
            .for_each(|(slot, waker)| *slot = Some(waker));
        Self::Inline(inline)
    }

    pub(crate) fn wake(self) {
        match self {
            Self::Inline(inline) => inline.into_iter().flatten().for_each(Waker::wake),
            Self::Heap(list) => list.into_iter().for_each(Waker::wake),
        }
    }
}

/// Puts a waker into its slot and gives back the one that was there, if it was another. That one
/// must not be dropped under the lock: with it a task may go that takes the lock to end its call.
pub(crate) fn replace_waker(slot: &mut Option<Waker>, waker: &Waker) -> Option<Waker> {
    match slot {
        Some(old) if old.will_wake(waker) => None,
        _ => slot.replace(waker.clone()),
    }
}
