//! What happened, in order: the one record that a run leaves. The oracle judges it, stories are
//! told from it, and two runs of one seed are compared by it.

use std::{
    fmt::{self, Write},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::clock;

/// Something that happened, and when, counted from the beginning of the world.
#[derive(Clone, Debug)]
pub struct Entry {
    /// When.
    pub at: Duration,
    /// What.
    pub event: Event,
}

/// What can happen.
#[derive(Clone, Debug)]
pub enum Event {
    /// To the world: a crash, a cut, a copy let through.
    Remark(String),
    /// A caller begins to wait for something.
    Invoked(Invocation),
    /// A caller has been told something, or waits no longer.
    Ended {
        /// Which invocation.
        op: u32,
        /// Which call.
        tag: u32,
        /// What it was told.
        end: End,
    },
    /// The last byte of a request was given to a connection.
    Sent(Arc<Frame>),
    /// The last byte of a reply was given to a connection.
    Answered(Arc<Frame>),
    /// A connection is over, at one end at least: from here on it owes nobody an answer.
    Over {
        /// Which connection.
        wire: u32,
    },
    /// What a server says happened to an attempt.
    Server {
        /// Which life of the server, from 1.
        life: u32,
        /// What, in its words.
        what: String,
        /// The call's id.
        id: Option<String>,
        /// Which attempt.
        attempt: u32,
    },
    /// A handler begins.
    Began {
        /// For which call.
        tag: u32,
        /// In which life of the server.
        life: u32,
    },
    /// A counter has changed.
    Effect {
        /// For which call.
        tag: u32,
        /// In which life of the server.
        life: u32,
        /// What has changed.
        change: Change,
    },
    /// A handler has ended.
    Finished {
        /// For which call.
        tag: u32,
        /// In which life of the server.
        life: u32,
    },
}

/// A change of a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which counter.
    pub key: u32,
    /// By how much.
    pub delta: i64,
    /// What it is now.
    pub value: i64,
}

/// Somebody waits for something.
#[derive(Clone, Copy, Debug)]
pub struct Invocation {
    /// Which invocation.
    pub op: u32,
    /// Which call it is about.
    pub tag: u32,
    /// Who.
    pub client: u32,
    /// In which way.
    pub way: Way,
    /// Of which method the call is.
    pub method: Method,
    /// Which counter it is about.
    pub key: u32,
    /// After which time it is to be told something.
    pub deadline: Duration,
    /// How long the call may be sent again if its id is a plain one.
    pub resend_window: Duration,
}

/// How an outcome is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By calling.
    Call,
    /// By sending the same call again, from its token.
    Resume,
    /// By asking what became of it.
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
    /// Adds to a counter and panics.
    Panic,
    /// Takes the first execution back, without effect; another one would add to a counter.
    NoEffect,
}

/// How a caller's wait ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// With a value.
    Ok(i64),
    /// With the handler's error.
    Failed(i32),
    /// Certainly nothing was executed.
    NotExecuted(String),
    /// Certainly nothing was executed, nor will be.
    Never,
    /// Nobody knows.
    Unknown(String),
    /// The caller no longer wants to know.
    Dropped,
    /// The caller's process has died.
    Crashed,
}

/// A message as it went over a connection, read without the help of either end.
#[derive(Clone, Debug, Default)]
pub struct Frame {
    /// On which connection.
    pub wire: u32,
    /// It is one of the middlebox's own, which carry copies.
    pub is_copy: bool,
    /// When its last byte arrives, unless the connection breaks before.
    pub arrives: Duration,
    /// What it says.
    pub text: String,
    /// Its id, as it was written.
    pub id: Option<String>,
    /// The method, of a request.
    pub method: Option<String>,
    /// Which call it is an attempt of, of a request.
    pub tag: Option<u32>,
    /// Which attempt, of a request.
    pub attempt: u32,
    /// What it acknowledges, of a request.
    pub ack: Option<Ack>,
    /// The call that it is a question about, by that call's id, of a request.
    pub about: Option<String>,
    /// `result` or `error` with its value, byte for byte, of a reply.
    pub outcome: Option<String>,
    /// The error's code, of a reply.
    pub code: Option<i32>,
    /// The value of the counter, of a reply.
    pub value: Option<i64>,
}

/// What a client says it is done with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ack {
    /// Of which session, in 15 hex digits.
    pub session: String,
    /// Every call below this number.
    pub below: u64,
    /// And those from the first number of a pair to before the second.
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

/// The record in the making. All clones are the same one.
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

    /// How old the world is.
    pub(crate) fn elapsed(&self) -> Duration {
        clock::now() - self.start
    }

    pub(crate) fn take(&self) -> Vec<Entry> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut entries)
    }
}

/// The whole record as text, one line for each entry.
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
            Event::Invoked(what) => what.fmt(f),
            Event::Ended { op, tag, end } => write!(f, "caller   call {tag}: {end} (wait {op})"),
            Event::Sent(frame) => write!(f, "wire {:<4}-> {}", frame.wire, frame.text),
            Event::Answered(frame) => write!(f, "wire {:<4}<- {}", frame.wire, frame.text),
            Event::Over { wire } => write!(f, "wire {wire:<4}   is over"),
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
            Self::Failed(code) => write!(f, "FAILED {code}"),
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
