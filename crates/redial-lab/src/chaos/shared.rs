//! `cargo xtask chaos --store postgres`: three servers on one table, of which one is killed every second
//! and another stands still for longer than its lease; clients with sessions go from one to the next.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use indicatif::ProgressBar;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use redial_store_tests::postgres::Cluster;
use serde_json::json;

use super::freeze::Frost;
use crate::{
    crash::{
        check::{History, Promise},
        database,
        excuse::Excuse,
        lives::{Outage, Remains},
        results::CrashResults,
        running::Running,
    },
    experiment::Report,
    harness::{
        balancer::Balancer,
        clock::{self, Deadline},
        command_line::words_and,
        endpoint::Endpoint,
        mode::Mode,
        programs::{self, Programs, Server},
    },
    report::{scale::thousands, terminal},
};

/// How many servers share the table.
const SERVERS: usize = 3;
/// How long the calls of a server stay its own while nothing is heard of it.
const LEASE_MS: u64 = 1500;
/// What bounds each call: more than a server that stands still can hold it up.
const DEADLINE: Duration = Duration::from_secs(20);
/// How long it may take: more, since a timer ends it, on a busy machine.
const LIMIT: Duration = Duration::from_secs(23);
/// Between two kills, and how long a server stays away then, in milliseconds.
const KILLS_MS: std::ops::Range<u64> = 700..1300;
const AWAY_MS: std::ops::Range<u64> = 0..300;
/// Between the end of one freeze and the next, and how long a server stands still, in milliseconds.
const FREEZES_MS: std::ops::Range<u64> = 500..2000;
const FROZEN_MS: std::ops::Range<u64> = LEASE_MS + 200..LEASE_MS * 2;
/// How often to look whether it is time for the next.
const LOOK: Duration = Duration::from_millis(5);

/// What to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SharedPlan {
    pub(crate) seconds: u64,
    pub(crate) clients: usize,
    pub(crate) seed: u64,
    pub(crate) ids: Mode,
    /// Whether servers are killed and no more: none stands still, and little is lost on the way.
    pub(crate) is_calm: bool,
}

/// What came of it.
pub(crate) struct SharedResults {
    plan: SharedPlan,
    pub(crate) kills: u64,
    freezes: u64,
    pub(crate) crash: CrashResults,
}

/// One of the servers.
struct RunningServer {
    address: Endpoint,
    process: Server<Endpoint>,
    frost: Frost,
}

struct SharedDriver<'a> {
    programs: &'a Programs,
    plan: SharedPlan,
    url: String,
    servers: Vec<RunningServer>,
    rng: ChaCha8Rng,
    outages: Vec<Outage>,
    freezes: u64,
}

/// A PostgreSQL of its own; `None` where PostgreSQL is not installed.
pub(crate) fn database() -> Result<Option<Cluster>> {
    let cluster = Cluster::start(false);
    ensure!(
        cluster.is_some() || std::env::var_os("REDIAL_REQUIRE_SERVICES").is_none(),
        "there is no PostgreSQL here, and REDIAL_REQUIRE_SERVICES is set; nothing was tried"
    );
    Ok(cluster)
}

/// Runs it on a database that is new. The clients' event files are left in `folder`.
pub(crate) fn drive(
    programs: &Programs,
    folder: &Path,
    url: String,
    plan: SharedPlan,
    bar: &ProgressBar,
) -> Result<SharedResults> {
    let mut driver = SharedDriver::new(programs, url, plan)?;
    let backends: Vec<_> = driver
        .servers
        .iter()
        .map(|server| server.address.clone())
        .collect();
    let balancer = Balancer::among(backends, plan.seed, |_| {})?;
    balancer.be_prompt();
    let running = (0..plan.clients).map(|number| {
        let flags = plan.client_flags(number);
        Running::start(programs, folder, number, &flags, &balancer.address)
    });
    let running = running.collect::<Result<Vec<_>>>()?;
    driver.kill_and_freeze(bar)?;
    let histories = running
        .into_iter()
        .map(|client| Ok(plan.judged(client.stop(DEADLINE, LIMIT)?)))
        .collect::<Result<Vec<_>>>()?;
    for server in driver.servers {
        server.process.stop()?;
    }
    let remains = Remains {
        effects: database::effects(&driver.url)?,
        outages: driver.outages,
    };
    Ok(SharedResults {
        plan,
        kills: remains.outages.len() as u64,
        freezes: driver.freezes,
        crash: CrashResults::judge(histories, remains),
    })
}

