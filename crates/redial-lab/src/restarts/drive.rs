//! One server after another at one address, killed in the middle of the load of several clients.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use indicatif::ProgressBar;

use super::{check::Effects, crowd::Crowd, plan::Plan};
use crate::harness::{
    clock::{self, Deadline},
    events::Call,
    programs::{self, Programs, Server},
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
    ledgers: Vec<PathBuf>,
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
    let mut server = lives.begin()?;
    let mut crowd = Crowd::start(programs, plan, folder, lives.address)?;
    let mut outages = Vec::new();
    for kill in 1..=plan.kills {
        let share = plan.total() * kill as u64 / (plan.kills as u64 + 1);
        if !reach(share, &mut crowd, deadline, bar)? {
            break;
        }
        server.kill()?;
        let from_us = clock::unix_us();
        thread::sleep(Duration::from_millis(AWAY_MS[kill % AWAY_MS.len()]));
        server = lives.begin()?;
        let to_us = clock::unix_us();
        outages.push(Outage { from_us, to_us });
    }
    reach(u64::MAX, &mut crowd, deadline, bar)?;
    let calls = crowd.finish(plan, deadline)?;
    server.stop()?;
    Ok(Driven {
        outages,
        calls,
        effects: lives.effects()?,
    })
}

/// Waits until so many calls have ended, or until all clients have, and says whether somebody is
/// still at it.
fn reach(calls: u64, crowd: &mut Crowd, deadline: Deadline, bar: &ProgressBar) -> Result<bool> {
    loop {
        let running = crowd.running()?;
        let ended = crowd.ended()?;
        bar.set_position(ended);
        if running == 0 || ended >= calls {
            return Ok(running > 0);
        }
        ensure!(
            !deadline.has_passed(),
            "{running} clients did not end in time; {ended} calls have"
        );
        thread::sleep(LOOK);
    }
}

impl Lives<'_> {
    /// Starts a server with an empty ledger of its own.
    fn begin(&mut self) -> Result<Server> {
        let life = self.ledgers.len() + 1;
        let name = format!("{}-ledger-{life}.jsonl", self.plan.name);
        let path = self.folder.join(name);
        // A server goes on with a ledger that is there.
        File::create(&path).with_context(|| format!("can't make {}", path.display()))?;
        let mut flags = self.plan.server.clone();
        flags.extend(["--ledger".to_owned(), path.display().to_string()]);
        self.ledgers.push(path);
        self.programs
            .server_at(self.address, &flags)
            .with_context(|| format!("life {life} of the server"))
    }

    fn effects(self) -> Result<Effects> {
        let mut effects = Effects::default();
        for (index, ledger) in self.ledgers.iter().enumerate() {
            effects.read(index + 1, ledger)?;
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
