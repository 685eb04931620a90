//! What a handler is given, and how all handlers are made to look alike.

use std::{
    any::Any,
    future::{Future, poll_fn},
    marker::PhantomData,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll, Waker},
    time::Instant,
};

use redial_protocol::{ErrorCode, ErrorObject, cut, reply};
use serde::{Serialize, de::DeserializeOwned};

use crate::{abort::Abort, params};

/// What a handler may want to know about the call beside its params.
#[derive(Clone, Debug, Default)]
pub struct Context {
    pub(crate) attempt: u32,
    pub(crate) deadline: Option<Instant>,
    pub(crate) traceparent: Option<Box<str>>,
    pub(crate) peer: Option<SocketAddr>,
}

impl Context {
    /// Which sending of the call reached the server first, from 1. Above 1 it means that earlier
    /// ones were lost, never that the handler has run before.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// When the caller stops waiting, if it said so. The execution is not cut off then: its
    /// outcome is recorded in any case.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The trace that the call belongs to (W3C Trace Context), as the caller sent it.
    #[must_use]
    pub fn traceparent(&self) -> Option<&str> {
        self.traceparent.as_deref()
    }

    /// Who sent the attempt that is being run; `None` if the transport has no addresses.
    #[must_use]
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }
}

/// How an execution ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// `"result":...` or `"error":...`.
    pub(crate) outcome: Vec<u8>,
    /// Whether the outcome is the call's for good.
    pub(crate) recorded: bool,
}

/// A handler's future, on its way to its end.
pub(crate) type Prepared = Pin<Box<dyn Future<Output = Ended> + Send>>;

/// Where the future of a call is polled that begins here and now: the same for all calls of one
/// method that a connection brings, so that nothing is allocated while handlers are ready at once.
pub(crate) type Place = Option<Box<dyn Any + Send>>;

/// How large futures may be for which a connection keeps a place while it is idle. Allocating room
/// for larger ones costs little beside filling it.
const KEEP_BYTES: usize = 1024;

const ONE_TYPE: &str = "a place belongs to one method, whose futures are of one type";

/// What became of a call that has begun.
pub(crate) enum Begun {
    /// It has ended, and the outcome was appended to the buffer.
    Ended {
        /// As in [`Ended`].
        recorded: bool,
    },
    /// It waits for something.
    Waits(Prepared),
}

/// A handler whose types have been forgotten.
pub(crate) trait Handler: Send + Sync {
    /// Decodes the params. Not a line of the handler runs before the future is polled.
    fn prepare(&self, params: Option<&str>, context: Context) -> Result<Prepared, ErrorObject>;

    /// As [`prepare`](Self::prepare), for a call that begins here and now: the handler is called
    /// and polled at once, after `begins`, and its outcome appended to `out`.
    fn start(
        &self,
        params: Option<&str>,
        context: Context,
        place: &mut Place,
        out: &mut Vec<u8>,
        begins: &mut dyn FnMut(),
    ) -> Result<Begun, ErrorObject>;
}

/// An async function of a method's params and the call's [`Context`]. Every closure that gives a
/// future is one; what it shares with other calls it clones into the future:
///
/// ```
/// use std::sync::{Arc, Mutex};
/// use redial_server::{Context, Server};
///
/// let names = Arc::new(Mutex::new(Vec::new()));
/// let builder = Server::builder()
///     // Without state an async closure will do.
///     .query("echo", async |params: serde_json::Value, _: Context| Ok(params))
///     .mutation("add", move |(name,): (String,), _: Context| {
///         let names = Arc::clone(&names);
///         async move {
///             names.lock().unwrap().push(name);
///             Ok(())
///         }
///     });
/// # builder.build()?;
/// # Ok::<(), redial_server::BuildError>(())
/// ```
pub trait AsyncHandler<P, T>: Send + Sync + 'static {
    /// What the function gives back.
    type Future: Future<Output = Result<T, Abort>> + Send + 'static;

    /// Calls the function.
    fn call(&self, params: P, context: Context) -> Self::Future;
}

impl<P, T, F, H> AsyncHandler<P, T> for H
where
    H: Fn(P, Context) -> F + Send + Sync + 'static,
    F: Future<Output = Result<T, Abort>> + Send + 'static,
{
    type Future = F;

    fn call(&self, params: P, context: Context) -> F {
        self(params, context)
    }
}

