//! Clients that make calls until they are asked to end, and write each of them down.

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Result, ensure};

use super::{
    check::{ClientEnd, History, Promise},
    excuse::Excuse,
};
use crate::harness::{
    command_line::words,
    events::{self, Call},
    programs::{Client, Programs},
};

/// How long a client may take to end its calls once it is asked to, beside their deadline.
const END: Duration = Duration::from_secs(10);

/// A client that runs, and where it writes its calls down.
pub(crate) struct Running {
    client: Client,
    prefix: String,
    events: PathBuf,
}

impl Running {
    /// Starts number `number` with these flags. Its file is left in `folder`.
    pub(crate) fn start(
        programs: &Programs,
        folder: &Path,
        number: usize,
        flags: &str,
        server: &impl fmt::Display,
    ) -> Result<Self> {
        let prefix = format!("client{number}");
        let events = folder.join(format!("{prefix}.jsonl"));
        let client = programs.start_recorded_client(words(flags), &prefix, server, &events)?;
        Ok(Self {
            client,
            prefix,
            events,
        })
    }

    /// Lets it end its calls. Each of them had so long; none may have taken longer than the limit, which is more,
    /// since a timer ends it, on a busy machine.
    pub(crate) fn stop(self, deadline: Duration, limit: Duration) -> Result<History> {
        let Self {
            client,
            prefix,
            events,
        } = self;
        client.interrupt()?;
        let summary = client.summary(limit + END)?;
        let calls: Vec<Call> = events::read(&events)?;
        ensure!(
            calls.len() as u64 == summary.calls,
            "{prefix} made {} calls and wrote {} down",
            summary.calls,
            calls.len()
        );
        let history = History::new(prefix, calls, ClientEnd::Stopped, limit);
        let history = history.under(Promise::Session);
        Ok(history.excused_by(Excuse::Deadline(deadline)))
    }
}
