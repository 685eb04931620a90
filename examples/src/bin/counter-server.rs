//! The counter service as a program, with faults on request.

use std::{io::Write, ops::RangeInclusive, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context;
use clap::Parser;
use redial_examples::{
    counters::Counters,
    descriptors::{raise_limit, runtime},
    doors::{self, ServerDoors},
    events::{EventLog, unix_us},
    files::one_for_each,
    flags::{DAY_MS, SEEDS, Whole, number, pareto, whole},
    methods::{Get, Inc},
    signals::Signals,
    stored::{self, IncKind},
    stored_postgres, supervisor,
};
use redial_server::{
    Config, CutPoint, Delay, Fault, FaultControl, FaultRule, Faults, Limits, Server, ServerBuilder,
    ServerTls, Shutdown, Stats,
};
use redial_store_postgres::PostgresStore;

/// Serves the counters `inc {key, delta = 1}` and `get {key}`, each call at most once.
///
/// The first line on stdout is `listening on ADDR`. SIGTERM and Ctrl-C stop it: running calls
/// finish, new ones are refused; a second signal stops it at once. It exits with 0 if every call
/// that had begun has finished. Faults are off by default, and hit every kind of request alike.
#[derive(Debug, Parser)]
#[command(name = "counter-server", version)]
struct Args {
    #[command(flatten)]
    doors: ServerDoors,

    /// Probability that a request is lost: nothing is executed
    #[arg(long, value_name = "P", default_value = "0", value_parser = number("a probability", PROBABILITY), allow_negative_numbers = true, help_heading = "Faults")]
    drop_request: f64,
    /// Probability that a reply is lost: the call was executed
    #[arg(long, value_name = "P", default_value = "0", value_parser = number("a probability", PROBABILITY), allow_negative_numbers = true, help_heading = "Faults")]
    drop_reply: f64,
    /// Wait before each execution, in milliseconds; a waiting call counts as running
    #[arg(long, value_name = "MS", default_value = "0", help_heading = "Faults", allow_negative_numbers = true, value_parser = whole::<u64>(DELAY_MS))]
    delay_ms: u64,
    /// Wait before each reply, in milliseconds
    #[arg(long, value_name = "MS", default_value = "0", help_heading = "Faults", allow_negative_numbers = true, value_parser = whole::<u64>(DELAY_MS))]
    reply_delay_ms: u64,
    /// Wait before each reply for a heavy-tailed time of at least MS milliseconds: longer than x
    /// with probability (MS/x)^SHAPE
    #[arg(long, value_name = "MS:SHAPE", value_parser = pareto, conflicts_with = "reply_delay_ms", help_heading = "Faults")]
    reply_delay_pareto: Option<Delay>,
    /// Probability that a reply waits, with --reply-delay-ms or --reply-delay-pareto [default: 1]
    #[arg(long, value_name = "P", value_parser = number("a probability", PROBABILITY), allow_negative_numbers = true, help_heading = "Faults")]
    reply_delay_p: Option<f64>,
    /// Probability that the connection breaks: before the execution, before the reply, or in the
    /// middle of it, a third each, of those whose request or reply is not lost
    #[arg(long, value_name = "P", default_value = "0", value_parser = number("a probability", PROBABILITY), allow_negative_numbers = true, help_heading = "Faults")]
    cut: f64,
    /// Probability that a request arrives twice
    #[arg(long, value_name = "P", default_value = "0", value_parser = number("a probability", PROBABILITY), allow_negative_numbers = true, help_heading = "Faults")]
    duplicate: f64,
    /// Seed of the faults: the same seed faults the same requests [default: from the clock, and
    /// printed]
    #[arg(long, value_name = "N", help_heading = "Faults", allow_negative_numbers = true, value_parser = whole::<u64>(SEEDS))]
    seed: Option<u64>,
    /// Let callers on this machine change the faults while it runs, with `redial faults`
    #[arg(long, help_heading = "Faults")]
    fault_control: bool,

    /// How long the record of a finished call with a plain id is kept, in milliseconds
    #[arg(
        long,
        value_name = "N",
        default_value = "10000",
        help_heading = "Limits",
        allow_negative_numbers = true,
        value_parser = whole::<u64>(TTL_MS)
    )]
    ttl_ms: u64,
    /// The most records of calls with plain ids
    #[arg(long, value_name = "N", default_value = "1000000", help_heading = "Limits", allow_negative_numbers = true, value_parser = whole::<usize>(RECORDS))]
    table_records: usize,
    /// The most memory for those records, in MiB
    #[arg(long, value_name = "N", default_value = "256", help_heading = "Limits", allow_negative_numbers = true, value_parser = whole::<usize>(MEBIBYTES))]
    table_mb: usize,
    /// How long a session outlives its last connection, in milliseconds
    #[arg(long, value_name = "N", default_value_t = LEASE_MS, help_heading = "Limits", allow_negative_numbers = true, value_parser = whole::<u64>(LEASES_MS))]
    lease_ms: u64,
    /// The most sessions
    #[arg(long, value_name = "N", default_value = "10000", help_heading = "Limits", allow_negative_numbers = true, value_parser = whole::<usize>(SESSIONS))]
    max_sessions: usize,
    /// The largest frame, in bytes
    #[arg(long, value_name = "N", default_value = "1048576", help_heading = "Limits", allow_negative_numbers = true, value_parser = whole::<usize>(FRAME_BYTES))]
    max_frame: usize,
    /// The most calls that run at once
    #[arg(long, value_name = "N", default_value = "256", help_heading = "Limits", allow_negative_numbers = true, value_parser = whole::<usize>(RUNNING))]
    max_running: usize,
    /// What the calls of one method from one address leave to others, in per cent of the places to
    /// run that those don't have
    #[arg(long, value_name = "PERCENT", default_value = "25", help_heading = "Limits", allow_negative_numbers = true, value_parser = whole::<u32>(RESERVES))]
    running_reserve: u32,
    /// The most calls that wait to run
    #[arg(
        long,
        value_name = "N",
        default_value = "1024",
        help_heading = "Limits",
        allow_negative_numbers = true,
        value_parser = whole::<usize>(QUEUED)
    )]
    queue: usize,
    /// The most connections
    #[arg(long, value_name = "N", default_value = "1024", help_heading = "Limits", allow_negative_numbers = true, value_parser = whole::<usize>(CONNECTIONS))]
    max_connections: usize,
    /// How long a shutdown waits for running calls, in milliseconds
    #[arg(
        long,
        value_name = "N",
        default_value = "10000",
        help_heading = "Limits",
        allow_negative_numbers = true,
        value_parser = whole::<u64>(DRAINS_MS)
    )]
    drain_ms: u64,
    /// How old a connection may get, in seconds, give or take a tenth: then its client is asked to make
    /// another
    #[arg(
        long,
        value_name = "N",
        help_heading = "Limits",
        allow_negative_numbers = true,
        value_parser = whole::<u64>(AGES_S)
    )]
    max_connection_age_s: Option<u64>,

    /// Keep the record of each call, and the counters, in this SQLite file: they survive kill -9 and power
    /// cuts. Or in a PostgreSQL database, `postgres://USER@HOST/DATABASE`
    #[arg(long, value_name = "FILE|URL", help_heading = "Store")]
    store: Option<PathBuf>,
    /// What kind of method `inc` is, with --store
    #[arg(
        long,
        value_name = "KIND",
        value_enum,
        default_value = "transaction",
        requires = "store",
        help_heading = "Store"
    )]
    inc_as: IncKind,
    /// Keep each effect as a row of the table `effects`, with --store and counters in it
    #[arg(long, requires = "store", help_heading = "Store")]
    keep_effects: bool,
    /// How long the calls of this server stay its own while nothing is heard of it, with --store URL, in
    /// milliseconds: others wait for so long for what it was at, and it records nothing after that
    #[arg(
        long,
        value_name = "N",
        default_value = "10000",
        help_heading = "Store",
        allow_negative_numbers = true,
        value_parser = whole::<u64>(SERVER_LEASES_MS)
    )]
    server_lease_ms: u64,
    /// Let calls of `inc` that wait together share a transaction, with --store URL and counters in it
    #[arg(long, requires = "store", help_heading = "Store")]
    batched: bool,
    /// Prepare each statement once on a connection, with --store URL: not where a pooler stands in between
    #[arg(long, requires = "store", help_heading = "Store")]
    prepare_statements: bool,
    /// BREAKS THE PROMISE: sync nothing, so that a power cut loses acknowledged calls and may destroy the
    /// file. Here to prove that tests of power cuts find such losses
    #[arg(long, requires = "store", hide = true)]
    dangerously_without_sync: bool,

    /// Append every effect to this file, as a line of JSON, before any client hears of it
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    /// Write what happens to each attempt to this file, as lines of JSON
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
}