/// A handler with its types, which are about to be forgotten.
pub(crate) struct Function<H, P, T> {
    handler: Arc<H>,
    types: PhantomData<fn(P) -> T>,
}

impl<H, P, T> Function<H, P, T> {
    pub(crate) fn new(handler: H) -> Self {
        Self {
            handler: Arc::new(handler),
            types: PhantomData,
        }
    }
}

impl<H, P, T> Handler for Function<H, P, T>
where
    H: AsyncHandler<P, T>,
    P: DeserializeOwned + Send + 'static,
    T: Serialize + 'static,
{
    fn prepare(&self, params: Option<&str>, context: Context) -> Result<Prepared, ErrorObject> {
        let params: P = params::decode(params)?;
        let handler = Arc::clone(&self.handler);
        Ok(Box::pin(async move {
            Ended::with(handler.call(params, context).await)
        }))
    }

    fn start(
        &self,
        params: Option<&str>,
        context: Context,
        place: &mut Place,
        out: &mut Vec<u8>,
        begins: &mut dyn FnMut(),
    ) -> Result<Begun, ErrorObject> {
        let params: P = params::decode(params)?;
        begins();
        let held = held::<H::Future>(place);
        held.set(Some(self.handler.call(params, context)));
        match poll_held(held, &mut TaskContext::from_waker(Waker::noop())) {
            Poll::Ready(answer) => {
                held.set(None);
                if size_of::<H::Future>() > KEEP_BYTES {
                    *place = None;
                }
                let recorded = encode(out, answer);
                Ok(Begun::Ended { recorded })
            }
            Poll::Pending => {
                let mut held = take_held::<H::Future>(place);
                let future = async move { poll_fn(|cx| poll_held(&mut held, cx)).await };
                let ended = async move { Ended::with(future.await) };
                Ok(Begun::Waits(Box::pin(ended)))
            }
        }
    }
}

/// The place of a method's futures, as what it is.
fn held<F: Send + 'static>(place: &mut Place) -> &mut Pin<Box<Option<F>>> {
    let place = place.get_or_insert_with(|| Box::new(Box::pin(None::<F>)));
    place.downcast_mut().expect(ONE_TYPE)
}

/// The same, with nothing left behind: a handler that has to wait will do so again, and an idle
/// connection would keep room for it.
fn take_held<F: Send + 'static>(place: &mut Place) -> Pin<Box<Option<F>>> {
    let held = place.take().and_then(|place| place.downcast().ok());
    *held.expect(ONE_TYPE)
}

fn poll_held<F: Future>(
    held: &mut Pin<Box<Option<F>>>,
    cx: &mut TaskContext<'_>,
) -> Poll<F::Output> {
    let future = held.as_mut().as_pin_mut();
    future.expect("it is polled until it ends").poll(cx)
}

impl Ended {
    fn with<T: Serialize>(answer: Result<T, Abort>) -> Self {
        let mut outcome = Vec::new();
        let recorded = encode(&mut outcome, answer);
        Self { outcome, recorded }
    }
}

/// Appends the outcome; says whether it is to be recorded.
fn encode<T: Serialize>(out: &mut Vec<u8>, answer: Result<T, Abort>) -> bool {
    match answer {
        Ok(value) => {
            if let Err(error) = reply::encode_result(out, &value) {
                let detail = format!("the result can't be written as JSON: {error}");
                let error = ErrorObject::raised(ErrorCode::INTERNAL_ERROR, cut(&detail));
                reply::encode_error(out, &error);
            }
            true
        }
        Err(Abort::Failed(failure)) => {
            reply::encode_error(out, &failure.recorded());
            true
        }
        Err(Abort::NoEffect(failure)) => {
            reply::encode_error(out, &failure.released());
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn no_effect_says_so_and_is_not_recorded() {
        let mut out = Vec::new();
        let abort = Abort::no_effect("try again")
            .data(&json!({"why": 1}))
            .unwrap();
        assert!(!encode::<()>(&mut out, Err(abort)));
        assert_eq!(
            String::from_utf8(out).unwrap(),
            r#""error":{"code":-32000,"message":"try again","data":{"executed":"no","data":{"why":1}}}"#
        );
    }

    #[test]
    fn a_result_that_is_no_json_is_recorded_as_an_internal_error() {
        let mut out = Vec::new();
        let map = std::collections::BTreeMap::from([([1u8, 2], 3)]);
        assert!(encode(&mut out, Ok(map)));
        assert!(out.starts_with(br#""error":{"code":-32603"#));
    }
}
