//! Whether a server may be reached from other machines.

use std::{fmt, net::SocketAddr};

use crate::error::ServeError;

/// What stands between a server and other machines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exposure {
    /// Whether what is said is encrypted.
    pub has_tls: bool,
    /// Whether each client has to show who it is: by a certificate or by a token.
    pub authenticates: bool,
}

impl Exposure {
    pub(crate) fn check(self, address: SocketAddr) -> Result<(), ServeError> {
        if self.has_tls && self.authenticates {
            return Ok(());
        }
        Err(ServeError::NotLoopback {
            address,
            exposure: self,
        })
    }
}

/// What is missing, and what to give.
impl fmt::Display for Exposure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.has_tls, self.authenticates) {
            (false, false) => {
                "without TLS and without authentication; expected both (`serve_tls`, and client \
                 certificates or `authenticate`)"
            }
            (false, true) => "without TLS, so that tokens can be read; expected `serve_tls`",
            (true, false) => {
                "by anyone who connects; expected client certificates or `authenticate`"
            }
            (true, true) => "with TLS and authentication",
        })?;
        f.write_str(", a loopback address, a Unix socket, or `insecure` in the configuration")
    }
}