/// How long a fault rule may make something wait, in milliseconds: 10 minutes at most.
const DELAY_MS: Whole = 0..=redial_server::MAX_DELAY.as_millis() as i128;

const PROBABILITY: RangeInclusive<f64> = 0.0..=1.0;

/// How long a record with a plain id is kept, in milliseconds: 20 days at most.
const TTL_MS: Whole = 1..=20 * DAY_MS;

/// How long a session is kept, in milliseconds: a year at most.
const LEASES_MS: Whole = 1..=365 * DAY_MS;

/// How long a shutdown waits for running calls, in milliseconds.
const DRAINS_MS: Whole = 0..=DAY_MS;

/// How old a connection may get, in seconds: up to a year.
const AGES_S: Whole = 1..=31_536_000;

/// Records, of about 180 bytes each.
const RECORDS: Whole = 1..=10_000_000_000;

/// Memory, in MiB: 16 TiB at most.
const MEBIBYTES: Whole = 1..=16 * 1024 * 1024;

/// Sessions, of less than 1 KiB each.
const SESSIONS: Whole = 1..=10_000_000;

/// A call of these counters, with all that a client may add to it, has somewhat less than the least:
/// in frames that are much smaller there would be none. The most is what 4 bytes can say.
const FRAME_BYTES: Whole = 256..=u32::MAX as i128;

