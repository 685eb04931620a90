//! TLS for both ends of Redial: what a server and a client need of rustls, without knowing either.
//!
//! * [`ServerTls`]: certificates chosen by the name that the client asks for, client certificates
//!   with revocation lists, and files that are read again while it runs: a broken new pair is
//!   refused, and the old one kept.
//! * [`ClientTls`]: roots, a client certificate, resumed sessions. It verifies the server, always.
//! * Both take a `rustls` configuration of the program's own instead.
//!
//! TLS 1.2 and 1.3, with the provider `ring`, which is passed explicitly: whatever default provider
//! the program has installed plays no part. No early data: what it carries can be replayed. Both
//! ends name their protocol `redial/1` (ALPN); a peer that names none is welcome, so that
//! `openssl s_client` and Python's `ssl` work as they are.
//!
//! ```
//! use redial_tls::{ClientTls, ServerTls};
//!
//! # fn f() -> Result<(), redial_tls::TlsError> {
//! let server = ServerTls::builder()
//!     .certificate_files("server.pem", "server-key.pem")
//!     .client_ca_file("clients-ca.pem")
//!     .build()?;
//! let client = ClientTls::builder()
//!     .roots_file("ca.pem")
//!     .certificate_files("client.pem", "client-key.pem")
//!     .build()?;
//! # Ok(())
//! # }
//! ```

mod certificate;
mod client;
mod error;
mod files;
mod names;
mod peer_name;
mod pem;
mod receive;
mod reload;
mod server;
mod server_builder;
mod stream;

use std::sync::Arc;

pub use client::{ClientTls, ClientTlsBuilder};
pub use error::{Origin, TlsError};
pub use rustls;
pub use server::{ClientCertificates, ServerTls};
pub use server_builder::ServerTlsBuilder;
pub use stream::TlsStream;

/// The protocol's name in the handshake (ALPN).
pub const ALPN: &[u8] = b"redial/1";

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeDoctests;
