//! The journal of a world: every event in order. The oracle judges it, traces are drawn from it,
//! and two runs of one seed are compared by it.

use std::{
    fmt::{self, Write},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::Deserialize;
use tokio::time::Instant;

use crate::clock;

/// An event and its time, counted from the beginning of the world.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The time of the event.
    pub at: Duration,
    /// The event.
    pub event: Event,
}

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// In the world: a crash, a cut, a released copy.
    Remark(String),
    /// Something stands still from now on, for this time.
    Froze(Frozen, Duration),
    /// A caller begins to wait.
    Invoked(Invocation),
    /// A caller's wait has ended.
    Ended {
        /// The number of the wait.
        op: u32,
        /// The number of the call.
        tag: u32,
        /// How it ended.
        end: End,
    },
    /// The last byte of a request was written to a connection.
    Sent(Arc<Frame>),
    /// The last byte of a client's request was written to a connection that had swallowed some of it.
    Swallowed(Arc<Frame>),
    /// The last byte of a reply was written to a connection.
    Answered(Arc<Frame>),
    /// The last byte of a notification of the server's was written to a connection.
    Notified(Arc<Frame>),
    /// One of several servers starts.
    Started {
        /// The number of the server.
        server: u32,
        /// Its life, counted over all servers.
        life: u32,
    },
    /// One of several servers dies, or begins to shut down.
    LifeEnds {
        /// Its life.
        life: u32,
    },
    /// One of several servers takes a connection.
    Accepted {
        /// The number of the connection.
        wire: u32,
        /// The address that it was made to, if there are several.
        address: Option<u32>,
        /// The life of the server.
        life: u32,
    },
    /// Where clients may get from now on.
    Reachable {
        /// The addresses that they hear of.
        listed: Vec<u32>,
        /// Those that lead to a server that lives, each with its table: the number of that life, or 0 where all
        /// servers share one.
        tables: Vec<(u32, u32)>,
    },
    /// A connection has closed, at one end at least: from here on no reply is due on it.
    Closed {
        /// The number of the connection.
        wire: u32,
    },
    /// What the server reports about an attempt.
    Server {
        /// The life of the server, from 1.
        life: u32,
        /// The event, as the server names it.
        what: String,
        /// The call's id.
        id: Option<String>,
        /// The number of the attempt.
        attempt: u32,
    },
    /// A handler begins.
    Began {
        /// The number of the call.
        tag: u32,
        /// The life of the server.
        life: u32,
    },
    /// A counter has changed.
    Effect {
        /// The number of the call.
        tag: u32,
        /// The life of the server.
        life: u32,
        /// The change.
        change: Change,
    },
    /// A handler has ended.
    Finished {
        /// The number of the call.
        tag: u32,
        /// The life of the server.
        life: u32,
    },
}

/// What stands still while time goes on and bytes go on arriving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frozen {
    /// The server's process.
    Server,
    /// The process of the client with this number.
    Client(u32),
    /// The machine that all of them run on.
    All,
}

/// A change of a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The counter.
    pub key: u32,
    /// By how much.
    pub delta: i64,
    /// Its new value.
    pub value: i64,
}

/// How the remark ends that a server shuts down.
pub(crate) const SHUT_DOWN: &str = " is shut down";

/// The beginning of a caller's wait.
#[derive(Clone, Copy, Debug)]
pub struct Invocation {
    /// The number of the wait.
    pub op: u32,
    /// The number of the call.
    pub tag: u32,
    /// The number of the client.
    pub client: u32,
    /// How the caller asks.
    pub way: Way,
    /// The method of the call.
    pub method: Method,
    /// The counter it changes or reads.
    pub key: u32,
    /// How long the wait may last.
    pub deadline: Duration,
    /// How long the client tries if it gets no answer; `None` if not time alone limits it.
    pub patience: Option<Duration>,
    /// Whether the client wants sessions.
    pub sessions: bool,
    /// For how long a call with a plain id may be sent again.
    pub resend_window: Duration,
    /// Whether its token is saved before it is sent, so that it has one id for good.
    pub is_saved: bool,
}

