//! Records each finished call: as a line of the events file, if there is one, and in the tally.

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

/// Records calls from many workers.
pub(super) struct Recorder {
    tally: Mutex<Tally>,
    events: Option<Mutex<Events>>,
}

/// The events file, and the first error in writing to it. Nothing is written after an error, so no
/// line is missing in the middle.
struct Events {
    file: File,
    written: io::Result<()>,
}

impl Recorder {
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

    /// Whether the attempts of a call are written anywhere.
    pub(super) fn has_events(&self) -> bool {
        self.events.is_some()
    }

    /// Records a call. `expected` is the value that exactly one effect gives, where it is known.
    pub(super) fn record(&self, record: CallRecord, expected: Option<i64>) {
        if let Some(events) = &self.events {
            let mut line = serde_json::to_vec(&record).expect("plain members are always JSON");
            line.push(b'\n');
            let mut events = lock(events);
            if events.written.is_ok() {
                // One write for each line, so that it outlives this program.
                events.written = events.file.write_all(&line);
            }
        }
        lock(&self.tally).count(record, expected);
    }

    /// Returns the summary, and whether all lines were written.
    pub(super) fn finish(&self, elapsed: Duration) -> (Summary, io::Result<()>) {
        let written = self.events.as_ref().map_or(Ok(()), |events| {
            std::mem::replace(&mut lock(events).written, Ok(()))
        });
        (lock(&self.tally).sum_up(elapsed), written)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
