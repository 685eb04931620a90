//! Who is to be woken when the lock has been released.

use std::task::Waker;

/// Who is to be woken. For one or two, as there are after most steps of a call, the list stays
/// where it is, so that it need not be allocated again and again.
pub(crate) enum Woken {
    Few([Option<Waker>; 2]),
    Many(Vec<Waker>),
}

impl Woken {
    pub(crate) fn take(list: &mut Vec<Waker>) -> Self {
        match list.len() {
            0..=2 => {
                let mut few = [None, None];
                few.iter_mut()
                    .zip(list.drain(..))
                    .for_each(|(place, waker)| *place = Some(waker));
                Self::Few(few)
            }
            _ => Self::Many(std::mem::take(list)),
        }
    }

    pub(crate) fn wake(self) {
        match self {
            Self::Few(few) => few.into_iter().flatten().for_each(Waker::wake),
            Self::Many(many) => many.into_iter().for_each(Waker::wake),
        }
    }
}
