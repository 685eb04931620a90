//! Keeps a server and its clients going, freezes them, and kills them.

use std::{
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, ensure};
use indicatif::ProgressBar;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{
    ChaosResults,
    delay_queue::DelayQueue,
    doors::{Doors, Transport},
    event_log::{ChaosEvent, EventLog},
    frame_fault,
    freeze::Frost,
    hostile_peers::HostilePeers,
    plan::{self, ChaosPlan, Route},
    proxy::{self, FaultPlan, Proxy},
    token_client::{TokenClient, TokenRecord, TokenSetup},
};
use crate::{
    crash::{
        check::{ClientEnd, History},
        lives::ServerLives,
        results::CrashResults,
    },
    harness::{
        balancer::Balancer,
        clock::{self, Deadline},
        endpoint::Endpoint,
        events::{self, Call},
        programs::{Client, Programs, Server},
    },
};

/// How often to look whether it is time for the next kill.
const LOOK: Duration = Duration::from_millis(5);
/// How long nothing is frozen at first.
const FIRST_FREEZE: Duration = Duration::from_millis(700);
/// How long the clients may take to end their calls once they are asked to, and how long what was
/// held back may take to come through.
const END: Duration = Duration::from_secs(30);

/// A client that runs.
struct ClientLife {
    client: Client,
    record: ClientRecord,
    frost: Frost,
}

/// Which client it is, and where it writes its calls down.
struct ClientRecord {
    number: usize,
    prefix: String,
    events: PathBuf,
}

/// Whether a client ended because it got no connection at its start: while the server is frozen, the
/// system has room for so many that have not been accepted.
fn never_connected(calls: &[Call], stderr: &str) -> bool {
    calls.is_empty() && stderr.contains("connect")
}

/// A server, its clients, and all that goes wrong.
struct Driver<'a> {
    programs: &'a Programs,
    plan: &'a ChaosPlan,
    folder: &'a Path,
    lives: ServerLives<'a>,
    doors: Doors,
    proxy: Proxy,
    balancer: Balancer,
    later: DelayQueue,
    log: EventLog,
    rng: ChaCha8Rng,
    /// How many lives clients have had.
    started: usize,
    histories: Vec<History>,
    server_frost: Frost,
    /// When the server is frozen next, and when a client is.
    server_freezes: Instant,
    client_freezes: Instant,
}

/// Runs the plan. Ledgers and event files are left in `folder`.
pub(crate) fn drive(
    programs: &Programs,
    folder: &Path,
    plan: ChaosPlan,
    bar: &ProgressBar,
) -> Result<ChaosResults> {
    let mut driver = Driver::new(programs, folder, &plan)?;
    let flags = driver.server_flags();
    let server = driver.lives.start(&flags)?;
    let clients = (0..plan.clients).map(|number| driver.client(number));
    let mut clients = clients.collect::<Result<Vec<_>>>()?;
    let stop = Arc::new(AtomicBool::new(false));
    let token_clients = driver.token_clients(&stop);
    let replacing = driver.doors.replace(driver.log.clone());
    let hostile = HostilePeers::start(driver.lives.address.clone(), plan.seed, driver.log.clone());
    let server = driver.kill_and_freeze(server, &mut clients, bar)?;
    // Peace: everyone ends what has begun, and what was held back comes through.
    stop.store(true, Ordering::Release);
    hostile.stop();
    replacing.stop();
    driver.proxy.be_honest();
    driver.balancer.be_prompt();
    let mut resolved = 0;
    for client in token_clients {
        let record = client.join();
        let record = record.map_err(|_| anyhow!("a token client panicked"))??;
        resolved += record.resolved;
        driver.histories.push(record.history);
    }
    for life in clients {
        driver.stop(life)?;
    }
    ensure!(
        driver.later.flush(END),
        "not all of what was held back reached the server within {END:?}"
    );
    server.stop()?;
    Ok(ChaosResults {
        events: driver.log.read(),
        crash: CrashResults::judge(driver.histories, driver.lives.finish()?),
        resolved,
        plan,
    })
}

