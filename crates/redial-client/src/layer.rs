//! Layers: what a program puts around the calls of a client, and what a call comes to by way of them.
//!
//! A layer has one [`Next`], and gets a [`CallEnd`] from nothing else: it sends the call once, or not at
//! all, and can't say of a call that was sent that it was not.

use std::{borrow::Cow, fmt, future::Future, pin::Pin, sync::Arc};

use redial_protocol::{Executed, Metadata, MetadataError, MethodKind, Priority};
use serde::Serialize;
use uuid::Uuid;

use crate::{
    call_options::CallOptions, cause::Cause, error::CallError, inline_bytes::InlineBytes,
    report::Report,
};

/// What a [`Layer`] returns.
pub type LayerFuture = Pin<Box<dyn Future<Output = CallEnd> + Send>>;

/// Something around a call: before it, after it, or in its place. One call is one pass through the layers,
/// however many attempts it takes. [`Client::resolve`](crate::Client::resolve) and what else the client
/// asks of the server on its own pass through none, nor does a call whose params can't be sent.
///
/// A layer ends the call with what [`Next`] gives it, which can be used once: [run](Next::run) it, to send
/// the call; [refuse](Next::refuse) it, and the call was not executed; or [answer](Next::answer) a query
/// from elsewhere. So no layer can send a call twice, or take one that was sent for one that was not. A
/// layer that wants the call again makes another one, with a client of its own: a new call, with an effect
/// of its own. Retries are better left to the client, whose attempts are one call.
///
/// Dropping the call's future drops those of its layers, and with them the call, which is cancelled then as
/// without layers. The call's deadline counts from the first poll and includes what layers do before they
/// run it, but cuts no layer off: one that may wait for long has to bound that itself.
///
/// Every closure from a [`LayerCall`] and a [`Next`] to a future of a [`CallEnd`] is a layer:
///
/// ```no_run
/// # async fn f() -> Result<(), redial_client::BuildError> {
/// use redial_client::{Client, LayerCall, Next};
///
/// let client = Client::builder()
///     .layer(|mut call: LayerCall, next: Next| async move {
///         if let Err(error) = call.insert_meta("locale", "fr") {
///             return next.refuse(call, error.to_string());
///         }
///         let end = next.run(call).await;
///         println!("{}: executed {:?}, {} attempts", end.method(), end.executed(), end.report().attempts());
///         end
///     })
///     .connect("127.0.0.1:7077")
///     .await?;
/// # drop(client);
/// # Ok(())
/// # }
/// ```
pub trait Layer: Send + Sync + 'static {
    /// Runs what is around the call. [`Next::run`] runs what it is around.
    fn call(&self, call: LayerCall, next: Next) -> LayerFuture;
}

impl<F, R> Layer for F
where
    F: Fn(LayerCall, Next) -> R + Send + Sync + 'static,
    R: Future<Output = CallEnd> + Send + 'static,
{
    fn call(&self, call: LayerCall, next: Next) -> LayerFuture {
        Box::pin(self(call, next))
    }
}

/// The call that a [`Layer`] is around, before it is sent. What is said here beside the params is said in
/// each of its attempts; the params stay as they are, since the call's token has them.
pub struct LayerCall {
    pub(crate) method: Cow<'static, str>,
    pub(crate) kind: MethodKind,
    pub(crate) is_notification: bool,
    /// Chosen by the caller, or its token's.
    pub(crate) id: Option<Uuid>,
    /// Empty where they are left out.
    pub(crate) params: InlineBytes,
    pub(crate) options: Option<Box<CallOptions>>,
}

/// What most calls say beside the params.
static NOTHING_SAID: Metadata = Metadata::new();

impl LayerCall {
    /// The method's name.
    #[must_use]
    pub fn method(&self) -> &str {
        &self.method
    }

    /// Whether the client takes the method for a query or a mutation; see
    /// [`Client::request`](crate::Client::request).
    #[must_use]
    pub fn kind(&self) -> MethodKind {
        self.kind
    }

    /// Whether it is a notification, which ends when it has been handed to the system.
    #[must_use]
    pub fn is_notification(&self) -> bool {
        self.is_notification
    }

    /// The call's id, if it has one before it is sent: chosen by the caller, or that of its
    /// [token](crate::Call::token).
    #[must_use]
    pub fn id(&self) -> Option<Uuid> {
        self.id
    }

    /// The params as JSON; `None` if they are left out.
    #[must_use]
    pub fn params(&self) -> Option<&str> {
        std::str::from_utf8(self.params.non_empty()?).ok()
    }

    /// What the call says beside the params so far.
    #[must_use]
    pub fn meta(&self) -> &Metadata {
        let options = self.options.as_ref();
        let meta = options.and_then(|options| options.meta.as_ref());
        meta.unwrap_or(&NOTHING_SAID)
    }

    /// Says something more, in place of what was said of this key before; see
    /// [`Call::meta`](crate::Call::meta).
    ///
    /// # Errors
    ///
    /// [`MetadataError`] if there is too much of it. Nothing is changed then.
    pub fn insert_meta(&mut self, key: &str, value: &str) -> Result<(), MetadataError> {
        let options = self.options.get_or_insert_default();
        options.meta.get_or_insert_default().insert(key, value)
    }

    /// How much it matters that the call is served, if that was said of it in particular.
    #[must_use]
    pub fn priority(&self) -> Option<Priority> {
        self.options.as_ref()?.priority
    }

    /// Sets it; see [`Call::priority`](crate::Call::priority).
    pub fn set_priority(&mut self, priority: Priority) {
        self.options.get_or_insert_default().priority = Some(priority);
    }

