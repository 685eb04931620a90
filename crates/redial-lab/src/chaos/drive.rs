//! Keeps a server and its clients going, and kills them.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use indicatif::ProgressBar;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{
    diary::{Deed, Diary},
    fate,
    plan::{self, Plan},
    post::Post,
    proxy::{Mischief, Proxy},
    rude::Rude,
    saver::{self, Place, Saved, Saver},
};
use crate::{
    harness::{
        clock::{self, Deadline},
        events::{self, Call},
        programs::{self, Client, Programs, Server},
    },
    restarts::{
        check::{Effects, End, History},
        drive::Outage,
    },
};

/// How often to look whether it is time for the next kill.
const LOOK: Duration = Duration::from_millis(5);
/// How long the clients may take to end their calls once they are asked to, and how long what was
/// held back may take to come through.
const END: Duration = Duration::from_secs(30);

/// What came of it.
pub(crate) struct Driven {
    pub(crate) outages: Vec<Outage>,
    pub(crate) lives: Vec<Told>,
    pub(crate) effects: Effects,
    pub(crate) deeds: Vec<(u64, Deed)>,
    /// How many calls sent in one life were asked for in a later one.
    pub(crate) resolved: u64,
}

/// What one life of a client wrote down.
pub(crate) struct Told {
    prefix: String,
    pub(crate) calls: Vec<Call>,
    end: End,
    limit: Duration,
    /// How many of its calls were sent more than once.
    pub(crate) retried: u64,
}

impl Told {
    pub(crate) fn history(&self) -> History<'_> {
        History {
            prefix: self.prefix.clone(),
            calls: &self.calls,
            end: self.end,
            limit: self.limit,
        }
    }

    fn by_saver(saved: Saved) -> Self {
        Self {
            prefix: saved.prefix,
            calls: saved.calls,
            end: End::Stopped,
            limit: saver::LIMIT,
            retried: 0,
        }
    }
}

/// A client that runs.
struct Life {
    prefix: String,
    events: PathBuf,
    client: Client,
}

/// Everything that is going on.
struct World<'a> {
    programs: &'a Programs,
    plan: &'a Plan,
    folder: &'a Path,
    address: SocketAddr,
    proxy: Proxy,
    diary: Diary,
    rng: ChaCha8Rng,
    ledgers: Vec<PathBuf>,
    started: usize,
    told: Vec<Told>,
    outages: Vec<Outage>,
}

/// Runs the plan. Ledgers and event files are left in `folder`.
pub(crate) fn drive(
    programs: &Programs,
    folder: &Path,
    plan: &Plan,
    bar: &ProgressBar,
) -> Result<Driven> {
    let (address, diary) = (programs::lasting_address()?, Diary::default());
    let post = Post::start(address, diary.clone());
    let mischief = Mischief {
        seed: plan.seed,
        draw: fate::draw,
        diary: diary.clone(),
        post: post.clone(),
    };
    let mut world = World {
        programs,
        plan,
        folder,
        address,
        proxy: Proxy::start(address, mischief)?,
        diary,
        rng: ChaCha8Rng::seed_from_u64(plan.seed),
        ledgers: Vec::new(),
        started: 0,
        told: Vec::new(),
        outages: Vec::new(),
    };
    let server = world.begin()?;
    let clients = (0..plan.clients).map(|client| world.client(client));
    let mut clients = clients.collect::<Result<Vec<_>>>()?;
    let stop = Arc::new(AtomicBool::new(false));
    let savers =
        (0..plan::SAVERS).map(|n| Saver::start(world.place(n as usize, &stop), n, plan.seed));
    let savers: Vec<_> = savers.collect();
    let rude = Rude::start(address, plan.seed, world.diary.clone());
    let server = world.kill_and_restart(server, &mut clients, bar)?;
    // The peace after: everybody ends what is begun, and what was held back comes through.
    stop.store(true, Ordering::Release);
    rude.stop();
    world.proxy.be_honest();
    let mut resolved = 0;
    for saver in savers {
        let saved = saver.join().map_err(|_| anyhow!("a saver panicked"))??;
        resolved += saved.resolved;
        world.told.push(Told::by_saver(saved));
    }
    for life in clients {
        world.stop(life)?;
    }
    ensure!(post.empty(END), "what was held back is stuck");
    server.stop()?;
    world.sum_up(resolved)
}

