//! The wire of Redial, and nothing else: no sockets, no runtime, no clock.
//!
//! A stream carries frames: a 4-byte big-endian length, then that many bytes of JSON
//! ([`FrameDecoder`], [`write_frame`]). A frame to a server carries a JSON-RPC 2.0 request, a
//! notification or a batch, or a request in the *notebook dialect*, which has no `jsonrpc` member and
//! whose id is the idempotency key ([`Incoming`]). A frame to a client carries a [`Reply`].
//! [`specification`] has all of it, for those who write a client or a server in another language.
//!
//! Params and results are never copied: they are borrowed from the frame as the JSON text that they
//! are.
//!
//! # Example
//!
//! One request, from bytes to parts, and the reply back to bytes:
//!
//! ```
//! use redial_protocol::{
//!     Dialect, FrameDecoder, Incoming, Limits, ReplyMeta, encode_result, write_frame, write_reply,
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
//! encode_result(&mut outcome, &1)?;
//! let mut answer = Vec::new();
//! let id = request.id.unwrap();
//! write_reply(&mut answer, request.dialect, id.raw(), &outcome, ReplyMeta::default());
//! assert_eq!(answer, br#"{"id":"7","result":1}"#);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod address;
mod auth_token;
mod dialect;
mod duration;
mod ends;
mod error;
mod frame;
mod id;
mod json;
mod key;
mod limits;
mod members;
mod message;
mod meta;
mod metadata;
mod method;
mod oversized;
mod principal;
mod priority;
mod rejection;
mod reply;
mod request;
pub mod rpc;
mod session;
#[doc = include_str!("../PROTOCOL.md")]
pub mod specification {}
mod text;

pub use address::{Address, AddressError};
pub use auth_token::AuthToken;
pub use dialect::Dialect;
pub use duration::{DurationError, DurationText};
pub use ends::MessageEnds;
pub use error::{ErrorCode, ErrorData, ErrorObject, Executed};
pub use frame::{FRAME_HEADER_BYTES, FrameDecoder, FrameError, write_frame};
pub use id::{Id, IdError};
pub use json::object::deserialize_object;
pub use key::{CallKey, OwnedKey};
pub use limits::Limits;
pub use message::{Batch, Incoming, RequestReader};
pub use meta::{ReplyMeta, RequestMeta};
pub use metadata::{Metadata, MetadataError, MetadataRef};
pub use method::{Method, MethodKind};
pub use oversized::OversizedFrame;
pub use principal::{Principal, PrincipalError};
pub use priority::Priority;
pub use rejection::Rejection;
pub use reply::{Reply, ReplyError, ReplyReader, encode_error, encode_result, write_reply};
pub use request::{Request, RequestId, write_request};
pub use session::{SessionCall, SessionId, SessionIdError};

// What the two ends need and no other program should use.
#[doc(hidden)]
pub use address::unmapped;
#[doc(hidden)]
pub use json::{
    de::read as read_json,
    finite::write as write_json,
    reply::FastReply,
    reread::{Misfit, reread as reread_json},
};
#[doc(hidden)]
pub use text::cut;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeDoctests;
