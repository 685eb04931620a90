//! An observer that writes what happens to each attempt to a file, as lines of JSON.

use std::{
    fs::File,
    io::{self, LineWriter, Write},
    path::Path,
    sync::{Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use redial_server::{Event, EventKind, Observer};
use serde::Serialize;

/// Writes each event of a server as one line.
#[derive(Debug)]
pub struct EventLog(Mutex<LineWriter<File>>);

#[derive(Serialize)]
struct Line<'a> {
    t_us: u64,
    event: &'static str,
    id: Option<String>,
    attempt: u32,
    method: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<i32>,
}

impl EventLog {
    /// Creates the file, or empties it.
    ///
    /// # Errors
    ///
    /// The system's, if the file cannot be created.
    pub fn create(path: &Path) -> io::Result<Self> {
        Ok(Self(Mutex::new(LineWriter::new(File::create(path)?))))
    }
}

impl Observer for EventLog {
    fn wants(&self, kind: EventKind) -> bool {
        kind.is_of_attempt()
    }

    fn observe(&self, event: &Event<'_>) {
        let line = Line {
            t_us: unix_us(),
            event: name(event.kind),
            id: event.id.map(text_of),
            attempt: event.attempt,
            method: event.method,
            code: match event.kind {
                EventKind::Refused(code) => Some(code.into()),
                _ => None,
            },
        };
        let mut text = serde_json::to_vec(&line).expect("plain members are always JSON");
        text.push(b'\n');
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A full disk must not stop the service: the log just ends.
        let _: io::Result<()> = file.write_all(&text);
    }
}

/// Microseconds of Unix time, so that the logs of two processes can be compared.
#[expect(clippy::disallowed_methods, reason = "a program reads the clock")]
#[must_use]
pub fn unix_us() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// An id without its quotes, if it is a string.
fn text_of(raw: &str) -> String {
    serde_json::from_str(raw).unwrap_or_else(|_| raw.to_owned())
}

fn name(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Accepted => "accepted",
        EventKind::Started => "started",
        EventKind::Joined => "joined",
        EventKind::Replayed => "replayed",
        EventKind::Finished => "finished",
        EventKind::TimedOut => "timed_out",
        EventKind::Refused(_) => "refused",
        EventKind::Replied => "replied",
        EventKind::RequestDropped => "request_dropped",
        EventKind::ReplyDropped => "reply_dropped",
        EventKind::Duplicated => "duplicated",
        EventKind::Cut => "cut",
        _ => "other",
    }
}
