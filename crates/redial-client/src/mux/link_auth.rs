//! What one connection has shown of who calls, and what the server said to it.

use std::time::Instant;

use redial_protocol::ErrorObject;

/// What one connection has shown.
#[derive(Debug, Default)]
pub(super) struct LinkAuth {
    /// Which token it showed last, if any.
    pub(super) generation: Option<u64>,
    /// The serial number of the `rpc.auth` that carried it, and whether that has no reply yet.
    pub(super) serial: u64,
    pub(super) is_open: bool,
    /// The token is not to be shown again.
    pub(super) is_stale: bool,
    /// Another token was fetched because one was refused, and none was accepted since.
    pub(super) is_second: bool,
    /// The server has replied to a token as this protocol has it, so that its word counts that a caller
    /// has shown none.
    pub(super) is_spoken: bool,
    /// Calls wait until a token is accepted.
    pub(super) is_awaited: bool,
    /// When a token is to be shown again.
    pub(super) renew_at: Option<Instant>,
}

/// What a server replied to a token.
#[derive(Debug)]
pub(crate) enum AuthReply {
    Accepted {
        expires_ms: Option<u64>,
    },
    Error(ErrorObject),
    /// Nothing that this protocol knows.
    Invalid,
}

impl LinkAuth {
    pub(super) fn show(&mut self, generation: u64, serial: u64) {
        (self.generation, self.serial) = (Some(generation), serial);
        (self.is_open, self.is_stale, self.renew_at) = (true, false, None);
    }
}
