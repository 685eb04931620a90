//! What can be wrong with a server before it serves, and with the socket it serves on.

use std::{io, net::SocketAddr};

use thiserror::Error;

/// Why a server can't be built. The program is to blame.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BuildError {
    /// Two handlers for one name.
    #[error("the method \"{0}\" has two handlers; expected one")]
    DuplicateMethod(String),
    /// A name that belongs to the protocol, or none at all.
    #[error(
        "the method name \"{0}\" is not free; expected a name that is not empty and does not begin with \"rpc.\""
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
    /// The system has no random numbers, without which the ids of sessions could be guessed.
    #[error("no random numbers from the system: {0}")]
    NoRandomness(String),
}

/// Why a server does not serve, or has stopped. The environment is to blame.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address could not be listened on.
    #[error("can't listen on {address}: {reason}")]
    Bind {
        /// The address as it was given.
        address: String,
        /// What the system said.
        reason: io::Error,
    },
    /// The listener can't say where it listens.
    #[error("the listener has no address: {0}")]
    Listener(io::Error),
    /// Other machines could reach the server, and nobody said that they may.
    #[error(
        "{0} can be reached from other machines, without TLS and without a token; \
         expected a loopback address"
    )]
    NotLoopback(SocketAddr),
}
