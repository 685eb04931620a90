//! The protocol's own messages: the client's hellos, pings, acks, cancels and refusals as frames, and
//! what a hello may be answered.

use std::{fmt, ops::RangeInclusive, time::Instant};

use redial_protocol::{
    AuthToken, Dialect, ErrorCode, ErrorObject, FrameError, ReplyMeta, RequestMeta, SessionId,
    encode_error,
    rpc::{self, AuthParams, HelloParams},
    write_frame, write_reply, write_request,
};
use serde::Serialize;
use serde_json::value::to_raw_value;

/// The id of keepalive pings. It is no UUID, so no call's and no key in a table.
pub(crate) const PING_ID: &str = "\"redial-ping\"";

/// How the ids of hellos begin. They are no UUIDs, so no call's and no keys in a table.
pub(crate) const HELLO_ID: &str = "redial-hello-";

/// The serial number in the id of a hello, given as JSON.
pub(crate) fn hello_serial(id: &str) -> Option<u64> {
    let id = id.strip_prefix('"')?.strip_suffix('"')?;
    id.strip_prefix(HELLO_ID)?.parse().ok()
}

/// How the ids of tokens begin.
pub(crate) const AUTH_ID: &str = "redial-auth-";

/// The serial number in the id of a token, given as JSON.
pub(crate) fn auth_serial(id: &str) -> Option<u64> {
    let id = id.strip_prefix('"')?.strip_suffix('"')?;
    id.strip_prefix(AUTH_ID)?.parse().ok()
}

/// The codes that only servers of Redial's protocol answer with: they have sessions.
const RAISED_CODES: RangeInclusive<i32> = -32009..=-32001;

/// A hello that has no reply yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct PendingHello {
    /// The session to attach to; `None` to open one.
    pub(super) attach: Option<SessionId>,
    /// The serial number of the first hello that asked for this.
    pub(super) first_serial: u64,
    pub(super) unanswered: u32,
    pub(super) refusals: u32,
    /// The server has no session for the client now.
    pub(super) is_put_off: bool,
    /// It has no room for one, as it said the last time: others have to go first, or numbers of this client's.
    pub(super) lacks_room: bool,
    /// When to ask again.
    pub(super) again_at: Instant,
}

/// What a server replied to a hello.
#[derive(Debug)]
pub(crate) enum HelloReply {
    /// It has opened the session, or attached the connection to it.
    Session {
        id: SessionId,
        table: Box<str>,
        window: u64,
        max_frame_bytes: u64,
    },
    /// A result that describes no session.
    Invalid,
    /// A reply that is larger than the client takes.
    TooLarge(FrameError),
    /// An error.
    Error(ErrorObject),
}

impl HelloReply {
    /// Whether a server without sessions says this: that it knows no such request, or what no server
    /// with sessions says. One that has them may also refuse a hello, by a code of its own.
    pub(super) fn says_plain(&self) -> bool {
        match self {
            // What can't be read says nothing.
            Self::Session { .. } | Self::TooLarge(_) => false,
            Self::Invalid => true,
            Self::Error(error) => !RAISED_CODES.contains(&i32::from(error.code)),
        }
    }
}

impl fmt::Display for HelloReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session { .. } => write!(f, "the server has another session"),
            Self::Invalid => write!(f, "the server's reply to {} has no session", rpc::HELLO),
            Self::TooLarge(error) => {
                write!(
                    f,
                    "the server's reply to {} is too large: {error}",
                    rpc::HELLO
                )
            }
            Self::Error(error) => write!(f, "the server answered {} with {error}", rpc::HELLO),
        }
    }
}

/// The answer to a request of the server's own, as a frame.
pub(super) fn refusal(
    dialect: Dialect,
    id: &str,
    max_frame_bytes: usize,
) -> Result<Vec<u8>, FrameError> {
    let error = ErrorObject::raised(ErrorCode::METHOD_NOT_FOUND, "a client has no methods");
    let (mut outcome, mut frame) = (Vec::new(), Vec::new());
    encode_error(&mut outcome, &error);
    write_frame(&mut frame, max_frame_bytes, |out| {
        write_reply(out, dialect, id, &outcome, ReplyMeta::default());
    })?;
    Ok(frame)
}

/// How the frames of one connection are written.
#[derive(Clone, Copy, Debug)]
pub(super) struct ControlWriter {
    pub(super) dialect: Dialect,
    pub(super) max_frame_bytes: usize,
}

// A frame fails only at a limit of a few bytes, which has no room for any call either.
impl ControlWriter {
    pub(super) fn hello(self, serial: u64, session: Option<SessionId>, out: &mut Vec<u8>) {
        let id = format!("\"{HELLO_ID}{serial}\"");
        let _ = self.request(
            Some(&id),
            rpc::HELLO,
            &HelloParams {
                session,
                token: None,
            },
            out,
        );
    }

    pub(super) fn auth(self, serial: u64, token: &AuthToken, out: &mut Vec<u8>) {
        let id = format!("\"{AUTH_ID}{serial}\"");
        let token = token.clone();
        let _ = self.request(Some(&id), rpc::AUTH, &AuthParams { token }, out);
    }

    pub(super) fn ping(self, out: &mut Vec<u8>) -> Result<(), FrameError> {
        let meta = RequestMeta::default();
        write_frame(out, self.max_frame_bytes, |out| {
            write_request(
                out,
                self.dialect,
                Some(PING_ID.into()),
                rpc::PING,
                None,
                &meta,
            );
        })
    }

    pub(super) fn notification(
        self,
        method: &str,
        params: &impl Serialize,
        out: &mut Vec<u8>,
    ) -> Result<(), FrameError> {
        self.request(None, method, params, out)
    }

    fn request(
        self,
        id: Option<&str>,
        method: &str,
        params: &impl Serialize,
        out: &mut Vec<u8>,
    ) -> Result<(), FrameError> {
        let params = to_raw_value(params).expect("plain members are always JSON");
        let (params, meta) = (Some(params.get().as_bytes()), RequestMeta::default());
        write_frame(out, self.max_frame_bytes, |out| {
            write_request(out, self.dialect, id.map(Into::into), method, params, &meta);
        })
    }
}
