//! Requests of sessions: to open one, to call in it, and to ask about its calls.

use std::time::Duration;

use redial_protocol::{SessionCall, SessionId};
use redial_server::{Config, Server};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};

use super::{Peer, pipe, until};

pub const LEASE: Duration = Duration::from_secs(60);

/// Opens a session.
pub const HELLO: &str = r#"{"jsonrpc":"2.0","id":"h","method":"rpc.hello"}"#;

pub const PING: &str = r#"{"jsonrpc":"2.0","id":"p","method":"rpc.ping"}"#;

pub fn config() -> Config {
    Config {
        session_lease: LEASE,
        ..Config::default()
    }
}

/// One running call at a time: the others wait for their turn.
pub fn one_at_a_time() -> Config {
    Config {
        max_running: 1,
        ..config()
    }
}

/// A connection, and the session that was opened on it.
pub async fn client(server: &Server) -> (Peer<DuplexStream>, SessionId) {
    let mut peer = pipe(server);
    let session = open(&mut peer).await;
    (peer, session)
}

pub async fn open<S: AsyncRead + AsyncWrite + Unpin>(peer: &mut Peer<S>) -> SessionId {
    let hello = peer.call_json(HELLO).await;
    let session = hello["result"]["session"].as_str();
    let session = session.unwrap_or_else(|| panic!("no session: {hello}"));
    session.parse().unwrap()
}

pub fn attach(session: SessionId) -> String {
    json!({"jsonrpc": "2.0", "id": "h", "method": "rpc.hello", "params": {"session": session}})
        .to_string()
}

pub fn id(session: SessionId, number: u64) -> String {
    SessionCall { session, number }.uuid().to_string()
}

/// A request with a session's id, and what the member says about it.
pub fn request(method: &str, session: SessionId, number: u64, redial: Value) -> String {
    request_with(method, session, number, (json!({}), redial))
}

pub fn request_with(
    method: &str,
    session: SessionId,
    number: u64,
    (params, redial): (Value, Value),
) -> String {
    let id = id(session, number);
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params, "redial": redial})
        .to_string()
}

pub fn attempt(method: &str, session: SessionId, number: u64, attempt: u32) -> String {
    request(method, session, number, json!({"attempt": attempt}))
}

/// The first attempt of an `inc`.
pub fn inc(session: SessionId, number: u64) -> String {
    attempt("inc", session, number, 1)
}

/// An acknowledgement, as a notification.
pub fn ack(session: SessionId, ack: u64, above: &Value) -> String {
    let params = json!({"session": session, "ack": ack, "above": above});
    json!({"jsonrpc": "2.0", "method": "rpc.ack", "params": params}).to_string()
}

/// The same as a request, whose id is the method.
pub fn ack_request(session: SessionId, ack: u64, above: &Value) -> String {
    let params = json!({"session": session, "ack": ack, "above": above});
    json!({"jsonrpc": "2.0", "id": "rpc.ack", "method": "rpc.ack", "params": params}).to_string()
}

/// An `rpc.resolve` or `rpc.cancel`, whose id is the method.
pub fn ask(method: &str, session: SessionId, number: u64) -> String {
    ask_for(method, &json!(id(session, number)))
}

/// The same for any id.
pub fn ask_for(method: &str, id: &Value) -> String {
    json!({"jsonrpc": "2.0", "id": method, "method": method, "params": {"id": id}}).to_string()
}

/// The reply to the request with an id, among those that came in any order.
pub fn reply_to<'a>(replies: &'a [Value], id: &str) -> &'a Value {
    let reply = replies.iter().find(|reply| reply["id"] == id);
    reply.unwrap_or_else(|| panic!("no reply to {id}: {replies:?}"))
}

/// The server has noticed which connections have ended: so many are left.
pub async fn connections_left(server: &Server, left: usize) {
    until("the connections are gone", || {
        server.stats().connections == left
    })
    .await;
}
