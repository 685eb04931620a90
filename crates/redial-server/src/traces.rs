//! Spans of attempts and executions, by way of the facade [`tracing`](https://docs.rs/tracing) (feature
//! `tracing`). Without the feature nothing of it is left: the types are empty, and what they do is nothing.

#[cfg(feature = "tracing")]
mod executions;
#[cfg(feature = "tracing")]
mod spans;

#[cfg(feature = "tracing")]
pub use self::spans::Traces;
#[cfg(feature = "tracing")]
pub(crate) use self::spans::{AttemptSpan, ExecutionSpan, InsideExecution};

#[cfg(not(feature = "tracing"))]
pub(crate) use self::nothing::{AttemptSpan, ExecutionSpan, InsideExecution, Traces};

#[cfg(not(feature = "tracing"))]
mod nothing {
    use redial_protocol::{ErrorCode, MethodKind, Request};

    use crate::{
        caller::Caller,
        handler::{FirstPoll, HandlerFuture},
        observe::EventKind,
    };

    #[derive(Clone, Debug, Default)]
    pub(crate) struct Traces(());

    #[derive(Clone, Debug, Default)]
    pub(crate) struct AttemptSpan(());

    #[derive(Clone, Debug, Default)]
    pub(crate) struct ExecutionSpan(());

    #[derive(Debug, Default)]
    pub(crate) struct InsideExecution(());

    impl Traces {
        #[inline(always)]
        pub(crate) fn attempt(
            &self,
            _: &Request<'_>,
            _: impl FnOnce() -> Option<MethodKind>,
            _: &Caller,
        ) -> AttemptSpan {
            AttemptSpan(())
        }
    }

    impl AttemptSpan {
        #[inline(always)]
        pub(crate) fn note(&self, _: EventKind, _: impl FnOnce() -> Option<ErrorCode>) {}

        #[inline(always)]
        pub(crate) fn execution(&self) -> ExecutionSpan {
            ExecutionSpan(())
        }

        #[inline(always)]
        pub(crate) fn enter_execution(&self) -> InsideExecution {
            InsideExecution(())
        }

        #[inline(always)]
        pub(crate) fn around(&self, future: HandlerFuture) -> HandlerFuture {
            future
        }
    }

    impl InsideExecution {
        #[inline(always)]
        pub(crate) fn end(self, polled: FirstPoll, _: &[u8]) -> FirstPoll {
            polled
        }
    }
}
