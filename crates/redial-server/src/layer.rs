//! Layers: what a program puts around its handlers, and what that costs a server without any: nothing,
//! since a handler is wrapped when the server is built.

mod progress;

use std::{
    fmt,
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    task::{self, Poll, Waker},
};

use redial_protocol::ErrorObject;

use self::progress::Closing;
pub(crate) use self::progress::{Progress, Reached};
use crate::{
    abort::Abort,
    context::Context,
    failure_texts::FailureTexts,
    handler::{Completion, ErasedHandler, FirstPoll, FutureSlot, HandlerFuture},
    panics, refusal,
    store::{Outcome, OutcomeKind},
};

/// What a [`Layer`] returns.
pub type LayerFuture = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// Something around the execution of a call: before it, after it, or in its place. Joins and replays
/// execute nothing, so no layer sees them; the params were decoded before, and what they refuse is seen by
/// none either.
///
/// What it returns is the call's outcome, and is recorded like a handler's. So a layer that refuses a call
/// before its handler ran says so with [`Abort::no_effect`], which keeps no record; with
/// [`Abort::failed`] the refusal is the call's outcome for good. A layer that panics has the outcome of a
/// handler that does.
///
/// The handler runs once, or not at all. A layer that drops it midway, as a timeout does, can't say that the
/// call had no effect: it ends as *interrupted* (-32008), on record, and is not executed again. A layer that
/// moves it to a task of its own and ends the call before it has started keeps it from starting.
///
/// The layer holds the run permit of its call while it waits. A limit on the calls that run at once, or on
/// their time, is better set by [`MethodLimits`](crate::MethodLimits): what waits for it takes no permit.
///
/// Every closure from a [`LayerCall`] and a [`Next`] to a future of an [`Outcome`] is a layer:
///
/// ```
/// use redial_server::{Abort, LayerCall, Next, Server};
///
/// let builder = Server::builder()
///     .query("greet", async |(): ()| Ok("hello"))
///     .layer(|call: LayerCall, next: Next| async move {
///         if call.context().meta().get("tenant").is_none() {
///             return Abort::no_effect("expected a tenant in meta").into();
///         }
///         let method = call.method().to_owned();
///         let outcome = next.run(call).await;
///         println!("{method}: {:?}", outcome.kind());
///         outcome
///     });
/// # builder.build()?;
/// # Ok::<(), redial_server::BuildError>(())
/// ```
pub trait Layer: Send + Sync + 'static {
    /// Runs what is around the call. [`Next::run`] runs what it is around.
    fn call(&self, call: LayerCall, next: Next) -> LayerFuture;
}

impl<F, R> Layer for F
where
    F: Fn(LayerCall, Next) -> R + Send + Sync + 'static,
    R: Future<Output = Outcome> + Send + 'static,
{
    fn call(&self, call: LayerCall, next: Next) -> LayerFuture {
        Box::pin(self(call, next))
    }
}

/// The call that a [`Layer`] is around.
#[derive(Clone, Debug)]
pub struct LayerCall {
    method: Arc<str>,
    context: Context,
}

impl LayerCall {
    /// The method's name.
    #[must_use]
    pub fn method(&self) -> &str {
        &self.method
    }

    /// Who calls, what is said beside the params, which attempt it is, and the rest of what a handler may
    /// want to know.
    #[must_use]
    pub fn context(&self) -> &Context {
        &self.context
    }
}

/// What a [`Layer`] is around: the layers that were added after it, and the handler. Dropped without
/// having been run, the handler does not run.
#[must_use = "a handler runs when it is awaited"]
pub struct Next {
    layers: Layers,
    /// Which of the layers is next.
    at: usize,
    handler: HandlerFuture,
    progress: Progress,
}

impl Next {
    /// Runs it.
    pub async fn run(self, call: LayerCall) -> Outcome {
        let Some(layer) = self.layers.get(self.at).cloned() else {
            return self.run_handler().await;
        };
        let at = self.at + 1;
        layer.call(call, Self { at, ..self }).await
    }

    async fn run_handler(self) -> Outcome {
        if !self.progress.start() {
            panics::drop_quietly(self.handler);
            return Completion::recorded_error(&refusal::ended_by_layer()).into();
        }
        let completion = self.handler.await;
        self.progress.end(completion.is_recorded);
        completion.into()
    }

    #[cfg(feature = "tower")]
    pub(crate) fn progress(&self) -> &Progress {
        &self.progress
    }
}

