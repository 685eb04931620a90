//! What a handler is given, and how all handlers are made to look alike.

use std::{future::Future, marker::PhantomData, net::SocketAddr, sync::Arc, time::Instant};

use redial_protocol::{ErrorCode, ErrorObject, cut, reply};
use serde::{Serialize, de::DeserializeOwned};
use tokio_util::sync::ReusableBoxFuture;

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

/// A handler that has been given its params and has not been polled yet. The box is reused from
/// call to call where handlers are ready at once, so that the fast path allocates nothing.
pub(crate) type Prepared = ReusableBoxFuture<'static, Ended>;

/// A handler whose types have been forgotten.
pub(crate) trait Handler: Send + Sync {
    /// Decodes the params and puts the handler's future into `slot`. Not a line of the handler
    /// runs before that is polled. `buffer` is what the outcome will be written to.
    fn prepare(
        &self,
        params: Option<&str>,
        context: Context,
        buffer: Vec<u8>,
        slot: &mut Option<Prepared>,
    ) -> Result<(), ErrorObject>;

    /// As [`prepare`](Self::prepare), for a call that begins here and now: the handler is called
    /// at once, after `begins`, so that nothing has to be kept for later.
    fn start(
        &self,
        params: Option<&str>,
        context: Context,
        buffer: Vec<u8>,
        slot: &mut Option<Prepared>,
        begins: &mut dyn FnMut(),
    ) -> Result<(), ErrorObject>;
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
    fn prepare(
        &self,
        params: Option<&str>,
        context: Context,
        buffer: Vec<u8>,
        slot: &mut Option<Prepared>,
    ) -> Result<(), ErrorObject> {
        let params: P = params::decode(params)?;
        let handler = Arc::clone(&self.handler);
        put(slot, async move {
            encoded(buffer, handler.call(params, context).await)
        });
        Ok(())
    }

    fn start(
        &self,
        params: Option<&str>,
        context: Context,
        buffer: Vec<u8>,
        slot: &mut Option<Prepared>,
        begins: &mut dyn FnMut(),
    ) -> Result<(), ErrorObject> {
        let params: P = params::decode(params)?;
        begins();
        let answer = self.handler.call(params, context);
        put(slot, async move { encoded(buffer, answer.await) });
        Ok(())
    }
}

fn put(slot: &mut Option<Prepared>, future: impl Future<Output = Ended> + Send + 'static) {
    match slot {
        Some(slot) => slot.set(future),
        None => *slot = Some(ReusableBoxFuture::new(future)),
    }
}

fn encoded<T: Serialize>(mut buffer: Vec<u8>, answer: Result<T, Abort>) -> Ended {
    buffer.clear();
    let recorded = encode(&mut buffer, answer);
    Ended {
        outcome: buffer,
        recorded,
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
