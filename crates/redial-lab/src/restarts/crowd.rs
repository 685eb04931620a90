//! The clients of a run, and how many of their calls have ended.

use std::{
    fs::File,
    io::Read,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};

use super::{check, plan::Plan};
use crate::harness::{
    clock::Deadline,
    events::{self, Call},
    programs::{Client, Programs},
};

/// All clients.
pub(super) struct Crowd(Vec<Member>);

/// A client that writes a line for each call that has ended, and how many lines there are.
struct Member {
    client: Client,
    path: PathBuf,
    file: File,
    ended: u64,
}

impl Crowd {
    pub(super) fn start(
        programs: &Programs,
        plan: &Plan,
        folder: &Path,
        address: SocketAddr,
    ) -> Result<Self> {
        let members = (0..plan.clients).map(|number| {
            let prefix = check::prefix(number);
            let path = folder.join(format!("{}-{prefix}.jsonl", plan.name));
            // Made here, so that there is something to read from the beginning on.
            File::create(&path).with_context(|| format!("can't make {}", path.display()))?;
            let file = File::open(&path)?;
            let mut flags = plan.client.clone();
            let own = [
                ("--calls", plan.calls.to_string()),
                ("--key-per-call", prefix),
                ("--connect", address.to_string()),
                ("--events", path.display().to_string()),
            ];
            for (flag, value) in own {
                flags.extend([flag.to_owned(), value]);
            }
            flags.push("--json".to_owned());
            Ok(Member {
                client: programs.start_client(&flags)?,
                path,
                file,
                ended: 0,
            })
        });
        members.collect::<Result<_>>().map(Self)
    }

    /// How many calls have ended by now.
    pub(super) fn ended(&mut self) -> Result<u64> {
        let mut news = Vec::new();
        for member in &mut self.0 {
            news.clear();
            member.file.read_to_end(&mut news)?;
            member.ended += news.iter().filter(|byte| **byte == b'\n').count() as u64;
        }
        Ok(self.0.iter().map(|member| member.ended).sum())
    }

    /// How many clients have not ended by now.
    pub(super) fn running(&mut self) -> Result<usize> {
        let mut running = 0;
        for member in &mut self.0 {
            running += usize::from(!member.client.has_ended()?);
        }
        Ok(running)
    }

    /// What each client wrote down, after its end.
    pub(super) fn finish(self, plan: &Plan, deadline: Deadline) -> Result<Vec<Vec<Call>>> {
        let told = self.0.into_iter().map(|member| {
            let sessions = member.client.summary(deadline.left())?.sessions;
            let is_that = plan.ids.is_that(sessions);
            ensure!(is_that, "a client's session: {sessions:?}");
            events::read(&member.path)
        });
        told.collect()
    }
}
