//! One server after another at one address, each with a ledger of its own.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use serde::Serialize;

use super::check::Effects;
use crate::harness::{
    clock,
    programs::{self, Programs, Server},
};

/// When a server was stopped, and when its successor listened, in microseconds of Unix time.
#[derive(Clone, Copy, Serialize)]
pub(crate) struct Outage {
    pub(crate) from_us: u64,
    pub(crate) to_us: u64,
}

/// The lives of a server so far.
pub(crate) struct ServerLives<'a> {
    pub(crate) address: SocketAddr,
    programs: &'a Programs,
    /// What the path of each ledger begins with.
    ledger: PathBuf,
    ledgers: Vec<PathBuf>,
    outages: Vec<Outage>,
}

/// What all lives left behind.
pub(crate) struct Remains {
    pub(crate) outages: Vec<Outage>,
    pub(crate) effects: Effects,
}

impl<'a> ServerLives<'a> {
    /// Chooses an address. The ledgers will be `folder/NAME-1.jsonl` and so on.
    pub(crate) fn new(programs: &'a Programs, folder: &Path, name: &str) -> Result<Self> {
        Ok(Self {
            address: programs::lasting_address()?,
            programs,
            ledger: folder.join(name),
            ledgers: Vec::new(),
            outages: Vec::new(),
        })
    }

    /// Starts a server with these flags and an empty ledger.
    pub(crate) fn start(&mut self, flags: &[String]) -> Result<Server> {
        let life = self.ledgers.len() + 1;
        let path = PathBuf::from(format!("{}-{life}.jsonl", self.ledger.display()));
        // Made here, so that it exists even if the server is killed before its first effect, and
        // emptied, since a server would go on with what it finds.
        File::create(&path).with_context(|| format!("can't make {}", path.display()))?;
        let mut flags = flags.to_vec();
        flags.extend(["--ledger".to_owned(), path.display().to_string()]);
        self.ledgers.push(path);
        self.programs
            .server_at(self.address, &flags)
            .with_context(|| format!("life {life} of the server"))
    }

    /// Ends a life with `end`, and begins the next one, with these flags, after so long.
    pub(crate) fn restart(
        &mut self,
        end: impl FnOnce() -> Result<()>,
        away: Duration,
        flags: &[String],
    ) -> Result<Server> {
        let from_us = clock::unix_us();
        end()?;
        thread::sleep(away);
        let server = self.start(flags)?;
        let to_us = clock::unix_us();
        self.outages.push(Outage { from_us, to_us });
        Ok(server)
    }

    /// Reads all ledgers, once the last life has ended.
    pub(crate) fn finish(self) -> Result<Remains> {
        let mut effects = Effects::default();
        for (index, ledger) in self.ledgers.iter().enumerate() {
            let text = fs::read_to_string(ledger)
                .with_context(|| format!("can't read {}", ledger.display()))?;
            let added = effects.add(index + 1, &text);
            added.with_context(|| ledger.display().to_string())?;
        }
        Ok(Remains {
            outages: self.outages,
            effects,
        })
    }
}