impl World<'_> {
    /// Starts a server with an empty ledger of its own.
    fn begin(&mut self) -> Result<Server> {
        let life = self.ledgers.len() + 1;
        let path = self.folder.join(format!("ledger-{life}.jsonl"));
        // There even if the server is killed before its first effect.
        fs::write(&path, "").with_context(|| format!("can't make {}", path.display()))?;
        let mut flags = self.plan.server.clone();
        flags.extend(["--ledger".to_owned(), path.display().to_string()]);
        if self.rng.random_bool(plan::SHORT_LEASES) {
            flags.extend(["--lease-ms".to_owned(), plan::LEASE_MS.to_string()]);
        }
        self.ledgers.push(path);
        self.programs
            .server_at(self.address, &flags)
            .with_context(|| format!("life {life} of the server"))
    }

    /// Starts a client in place `number` with keys that no client before it had.
    fn client(&mut self, number: usize) -> Result<Life> {
        self.started += 1;
        let prefix = format!("client{number}life{}", self.started);
        let events = self.folder.join(format!("{prefix}.jsonl"));
        let mut flags = self.plan.client.clone();
        flags.extend(self.plan.own_flags(number));
        for (flag, value) in [
            ("--key-per-call", prefix.clone()),
            ("--connect", self.address_for(number).to_string()),
            ("--events", events.display().to_string()),
        ] {
            flags.extend([flag.to_owned(), value]);
        }
        flags.push("--json".to_owned());
        Ok(Life {
            prefix,
            events,
            client: self.programs.start_client(&flags)?,
        })
    }

    /// Where client or saver `number` finds the server.
    fn address_for(&self, number: usize) -> SocketAddr {
        match Plan::is_proxied(number) {
            true => self.proxy.address,
            false => self.address,
        }
    }

    fn place(&self, saver: usize, stop: &Arc<AtomicBool>) -> Place {
        Place {
            programs: self.programs.clone(),
            folder: self.folder.to_owned(),
            server: self.address_for(saver),
            diary: self.diary.clone(),
            stop: Arc::clone(stop),
        }
    }

    /// Until the time is up.
    fn kill_and_restart(
        &mut self,
        mut server: Server,
        clients: &mut [Life],
        bar: &ProgressBar,
    ) -> Result<Server> {
        let start = clock::now();
        let deadline = Deadline::after(Duration::from_secs(self.plan.seconds));
        let mut server_due = self.after(start, plan::SERVER_KILLS_MS);
        let mut client_due = self.after(start, plan::CLIENT_KILLS_MS);
        while !deadline.has_passed() {
            let now = clock::now();
            if now >= server_due {
                server = self.restart(server)?;
                server_due = self.after(clock::now(), plan::SERVER_KILLS_MS);
            }
            if now >= client_due {
                let number = self.rng.random_range(0..clients.len());
                let next = self.client(number)?;
                let life = std::mem::replace(&mut clients[number], next);
                self.kill(life)?;
                client_due = self.after(clock::now(), plan::CLIENT_KILLS_MS);
            }
            bar.set_position(clock::now().duration_since(start).as_secs());
            thread::sleep(LOOK);
        }
        Ok(server)
    }

    fn after(&mut self, now: Instant, ms: std::ops::Range<u64>) -> Instant {
        now + Duration::from_millis(self.rng.random_range(ms))
    }

    fn restart(&mut self, server: Server) -> Result<Server> {
        let away = Duration::from_millis(self.rng.random_range(plan::AWAY_MS));
        let from_us = clock::unix_us();
        match self.rng.random_bool(plan::DRAINS) {
            true => {
                self.diary.note(Deed::ServerDrained);
                server.stop()?;
            }
            false => server.kill()?,
        }
        thread::sleep(away);
        let server = self.begin()?;
        let to_us = clock::unix_us();
        self.outages.push(Outage { from_us, to_us });
        Ok(server)
    }

    fn kill(&mut self, mut life: Life) -> Result<()> {
        ensure!(
            !life.client.has_ended()?,
            "{} had ended by itself",
            life.prefix
        );
        life.client.kill()?;
        self.diary.note(Deed::ClientKilled);
        let calls = events::read_until_killed(&life.events)?;
        self.tell(life.prefix, calls, End::Killed);
        Ok(())
    }

    /// Lets a client end its calls.
    fn stop(&mut self, life: Life) -> Result<()> {
        life.client.interrupt()?;
        let summary = life.client.summary(END)?;
        let calls: Vec<Call> = events::read(&life.events)?;
        ensure!(
            calls.len() as u64 == summary.calls,
            "{} made {} calls and wrote {} down",
            life.prefix,
            summary.calls,
            calls.len()
        );
        // One that was started in an outage may have met no server.
        let is_that = summary.sessions.is_none() || self.plan.ids.is_that(summary.sessions);
        ensure!(is_that, "a client's session: {:?}", summary.sessions);
        self.tell(life.prefix, calls, End::Stopped);
        Ok(())
    }

    fn tell(&mut self, prefix: String, mut calls: Vec<Call>, end: End) {
        let is_retried = |call: &&Call| call.attempts.len() > 1;
        let retried = calls.iter().filter(is_retried).count() as u64;
        for call in &mut calls {
            // Minutes of them would not fit into memory.
            call.attempts = Vec::new();
        }
        self.told.push(Told {
            prefix,
            calls,
            end,
            limit: plan::LIMIT,
            retried,
        });
    }

    fn sum_up(self, resolved: u64) -> Result<Driven> {
        let mut effects = Effects::default();
        for (index, ledger) in self.ledgers.iter().enumerate() {
            effects.read(index + 1, ledger)?;
        }
        Ok(Driven {
            outages: self.outages,
            lives: self.told,
            effects,
            deeds: self.diary.read(),
            resolved,
        })
    }
}
