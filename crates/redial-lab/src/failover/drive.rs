//! One run: servers on a pair of databases, clients that call them, and one fail-over after another.

use std::{
    path::Path,
    thread,
    time::{Duration, UNIX_EPOCH},
};

use anyhow::{Result, ensure};
use indicatif::ProgressBar;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use redial_store_tests::replicas::{self, Pair, Promoted};

use super::{Commits, FailoverFlags, FailoverResults, waits::Failover};
use crate::{
    crash::{database, lives::Remains, results::CrashResults, running::Running},
    harness::{clock, command_line::words, programs::Programs},
};

/// How many servers share the table.
pub(super) const SERVERS: usize = 3;
/// Less than the longer fail-overs take, so that servers lose their leases, too.
const LEASE_MS: u64 = 1500;
/// What bounds each call: more than a fail-over takes.
const DEADLINE: Duration = Duration::from_secs(30);
/// How long it may take: more, since a timer ends it, on a busy machine.
const LIMIT: Duration = Duration::from_secs(34);
/// How long calls go on between two fail-overs, in milliseconds.
const CALM_MS: std::ops::Range<u64> = 300..1500;
/// How long a standby stands still before its primary is lost, in milliseconds.
const FROZEN_MS: std::ops::Range<u64> = 200..700;
/// How long it takes until it is noticed that the primary is lost, in milliseconds.
const NOTICED_MS: std::ops::Range<u64> = 50..500;

pub(super) fn client_flags(number: usize, seed: u64) -> String {
    // Some send copies on a second connection, which leads to another server.
    let copies = if number % 4 == 2 {
        "--connections 2 --hedge-ms 60"
    } else {
        ""
    };
    format!(
        "--calls 1000000000 --concurrency 4 --backoff-ms 10 --backoff-cap-ms 200 --seed {seed} \
         --attempt-timeout-ms 300 --max-attempts 10000 --deadline-ms {} {copies}",
        DEADLINE.as_millis()
    )
}

pub(super) fn server_flags(url: &str) -> Vec<String> {
    let mut flags = words(&format!(
        "--delay-ms 5 --drop-reply 0.005 --duplicate 0.01 --keep-effects --server-lease-ms {LEASE_MS}"
    ));
    flags.extend(["--store".to_owned(), url.to_owned()]);
    flags
}

/// Runs it; `None` where there is no PostgreSQL. The clients' event files are left in `folder`.
pub(super) fn drive(
    programs: &Programs,
    folder: &Path,
    flags: &FailoverFlags,
    bar: &ProgressBar,
) -> Result<Option<FailoverResults>> {
    let commits = match flags.commits {
        Commits::Synchronous => replicas::Commits::Synchronous,
        Commits::Asynchronous => replicas::Commits::Asynchronous,
    };
    let Some(mut pair) = Pair::start(commits) else {
        ensure!(
            std::env::var_os("REDIAL_REQUIRE_SERVICES").is_none(),
            "there is no PostgreSQL here, and REDIAL_REQUIRE_SERVICES is set; nothing was tried"
        );
        return Ok(None);
    };
    let url = pair.url("postgres");
    let servers = (0..SERVERS).map(|_| programs.server(&server_flags(&url)));
    let servers = servers.collect::<Result<Vec<_>>>()?;
    let addresses: Vec<_> = servers.iter().map(|it| it.address.to_string()).collect();
    let addresses = addresses.join(",");
    let running = (0..flags.clients as usize).map(|number| {
        let flags = client_flags(number, flags.seed);
        Running::start(programs, folder, number, &flags, &addresses)
    });
    let running = running.collect::<Result<Vec<_>>>()?;
    let mut rng = ChaCha8Rng::seed_from_u64(flags.seed);
    let mut failovers = Vec::new();
    for round in 0..flags.failovers {
        wait(&mut rng, CALM_MS);
        failovers.push(fail_over(&mut pair, round, &mut rng));
        bar.inc(1);
    }
    wait(&mut rng, CALM_MS);
    let histories = running
        .into_iter()
        .map(|client| client.stop(DEADLINE, LIMIT))
        .collect::<Result<Vec<_>>>()?;
    for server in servers {
        server.stop()?;
    }
    let remains = Remains {
        effects: database::effects(&url)?,
        outages: failovers.iter().map(Failover::outage).collect(),
    };
    let crash = CrashResults::judge(histories, remains);
    let failovers = failovers.into_iter();
    Ok(Some(FailoverResults {
        clients: flags.clients,
        seed: flags.seed,
        commits: flags.commits,
        failovers: failovers
            .map(|failover| (failover, failover.waited(crash.calls())))
            .collect(),
        crash,
    }))
}

/// All four ways by turns, the hardest one first.
fn fail_over(pair: &mut Pair, round: u64, rng: &mut ChaCha8Rng) -> Failover {
    let is_standby_frozen = round.is_multiple_of(2);
    let is_alone = matches!(round % 4, 1 | 2);
    if is_standby_frozen {
        pair.freeze_standby();
        wait(rng, FROZEN_MS);
    }
    let held = pair.waiting_commits();
    let killed_us = clock::unix_us();
    pair.kill_primary();
    if is_standby_frozen {
        pair.thaw_standby();
    }
    wait(rng, NOTICED_MS);
    let promoted = pair.promote(if is_alone {
        Promoted::Alone
    } else {
        Promoted::Waiting
    });
    let promoted = promoted.duration_since(UNIX_EPOCH).unwrap_or_default();
    let promoted_us = u64::try_from(promoted.as_micros()).unwrap_or(killed_us);
    let promoted_us = promoted_us.max(killed_us);
    pair.new_standby();
    Failover {
        is_standby_frozen,
        is_alone,
        held,
        killed_us,
        promoted_us,
        standby_us: clock::unix_us(),
    }
}

fn wait(rng: &mut ChaCha8Rng, ms: std::ops::Range<u64>) {
    thread::sleep(Duration::from_millis(rng.random_range(ms)));
}
