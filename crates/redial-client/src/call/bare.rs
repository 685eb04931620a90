//! The call that layers are around: what is left of it goes its own way where they let it.

use std::{
    future::poll_fn,
    sync::Arc,
    time::{Duration, Instant},
};

use redial_protocol::MethodKind;

use super::{guard::CallGuard, layered::LayeredCall, state::CallState};
use crate::{
    cause::{Cause, GiveUpReason},
    clock,
    error::CallError,
    handle::ClientHandle,
    inline_bytes::InlineBytes,
    layer::{CallEnd, Innermost, LayerCall, LayerFuture, Layers, Next},
};

/// What layers take of a call's deadline without its being noticed: as precisely as timers count.
const UNNOTICED: Duration = Duration::from_millis(1);

/// Sends a call through its layers, when it is polled for the first time.
pub(super) fn begin(
    layers: Arc<Layers>,
    client: Arc<ClientHandle>,
    mut state: CallState,
) -> LayeredCall {
    let (kind, retrier) = (state.kind(), &mut state.retrier);
    let call = LayerCall {
        method: retrier.method.clone(),
        kind,
        is_notification: state.flags.is_notification,
        id: state.id,
        params: std::mem::replace(&mut retrier.params, InlineBytes::EMPTY),
        options: retrier.options.take(),
    };
    let method = call.method.clone();
    let bare = Box::new(Bare {
        client,
        state,
        since: clock::now(),
    });
    let future: LayerFuture = Box::pin(Next::new(layers, bare).run(call));
    LayeredCall::new(method, future)
}

/// The call that the layers are around.
struct Bare {
    client: Arc<ClientHandle>,
    state: CallState,
    /// When the call was first polled.
    since: Instant,
}

impl Bare {
    fn into_guard(self) -> CallGuard {
        CallGuard::with_state(self.client, self.state)
    }

    /// Restores what the layers were shown.
    fn restore(&mut self, call: LayerCall) {
        let retrier = &mut self.state.retrier;
        retrier.params = call.params;
        retrier.options = call.options;
    }

    /// Leaves the call what the layers have left of its deadline. If that is nothing, it is not sent.
    fn shorten(&mut self) -> Result<(), Cause> {
        let taken = clock::now().saturating_duration_since(self.since);
        if taken < UNNOTICED {
            return Ok(());
        }
        let defaults = || self.client.shared.config.call;
        let options = self.state.retrier.options.get_or_insert_default();
        let limits = options.limits.get_or_insert_with(defaults);
        let deadline = limits.deadline;
        limits.deadline = deadline.saturating_sub(taken);
        if limits.deadline.is_zero() {
            return Err(Cause::NotSent(deadline));
        }
        Ok(())
    }
}

impl Innermost for Bare {
    fn run(mut self: Box<Self>, call: LayerCall) -> LayerFuture {
        self.restore(call);
        let shortened = self.shorten();
        let mut guard = self.into_guard();
        guard.ask_report();
        Box::pin(async move {
            let result = match shortened {
                Ok(()) => run_to_end(&mut guard).await.and_then(|()| guard.conclude()),
                Err(cause) => Err(guard.reject(GiveUpReason::Deadline, cause)),
            };
            guard.into_end(result)
        })
    }

    fn refuse(mut self: Box<Self>, call: LayerCall, cause: Cause) -> CallEnd {
        self.restore(call);
        let mut guard = self.into_guard();
        let error = guard.reject(GiveUpReason::Final, cause);
        guard.into_end(Err(error))
    }
}

/// Polls the call to its end.
#[cfg(not(feature = "tracing"))]
async fn run_to_end(guard: &mut CallGuard) -> Result<(), CallError> {
    poll_fn(|context| guard.poll(context)).await
}

/// The same, and gives the attempts spans if the call has one.
#[cfg(feature = "tracing")]
async fn run_to_end(guard: &mut CallGuard) -> Result<(), CallError> {
    poll_fn(|context| {
        loop {
            let polled = guard.poll(context);
            if !guard.follow_attempts() || polled.is_ready() {
                return polled;
            }
        }
    })
    .await
}

impl CallState {
    fn kind(&self) -> MethodKind {
        if self.flags.is_query {
            MethodKind::Query
        } else {
            MethodKind::Mutation
        }
    }
}
