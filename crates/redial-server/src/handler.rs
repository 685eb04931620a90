//! A handler with its types erased: its params decoded, its future polled, its outcome encoded, and
//! its panics turned into outcomes.

use std::{
    any::Any,
    future::{Future, poll_fn},
    marker::PhantomData,
    pin::{Pin, pin},
    sync::Arc,
    task::{self, Poll, Waker},
};

use redial_protocol::{ErrorObject, encode_error, encode_result};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    abort::Abort, context::Context, failure_texts::FailureTexts, function::AsyncHandler, panics,
    params, refusal,
};

/// What a handler's future comes to.
#[derive(Debug)]
pub(crate) struct Completion {
    /// `"result":...` or `"error":...`.
    pub(crate) outcome: Vec<u8>,
    /// Whether the outcome is the call's for good.
    pub(crate) is_recorded: bool,
}

/// A handler's future with its types erased. It never panics.
pub(crate) type HandlerFuture = Pin<Box<dyn Future<Output = Completion> + Send>>;

/// Where the future of a call that starts at once is polled: the same for all calls of one method
/// that a connection brings, so that nothing is allocated while handlers are ready at once.
pub(crate) type FutureSlot = Option<Box<dyn Any + Send>>;

/// The largest future, in bytes, for which an idle connection keeps its slot. Allocating room for
/// a larger one costs little beside filling it.
const KEEP_BYTES: usize = 1024;

const ONE_TYPE: &str = "a slot belongs to one method, whose futures are of one type";

/// What the first poll of a handler came to, or that it was not polled.
pub(crate) enum FirstPoll {
    /// It has finished, and the outcome was appended to the buffer.
    Ready {
        /// As in [`Completion`].
        is_recorded: bool,
    },
    /// It waits for something.
    Pending(HandlerFuture),
    /// The params could not be decoded: the handler did not start.
    NotStarted(Box<ErrorObject>),
}

/// A handler with its types erased. What it throws is an outcome, or a refusal if it had not
/// started: neither function panics.
pub(crate) trait ErasedHandler: Send + Sync {
    /// Decodes the params. Not a line of the handler runs before the future is polled.
    fn prepare(
        &self,
        params: Option<&str>,
        context: Context,
    ) -> Result<HandlerFuture, ErrorObject> {
        let mut context = Some(context);
        self.prepare_with(params, &mut || context.take().unwrap_or_default())
    }

    /// The same, with what makes the context of a call that starts at once: asked for if the params could
    /// be decoded.
    fn prepare_with(
        &self,
        params: Option<&str>,
        on_start: &mut dyn FnMut() -> Context,
    ) -> Result<HandlerFuture, ErrorObject>;

    /// As [`prepare`](Self::prepare), for a call that starts at once: after `on_start`, which makes
    /// its context, the handler is called and polled, and its outcome written to `out`, which is empty.
    fn start(
        &self,
        params: Option<&str>,
        slot: &mut FutureSlot,
        out: &mut Vec<u8>,
        on_start: &mut dyn FnMut() -> Context,
    ) -> FirstPoll;
}

/// A handler with its types.
pub(crate) struct TypedHandler<H, A, P, T> {
    /// With who hears the texts of its failures.
    handler: Arc<(H, FailureTexts)>,
    types: PhantomData<fn(A, P) -> T>,
}

impl<H, A, P, T> TypedHandler<H, A, P, T> {
    pub(crate) fn new(handler: H, texts: FailureTexts) -> Self {
        Self {
            handler: Arc::new((handler, texts)),
            types: PhantomData,
        }
    }
}

impl<H, A, P, T> ErasedHandler for TypedHandler<H, A, P, T>
where
    H: AsyncHandler<A, P, T>,
    P: DeserializeOwned + Send + 'static,
    T: Serialize + 'static,
{
    fn prepare_with(
        &self,
        params: Option<&str>,
        on_start: &mut dyn FnMut() -> Context,
    ) -> Result<HandlerFuture, ErrorObject> {
        let decoded = panics::catch(|| params::decode::<P>(params));
        let params = decoded.unwrap_or_else(|panic| Err(self.handler.1.of_params(&panic)))?;
        let (handler, context) = (Arc::clone(&self.handler), on_start());
        let texts = self.handler.1.clone();
        Ok(Box::pin(complete(texts, async move {
            handler.0.call(params, context).await
        })))
    }

    fn start(
        &self,
        params: Option<&str>,
        slot: &mut FutureSlot,
        out: &mut Vec<u8>,
        on_start: &mut dyn FnMut() -> Context,
    ) -> FirstPoll {
        let mut is_started = false;
        let polled = panics::catch(|| {
            let params: P = match params::decode(params) {
                Ok(params) => params,
                Err(error) => return FirstPoll::NotStarted(Box::new(error)),
            };
            is_started = true;
            first_poll(slot, out, &self.handler.1, || {
                self.handler.0.call(params, on_start())
            })
        });
        polled.unwrap_or_else(|panic| {
            // Half a future may be there, and may panic once more.
            panics::drop_quietly(slot.take());
            if !is_started {
                return FirstPoll::NotStarted(Box::new(self.handler.1.of_params(&panic)));
            }
            out.clear();
            encode_error(out, &self.handler.1.of_panic(&panic));
            FirstPoll::Ready { is_recorded: true }
        })
    }
}

