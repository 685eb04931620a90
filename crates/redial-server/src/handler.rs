//! What a handler is given, what it may answer, and how all handlers are made to look alike.

use std::{future::Future, marker::PhantomData, net::SocketAddr, sync::Arc, time::Instant};

use redial_protocol::{ErrorCode, ErrorObject, Executed, cut, reply};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::value::{RawValue, to_raw_value};
use tokio_util::sync::ReusableBoxFuture;

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

/// How a handler ends without a result.
///
/// ```
/// use redial_server::Abort;
///
/// fn withdraw(balance: u64, cents: u64) -> Result<u64, Abort> {
///     balance.checked_sub(cents).ok_or_else(|| Abort::failed("insufficient funds").code(7))
/// }
/// assert!(withdraw(5, 6).is_err());
/// ```
#[derive(Clone, Debug)]
pub enum Abort {
    /// The call failed. That is its outcome: it is recorded, and every retry gets the same error.
    Failed(Failure),
    /// The call has had no effect, and the same id may be tried again. This is the only way to
    /// make an error forgettable; say it only if it is true.
    NoEffect(Failure),
}

/// What is said about a call that ended without a result.
#[derive(Clone, Debug)]
pub struct Failure {
    code: ErrorCode,
    message: String,
    data: Option<Box<RawValue>>,
}

impl Abort {
    /// The call failed, with -32000 and this message.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::Failed(Failure::new(message))
    }

    /// The call had no effect and may be tried again, with -32000 and this message.
    pub fn no_effect(message: impl Into<String>) -> Self {
        Self::NoEffect(Failure::new(message))
    }

    /// The same, with a code of the application's own in place of -32000. Codes from -32768 to
    /// -32000 belong to JSON-RPC and to Redial, and clients draw conclusions from them; stay
    /// outside.
    #[must_use]
    pub fn code(mut self, code: impl Into<ErrorCode>) -> Self {
        self.failure().code = code.into();
        self
    }

    /// The same, with data for the caller. `NoEffect` sends it inside Redial's own data.
    ///
    /// # Errors
    ///
    /// [`serde_json::Error`] if the data can't be written as JSON.
    pub fn data(mut self, data: &impl Serialize) -> Result<Self, serde_json::Error> {
        self.failure().data = Some(to_raw_value(data)?);
        Ok(self)
    }

    fn failure(&mut self) -> &mut Failure {
        match self {
            Self::Failed(failure) | Self::NoEffect(failure) => failure,
        }
    }
}

impl Failure {
    fn new(message: impl Into<String>) -> Self {
        Self {
            code: ErrorCode::HANDLER_ERROR,
            message: message.into(),
            data: None,
        }
    }

    fn recorded(self) -> ErrorObject {
        ErrorObject {
            code: self.code,
            message: self.message,
            data: self.data,
        }
    }

    fn released(self) -> ErrorObject {
        #[derive(Serialize)]
        struct Data<'a> {
            executed: Executed,
            #[serde(skip_serializing_if = "Option::is_none")]
            data: Option<&'a RawValue>,
        }
        let data = Data {
            executed: Executed::No,
            data: self.data.as_deref(),
        };
        let data = to_raw_value(&data).expect("plain members and raw JSON can't fail");
        ErrorObject {
            code: self.code,
            message: self.message,
            data: Some(data),
        }
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
        params: Option<&RawValue>,
        context: Context,
        buffer: Vec<u8>,
        slot: &mut Option<Prepared>,
    ) -> Result<(), ErrorObject>;
}

/// An async function of a method's params and the call's [`Context`], such as
/// `async |params: P, _: Context| Ok(value)`.
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
        params: Option<&RawValue>,
        context: Context,
        mut buffer: Vec<u8>,
        slot: &mut Option<Prepared>,
    ) -> Result<(), ErrorObject> {
        let params: P = decode(params)?;
        let handler = Arc::clone(&self.handler);
        let future = async move {
            let answer = handler.call(params, context).await;
            buffer.clear();
            let recorded = encode(&mut buffer, answer);
            Ended {
                outcome: buffer,
                recorded,
            }
        };
        match slot {
            Some(slot) => slot.set(future),
            None => *slot = Some(ReusableBoxFuture::new(future)),
        }
        Ok(())
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

/// Decodes params. Absent ones are what the type reads from `null`, `{}` or `[]`.
fn decode<P: DeserializeOwned>(params: Option<&RawValue>) -> Result<P, ErrorObject> {
    let Some(params) = params else {
        return ["null", "{}", "[]"]
            .iter()
            .find_map(|text| serde_json::from_str(text).ok())
            .ok_or_else(|| invalid_params(&why_not::<P>("{}")));
    };
    serde_json::from_str(params.get()).map_err(|_| invalid_params(&why_not::<P>(params.get())))
}

/// What is wrong with params that can't be decoded, with the path of the field. The second look
/// costs only those who sent them.
fn why_not<P: DeserializeOwned>(text: &str) -> String {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    match serde_path_to_error::deserialize::<_, P>(&mut deserializer) {
        Ok(_) => match deserializer.end() {
            Ok(()) => "they changed their mind when asked again".to_owned(),
            Err(error) => error.to_string(),
        },
        Err(error) if error.path().iter().len() == 0 => error.into_inner().to_string(),
        Err(error) => format!("{}: {}", error.path(), error.inner()),
    }
}

fn invalid_params(why: &str) -> ErrorObject {
    ErrorObject::raised(ErrorCode::INVALID_PARAMS, cut(why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::{Value, json};

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Params {
        #[serde(default)]
        key: String,
        #[serde(default)]
        delta: i64,
    }

    fn decoded<P: DeserializeOwned>(json: &str) -> Result<P, ErrorObject> {
        let raw: Box<RawValue> = serde_json::from_str(json).unwrap();
        decode(Some(&raw))
    }

    fn why(json: &str) -> String {
        let error = decoded::<Params>(json).unwrap_err();
        assert_eq!(error.code, ErrorCode::INVALID_PARAMS);
        assert_eq!(error.executed(), Executed::No);
        error.detail().unwrap()
    }

    #[test]
    fn named_and_positional_params_are_decoded() {
        let expected = Params {
            key: "k".into(),
            delta: 2,
        };
        assert_eq!(
            decoded::<Params>(r#"{"key":"k","delta":2}"#).unwrap(),
            expected
        );
        assert_eq!(decoded::<Params>(r#"["k",2]"#).unwrap(), expected);
    }

    #[test]
    fn absent_params_are_whatever_the_type_makes_of_nothing() {
        assert_eq!(
            decode::<Params>(None).unwrap(),
            Params {
                key: String::new(),
                delta: 0
            }
        );
        assert_eq!(decode::<Value>(None).unwrap(), Value::Null);
        decode::<()>(None).unwrap();
        assert_eq!(decode::<Vec<u8>>(None).unwrap(), Vec::<u8>::new());
        assert_eq!(
            decode::<(u8,)>(None).unwrap_err().code,
            ErrorCode::INVALID_PARAMS
        );
    }

    #[test]
    fn a_wrong_field_is_named() {
        assert!(why(r#"{"delta":1.5}"#).starts_with("delta: "));
        assert!(why(r#"{"delta":9223372036854775808}"#).starts_with("delta: "));
        assert!(why(r#"{"delta":"1"}"#).starts_with("delta: "));
        assert!(why(r#"{"key":7}"#).starts_with("key: "));
        assert!(why(r#"{"other":7}"#).contains("other"));
        assert!(why(&format!(r#"{{"key":["{}"]}}"#, "x".repeat(999))).len() <= 200);
    }

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
