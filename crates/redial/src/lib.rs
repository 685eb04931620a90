//! JSON-RPC over TCP in which a retry is always safe: this crate is the server, the client and the
//! protocol under one name.
//!
//! | feature | default | module | crate |
//! |---|---|---|---|
//! | `server` | on | [`server`] | `redial-server` |
//! | `client` | on | [`client`] | `redial-client` |
//! | `tls` | off | `server::ServerTls`, `client::ClientTls` | `redial-tls` |
//! | `native-roots` | off | `client::ClientTls` | the system's certificate authorities |
//! | `metrics` | off | `metrics` of both builders | `metrics` |
//! | `tracing` | off | `traces` of both builders | `tracing` |
//! | `schemas` | off | `server::ServerBuilder::describe` | `schemars` |
//! | `tokens` | off | `server::TokenFile` | `sha2`, `subtle` |
//! | `tower` | off | `server::tower`, `client::tower` | `tower-layer`, `tower-service` |
//! | | | [`protocol`] | `redial-protocol` |
//!
//! ```
//! use std::sync::{Arc, atomic::{AtomicI64, Ordering::SeqCst}};
//!
//! use redial::{Method, MethodKind, client::Client, server::Server};
//!
//! /// Adds a number to the counter, and answers its new value.
//! enum Add {}
//!
//! impl Method for Add {
//!     const NAME: &'static str = "add";
//!     const KIND: MethodKind = MethodKind::Mutation;
//!     type Params = (i64,);
//!     type Output = i64;
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let counter = Arc::new(AtomicI64::new(0));
//!     let server = Server::builder()
//!         .method::<Add>(move |(delta,)| {
//!             let counter = Arc::clone(&counter);
//!             async move { Ok(counter.fetch_add(delta, SeqCst) + delta) }
//!         })
//!         .build()?;
//!     let listener = server.bind("127.0.0.1:0").await?;
//!     let address = listener.local_addr()?;
//!     tokio::spawn(async move { server.serve(listener).await });
//!
//!     let client = Client::connect(address).await?;
//!     assert_eq!(client.call::<Add>((2,)).await?, 2);
//!     Ok(())
//! }
//! ```

#[cfg(feature = "client")]
pub use redial_client as client;
pub use redial_protocol as protocol;
pub use redial_protocol::{Method, MethodKind};
#[cfg(feature = "server")]
pub use redial_server as server;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeDoctests;

// The repository's own, which the package does without.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct RepositoryReadmeDoctests;
