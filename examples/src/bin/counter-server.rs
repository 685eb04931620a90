//! The counter service as a program, with faults on request.

use std::{
    ffi::OsString, io::Write, net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration,
};

use anyhow::Context;
use clap::{CommandFactory, Parser};
use metrics_exporter_prometheus::PrometheusHandle;
use redial_examples::{
    counters::Counters,
    descriptors::{raise_limit, runtime},
    doors::{self, ServerDoors},
    events::EventLog,
    fault_flags::FaultFlags,
    files::one_for_each,
    flags::{DAY_MS, Whole, whole},
    http,
    limit_flags::LimitFlags,
    methods::{Get, Inc},
    settings::with_settings,
    signals::Signals,
    stored::{self, IncKind},
    stored_postgres, supervisor,
};
use redial_server::{Config, FaultControl, Server, ServerBuilder, ServerTls, Shutdown, Stats};
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

    #[command(flatten)]
    faults: FaultFlags,
    #[command(flatten)]
    limits: LimitFlags,

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
    /// [default: 10000]
    #[arg(
        long,
        value_name = "N",
        requires = "store",
        help_heading = "Store",
        allow_negative_numbers = true,
        value_parser = whole::<u64>(SERVER_LEASES_MS)
    )]
    server_lease_ms: Option<u64>,
    /// Let calls of `inc` that wait together share a transaction, with --store URL and counters in it
    #[arg(long, requires = "store", help_heading = "Store")]
    batched: bool,
    /// Prepare each statement once on a connection, with --store URL, though a pooler that looks after them
    /// stands in between [default: where none does]
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
    /// Answer /livez, /readyz and /metrics (Prometheus) over HTTP on this address, whose port is in the
    /// second line on stdout
    #[arg(long, value_name = "ADDR", value_parser = http::address)]
    http: Option<SocketAddr>,
    /// Allow an address for --http that other machines can reach, and so read the metrics
    #[arg(long, requires = "http")]
    http_insecure: bool,
    /// Take flags from this file in TOML, such as max-running = 64. REDIAL_SERVER_MAX_RUNNING=64 in the
    /// environment wins over the file, and a flag over both. SIGHUP reads the faults in it again
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Leases of a server, in milliseconds: it renews them three times as often.
const SERVER_LEASES_MS: Whole = 300..=DAY_MS;

impl Args {
    fn config(&self) -> anyhow::Result<Config> {
        Ok(Config {
            insecure: self.doors.insecure,
            ..self.limits.config()?
        })
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
        let ttl = Duration::from_millis(self.limits.ttl_ms);
        if let Some(url) = self.database() {
            anyhow::ensure!(
                !self.dangerously_without_sync,
                "--dangerously-without-sync is for a file; expected it without a database"
            );
            let mut store = PostgresStore::options()
                .ttl(ttl)
                .session_lease(Duration::from_millis(self.limits.lease_ms));
            if let Some(lease) = self.server_lease_ms {
                store = store.server_lease(Duration::from_millis(lease));
            }
            if self.prepare_statements {
                store = store.prepare_statements(true);
            }
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
            ("--server-lease-ms", self.server_lease_ms.is_some()),
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

    fn ready(&self) -> anyhow::Result<Ready> {
        if let Some(address) = self.http {
            http::check(address, self.http_insecure)?;
        }
        // Before the server, which makes its metrics when it is built.
        let metrics = self.http.map(|_| http::install_exporter()).transpose()?;
        Ok(Ready {
            server: self.server()?,
            tls: self.doors.tls(log)?,
            metrics,
        })
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
        let (faults, seed) = self.faults.faults()?;
        if let Some(seed) = seed {
            log(&format!("faults are on, with --seed {seed}"));
        }
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
        if self.http.is_some() {
            builder = builder.metrics();
        }
        if self.faults.fault_control {
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

/// What is ready to be served.
struct Ready {
    server: Server,
    tls: Option<ServerTls>,
    /// What keeps the metrics, if they are to be had.
    metrics: Option<PrometheusHandle>,
}

/// The arguments, with those of the environment and of the file.
fn given() -> anyhow::Result<Vec<OsString>> {
    let given = std::env::args_os().collect();
    with_settings(&Args::command(), given, |name| std::env::var_os(name))
}

fn main() -> ExitCode {
    let args = match given() {
        Ok(given) => Args::parse_from(given),
        Err(error) => return fail(&error, 2),
    };
    match runtime() {
        Ok(runtime) => runtime.block_on(run(args)),
        Err(error) => fail(&error, 1),
    }
}

async fn run(args: Args) -> ExitCode {
    if let Err(warning) = raise_limit(args.limits.max_connections) {
        log(&format!("warning: {warning}"));
    }
    let ready = match args.ready() {
        Ok(ready) => ready,
        Err(error) => return fail(&error, 2),
    };
    match serve(ready, &args).await {
        Ok(Shutdown { interrupted: 0 }) => ExitCode::SUCCESS,
        Ok(Shutdown { .. }) => ExitCode::FAILURE,
        Err(error) => fail(&error, 1),
    }
}

fn fail(error: &anyhow::Error, code: u8) -> ExitCode {
    log(&format!("error: {error:#}"));
    ExitCode::from(code)
}

async fn serve(ready: Ready, args: &Args) -> anyhow::Result<Shutdown> {
    let Ready {
        server,
        tls,
        metrics,
    } = ready;
    let listener = args.doors.bind(&server).await?;
    let probed = match args.http {
        Some(address) => Some(http::bind(address).await?),
        None => None,
    };
    // Before a reader of the address can send a signal.
    let mut signals = Signals::new()?;
    let mut stdout = std::io::stdout();
    writeln!(stdout, "listening on {}", listener.local_addr()?)?;
    if let Some((listener, metrics)) = probed.zip(metrics) {
        writeln!(stdout, "http on {}", listener.local_addr()?)?;
        tokio::spawn(http::serve(listener, server.clone(), metrics));
    }
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
    if tls.is_some() || args.doors.tokens.is_some() || args.config.is_some() {
        let (server, has_file) = (server.clone(), args.config.is_some());
        let more = move || {
            if has_file {
                reload_faults(&server);
            }
        };
        tokio::spawn(doors::reload_on_hangup(tls.clone(), more));
    }
    if let Some(tls) = tls {
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

/// Takes the faults that the settings say now. All else holds from the next start on.
fn reload_faults(server: &Server) {
    let args = given().and_then(|given| Ok(Args::try_parse_from(given)?));
    match args.and_then(|args| args.faults.rules()) {
        Ok(rules) => {
            server.faults().set(rules);
            log(
                "the faults in --config were read again; its other settings hold from the next start on",
            );
        }
        Err(error) => log(&format!("the faults from before stay in use: {error:#}")),
    }
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