impl SharedPlan {
    fn client_flags(&self, number: usize) -> String {
        // Some send copies on a second connection, which may lead to another server.
        let copies = if number % 4 == 2 && !self.is_calm {
            "--connections 2 --hedge-ms 60"
        } else {
            ""
        };
        format!(
            "--calls 1000000000 --concurrency 4 --backoff-ms 10 --backoff-cap-ms 200 --seed {} \
             --attempt-timeout-ms 300 --max-attempts 10000 --deadline-ms {} {copies}{}",
            self.seed,
            DEADLINE.as_millis(),
            self.ids.flag().unwrap_or_default()
        )
    }

    fn server_flags(&self, url: &str) -> Vec<String> {
        let trouble = if self.is_calm {
            "--drop-reply 0.005"
        } else {
            "--drop-request 0.002 --drop-reply 0.005 --duplicate 0.01 --cut 0.001"
        };
        // Calls that share a transaction have a way of their own to the record.
        let shared = if self.seed.is_multiple_of(2) {
            ""
        } else {
            "--batched"
        };
        let flags =
            format!("--delay-ms 5 {trouble} --keep-effects {shared} --server-lease-ms {LEASE_MS}");
        words_and(&flags, [("--store", url.to_owned())])
    }

    /// Without a session all that is held against a client is what it has heard.
    fn judged(&self, history: History) -> History {
        match self.ids {
            Mode::Session => history,
            ids => history.under(Promise::of(ids)).excused_by(Excuse::Any),
        }
    }
}

impl<'a> SharedDriver<'a> {
    fn new(programs: &'a Programs, url: String, plan: SharedPlan) -> Result<Self> {
        let mut servers = Vec::new();
        for _ in 0..SERVERS {
            let address = Endpoint::from(programs::lasting_address()?);
            let process = programs.server_at(&address, &plan.server_flags(&url))?;
            servers.push(RunningServer {
                address,
                process,
                frost: Frost::default(),
            });
        }
        Ok(Self {
            programs,
            plan,
            url,
            servers,
            rng: ChaCha8Rng::seed_from_u64(plan.seed),
            outages: Vec::new(),
            freezes: 0,
        })
    }

    /// Until the time is up. One server at a time stands still, and none is killed meanwhile but the others.
    fn kill_and_freeze(&mut self, bar: &ProgressBar) -> Result<()> {
        let start = clock::now();
        let deadline = Deadline::after(Duration::from_secs(self.plan.seconds));
        let mut kill_due = self.after(start, KILLS_MS);
        let mut freeze_due = self.after(start, FREEZES_MS);
        while !deadline.has_passed() {
            let now = clock::now();
            if self.thaw(|frost| frost.is_over(now))? {
                freeze_due = self.after(now, FREEZES_MS);
            }
            let is_any_frozen = self.servers.iter().any(|server| server.frost.is_frozen());
            if now >= freeze_due && !is_any_frozen && !self.plan.is_calm {
                let time = Duration::from_millis(self.rng.random_range(FROZEN_MS));
                let server = &mut self.servers[self.rng.random_range(0..SERVERS)];
                server.frost.begin(now, time, || server.process.freeze())?;
                self.freezes += 1;
            }
            if now >= kill_due {
                self.kill()?;
                kill_due = self.after(clock::now(), KILLS_MS);
            }
            bar.set_position(clock::now().duration_since(start).as_secs());
            thread::sleep(LOOK);
        }
        self.thaw(Frost::is_frozen)?;
        Ok(())
    }

