//! One server after another at one address, killed in the middle of the load of several clients.

use std::{
    fs::{self, File},
    io::Read,
    net::SocketAddr,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use indicatif::ProgressBar;

use super::{
    check::{self, Effects},
    plan::Plan,
};
use crate::{
    clock::{self, Deadline},
    events::{self, Call},
    programs::{self, Client, Programs, Server},
};

/// How often to look whether it is time for the next kill.
const LOOK: Duration = Duration::from_millis(2);
/// For so long a server stays away, by turns: sometimes its clients hardly notice, sometimes all
/// of them lose their connections and wait.
const AWAY_MS: [u64; 4] = [0, 20, 200, 60];

/// When a server was killed, and when its successor listened, in microseconds of Unix time.
#[derive(Clone, Copy, serde::Serialize)]
pub(crate) struct Outage {
    pub(crate) from_us: u64,
    pub(crate) to_us: u64,
}

/// What came of it.
pub(crate) struct Driven {
    pub(crate) outages: Vec<Outage>,
    /// The calls of each client, in the order in which they ended.
    pub(crate) calls: Vec<Vec<Call>>,
    pub(crate) effects: Effects,
}

/// The lives of the server so far.
struct Lives<'a> {
    programs: &'a Programs,
    plan: &'a Plan,
    folder: &'a Path,
    address: SocketAddr,
    ledgers: Vec<Ledger>,
}

/// A ledger that is being written: how many effects it has so far.
struct Ledger {
    path: PathBuf,
    file: File,
    effects: u64,
}

/// Runs the plan. Ledgers and event files are left in `folder`.
pub(crate) fn drive(
    programs: &Programs,
    folder: &Path,
    plan: &Plan,
    bar: &ProgressBar,
) -> Result<Driven> {
    let deadline = Deadline::after(plan.limit);
    let mut lives = Lives {
        programs,
        plan,
        folder,
        address: programs::lasting_address()?,
        ledgers: Vec::new(),
    };
    let server = lives.begin()?;
    let files: Vec<_> = (0..plan.clients).map(|n| lives.events(n)).collect();
    let started = files.iter().enumerate();
    let mut clients = started
        .map(|(client, file)| lives.client(client, file))
        .collect::<Result<Vec<_>>>()?;
    let (server, outages) = lives.restart(server, &mut clients, deadline, bar)?;
    lives.reach(u64::MAX, &mut clients, deadline, bar)?;
    for client in clients {
        // It has ended; this is to learn whether it did so as it should.
        let sessions = client.summary(LOOK)?.sessions;
        let is_that = plan.ids.is_that(sessions);
        ensure!(is_that, "a client's session: {sessions:?}");
    }
    server.stop()?;
    Ok(Driven {
        outages,
        calls: files
            .iter()
            .map(|file| events::read(file))
            .collect::<Result<_>>()?,
        effects: lives.effects()?,
    })
}

impl Lives<'_> {
    /// Starts a server with an empty ledger of its own.
    fn begin(&mut self) -> Result<Server> {
        let life = self.ledgers.len() + 1;
        let path = self.file(&format!("ledger-{life}.jsonl"));
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .with_context(|| format!("can't make {}", path.display()))?;
        let mut flags = self.plan.server.clone();
        flags.extend(["--ledger".to_owned(), path.display().to_string()]);
        self.ledgers.push(Ledger {
            path,
            file,
            effects: 0,
        });
        self.programs
            .server_at(self.address, &flags)
            .with_context(|| format!("life {life} of the server"))
    }

    fn client(&self, number: usize, events: &Path) -> Result<Client> {
        let mut flags = self.plan.client.clone();
        let own = [
            ("--calls", self.plan.calls.to_string()),
            ("--key-per-call", check::prefix(number)),
            ("--connect", self.address.to_string()),
            ("--events", events.display().to_string()),
        ];
        for (flag, value) in own {
            flags.extend([flag.to_owned(), value]);
        }
        flags.push("--json".to_owned());
        self.programs.start_client(&flags)
    }

    fn events(&self, client: usize) -> PathBuf {
        self.file(&format!("{}.jsonl", check::prefix(client)))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{}-{name}", self.plan.name))
    }

    /// Kills and restarts as often as planned, spread over the load.
    fn restart(
        &mut self,
        mut server: Server,
        clients: &mut [Client],
        deadline: Deadline,
        bar: &ProgressBar,
    ) -> Result<(Server, Vec<Outage>)> {
        let mut outages = Vec::new();
        for kill in 1..=self.plan.kills {
            let share = self.plan.total() * kill as u64 / (self.plan.kills as u64 + 1);
            if !self.reach(share, clients, deadline, bar)? {
                break;
            }
            server.kill()?;
            let from_us = clock::unix_us();
            thread::sleep(Duration::from_millis(AWAY_MS[kill % AWAY_MS.len()]));
            server = self.begin()?;
            let to_us = clock::unix_us();
            outages.push(Outage { from_us, to_us });
        }
        Ok((server, outages))
    }

    /// Waits until so many effects are there, or until all clients have ended, and says whether
    /// it was the first.
    fn reach(
        &mut self,
        effects: u64,
        clients: &mut [Client],
        deadline: Deadline,
        bar: &ProgressBar,
    ) -> Result<bool> {
        loop {
            let found = self.count()?;
            bar.set_position(found);
            if found >= effects {
                return Ok(true);
            }
            let mut running = 0;
            for client in &mut *clients {
                running += usize::from(!client.has_ended()?);
            }
            if running == 0 {
                return Ok(false);
            }
            ensure!(
                !deadline.has_passed(),
                "{running} clients had not ended within {:?}; {found} effects",
                self.plan.limit
            );
            thread::sleep(LOOK);
        }
    }

    /// How many effects there are by now: those of the lives before are counted for good.
    fn count(&mut self) -> Result<u64> {
        if let Some(ledger) = self.ledgers.last_mut() {
            let mut news = Vec::new();
            ledger.file.read_to_end(&mut news)?;
            ledger.effects += news.iter().filter(|byte| **byte == b'\n').count() as u64;
        }
        Ok(self.ledgers.iter().map(|ledger| ledger.effects).sum())
    }

    fn effects(self) -> Result<Effects> {
        let mut effects = Effects::default();
        for (index, ledger) in self.ledgers.iter().enumerate() {
            effects.read(index + 1, &ledger.path)?;
        }
        Ok(effects)
    }
}

/// An empty folder for the files of a command.
pub(crate) fn empty_folder(folder: PathBuf) -> Result<PathBuf> {
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("can't empty {}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("can't make {}", folder.display()))?;
    Ok(folder)
}
