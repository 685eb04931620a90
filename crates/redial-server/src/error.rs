//! What can be wrong with a server before it serves, and with the address it listens on.

use std::{fmt, io, net::SocketAddr, time::Duration};

use redial_protocol::{Address, AddressError};
use thiserror::Error;

use crate::{exposure::Exposure, store::StoreError};

/// Why a server can't be built. The program is to blame.
#[derive(Error)]
#[non_exhaustive]
pub enum BuildError {
    /// Two handlers for one name.
    #[error("the method \"{0}\" has two handlers; expected one")]
    DuplicateMethod(String),
    /// An empty name, or one that belongs to the protocol.
    #[error(
        "the method name \"{0}\" is empty or reserved; expected one that does not begin with \"rpc.\""
    )]
    ReservedMethod(String),
    /// A limit that would let nothing through, or that can't be kept.
    #[error("{name} is {found}; expected {expected}")]
    Limit {
        /// The field of [`Config`](crate::Config).
        name: &'static str,
        /// Its value.
        found: String,
        /// What it may be.
        expected: &'static str,
    },
    /// A method runs in a transaction, and there is no store, or one of another type.
    #[error(
        "the method \"{0}\" runs in a transaction of a store that the server doesn't have; \
         expected `store(...)` with the store that it was registered for"
    )]
    NoStore(String),
    /// The store would forget plain ids before the server may.
    #[error(
        "the store keeps the records of plain ids for {store:?}, and the server's `ttl` is {server:?}; expected \
         the store's `ttl` to be as long, at least"
    )]
    StoreTtl {
        /// For how long the store keeps them.
        store: Duration,
        /// [`Config::ttl`](crate::Config::ttl).
        server: Duration,
    },
    /// What is marked as resumable is no mutation with a handler of its own.
    #[error(
        "\"{0}\" can't be resumable; expected the name of a mutation that was registered before"
    )]
    NotResumable(String),
    /// Limits that a method can't have.
    #[error("the limits of \"{method}\": {problem}")]
    MethodLimits {
        /// The method's name.
        method: String,
        /// What is wrong with them, and what was expected.
        problem: &'static str,
    },
    /// A layer that can't be where it was put.
    #[error("a layer around \"{method}\": {problem}")]
    Layer {
        /// The method's name.
        method: String,
        /// What is wrong, and what was expected.
        problem: &'static str,
    },
    /// A method is described that there is not, or not so.
    #[error("the description of \"{method}\": {problem}")]
    Description {
        /// The method's name.
        method: String,
        /// What is wrong, and what was expected.
        problem: &'static str,
    },
    /// The store can't be read.
    #[error("the store can't be recovered: {0}")]
    Store(#[from] StoreError),
    /// The system has no random numbers, without which the ids of sessions could be guessed.
    #[error("no random numbers from the system: {0}")]
    NoRandomness(String),
}

/// As its sentence, which is what a `main` that returns it prints.
impl fmt::Debug for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a server does not serve. The environment is to blame.
#[derive(Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address is neither `host:port` nor a Unix socket's.
    #[error("can't listen: {0}")]
    Address(#[from] AddressError),
    /// The system refused the address.
    #[error("can't listen on {address}: {reason}")]
    Bind {
        /// The address as it was given.
        address: Address,
        /// What the system said.
        reason: io::Error,
    },
    /// The listener can't say where it listens.
    #[error("the listener has no address: {0}")]
    Listener(io::Error),
    /// Other machines could reach the server without TLS or without showing who they are, and
    /// [`Config::insecure`](crate::Config::insecure) is not set.
    #[error("{address} can be reached from other machines, {exposure}")]
    NotLoopback {
        /// Where it would listen.
        address: SocketAddr,
        /// What there is of what is expected.
        exposure: Exposure,
    },
}

/// As its sentence, which is what a `main` that returns it prints.
impl fmt::Debug for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
