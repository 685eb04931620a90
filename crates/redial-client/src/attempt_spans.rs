//! The spans of a call's attempts. Each is made before its attempt is sent, which can say then that what the
//! server does for it is below this span. Without the feature `tracing` nothing of it is left: the type is
//! empty, and what it does is nothing.

#[cfg(feature = "tracing")]
mod spans;

#[cfg(feature = "tracing")]
pub(crate) use self::spans::{AttemptSpans, AttemptTrace, Traceparent};

#[cfg(not(feature = "tracing"))]
pub(crate) use self::nothing::AttemptSpans;

#[cfg(not(feature = "tracing"))]
mod nothing {
    #[derive(Clone, Debug, Default)]
    pub(crate) struct AttemptSpans(());

    impl AttemptSpans {
        #[inline(always)]
        pub(crate) fn lacks(&self, _number: u32, _is_hedge: bool) -> bool {
            false
        }

        #[inline(always)]
        pub(crate) fn ask_for(&mut self, _number: u32, _is_hedge: bool) {}

        #[inline(always)]
        pub(crate) fn leave_unnamed(&mut self) {}

        #[inline(always)]
        pub(crate) fn traceparent(&self) -> Option<&str> {
            None
        }
    }
}
