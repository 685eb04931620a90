//! The client of Redial: JSON-RPC over TCP in which a retry is always safe.
//!
//! A [`Client`] multiplexes calls over one connection or a pool of them, connects again by
//! itself, and retries under limits. Every attempt of a call carries the same id, by which the
//! server recognises it; the reply to *any* of them completes the call, however late. A call ends
//! with a value, or with a [`CallError`] that says whether it was executed: `NotExecuted`, `Failed`
//! or `Unknown`.
//!
//! # Example
//!
//! A client, and a peer of a few lines at the other end of a pipe:
//!
//! ```
//! use redial_client::{Client, connect::once};
//! # use redial_protocol::{FrameDecoder, Incoming, Limits, write_frame, write_reply};
//! # use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
//! # async fn peer(mut io: DuplexStream) -> std::io::Result<()> {
//! #     let (limits, mut decoder, mut buf) = (Limits::default(), FrameDecoder::new(4096), [0; 4096]);
//! #     loop {
//! #         let count = io.read(&mut buf).await?;
//! #         if count == 0 { return Ok(()); }
//! #         let (mut input, mut out) = (&buf[..count], Vec::new());
//! #         while let Ok(Some(frame)) = decoder.next_frame(&mut input) {
//! #             let Ok(Incoming::Request(request)) = Incoming::parse(frame, &limits) else { panic!() };
//! #             let id = request.id.unwrap();
//! #             write_frame(&mut out, 4096, |out| {
//! #                 let (dialect, meta) = (request.dialect, Default::default());
//! #                 write_reply(out, dialect, id.raw(), br#""result":{"key":"k","value":1}"#, meta);
//! #             }).unwrap();
//! #         }
//! #         io.write_all(&out).await?;
//! #     }
//! # }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (ours, theirs) = tokio::io::duplex(4096);
//! tokio::spawn(peer(theirs));
//!
//! let client = Client::builder().connect_with(once(ours)).await?;
//! let value = client.request("inc", serde_json::json!({"key": "k"})).await?;
//! assert_eq!(value["value"], 1);
//! # Ok(())
//! # }
//! ```
//!
//! Over TCP the second line is `Client::connect("127.0.0.1:7077").await?`.
//!
//! # What is promised, and what is not
//!
//! * `NotExecuted` is certain: no attempt was written whole, or the server refused each that was.
//! * Where the server has sessions, calls are numbered in one ([`Config::sessions`]), and none is
//!   executed twice: not by a late retry, nor by a server that was restarted and lost its records,
//!   nor by another server. A call of which such a server has no record ends as `Unknown`.
//! * Where it has none, a call's id is random, and the server keeps its record for a limited time.
//!   The client sends no mutation again after [`Config::resend_window`]; but a server that is
//!   restarted and had its records in memory alone has lost them sooner, and may execute a retry.
//! * `Unknown` comes with a [`CallToken`], with which this process or another can ask for the
//!   outcome ([`Client::resolve`]).
//! * A client that was made before a `fork` works in both processes, each with a session,
//!   connections and ids of its own; the copy needs a runtime of its own, too, since tokio's can't be
//!   forked. A call that was in flight is the parent's: awaited in the copy it ends as `Unknown`, or
//!   as `NotExecuted`, or, with a plain id, is the same call once more.
//! * A machine that is restored from a snapshot draws other plain ids than its copies from the
//!   next connection on. It has their session, though: of such a machine only one copy may go on.
//! * Dropping a call's future cancels the call if a server with sessions has not started it.
//!   Otherwise it only ends the waiting: what was written may be executed.

mod attempt_spans;
mod builder;
mod call;
mod call_options;
mod cause;
mod client;
mod clock;
mod config;
pub mod connect;
mod connect_endpoints;
mod connector;
mod discovery;
mod endpoint_stats;
mod endpoints;
mod error;
#[cfg(any(feature = "metrics", feature = "tracing"))]
mod error_kind;
mod handle;
mod inline_bytes;
mod io;
mod lateness;
mod layer;
pub mod layers;
mod meter;
#[cfg(feature = "metrics")]
pub mod metrics;
mod mux;
mod origin;
mod policy;
mod random;
mod report;
mod resolve;
mod retry;
mod retry_stats;
mod shared;
mod small_vec;
mod suspension;
mod tasks;
mod timer_task;
mod token;
mod token_source;
#[cfg(feature = "tower")]
pub mod tower;
mod traceparent;
#[cfg(feature = "tracing")]
mod traces;
mod wake_list;

pub use builder::ClientBuilder;
pub use call::{Call, CallFuture, Notification};
pub use cause::{Cause, ConnectError, GiveUpReason};
pub use client::{Client, Stats};
pub use config::{CallLimits, Config};
pub use connector::Connector;
pub use endpoint_stats::{EndpointHealth, EndpointStats};
pub use endpoints::{
    Addresses, Dns, Endpoint, Endpoints, EndpointsFuture, Resolver, SystemResolver,
};
pub use error::{BuildError, CallError, Details};
pub use layer::{CallEnd, Layer, LayerCall, LayerFuture, Next};
pub use policy::{
    adaptive_timeout::AdaptiveTimeout,
    backoff::{Backoff, BackoffError, Jitter},
    budget::RetryBudget,
    hedge::Hedge,
};
pub use redial_protocol::{
    Address, AddressError, AuthToken, Dialect, ErrorCode, ErrorData, ErrorObject, Executed,
    Metadata, MetadataError, Method, MethodKind, Priority,
};
#[cfg(feature = "tls")]
pub use redial_tls::{self as tls, ClientTls};
pub use report::{AttemptEnd, AttemptReport, Reply, Report};
pub use resolve::{Resolution, Resolve};
pub use retry_stats::RetryStats;
pub use token::CallToken;
#[cfg(feature = "tracing")]
pub use traces::Traces;
pub use uuid::Uuid;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeDoctests;