/// How an outcome is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By calling.
    Call,
    /// By sending the same call again, from its token.
    Resume,
    /// By asking what happened to it.
    Resolve,
}

/// The methods of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Adds to a counter, at once or after a while, and gives its value.
    Inc,
    /// Gives a counter's value.
    Get,
    /// Adds to a counter and fails.
    FailAfter,
    /// Fails without effect.
    FailBefore,
    /// Adds to a counter and passes on an error that reads like a server's own refusal.
    PassOn,
    /// Adds to a counter and panics.
    Panic,
    /// Aborts the first execution without effect; another one would add to a counter.
    NoEffect,
}

/// How a caller's wait ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// A value.
    Ok(i64),
    /// The handler's error: its code, and its data as JSON.
    Failed(i32, Option<String>),
    /// Certain that nothing was executed.
    NotExecuted(String),
    /// Certain that nothing was executed, and never will be.
    Never,
    /// Whether anything was executed is unknown.
    Unknown(String),
    /// The caller dropped the call.
    Dropped,
    /// The caller's process has died.
    Crashed,
}

/// A message as it went over a connection, read without the help of either end.
#[derive(Clone, Debug, Default)]
pub struct Frame {
    /// The number of the connection.
    pub wire: u32,
    /// Whether the connection is the middlebox's, which carries copies.
    pub is_copy: bool,
    /// When its last byte arrives, unless the connection breaks before.
    pub arrives: Duration,
    /// The body.
    pub text: String,
    /// The id, as it was written.
    pub id: Option<String>,
    /// Of a request: the method.
    pub method: Option<String>,
    /// Of a request: the number of the call.
    pub tag: Option<u32>,
    /// Of a request: the number of the attempt.
    pub attempt: u32,
    /// Of a request: what it acknowledges.
    pub ack: Option<Ack>,
    /// Of `rpc.resolve` and `rpc.cancel`: the id of the call in question.
    pub about: Option<String>,
    /// Of `rpc.goaway`: whether it is the last that the server says.
    pub is_last: bool,
    /// Of a reply: `result` or `error` with its value, byte for byte.
    pub outcome: Option<String>,
    /// Of a reply: the code of the error.
    pub code: Option<i32>,
    /// Of a reply: what the error says about execution. A handler's always says yes, whatever it holds.
    pub executed: Option<Executed>,
    /// Of a reply: the value of the counter.
    pub value: Option<i64>,
}

/// Whether a call was executed, as an error says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Executed {
    /// It was, and failed.
    Yes,
    /// It was not.
    No,
    /// The server can't know.
    Unknown,
}

/// The calls that a client acknowledges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ack {
    /// The session, in 15 hex digits.
    pub session: String,
    /// Every call below this number.
    pub below: u64,
    /// And every call from the first number of a pair up to, but not including, the second.
    pub above: Vec<(u64, u64)>,
}

/// The session and the number in an id, as it was written; PROTOCOL.md says where they stand in a
/// UUID of version 8.
pub(crate) fn numbered(id: &str) -> Option<(String, u64)> {
    let hex: String = id.chars().filter(char::is_ascii_hexdigit).collect();
    if id.len() != 38 || hex.len() != 32 || hex.as_bytes()[12] != b'8' {
        return None;
    }
    let number = u64::from_str_radix(&hex[16..], 16).ok()?;
    let session = format!("{}{}", &hex[..12], &hex[13..16]);
    Some((session, number & ((1 << 62) - 1)))
}

/// The journal being written. All clones share it.
#[derive(Clone)]
pub(crate) struct Journal {
    start: Instant,
    entries: Arc<Mutex<Vec<Entry>>>,
}

impl Journal {
    pub(crate) fn new() -> Self {
        Self {
            start: clock::now(),
            entries: Arc::default(),
        }
    }

    pub(crate) fn note(&self, event: Event) {
        let at = self.elapsed();
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.push(Entry { at, event });
    }

    pub(crate) fn remark(&self, text: impl Into<String>) {
        self.note(Event::Remark(text.into()));
    }

