//! One server after another at one address, each with a ledger of its own, or all with one store.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use serde::Serialize;

use super::{
    effects::Effects,
    stored::{self, IncKind},
};
use crate::harness::{
    clock,
    endpoint::Endpoint,
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
    pub(crate) address: Endpoint,
    programs: &'a Programs,
    /// What the path of each ledger begins with.
    ledger: PathBuf,
    ledgers: Vec<PathBuf>,
    /// What `inc` is, if all lives have one store. Then they have one ledger, too, or none.
    store: Option<IncKind>,
    lives: usize,
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
            address: programs::lasting_address()?.into(),
            programs,
            ledger: folder.join(name),
            ledgers: Vec::new(),
            store: None,
            lives: 0,
            outages: Vec::new(),
        })
    }

    /// Has all lives listen here.
    pub(crate) fn at(self, address: Endpoint) -> Self {
        Self { address, ..self }
    }

    /// Has all lives keep their calls in one store, `folder/NAME.db`, which must not exist yet.
    pub(crate) fn with_store(self, store: Option<IncKind>) -> Self {
        Self { store, ..self }
    }

    /// Starts a server with these flags, and an empty ledger if it has no store.
    pub(crate) fn start(&mut self, flags: &[String]) -> Result<Server<Endpoint>> {
        let flags = self.next_life(flags)?;
        self.programs
            .server_at(&self.address, &flags)
            .with_context(|| format!("life {} of the server", self.lives))
    }

    /// Starts a server and kills it so long after, wherever it is by then: as like as not it has the
    /// store half open.
    pub(crate) fn start_and_kill(&mut self, flags: &[String], after: Duration) -> Result<()> {
        let flags = self.next_life(flags)?;
        self.programs.kill_young(&self.address, &flags, after)
    }

    /// These flags, with those of the files of one more life.
    fn next_life(&mut self, flags: &[String]) -> Result<Vec<String>> {
        self.lives += 1;
        let mut flags = flags.to_vec();
        if let Some(kind) = self.store {
            let store = self.store_file().display().to_string();
            flags.extend(["--store", &store, "--inc-as", kind.name()].map(str::to_owned));
        }
        if self.store == Some(IncKind::Transaction) {
            flags.push("--keep-effects".to_owned());
        } else {
            let ledger = self.next_ledger()?.display().to_string();
            flags.extend(["--ledger".to_owned(), ledger]);
        }
        Ok(flags)
    }

    fn store_file(&self) -> PathBuf {
        self.ledger.with_extension("db")
    }

    /// The ledger of one more life: the same for all that have one store, since it stands for a service
    /// outside that outlives them.
    fn next_ledger(&mut self) -> Result<PathBuf> {
        let last = self.ledgers.last().filter(|_| self.store.is_some());
        if let Some(path) = last {
            return Ok(path.clone());
        }
        let path = PathBuf::from(format!("{}-{}.jsonl", self.ledger.display(), self.lives));
        // Made here, so that it exists even if the server is killed before its first effect, and
        // emptied, since a server would go on with what it finds.
        File::create(&path).with_context(|| format!("can't make {}", path.display()))?;
        self.ledgers.push(path.clone());
        Ok(path)
    }

    /// Ends a life with `end`, and begins the next one, with these flags, after so long. Before it there is
    /// one that ends `young`, if that is how old it gets.
    pub(crate) fn restart(
        &mut self,
        end: impl FnOnce() -> Result<()>,
        young: Option<Duration>,
        away: Duration,
        flags: &[String],
    ) -> Result<Server<Endpoint>> {
        let from_us = clock::unix_us();
        end()?;
        thread::sleep(away);
        if let Some(age) = young {
            self.start_and_kill(flags, age)?;
        }
        let server = self.start(flags)?;
        let to_us = clock::unix_us();
        self.outages.push(Outage { from_us, to_us });
        Ok(server)
    }

    /// How many were killed while they started: all but the first, and but one for each outage.
    pub(crate) fn killed_young(&self) -> usize {
        self.lives - 1 - self.outages.len()
    }

    /// Reads the store or all ledgers, once the last life has ended.
    pub(crate) fn finish(self) -> Result<Remains> {
        let mut effects = if self.store == Some(IncKind::Transaction) {
            stored::effects(&self.store_file())?
        } else {
            Effects::default()
        };
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