    /// The trace that the call belongs to.
    #[must_use]
    pub fn traceparent(&self) -> Option<&str> {
        self.options.as_ref()?.traceparent.as_deref()
    }

    /// Sets it; see [`Call::traceparent`](crate::Call::traceparent). One that has not the form of W3C Trace
    /// Context ends the call as `NotExecuted`.
    pub fn set_traceparent(&mut self, traceparent: impl Into<String>) {
        let options = self.options.get_or_insert_default();
        options.traceparent = Some(traceparent.into());
        options.spans.leave_unnamed();
    }
}

#[cfg(feature = "tracing")]
impl LayerCall {
    /// Has the attempts of the call get spans.
    pub(crate) fn set_spans(&mut self, spans: crate::attempt_spans::AttemptSpans) {
        self.options.get_or_insert_default().spans = spans;
    }
}

/// Without what may be a secret: params, and the values of meta.
impl fmt::Debug for LayerCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LayerCall")
            .field("method", &self.method)
            .field("kind", &self.kind)
            .field("id", &self.id)
            .field("meta", self.meta())
            .finish_non_exhaustive()
    }
}

/// What a [`Layer`] is around: the layers that were added after it, and the call. It gives the layer the
/// [`CallEnd`] that it has to return, once.
#[must_use = "a layer ends its call with what this gives"]
pub struct Next {
    layers: Arc<Layers>,
    /// Which of the layers is next.
    at: usize,
    call: Box<dyn Innermost>,
}

impl Next {
    pub(crate) fn new(layers: Arc<Layers>, call: Box<dyn Innermost>) -> Self {
        Self {
            layers,
            at: 0,
            call,
        }
    }

    /// Sends the call, by way of the layers that are further in, and waits for its end. Dropped before
    /// that, it cancels the call.
    pub async fn run(self, call: LayerCall) -> CallEnd {
        let Some(layer) = self.layers.0.get(self.at).cloned() else {
            return self.call.run(call).await;
        };
        let at = self.at + 1;
        layer.call(call, Self { at, ..self }).await
    }

    /// Ends the call without sending it: `NotExecuted`, with [`Cause::RefusedByLayer`]. A call that is
    /// [resumed](crate::Client::resume) was sent before, and ends as `Unknown`, with its token.
    pub fn refuse(self, call: LayerCall, why: impl Into<String>) -> CallEnd {
        self.call.refuse(call, Cause::RefusedByLayer(why.into()))
    }

    /// Ends a query without sending it, with a value from elsewhere. A mutation is refused instead: its
    /// value would say that it was executed.
    ///
    /// ```
    /// use redial_client::{Client, LayerCall, Next};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = Client::builder()
    ///     .layer(|call: LayerCall, next: Next| async move {
    ///         match call.method() {
    ///             "version" => next.answer(call, &"1.2"),
    ///             _ => next.run(call).await,
    ///         }
    ///     })
    ///     .connect_lazy("127.0.0.1:7077")?;
    /// assert_eq!(client.query("version", ()).await?, "1.2");
    /// # Ok(())
    /// # }
    /// ```
    pub fn answer(self, call: LayerCall, value: &impl Serialize) -> CallEnd {
        if call.kind == MethodKind::Mutation {
            let why = "it answered a mutation without sending it; expected a query";
            return self.refuse(call, why);
        }
        let mut result = InlineBytes::EMPTY;
        match redial_protocol::write_json(&mut result, value) {
            Ok(()) => CallEnd {
                method: call.method,
                id: call.id,
                result: Ok(result),
                executed: Executed::No,
                report: Report::empty(),
            },
            Err(error) => self.refuse(call, format!("its answer is no JSON: {error}")),
        }
    }
}

impl fmt::Debug for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Next")
            .field("layers", &(self.layers.0.len() - self.at))
            .finish_non_exhaustive()
    }
}

/// What all layers are around.
pub(crate) trait Innermost: Send {
    /// Sends the call and waits for its end.
    fn run(self: Box<Self>, call: LayerCall) -> LayerFuture;

    /// The call is not sent.
    fn refuse(self: Box<Self>, call: LayerCall, cause: Cause) -> CallEnd;
}

/// How a call ended, for the layers around it: a result or an error, and how it went.
#[derive(Debug)]
pub struct CallEnd {
    pub(crate) method: Cow<'static, str>,
    pub(crate) id: Option<Uuid>,
    pub(crate) result: Result<InlineBytes, CallError>,
    pub(crate) executed: Executed,
    pub(crate) report: Report,
}

impl CallEnd {
    /// The method's name.
    #[must_use]
    pub fn method(&self) -> &str {
        &self.method
    }

    /// The id that the call was sent under, if it came to that.
    #[must_use]
    pub fn id(&self) -> Option<Uuid> {
        self.id
    }

    /// The result as JSON, not yet read as the caller's type; or the error.
    ///
    /// # Errors
    ///
    /// Of the call, as its caller gets it.
    pub fn result(&self) -> Result<&str, &CallError> {
        // Replies are read as UTF-8.
        let text = self.result.as_ref()?.get();
        Ok(std::str::from_utf8(text).unwrap_or_default())
    }

    /// Whether the call was executed: not if a layer answered it, and a notification that was handed to the
    /// system may have been.
    #[must_use]
    pub fn executed(&self) -> Executed {
        self.executed
    }

    /// How the call went, attempt by attempt.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.report
    }
}

/// The layers of a client, the outermost first.
#[derive(Clone, Default)]
pub(crate) struct Layers(pub(crate) Vec<Arc<dyn Layer>>);

impl fmt::Debug for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} layers", self.0.len())
    }
}
