//! Layers that are ready to be used. A limit on the time or the attempts of calls needs none: see
//! [`CallLimits`](crate::CallLimits).

use std::{sync::Arc, time::Duration};

use crate::{
    clock,
    layer::{CallEnd, Layer, LayerCall, Next},
};

/// One call, as [`log`] has seen it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct CallSummary<'a> {
    /// Its method, its result or its error, and how it went.
    pub end: &'a CallEnd,
    /// How long it took, from the layer's point of view.
    pub took: Duration,
}

/// Calls `log` after each call that comes to an end. One whose future is dropped does not. It runs where
/// the call is awaited, so it must not block.
///
/// ```no_run
/// # async fn f() -> Result<(), redial_client::BuildError> {
/// use redial_client::{Client, layers};
///
/// let client = Client::builder()
///     .layer(layers::log(|call| match call.end.result() {
///         Ok(_) => println!("{} {:?}", call.end.method(), call.took),
///         Err(error) => eprintln!("{error}; executed: {:?}", error.executed()),
///     }))
///     .connect("127.0.0.1:7077")
///     .await?;
/// # drop(client);
/// # Ok(())
/// # }
/// ```
pub fn log(log: impl Fn(&CallSummary<'_>) + Send + Sync + 'static) -> impl Layer {
    let log = Arc::new(log);
    move |call: LayerCall, next: Next| {
        let log = Arc::clone(&log);
        async move {
            let began = clock::now();
            let end = next.run(call).await;
            log(&CallSummary {
                end: &end,
                took: clock::now().saturating_duration_since(began),
            });
            end
        }
    }
}

/// Says something beside the params of each call, such as a tenant or a token for the handlers, unless the
/// call has said something of this key itself. What can't be said, because it is too long, refuses the
/// call. A value that has to be waited for takes a [`Layer`] of one's own; for a token
/// that tells the server itself who calls, see [`ClientBuilder::token`](crate::ClientBuilder::token).
///
/// ```no_run
/// # async fn f() -> Result<(), redial_client::BuildError> {
/// use std::sync::{Arc, Mutex};
/// use redial_client::{Client, layers};
///
/// let latest = Arc::new(Mutex::new("first".to_owned()));
/// let client = Client::builder()
///     .layer(layers::meta("authorization", {
///         let latest = Arc::clone(&latest);
///         move |_| latest.lock().unwrap().clone()
///     }))
///     .connect("127.0.0.1:7077")
///     .await?;
/// *latest.lock().unwrap() = "second".to_owned();
/// # drop(client);
/// # Ok(())
/// # }
/// ```
pub fn meta(
    key: impl Into<String>,
    value: impl Fn(&LayerCall) -> String + Send + Sync + 'static,
) -> impl Layer {
    let key: Arc<str> = key.into().into();
    move |mut call: LayerCall, next: Next| {
        let said = match call.meta().get(&key) {
            Some(_) => Ok(()),
            None => {
                let value = value(&call);
                call.insert_meta(&key, &value)
            }
        };
        async move {
            match said {
                Ok(()) => next.run(call).await,
                Err(error) => next.refuse(call, error.to_string()),
            }
        }
    }
}

/// Puts each call into a trace (W3C Trace Context), unless the call is in one already: handlers of
/// Redial's server find it in their context. `traceparent` is asked once per call, where it is awaited.
///
/// ```no_run
/// # fn current() -> Option<String> { None }
/// # async fn f() -> Result<(), redial_client::BuildError> {
/// use redial_client::{Client, layers};
///
/// // As the program's tracing library gives it: "00-0af7...-b7ad...-01".
/// let client = Client::builder()
///     .layer(layers::traceparent(|_| current()))
///     .connect("127.0.0.1:7077")
///     .await?;
/// # drop(client);
/// # Ok(())
/// # }
/// ```
pub fn traceparent(
    traceparent: impl Fn(&LayerCall) -> Option<String> + Send + Sync + 'static,
) -> impl Layer {
    move |mut call: LayerCall, next: Next| {
        if call.traceparent().is_none()
            && let Some(traceparent) = traceparent(&call)
        {
            call.set_traceparent(traceparent);
        }
        next.run(call)
    }
}

/// What goes wrong with a call on purpose.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InjectedFault {
    /// It is sent this much later, which its deadline includes.
    Delay(Duration),
    /// It is not sent, and ends as `NotExecuted` with this text.
    Refuse(String),
}

/// Lets calls go wrong, to see what the program makes of it. `decide` is asked once per call. Replies that
/// are lost, connections that are cut and all else that leaves a call *unknown* are up to the fault rules
/// of Redial's server, since only there a call can be sent and its outcome lost.
///
/// ```
/// use redial_client::{Client, Executed, layers::{self, InjectedFault}};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), redial_client::BuildError> {
/// let client = Client::builder()
///     .layer(layers::faults(|call| {
///         let is_hit = call.method() == "pay";
///         is_hit.then(|| InjectedFault::Refuse("on purpose".into()))
///     }))
///     .connect_lazy("127.0.0.1:7077")?;
/// let error = client.request("pay", (5,)).await.unwrap_err();
/// assert_eq!(error.executed(), Executed::No);
/// # Ok(())
/// # }
/// ```
pub fn faults(
    decide: impl Fn(&LayerCall) -> Option<InjectedFault> + Send + Sync + 'static,
) -> impl Layer {
    move |call: LayerCall, next: Next| {
        let fault = decide(&call);
        async move {
            match fault {
                None => {}
                Some(InjectedFault::Delay(delay)) => tokio::time::sleep(delay).await,
                Some(InjectedFault::Refuse(why)) => return next.refuse(call, why),
            }
            next.run(call).await
        }
    }
}
