//! How far the handler of a call has come, for the layers around it: what they say of a call is held
//! against it, and once they have ended the call, no handler of it starts.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering::SeqCst},
};

/// How far the handler has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reached {
    /// It has not started, and may have been dropped.
    NotStarted,
    /// It has started, and its future has not ended: it runs elsewhere, or was dropped.
    Started,
    /// It has ended, with a result or an error.
    Ended,
    /// It has ended and said that it had no effect.
    NoEffect,
}

/// The call has ended: a handler that has not started does not start.
const CLOSED: u8 = 4;

/// Shared by the layers of one call.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress(Arc<AtomicU8>);

impl Progress {
    /// The handler is about to start. Whether it may.
    pub(super) fn start(&self) -> bool {
        let (old, new) = (Reached::NotStarted as u8, Reached::Started as u8);
        self.0.compare_exchange(old, new, SeqCst, SeqCst).is_ok()
    }

    /// The handler has ended.
    pub(super) fn end(&self, is_recorded: bool) {
        let new = match is_recorded {
            true => Reached::Ended,
            false => Reached::NoEffect,
        };
        let old = Reached::Started as u8;
        // If the call has ended before, it stays so.
        let _: Result<u8, u8> = (self.0).compare_exchange(old, new as u8, SeqCst, SeqCst);
    }

    #[cfg(feature = "tower")]
    pub(crate) fn reached(&self) -> Reached {
        Reached::from_byte(self.0.load(SeqCst))
    }

    /// The call has ended. How far the handler had come by then.
    pub(super) fn close(&self) -> Reached {
        Reached::from_byte(self.0.swap(CLOSED, SeqCst))
    }
}

impl Reached {
    fn from_byte(byte: u8) -> Self {
        match byte {
            0 => Self::NotStarted,
            2 => Self::Ended,
            3 => Self::NoEffect,
            _ => Self::Started,
        }
    }
}

/// Closes the progress of a call when its layers are dropped, whatever stopped them.
pub(super) struct Closing(pub(super) Progress);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}