impl fmt::Debug for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Next")
            .field("layers", &(self.layers.len() - self.at))
            .finish_non_exhaustive()
    }
}

/// The layers of one method, the outermost first.
pub(crate) type Layers = Arc<[Arc<dyn Layer>]>;

/// A handler with layers around it.
pub(crate) struct Layered {
    pub(crate) method: Arc<str>,
    pub(crate) layers: Layers,
    pub(crate) handler: Box<dyn ErasedHandler>,
    pub(crate) texts: FailureTexts,
}

impl ErasedHandler for Layered {
    fn prepare_with(
        &self,
        params: Option<&str>,
        on_start: &mut dyn FnMut() -> Context,
    ) -> Result<HandlerFuture, ErrorObject> {
        let mut seen = None;
        let handler = self
            .handler
            .prepare_with(params, &mut || seen.insert(on_start()).clone())?;
        let call = LayerCall {
            method: Arc::clone(&self.method),
            context: seen.unwrap_or_default(),
        };
        let next = Next {
            layers: Arc::clone(&self.layers),
            at: 0,
            handler,
            progress: Progress::default(),
        };
        let closing = Closing(next.progress.clone());
        let texts = self.texts.clone();
        Ok(Box::pin(complete(texts, closing, next.run(call))))
    }

    fn start(
        &self,
        params: Option<&str>,
        _: &mut FutureSlot,
        out: &mut Vec<u8>,
        on_start: &mut dyn FnMut() -> Context,
    ) -> FirstPoll {
        let mut future = match self.prepare_with(params, on_start) {
            Ok(future) => future,
            Err(error) => return FirstPoll::NotStarted(Box::new(error)),
        };
        let waker = &mut task::Context::from_waker(Waker::noop());
        match future.as_mut().poll(waker) {
            Poll::Ready(Completion {
                outcome,
                is_recorded,
            }) => {
                out.extend_from_slice(&outcome);
                FirstPoll::Ready { is_recorded }
            }
            Poll::Pending => FirstPoll::Pending(future),
        }
    }
}

/// Runs layers to their end. A panic of one is an outcome like any other.
async fn complete(
    texts: FailureTexts,
    closing: Closing,
    layers: impl Future<Output = Outcome>,
) -> Completion {
    let mut future = pin!(Some(layers));
    let completion = std::future::poll_fn(|cx| {
        let polled = panics::catch(|| {
            let layers = future.as_mut().as_pin_mut();
            layers
                .expect("they are polled until they are ready")
                .poll(cx)
        });
        match polled {
            Ok(polled) => polled.map(|outcome| ended(&closing.0, outcome, &texts)),
            Err(panic) => Poll::Ready(Completion::panicked(&panic, &texts)),
        }
    })
    .await;
    // What they have left behind may panic as it goes.
    let _: Result<(), String> = panics::catch(|| future.set(None));
    completion
}

/// What layers have ended a call with, held against what its handler has done.
fn ended(progress: &Progress, outcome: Outcome, texts: &FailureTexts) -> Completion {
    let had_no_effect = outcome.kind() == OutcomeKind::NoEffect;
    if progress.close() == Reached::Started && had_no_effect {
        return Completion::recorded_error(&refusal::cut_by_layer());
    }
    match outcome.into_parts() {
        (outcome, None) => Completion {
            outcome,
            is_recorded: !had_no_effect,
        },
        (_, Some(abort)) => Completion::new::<()>(Err(*abort), texts),
    }
}

impl From<Completion> for Outcome {
    fn from(completion: Completion) -> Self {
        let kind = match completion.is_recorded {
            false => OutcomeKind::NoEffect,
            true if completion.outcome.starts_with(b"\"result\"") => OutcomeKind::Result,
            true => OutcomeKind::Failed,
        };
        Self::from_parts(completion.outcome, kind)
    }
}

/// A layer's own word in place of the handler's. If it is an error that `?` has passed on, its text is
/// kept from the caller as a handler's is.
impl From<Abort> for Outcome {
    fn from(abort: Abort) -> Self {
        if !abort.is_foreign() {
            return Completion::new::<()>(Err(abort), &FailureTexts::default()).into();
        }
        let unnamed = abort.clone().without_text();
        let outcome = Self::from(Completion::new::<()>(
            Err(unnamed),
            &FailureTexts::default(),
        ));
        outcome.with_foreign(abort)
    }
}
