//! Where the workers of a run put down each call that has ended: as a line, if there is a file for
//! lines, and in the sums.

use std::{
    fs::File,
    io::{self, Write},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{
    record::CallRecord,
    summary::{Summary, Tally},
};

/// What has been put down so far.
pub(super) struct Books {
    tally: Mutex<Tally>,
    events: Option<Mutex<Events>>,
}

/// A file of lines, and the first error that writing to it gave: nothing is written after it, so
/// that no line is missing in the middle.
struct Events {
    file: File,
    written: io::Result<()>,
}

impl Books {
    pub(super) fn new(events: Option<File>) -> Self {
        let events = events.map(|file| {
            Mutex::new(Events {
                file,
                written: Ok(()),
            })
        });
        Self {
            tally: Mutex::new(Tally::new()),
            events,
        }
    }

    /// Whether the attempts of a call are wanted.
    pub(super) fn has_events(&self) -> bool {
        self.events.is_some()
    }

    /// Puts down a call, of which the value is known that one effect gives, or is not.
    pub(super) fn enter(&self, record: CallRecord, expected: Option<i64>) {
        if let Some(events) = &self.events {
            let mut line = serde_json::to_vec(&record).expect("plain members are always JSON");
            line.push(b'\n');
            let mut events = lock(events);
            if events.written.is_ok() {
                // One write for each, so that they are there even if this program is killed.
                events.written = events.file.write_all(&line);
            }
        }
        lock(&self.tally).count(record, expected);
    }

    /// The summary, and what became of the lines.
    pub(super) fn close(&self, elapsed: Duration) -> (Summary, io::Result<()>) {
        let written = self.events.as_ref().map_or(Ok(()), |events| {
            std::mem::replace(&mut lock(events).written, Ok(()))
        });
        (lock(&self.tally).sum_up(elapsed), written)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