/// Calls that run at once.
const RUNNING: Whole = 1..=1_000_000;

/// What is left to others, in per cent.
const RESERVES: Whole = 0..=90;

/// Calls that wait for it.
const QUEUED: Whole = 0..=10_000_000;

/// Connections, each of which is a socket.
const CONNECTIONS: Whole = 1..=1_000_000;

/// 30 minutes, in milliseconds.
const LEASE_MS: u64 = 30 * 60 * 1000;

/// Leases of a server, in milliseconds: it renews them three times as often.
const SERVER_LEASES_MS: Whole = 300..=DAY_MS;

impl Args {
    fn config(&self) -> anyhow::Result<Config> {
        let table_bytes = self.table_mb.checked_mul(1024 * 1024);
        Ok(Config {
            limits: Limits {
                max_frame_bytes: self.max_frame,
                ..Limits::default()
            },
            ttl: Duration::from_millis(self.ttl_ms),
            max_records: self.table_records,
            max_record_bytes: table_bytes.context("--table-mb is larger than any memory")?,
            session_lease: Duration::from_millis(self.lease_ms),
            max_sessions: self.max_sessions,
            max_running: self.max_running,
            running_reserve_percent: self.running_reserve,
            max_queued: self.queue,
            max_connections: self.max_connections,
            drain_timeout: Duration::from_millis(self.drain_ms),
            max_connection_age: self.max_connection_age_s.map(Duration::from_secs),
            insecure: self.doors.insecure,
            ..Config::default()
        })
    }

    /// What each flag takes alone, and all of them together don't mean.
    fn check_faults(&self) -> anyhow::Result<()> {
        let lost = self.drop_request + self.drop_reply + self.cut;
        // Tenths add up to a little more than they should.
        anyhow::ensure!(
            lost <= 1.0 + 1e-9,
            "--drop-request, --drop-reply and --cut are {lost} together; expected at most 1, since \
             a call is lost in one way"
        );
        let has_delay = self.reply_delay_ms > 0 || self.reply_delay_pareto.is_some();
        anyhow::ensure!(
            has_delay || self.reply_delay_p.is_none(),
            "--reply-delay-p says how often a reply waits, and nothing says how long; expected \
             --reply-delay-ms or --reply-delay-pareto beside it"
        );
        Ok(())
    }