/// Puts a future into its slot and polls it there; one that has to wait moves out.
fn first_poll<F, T>(
    slot: &mut FutureSlot,
    out: &mut Vec<u8>,
    texts: &FailureTexts,
    call: impl FnOnce() -> F,
) -> FirstPoll
where
    F: Future<Output = Result<T, Abort>> + Send + 'static,
    T: Serialize + 'static,
{
    let future = slot_of::<F>(slot);
    future.set(Some(call()));
    match poll_some(
        future.as_mut(),
        &mut task::Context::from_waker(Waker::noop()),
    ) {
        Poll::Ready(result) => {
            future.set(None);
            if size_of::<F>() > KEEP_BYTES {
                *slot = None;
            }
            let is_recorded = encode(out, result, texts);
            FirstPoll::Ready { is_recorded }
        }
        Poll::Pending => {
            let mut future = take_from_slot::<F>(slot);
            FirstPoll::Pending(Box::pin(complete(texts.clone(), async move {
                poll_fn(|cx| poll_some(future.as_mut(), cx)).await
            })))
        }
    }
}

/// Runs a handler's future to its end. A panic is an outcome like any other.
async fn complete<T: Serialize>(
    texts: FailureTexts,
    handler: impl Future<Output = Result<T, Abort>>,
) -> Completion {
    let mut future = pin!(Some(async { Completion::new(handler.await, &texts) }));
    let completion = poll_fn(|cx| {
        let polled = panics::catch(|| poll_some(future.as_mut(), cx));
        polled.unwrap_or_else(|panic| Poll::Ready(Completion::panicked(&panic, &texts)))
    })
    .await;
    // What it has left behind may panic as it goes.
    let _: Result<(), String> = panics::catch(|| future.set(None));
    completion
}

/// The slot of a method's futures, with its type.
fn slot_of<F: Send + 'static>(slot: &mut FutureSlot) -> &mut Pin<Box<Option<F>>> {
    let slot = slot.get_or_insert_with(|| Box::new(Box::pin(None::<F>)));
    slot.downcast_mut().expect(ONE_TYPE)
}

/// The same, with nothing left behind: a handler that has to wait will do so again, and an idle
/// connection would keep room for it.
fn take_from_slot<F: Send + 'static>(slot: &mut FutureSlot) -> Pin<Box<Option<F>>> {
    let taken = slot.take().and_then(|slot| slot.downcast().ok());
    *taken.expect(ONE_TYPE)
}

fn poll_some<F: Future>(
    future: Pin<&mut Option<F>>,
    cx: &mut task::Context<'_>,
) -> Poll<F::Output> {
    let future = future.as_pin_mut();
    future.expect("it is polled until it is ready").poll(cx)
}

impl Completion {
    pub(crate) fn new<T: Serialize>(result: Result<T, Abort>, texts: &FailureTexts) -> Self {
        let mut outcome = Vec::new();
        let is_recorded = encode(&mut outcome, result, texts);
        Self {
            outcome,
            is_recorded,
        }
    }

    pub(crate) fn panicked(message: &str, texts: &FailureTexts) -> Self {
        Self::recorded_error(&texts.of_panic(message))
    }

    pub(crate) fn recorded_error(error: &ErrorObject) -> Self {
        let mut outcome = Vec::new();
        encode_error(&mut outcome, error);
        Self {
            outcome,
            is_recorded: true,
        }
    }
}

/// Appends the outcome. Returns whether it is recorded.
pub(crate) fn encode<T: Serialize>(
    out: &mut Vec<u8>,
    result: Result<T, Abort>,
    texts: &FailureTexts,
) -> bool {
    match result {
        Ok(value) => {
            if let Err(error) = encode_result(out, &value) {
                encode_error(out, &refusal::result_not_json(error));
            }
            true
        }
        Err(Abort::Failed(mut failure)) => {
            failure.hide(texts);
            encode_error(out, &failure.recorded());
            true
        }
        Err(Abort::NoEffect(mut failure)) => {
            failure.hide(texts);
            encode_error(out, &failure.released());
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
        assert!(!encode::<()>(
            &mut out,
            Err(abort),
            &FailureTexts::default()
        ));
        assert_eq!(
            String::from_utf8(out).unwrap(),
            r#""error":{"code":-32000,"message":"try again","data":{"executed":"no","data":{"why":1}}}"#
        );
    }

    /// A handler's words read as the server's.
    #[test]
    fn what_a_handler_says_of_execution_goes_out_marked() {
        for (code, given, expected) in [
            (
                -32000,
                r#"{"executed":"no"}"#,
                r#"{"executed":"yes","data":{"executed":"no"}}"#,
            ),
            (
                7,
                r#"{"executed":"yes"}"#,
                r#"{"executed":"yes","data":{"executed":"yes"}}"#,
            ),
            (-32001, r#"{"a":1}"#, r#"{"executed":"yes","data":{"a":1}}"#),
            (
                7,
                r#"{"a":{"executed":"no"}}"#,
                r#"{"a":{"executed":"no"}}"#,
            ),
        ] {
            let data: serde_json::Value = serde_json::from_str(given).unwrap();
            let abort = Abort::failed("m").code(code).data(&data).unwrap();
            let mut out = Vec::new();
            assert!(encode::<()>(&mut out, Err(abort), &FailureTexts::default()));
            let expected = format!(r#""error":{{"code":{code},"message":"m","data":{expected}}}"#);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn a_result_that_is_not_json_is_recorded_as_an_internal_error() {
        let mut out = Vec::new();
        let map = std::collections::BTreeMap::from([([1u8, 2], 3)]);
        assert!(encode(&mut out, Ok(map), &FailureTexts::default()));
        assert!(out.starts_with(br#""error":{"code":-32603"#));
    }
}
