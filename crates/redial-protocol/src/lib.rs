//! The wire of Redial, and nothing else: no sockets, no runtime, no clock.
//!
//! A stream carries [frames](frame): a 4-byte big-endian length, then that many bytes of JSON.
//! A frame carries a [message]: a JSON-RPC 2.0 request, a batch, a notification, or
//! the same request in the *notebook dialect*, which has no `jsonrpc` member and whose id is
//! the idempotency key. [`specification`] has all of it, for those who write a client or a server in
//! another language. Params are never copied: they are borrowed from the frame as the JSON text
//! that they are.
//!
//! # Example
//!
//! One request, from bytes to parts, and the reply back to bytes:
//!
//! ```
//! use redial_protocol::{
//!     Dialect, FrameDecoder, Incoming, Limits, ReplyMeta, reply, write_frame,
//! };
//!
//! let limits = Limits::default();
//! let mut wire = Vec::new();
//! write_frame(&mut wire, limits.max_frame_bytes, |out| {
//!     out.extend_from_slice(br#"{"id":"7","method":"inc","params":{"key":"k"}}"#);
//! })?;
//!
//! let mut decoder = FrameDecoder::new(limits.max_frame_bytes);
//! let mut input = wire.as_slice();
//! let frame = decoder.next_frame(&mut input)?.expect("a whole frame arrived");
//! let Ok(Incoming::Request(request)) = Incoming::parse(frame, &limits) else { panic!() };
//! assert_eq!(request.dialect, Dialect::Notebook);
//! assert_eq!(request.method, "inc");
//! assert_eq!(request.params.unwrap(), r#"{"key":"k"}"#);
//!
//! let mut outcome = Vec::new();
//! reply::encode_result(&mut outcome, &1)?;
//! let mut answer = Vec::new();
//! let id = request.id.unwrap();
//! reply::write(&mut answer, request.dialect, id.raw(), &outcome, ReplyMeta::default());
//! assert_eq!(answer, br#"{"id":"7","result":1}"#);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod address;
pub mod error;
pub mod frame;
mod hex;
pub mod id;
pub mod limits;
pub mod message;
pub mod meta;
pub mod method;
pub mod reply;
mod request;
pub mod rpc;
mod scan;
pub mod session;
#[doc = include_str!("../PROTOCOL.md")]
pub mod specification {}
mod text;

pub use address::{Address, AddressError, unmapped};
pub use error::{ErrorCode, ErrorData, ErrorObject, Executed};
pub use frame::{FrameDecoder, FrameError, write_frame};
pub use id::{CallKey, Id, IdError, IdPrefixCache};
pub use limits::Limits;
pub use message::{Batch, Dialect, Incoming, Rejection, Request, RequestReader, write_request};
pub use meta::{ReplyMeta, RequestMeta};
pub use method::{Method, MethodKind};
pub use reply::{Reply, ReplyError};
pub use request::write_call;
pub use session::{SessionCall, SessionId};
pub use text::{cut, plain_len};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeDoctests;
