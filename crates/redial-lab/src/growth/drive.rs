//! One run: a server on a database of its own, clients at full speed, and a look at every stage.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use indicatif::ProgressBar;
use redial_store_tests::postgres::Cluster;
use serde::Deserialize;

use super::{GrowthResults, Stage};
use crate::{
    crash::database::rows,
    harness::{
        clock::{self, Deadline},
        command_line::words_and,
        programs::{Client, Programs, Server},
    },
    memory::measure::rss_kib,
};

/// How many clients there are, each with a session and a counter.
const CLIENTS: u64 = 4;
/// How often to look.
const LOOK: Duration = Duration::from_millis(500);
/// The slowest machine that is waited for.
const LEAST_CALLS_PER_S: u64 = 500;

const STATE: &str = "SELECT row_to_json(s) FROM (SELECT \
    (SELECT coalesce(sum(value), 0)::bigint FROM counters) AS effects, \
    (SELECT sum(pg_total_relation_size(oid))::bigint FROM pg_class \
        WHERE relnamespace = 'redial'::regnamespace AND relkind = 'r') AS size_bytes, \
    (SELECT sum(n_dead_tup)::bigint FROM pg_stat_user_tables WHERE schemaname = 'redial') AS dead_rows, \
    (SELECT sum(n_tup_upd)::bigint FROM pg_stat_user_tables WHERE schemaname = 'redial') AS changed, \
    (SELECT sum(n_tup_hot_upd)::bigint FROM pg_stat_user_tables WHERE schemaname = 'redial') AS in_place, \
    pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint AS log_bytes) s";

#[derive(Clone, Copy, Default, Deserialize)]
struct State {
    effects: u64,
    size_bytes: u64,
    dead_rows: u64,
    changed: u64,
    in_place: u64,
    log_bytes: u64,
    #[serde(skip)]
    cpu_s: f64,
}

pub(super) fn server_flags(url: &str) -> Vec<String> {
    words_and(
        "--batched --prepare-statements",
        [("--store", url.to_owned())],
    )
}

pub(super) fn client_flags(number: u64, calls: u64) -> Vec<String> {
    let flags = format!(
        "--calls {} --concurrency 64 --attempt-timeout-ms 5000 --deadline-ms 60000",
        calls / CLIENTS
    );
    words_and(&flags, [("--key", format!("k{number}"))])
}

/// Runs it; `None` where there is no PostgreSQL.
pub(super) fn drive(
    programs: &Programs,
    asked: (u64, u64),
    bar: &ProgressBar,
) -> Result<Option<GrowthResults>> {
    let Some(cluster) = Cluster::start(true) else {
        ensure!(
            std::env::var_os("REDIAL_REQUIRE_SERVICES").is_none(),
            "there is no PostgreSQL here, and REDIAL_REQUIRE_SERVICES is set; nothing was tried"
        );
        return Ok(None);
    };
    let url = cluster.url("postgres");
    let server = programs.server(&server_flags(&url))?;
    let (all_stages, calls) = asked;
    let all = all_stages * calls / CLIENTS * CLIENTS;
    let clients = (0..CLIENTS).map(|number| {
        let mut flags = client_flags(number, all);
        flags.extend(["--json", "--connect"].map(str::to_owned));
        flags.push(server.address.to_string());
        programs.start_client(&flags)
    });
    let mut clients = clients.collect::<Result<Vec<_>>>()?;
    let mut last_stage = LastStage::new(&cluster, &server)?;
    let deadline = Deadline::after(Duration::from_secs(60 + all / LEAST_CALLS_PER_S));
    let mut stages = Vec::new();
    while !has_ended(&mut clients)? {
        ensure!(!deadline.has_passed(), "the clients have not ended in time");
        thread::sleep(LOOK);
        if let Some(stage) = last_stage.look(calls)? {
            stages.push(stage);
            bar.inc(1);
        }
    }
    stages.extend(last_stage.look(calls / 2)?);
    let mut made = 0;
    for client in clients {
        let summary = client.summary(LOOK)?;
        ensure!(
            summary.ok == summary.calls,
            "{} of {} calls were ok; expected all",
            summary.ok,
            summary.calls
        );
        made += summary.ok;
    }
    server.stop()?;
    let counted = (made, state(&cluster)?.effects);
    Ok(Some(GrowthResults {
        asked,
        stages,
        counted,
    }))
}

fn has_ended(clients: &mut [Client]) -> Result<bool> {
    for client in clients {
        if !client.has_ended()? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn state(cluster: &Cluster) -> Result<State> {
    let rows = rows(&cluster.url("postgres"), STATE)?;
    let row = rows.first().context("the database says nothing")?;
    let cpu = cluster.cpu().context("its processes can't be found")?;
    Ok(State {
        cpu_s: cpu.as_secs_f64(),
        ..serde_json::from_str(row)?
    })
}

/// What there was when the last stage had ended.
struct LastStage<'a> {
    cluster: &'a Cluster,
    server: u32,
    last: State,
    since: Instant,
}

impl<'a> LastStage<'a> {
    fn new(cluster: &'a Cluster, server: &Server) -> Result<Self> {
        Ok(Self {
            cluster,
            server: server.id(),
            last: state(cluster)?,
            since: clock::now(),
        })
    }

    /// The stage, if it has so many calls by now.
    fn look(&mut self, calls: u64) -> Result<Option<Stage>> {
        let (state, now) = (state(self.cluster)?, clock::now());
        let (last, since) = (self.last, self.since);
        if state.effects - last.effects < calls {
            return Ok(None);
        }
        (self.last, self.since) = (state, now);
        let changed = (state.changed - last.changed).max(1);
        Ok(Some(Stage {
            calls: state.effects - last.effects,
            seconds: now.duration_since(since).as_secs_f64(),
            size_bytes: state.size_bytes,
            dead_rows: state.dead_rows,
            in_place: (state.in_place - last.in_place) as f64 / changed as f64,
            log_bytes: state.log_bytes - last.log_bytes,
            cpu_s: state.cpu_s - last.cpu_s,
            server_rss_kib: rss_kib(self.server)?,
        }))
    }
}