    /// The age of the world.
    pub(crate) fn elapsed(&self) -> Duration {
        clock::now() - self.start
    }

    pub(crate) fn take(&self) -> Vec<Entry> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut entries)
    }
}

/// The whole journal as text, one line for each entry.
#[must_use]
pub fn log(entries: &[Entry]) -> String {
    let mut text = String::new();
    for entry in entries {
        writeln!(text, "{entry}").expect("a string takes everything");
    }
    text
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>10.3} ms  ", self.at.as_secs_f64() * 1e3)?;
        match &self.event {
            Event::Remark(text) => write!(f, "world    {text}"),
            Event::Froze(what, time) => write!(f, "world    {what} stands still for {time:?}"),
            Event::Invoked(what) => what.fmt(f),
            Event::Ended { op, tag, end } => write!(f, "caller   call {tag}: {end} (wait {op})"),
            Event::Sent(frame) => write!(f, "wire {:<4}-> {}", frame.wire, frame.text),
            Event::Swallowed(frame) => {
                write!(f, "wire {:<4}-> (swallowed) {}", frame.wire, frame.text)
            }
            Event::Answered(frame) | Event::Notified(frame) => {
                write!(f, "wire {:<4}<- {}", frame.wire, frame.text)
            }
            Event::Started { server, life } => write!(f, "server   {server} has life {life}"),
            Event::LifeEnds { life } => write!(f, "server   of life {life} ends"),
            Event::Accepted {
                wire,
                address: Some(address),
                life,
            } => write!(
                f,
                "wire {wire:<4}   to address {address} is with life {life}"
            ),
            Event::Accepted { wire, life, .. } => write!(f, "wire {wire:<4}   is with life {life}"),
            Event::Reachable { listed, tables } => {
                write!(
                    f,
                    "world    listed {listed:?}, reachable (address, table): {tables:?}"
                )
            }
            Event::Closed { wire } => write!(f, "wire {wire:<4}   is closed"),
            Event::Server {
                life,
                what,
                id,
                attempt,
            } => {
                let id = id.as_deref().unwrap_or("no id");
                write!(f, "server {life} {what} attempt {attempt} of {id}")
            }
            Event::Began { tag, life } => write!(f, "handler  of call {tag} begins (life {life})"),
            Event::Effect { tag, life, change } => {
                let Change { key, delta, value } = change;
                write!(
                    f,
                    "EFFECT   of call {tag}: k{key} + {delta} = {value} (life {life})"
                )
            }
            Event::Finished { tag, life } => {
                write!(f, "handler  of call {tag} ends (life {life})")
            }
        }
    }
}

impl fmt::Display for Frozen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server => f.write_str("the server"),
            Self::Client(number) => write!(f, "client {number}"),
            Self::All => f.write_str("the machine"),
        }
    }
}

impl fmt::Display for Invocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            op,
            tag,
            client,
            way,
            method,
            key,
            deadline,
            ..
        } = self;
        write!(
            f,
            "caller   call {tag}: client {client} {way:?} {method:?} k{key}, \
             within {deadline:?} (wait {op})"
        )
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok(value) => write!(f, "OK {value}"),
            Self::Failed(code, None) => write!(f, "FAILED {code}"),
            Self::Failed(code, Some(data)) => write!(f, "FAILED {code} {data}"),
            Self::NotExecuted(why) => write!(f, "NOT EXECUTED: {why}"),
            Self::Never => write!(f, "NEVER"),
            Self::Unknown(why) => write!(f, "UNKNOWN: {why}"),
            Self::Dropped => write!(f, "dropped by its caller"),
            Self::Crashed => write!(f, "its caller crashed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_version_8_name_a_session_and_a_number() {
        let of_a_session = numbered(r#""12345678-9abc-8def-8000-000000000007""#);
        assert_eq!(of_a_session, Some(("123456789abcdef".to_owned(), 7)));
        assert_eq!(numbered(r#""12345678-9abc-4def-8000-000000000007""#), None);
        assert_eq!(numbered("7"), None);
    }
}