    fn fault_rules(&self) -> anyhow::Result<Vec<FaultRule>> {
        self.check_faults()?;
        let fixed = |ms| Delay::Fixed(Duration::from_millis(ms));
        let some = |delay| f64::from(u8::from(delay != fixed(0)));
        let delay = fixed(self.delay_ms);
        let reply_delay = self
            .reply_delay_pareto
            .unwrap_or(fixed(self.reply_delay_ms));
        // A third of the cuts each, although a rule only sees what the rules before it let pass.
        let third = self.cut / 3.0;
        let second = third / (1.0 - third);
        let last = if self.cut > 0.0 {
            third / (1.0 - 2.0 * third)
        } else {
            0.0
        };
        let rules = [
            (Fault::Cut(CutPoint::BeforeExecution), third),
            (Fault::DropRequest, self.drop_request),
            (Fault::Cut(CutPoint::BeforeReply), second),
            (Fault::Cut(CutPoint::MidReply), last),
            (Fault::DropReply, self.drop_reply),
            (Fault::Duplicate, self.duplicate),
            (Fault::DelayExecution(delay), some(delay)),
            (
                Fault::DelayReply(reply_delay),
                some(reply_delay) * self.reply_delay_p.unwrap_or(1.0),
            ),
        ];
        let active = rules.into_iter().filter(|(_, p)| *p > 0.0);
        Ok(active
            .map(|(fault, p)| FaultRule::new(fault, p))
            .collect::<Result<_, _>>()?)
    }

    /// With counters outside the store the ledger is that outside, and outlives this process.
    fn recover_ledger(&self, counters: &Counters) -> anyhow::Result<()> {
        let is_outside = self.inc_as != IncKind::Transaction;
        anyhow::ensure!(
            is_outside || self.ledger.is_none(),
            "--ledger is written outside the store, and could hold effects that a crash has undone; \
             expected --keep-effects, or --inc-as mutation or resumable"
        );
        anyhow::ensure!(
            !is_outside || !self.keep_effects,
            "--keep-effects is for counters in the store; expected --inc-as transaction, or --ledger FILE"
        );
        if let Some(path) = self.ledger.as_ref().filter(|_| is_outside) {
            let recovered = counters.recover(path);
            recovered.with_context(|| format!("cannot read --ledger {}", path.display()))?;
        }
        Ok(())
    }

    /// The database that `--store` names, if it is one.
    fn database(&self) -> Option<&str> {
        let store = self.store.as_deref()?.to_str()?;
        stored_postgres::is_url(store).then_some(store)
    }

    /// The methods, in the store if there is one.
    fn register(&self, counters: &Counters) -> anyhow::Result<ServerBuilder> {
        let (kind, builder) = (self.inc_as, Server::builder());
        let ttl = Duration::from_millis(self.ttl_ms);
        if let Some(url) = self.database() {
            anyhow::ensure!(
                !self.dangerously_without_sync,
                "--dangerously-without-sync is for a file; expected it without a database"
            );
            let store = PostgresStore::options()
                .ttl(ttl)
                .session_lease(Duration::from_millis(self.lease_ms))
                .server_lease(Duration::from_millis(self.server_lease_ms))
                .prepare_statements(self.prepare_statements);
            let store = stored_postgres::open(url, store).context("cannot open --store")?;
            self.recover_ledger(counters)?;
            let how = stored_postgres::How {
                kind,
                keep_effects: self.keep_effects,
                is_batched: self.batched,
            };
            return Ok(stored_postgres::register(builder, &store, how, counters));
        }
        let Some(path) = &self.store else {
            return Ok(counters.register(builder));
        };
        for (flag, is_given) in [
            ("--batched", self.batched),
            ("--prepare-statements", self.prepare_statements),
        ] {
            anyhow::ensure!(
                !is_given,
                "{flag} is for a database; expected --store postgres://... with it"
            );
        }
        let store = stored::open(path, ttl, !self.dangerously_without_sync)?;
        self.recover_ledger(counters)?;
        Ok(stored::register(
            builder,
            &store,
            kind,
            counters,
            self.keep_effects,
        ))
    }

