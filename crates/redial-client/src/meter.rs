//! Metrics of calls that nothing else is around: recorded where a call ends, at a fraction of what a layer
//! costs. Without the feature `metrics` no call is measured.

#[cfg(feature = "metrics")]
use crate::metrics::Recorder;

/// Records the calls of a client whose only layer this would be.
#[derive(Clone, Default)]
pub(crate) struct Meter {
    #[cfg(feature = "metrics")]
    recorder: Option<Recorder>,
}

/// Whether a call is measured, and how far it has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Metered {
    /// It is not, or no longer.
    #[default]
    No,
    /// It has not begun.
    #[cfg(feature = "metrics")]
    Waiting,
    /// It is one of those in flight.
    #[cfg(feature = "metrics")]
    InFlight,
}

#[cfg(feature = "metrics")]
impl Meter {
    pub(crate) fn new(recorder: Recorder) -> Self {
        Self {
            recorder: Some(recorder),
        }
    }

    pub(crate) fn recorder(&self) -> Option<&Recorder> {
        self.recorder.as_ref()
    }

    /// How far the calls of this client have come before they begin.
    pub(crate) fn metered(&self) -> Metered {
        match self.recorder {
            Some(_) => Metered::Waiting,
            None => Metered::No,
        }
    }
}

#[cfg(not(feature = "metrics"))]
impl Meter {
    #[inline(always)]
    pub(crate) fn metered(&self) -> Metered {
        Metered::No
    }
}

impl std::fmt::Debug for Meter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Meter").field(&self.metered()).finish()
    }
}