    /// Whether one was to thaw.
    fn thaw(&mut self, is_to: impl Fn(&Frost) -> bool) -> Result<bool> {
        let mut has_thawed = false;
        for server in &mut self.servers {
            if is_to(&server.frost) {
                server.frost.end(|| server.process.thaw())?;
                has_thawed = true;
            }
        }
        Ok(has_thawed)
    }

    /// `kill -9` of one that does not stand still, which comes back soon.
    fn kill(&mut self) -> Result<()> {
        let awake: Vec<usize> = (0..SERVERS)
            .filter(|at| !self.servers[*at].frost.is_frozen())
            .collect();
        let at = awake[self.rng.random_range(0..awake.len())];
        let away = Duration::from_millis(self.rng.random_range(AWAY_MS));
        let RunningServer {
            address,
            process,
            frost,
        } = self.servers.swap_remove(at);
        let from_us = clock::unix_us();
        process.kill()?;
        thread::sleep(away);
        let flags = self.plan.server_flags(&self.url);
        let process = self.programs.server_at(&address, &flags)?;
        let to_us = clock::unix_us();
        self.outages.push(Outage { from_us, to_us });
        self.servers.push(RunningServer {
            address,
            process,
            frost,
        });
        Ok(())
    }

    fn after(&mut self, now: Instant, ms: std::ops::Range<u64>) -> Instant {
        now + Duration::from_millis(self.rng.random_range(ms))
    }
}

impl SharedResults {
    fn figures(&self) -> Vec<(&'static str, String)> {
        let mut figures = vec![
            ("kills of a server", thousands(self.kills)),
            (
                "freezes of a server beyond its lease",
                thousands(self.freezes),
            ),
        ];
        figures.extend(self.crash.figures());
        figures
    }

    fn commands(&self) -> [String; 2] {
        [
            format!(
                "counter-server {}",
                self.plan.server_flags("postgres://...").join(" ")
            ),
            format!("counter-client {}", self.plan.client_flags(2)),
        ]
    }
}

impl Report for SharedResults {
    fn text(&self, _: &Path) -> String {
        format!(
            "{}\n{}\n{} s, {SERVERS} servers on one table, {} clients, seed {}",
            self.commands().join("\n"),
            terminal::figures(self.figures()),
            self.plan.seconds,
            self.plan.clients,
            self.plan.seed
        )
    }

    fn json(&self, _: &Path) -> Result<String> {
        let json = self.crash.json(json!({
            "passed": self.problems().is_empty(),
            "problems": self.problems(),
            "seconds": self.plan.seconds,
            "seed": self.plan.seed,
            "clients": self.plan.clients,
            "server_kills": self.kills,
            "server_freezes": self.freezes,
            "commands": self.commands(),
        }));
        Ok(json.to_string())
    }

    fn html(&self) -> Option<String> {
        None
    }

    fn problems(&self) -> Vec<String> {
        let untested = [
            (self.crash.counts().ok, "no call was ok"),
            (self.kills, "no server was killed"),
            (
                self.freezes + u64::from(self.plan.is_calm),
                "no server stood still",
            ),
        ];
        let problems = untested.iter().filter_map(super::untested_problem);
        problems.chain(self.crash.problems()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kind: a run that tested nothing passes. Instances: one that is over before anything was killed, or stood still.
    #[test]
    fn a_run_without_kills_or_freezes_is_no_pass() {
        let problems = |kills, freezes, is_calm| {
            let plan = SharedPlan {
                seconds: 1,
                clients: 4,
                seed: 1,
                ids: Mode::Session,
                is_calm,
            };
            let crash = CrashResults {
                violations: Vec::new(),
                ..CrashResults::sample()
            };
            SharedResults {
                plan,
                kills,
                freezes,
                crash,
            }
            .problems()
        };
        assert_eq!(problems(1, 1, false), [""; 0]);
        assert_eq!(problems(1, 0, true), [""; 0]);
        assert!(problems(0, 1, false)[0].contains("no server was killed"));
        assert!(problems(1, 0, false)[0].contains("no server stood still"));
    }
}