impl<'a> Driver<'a> {
    fn new(programs: &'a Programs, folder: &'a Path, plan: &'a ChaosPlan) -> Result<Self> {
        let mut lives = ServerLives::new(programs, folder, "ledger")?;
        if plan.transport == Transport::Unix {
            lives = lives.at(Endpoint::Unix(folder.join("server.sock")));
        }
        let log = EventLog::default();
        let later = DelayQueue::start(lives.address.clone(), log.clone());
        let faults = FaultPlan {
            seed: plan.seed,
            draw: frame_fault::draw,
            framing: match plan.transport {
                Transport::Tcp | Transport::Unix => proxy::frame_bytes,
                Transport::Tls | Transport::Mtls => proxy::record_bytes,
            },
            log: log.clone(),
            later: later.clone(),
        };
        Ok(Self {
            programs,
            plan,
            folder,
            balancer: Balancer::start(lives.address.clone(), plan.seed, {
                let log = log.clone();
                move |trick| log.record(ChaosEvent::Balanced(trick))
            })?,
            proxy: Proxy::start(lives.address.clone(), faults)?,
            lives,
            doors: Doors::new(plan.transport, folder)?,
            later,
            log,
            rng: ChaCha8Rng::seed_from_u64(plan.seed),
            started: 0,
            histories: Vec::new(),
            server_frost: Frost::default(),
            server_freezes: clock::now() + FIRST_FREEZE,
            client_freezes: clock::now() + FIRST_FREEZE,
        })
    }

    /// The flags of the server's next life.
    fn server_flags(&mut self) -> Vec<String> {
        let mut flags = self.plan.server.clone();
        flags.extend(self.doors.server_flags());
        if self.rng.random_bool(plan::SHORT_LEASES) {
            flags.extend(["--lease-ms".to_owned(), plan::LEASE_MS.to_string()]);
        }
        if self.rng.random_bool(plan::SHORT_TTLS) {
            flags.extend(["--ttl-ms".to_owned(), plan::TTL_MS.to_string()]);
        }
        flags
    }

    /// Starts client `number` with keys that no client before it had.
    fn client(&mut self, number: usize) -> Result<ClientLife> {
        self.started += 1;
        let prefix = format!("client{number}life{}", self.started);
        let events = self.folder.join(format!("{prefix}.jsonl"));
        let mut flags = self.plan.client.clone();
        flags.extend(self.plan.own_flags(number));
        flags.extend(self.doors.client_flags());
        let server = self.address_for(number);
        let client = self
            .programs
            .start_recorded_client(flags, &prefix, server, &events)?;
        Ok(ClientLife {
            client,
            record: ClientRecord {
                number,
                prefix,
                events,
            },
            frost: Frost::default(),
        })
    }

    /// Where client or token client `number` finds the server.
    fn address_for(&self, number: usize) -> &Endpoint {
        match ChaosPlan::route(number) {
            Route::Proxy => &self.proxy.address,
            Route::Balancer => &self.balancer.address,
            Route::Direct => &self.lives.address,
        }
    }

    /// Starts the clients that save their calls; they stop when `stop` is set.
    fn token_clients(&self, stop: &Arc<AtomicBool>) -> Vec<JoinHandle<Result<TokenRecord>>> {
        let start = |number| {
            let setup = TokenSetup {
                programs: self.programs.clone(),
                folder: self.folder.to_owned(),
                server: self.address_for(number as usize).clone(),
                flags: self.doors.client_flags(),
                log: self.log.clone(),
                stop: Arc::clone(stop),
            };
            TokenClient::start(setup, number, self.plan.seed)
        };
        (0..plan::TOKEN_CLIENTS).map(start).collect()
    }