    fn server(&self) -> anyhow::Result<Server> {
        self.doors.check()?;
        one_for_each(&[
            ("--ledger", self.ledger.as_deref()),
            ("--events", self.events.as_deref()),
            (
                "--store",
                self.store.as_deref().filter(|_| self.database().is_none()),
            ),
        ])?;
        let rules = self.fault_rules()?;
        let seed = self.seed.unwrap_or_else(unix_us);
        if !rules.is_empty() {
            log(&format!("faults are on, with --seed {seed}"));
        }
        let faults = Faults::new(seed);
        faults.set(rules);
        let counters = match &self.ledger {
            None => Counters::default(),
            Some(path) => Counters::with_ledger(path)
                .with_context(|| format!("cannot write --ledger {}", path.display()))?,
        };
        let builder = self
            .register(&counters)?
            .config(self.config()?)
            .info("counter", env!("CARGO_PKG_VERSION"))
            .describe::<Inc>()
            .describe::<Get>()
            .faults(faults)
            .unix_principals(true);
        let mut builder = self.doors.authenticate(builder)?;
        if self.fault_control {
            builder = builder.fault_control(FaultControl::Local);
        }
        Ok(match &self.events {
            None => builder.build()?,
            Some(path) => {
                let log = EventLog::create(path)
                    .with_context(|| format!("cannot write --events {}", path.display()))?;
                builder.observer(log).build()?
            }
        })
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    match runtime() {
        Ok(runtime) => runtime.block_on(run(args)),
        Err(error) => fail(&error, 1),
    }
}

async fn run(args: Args) -> ExitCode {
    if let Err(warning) = raise_limit(args.max_connections) {
        log(&format!("warning: {warning}"));
    }
    let ready = args
        .server()
        .and_then(|server| Ok((server, args.doors.tls(log)?)));
    let (server, tls) = match ready {
        Ok(ready) => ready,
        Err(error) => return fail(&error, 2),
    };
    match serve(server, tls, &args.doors).await {
        Ok(Shutdown { interrupted: 0 }) => ExitCode::SUCCESS,
        Ok(Shutdown { .. }) => ExitCode::FAILURE,
        Err(error) => fail(&error, 1),
    }
}

fn fail(error: &anyhow::Error, code: u8) -> ExitCode {
    log(&format!("error: {error:#}"));
    ExitCode::from(code)
}

async fn serve(
    server: Server,
    tls: Option<ServerTls>,
    doors: &ServerDoors,
) -> anyhow::Result<Shutdown> {
    let listener = doors.bind(&server).await?;
    // Before a reader of the address can send a signal.
    let mut signals = Signals::new()?;
    let mut stdout = std::io::stdout();
    writeln!(stdout, "listening on {}", listener.local_addr()?)?;
    stdout.flush()?;
    supervisor::notify_ready();

    let stop = tokio::spawn({
        let server = server.clone();
        async move {
            signals.stop_requested().await;
            supervisor::notify_stopping();
            tokio::select! {
                shutdown = server.shutdown() => shutdown,
                () = signals.stop_requested() => {
                    log(&format!("stopped at once; {}", counts(&server.stats())));
                    std::process::exit(1)
                }
            }
        }
    });
    if let Some(tls) = tls {
        tokio::spawn(doors::reload_on_hangup(tls.clone()));
        server.serve_tls(listener, tls).await?;
    } else {
        server.serve(listener).await?;
    }
    let shutdown = stop.await?;
    let stats = counts(&server.stats());
    log(&format!(
        "stopped, {} calls interrupted; {stats}",
        shutdown.interrupted
    ));
    Ok(shutdown)
}

/// Prints a line to stderr, whether it is read or not.
fn log(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn counts(stats: &Stats) -> String {
    let Stats {
        started,
        finished,
        joined,
        replayed,
        refused,
        ..
    } = stats;
    format!(
        "executions started {started}, finished {finished}; \
         attempts joined {joined}, replayed {replayed}, refused {refused}"
    )
}
