//! The clients of a run, and how many of their calls have ended.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::plan::RestartPlan;
use crate::{
    crash::{
        check::{ClientEnd, History, Promise},
        excuse::Excuse,
        stored::IncKind,
    },
    harness::{
        clock::Deadline,
        endpoint::Endpoint,
        events,
        programs::{Client, Programs},
    },
};

/// All clients.
pub(super) struct Clients(Vec<RunningClient>);

/// A client that writes a line for each call that has ended, and how many lines there are.
struct RunningClient {
    client: Client,
    prefix: String,
    path: PathBuf,
    file: File,
    ended: u64,
}

impl Clients {
    pub(super) fn start(
        programs: &Programs,
        plan: &RestartPlan,
        folder: &Path,
        server: &Endpoint,
    ) -> Result<Self> {
        let clients = (0..plan.clients).map(|number| {
            let prefix = format!("client{number}");
            let path = folder.join(format!("{}-{prefix}.jsonl", plan.name));
            // Made here, so that there is something to read from the beginning on.
            File::create(&path).with_context(|| format!("can't make {}", path.display()))?;
            let file = File::open(&path)?;
            let mut flags = plan.client.clone();
            flags.extend(["--calls".to_owned(), plan.calls.to_string()]);
            Ok(RunningClient {
                client: programs.start_recorded_client(flags, &prefix, server, &path)?,
                prefix,
                path,
                file,
                ended: 0,
            })
        });
        clients.collect::<Result<_>>().map(Self)
    }

    /// How many calls have ended by now.
    pub(super) fn count_ended_calls(&mut self) -> Result<u64> {
        let mut news = Vec::new();
        for client in &mut self.0 {
            news.clear();
            client.file.read_to_end(&mut news)?;
            client.ended += news.iter().filter(|byte| **byte == b'\n').count() as u64;
        }
        Ok(self.0.iter().map(|client| client.ended).sum())
    }

    /// How many clients have not ended by now.
    pub(super) fn count_running(&mut self) -> Result<usize> {
        let mut running = 0;
        for client in &mut self.0 {
            running += usize::from(!client.client.has_ended()?);
        }
        Ok(running)
    }

    /// What each client wrote down, after its end.
    pub(super) fn finish(self, plan: &RestartPlan, deadline: Deadline) -> Result<Vec<History>> {
        let histories = self.0.into_iter().map(|client| {
            let summary = client.client.summary(deadline.left())?;
            plan.ids.check(summary.sessions)?;
            let calls = events::read(&client.path)?;
            let end = ClientEnd::Planned(plan.calls);
            let history = History::new(client.prefix, calls, end, plan.call_limit);
            let excuse = |kind: IncKind| kind.excuse(plan.deadline);
            let excuse = plan.store.map_or(Excuse::Any, excuse);
            Ok(history.under(Promise::of(plan.ids)).excused_by(excuse))
        });
        histories.collect()
    }
}