    /// Kills and freezes one or the other until the time is up.
    fn kill_and_freeze(
        &mut self,
        mut server: Server<Endpoint>,
        clients: &mut [ClientLife],
        bar: &ProgressBar,
    ) -> Result<Server<Endpoint>> {
        let start = clock::now();
        let deadline = Deadline::after(Duration::from_secs(self.plan.seconds));
        let mut server_due = self.after(start, plan::SERVER_KILLS_MS);
        let mut client_due = self.after(start, plan::CLIENT_KILLS_MS);
        while !deadline.has_passed() {
            let now = clock::now();
            self.freeze_server(&server, now)?;
            self.freeze_clients(clients, now)?;
            if now >= server_due {
                if self.may_end_server() {
                    server = self.restart(server)?;
                }
                let last = self.server_frost.thaws_at().unwrap_or_else(clock::now);
                server_due = self.after(last, plan::SERVER_KILLS_MS);
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
        self.server_frost.end(|| server.thaw())?;
        for life in clients {
            life.frost.end(|| life.client.thaw())?;
        }
        Ok(server)
    }

    /// Has the server thaw or freeze, if it is time for that.
    fn freeze_server(&mut self, server: &Server<Endpoint>, now: Instant) -> Result<()> {
        if self.server_frost.is_over(now) {
            self.server_frost.end(|| server.thaw())?;
            self.server_freezes = self.after(now, plan::SERVER_FREEZES_MS);
        }
        if now < self.server_freezes || self.server_frost.is_frozen() {
            return Ok(());
        }
        let time = plan::frozen(&mut self.rng);
        self.log.record(ChaosEvent::ServerFrozen);
        self.server_frost.begin(now, time, || server.freeze())
    }

    /// The same for the clients.
    fn freeze_clients(&mut self, clients: &mut [ClientLife], now: Instant) -> Result<()> {
        for life in &mut *clients {
            if life.frost.is_over(now) {
                life.frost.end(|| life.client.thaw())?;
            }
        }
        if now < self.client_freezes {
            return Ok(());
        }
        self.client_freezes = self.after(now, plan::CLIENT_FREEZES_MS);
        let life = &mut clients[self.rng.random_range(0..clients.len())];
        if life.frost.is_frozen() {
            return Ok(());
        }
        let time = plan::frozen(&mut self.rng);
        self.log.record(ChaosEvent::ClientFrozen);
        life.frost.begin(now, time, || life.client.freeze())
    }

    /// Whether it is to end now. A frozen server mostly thaws first.
    fn may_end_server(&mut self) -> bool {
        !self.server_frost.is_frozen() || self.rng.random_bool(plan::KILLED_FROZEN)
    }

    fn after(&mut self, now: Instant, ms: Range<u64>) -> Instant {
        now + Duration::from_millis(self.rng.random_range(ms))
    }

    fn restart(&mut self, server: Server<Endpoint>) -> Result<Server<Endpoint>> {
        let away = Duration::from_millis(self.rng.random_range(plan::AWAY_MS));
        let is_frozen = std::mem::take(&mut self.server_frost).is_frozen();
        let is_drained = !is_frozen && self.rng.random_bool(plan::DRAINS);
        let flags = self.server_flags();
        let log = &self.log;
        let end = || {
            if !is_drained {
                return server.kill();
            }
            log.record(ChaosEvent::ServerDrained);
            server.stop()
        };
        let server = self.lives.restart(end, None, away, &flags)?;
        self.server_freezes = self.after(clock::now(), plan::SERVER_FREEZES_MS);
        Ok(server)
    }

    fn kill(&mut self, life: ClientLife) -> Result<()> {
        let ClientLife {
            mut client,
            record,
            frost,
        } = life;
        let has_ended = client.has_ended()?;
        let stderr = client.kill()?;
        let calls = events::read_until_killed(&record.events)?;
        ensure!(
            !has_ended || never_connected(&calls, &stderr),
            "{} had ended by itself{stderr}",
            record.prefix
        );
        self.log.record(ChaosEvent::ClientKilled);
        self.keep(record, calls, ClientEnd::Killed, &frost);
        Ok(())
    }

    /// Lets a client end its calls.
    fn stop(&mut self, life: ClientLife) -> Result<()> {
        let ClientLife {
            mut client,
            record,
            frost,
        } = life;
        if client.has_ended()? {
            return self.kill(ClientLife {
                client,
                record,
                frost,
            });
        }
        client.interrupt()?;
        let summary = client.summary(END)?;
        let calls: Vec<Call> = events::read(&record.events)?;
        ensure!(
            calls.len() as u64 == summary.calls,
            "{} made {} calls and wrote {} down",
            record.prefix,
            summary.calls,
            calls.len()
        );
        // One that was started during an outage may have met no server.
        if summary.sessions.is_some() {
            self.plan.ids_of(record.number).check(summary.sessions)?;
        }
        self.keep(record, calls, ClientEnd::Stopped, &frost);
        Ok(())
    }

    fn keep(&mut self, record: ClientRecord, calls: Vec<Call>, end: ClientEnd, frost: &Frost) {
        let promise = self.plan.promise(record.number);
        // Time in which it was frozen is not the call's.
        let history = History::new(record.prefix, calls, end, plan::LIMIT + frost.total);
        self.histories.push(history.under(promise));
    }
}
