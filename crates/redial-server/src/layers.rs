//! Layers that are ready to be used. Timeouts and the number of calls at once need none: see
//! [`MethodLimits`](crate::MethodLimits).

use std::time::Duration;

use redial_protocol::Principal;

use crate::{
    clock,
    layer::{Layer, LayerCall, Next},
    store::OutcomeKind,
};

/// One execution, as [`log`] has seen it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct CallSummary<'a> {
    /// The method's name.
    pub method: &'a str,
    /// Who has called, if something has vouched for it.
    pub principal: Option<&'a Principal>,
    /// Which sending of the call was run.
    pub attempt: u32,
    /// How it ended.
    pub outcome: OutcomeKind,
    /// How long it took, from the layer's point of view.
    pub took: Duration,
}

/// Calls `log` after each execution that comes to an end. One that is stopped by its timeout, or with the
/// server, does not: an [`Observer`](crate::Observer) hears of it. It runs where the handler does, so it
/// must not block.
///
/// ```
/// use redial_server::{Server, layers};
///
/// let builder = Server::builder()
///     .query("greet", async |(): ()| Ok("hello"))
///     .layer(layers::log(|call| {
///         println!("{} {:?} {:?}", call.method, call.outcome, call.took);
///     }));
/// # builder.build()?;
/// # Ok::<(), redial_server::BuildError>(())
/// ```
pub fn log(log: impl Fn(&CallSummary<'_>) + Clone + Send + Sync + 'static) -> impl Layer {
    move |call: LayerCall, next: Next| {
        let log = log.clone();
        async move {
            let (began, seen) = (clock::now(), call.clone());
            let outcome = next.run(call).await;
            let context = seen.context();
            log(&CallSummary {
                method: seen.method(),
                principal: context.principal(),
                attempt: context.attempt(),
                outcome: outcome.kind(),
                took: clock::now().saturating_duration_since(began),
            });
            outcome
        }
    }
}
