//! A JSON-RPC server in which a retry is always safe: each call runs at most once, a duplicate of
//! a running call joins it, and a duplicate of a finished one gets the recorded reply, byte for
//! byte.
//!
//! # A server in ten lines
//!
//! ```no_run
//! use std::sync::{Arc, atomic::{AtomicI64, Ordering::SeqCst}};
//! use redial_server::Server;
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let counter = Arc::new(AtomicI64::new(0));
//!     let server = Server::builder()
//!         .mutation("add", move |(delta,): (i64,)| {
//!             let counter = Arc::clone(&counter);
//!             async move { Ok(counter.fetch_add(delta, SeqCst) + delta) }
//!         })
//!         .build()?;
//!     let listener = server.bind("127.0.0.1:7077").await?;
//!     Ok(server.serve(listener).await?)
//! }
//! ```
//!
//! # What it promises
//!
//! * A *mutation* whose id is a key (any id but null in the notebook dialect, a UUID in JSON-RPC
//!   2.0) has at most one execution while its record lives. The record is found or created in one
//!   step, before anything else happens.
//! * The record of a call that belongs to a session lives until its caller acknowledges it; from
//!   then on the call is refused (-32007). A session lives while a connection is attached to it,
//!   and for [`Config::session_lease`] after that; calls of an unknown session are not executed
//!   (-32004).
//! * The record of a call with any other id lives while the call runs, and for [`Config::ttl`]
//!   after it has finished, of time in which the server was awake. A duplicate that comes later is
//!   executed again.
//! * A server that was made before a `fork` is another one in each process, with a table and sessions
//!   of its own: records are not shared. Clients whose retries may reach either need sessions.
//! * The execution belongs to the call. When the connection that brought it dies, it goes on, and
//!   its outcome is recorded.
//! * Every refusal has a code, a reason, and says whether anything was executed.
//! * Nothing is evicted while it could still be asked for. A full table refuses new calls.
//!
//! The table is in memory and does not survive a restart. A call of a session is not executed
//! again after one, but its outcome is unknown; a call with a plain id is executed again.
//!
//! # The protocol's own methods
//!
//! `rpc.hello` opens a session or attaches a connection to one, `rpc.ack` acknowledges calls,
//! `rpc.resolve` answers with the outcome of a call or fences its id for ever, `rpc.cancel` cancels
//! a call that has not started, `rpc.goodbye` ends a session with its last connection, `rpc.ping`
//! answers, `rpc.health` says whether new calls are admitted, `rpc.stats` what the server has done and
//! holds, `rpc.discover` lists the methods. Their params and results are in
//! [`redial_protocol::rpc`]. They pass every queue.
//!
//! # Where to read on
//!
//! [`Server`] for the parts, [`ServerBuilder`] for methods, [`Config`] for every limit, [`Abort`]
//! for how a handler fails, [`Faults`] for making it all go wrong on purpose.

mod abort;
mod accept;
mod activity;
mod admission;
mod auth;
mod awake;
mod batch;
mod builder;
mod caller;
mod clock;
mod config;
mod connection;
mod connection_events;
mod connections;
mod context;
mod counters;
mod discover;
mod dispatch;
mod durable;
mod error;
mod execution;
mod exposure;
mod extensions;
mod failure_texts;
mod fault;
mod function;
mod gate;
mod goodbye;
mod guesses;
mod handler;
mod health;
mod layer;
pub mod layers;
mod listener;
mod meter;
mod method_limits;
mod method_times;
#[cfg(feature = "metrics")]
pub mod metrics;
mod never;
mod observe;
mod origin;
mod outbox;
mod overload;
mod panics;
mod params;
mod peer;
mod recovery;
mod refusal;
mod reply_kind;
mod reserve;
mod router;
#[cfg(feature = "schemas")]
mod schemas;
mod send_buffer;
#[cfg(feature = "tls")]
mod serve_tls;
mod server;
mod share;
mod shared;
mod stats;
pub mod store;
mod table;
#[cfg(feature = "tokens")]
mod token_file;
#[cfg(feature = "tower")]
pub mod tower;
mod traces;
#[cfg(unix)]
mod unix;
mod unread;
mod waiter;
mod wakes;

pub use abort::{Abort, Failure};
pub use auth::{Verified, Verifier, VerifyError};
pub use builder::ServerBuilder;
pub use config::Config;
pub use context::Context;
pub use error::{BuildError, ServeError};
pub use exposure::Exposure;
pub use extensions::Extensions;
pub use fault::{
    CutPoint, Delay, Fault, FaultControl, FaultRule, FaultRuleError, Faults, MAX_DELAY,
};
pub use function::{AsyncHandler, ContextHandler, ParamsHandler, TakesContext, TakesParams};
pub use health::Readiness;
pub use layer::{Layer, LayerCall, LayerFuture, Next};
pub use listener::Listener;
pub use method_limits::MethodLimits;
pub use observe::{Event, EventKind, HiddenFailure, Observer};
pub use overload::Overload;
pub use redial_protocol::{
    ErrorCode, Executed, Limits, Metadata, Method, MethodKind, Principal, PrincipalError, Priority,
    SessionId,
};
#[cfg(feature = "tls")]
pub use redial_tls::{self as tls, ServerTls};
#[cfg(feature = "schemas")]
pub use schemars;
pub use server::{Server, Shutdown};
pub use stats::{RefusalCounts, Stats};
pub use store::{Outcome, OutcomeKind};
#[cfg(feature = "tokens")]
pub use token_file::{TokenFile, TokenFileError};
#[cfg(feature = "tracing")]
pub use traces::Traces;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeDoctests;
