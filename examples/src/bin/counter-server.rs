//! The counter service as a program, with faults on request.

use std::{io::Write, net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context;
use clap::Parser;
use redial_examples::{
    counters::Counters,
    events::{EventLog, unix_us},
    flags::whole,
};
use redial_server::{
    Config, CutPoint, Delay, Fault, FaultRule, Faults, Limits, ServeError, Server, Shutdown, Stats,
};

/// Serves the counters `inc {key, delta = 1}` and `get {key}`, each call at most once.
///
/// The first line on stdout is `listening on ADDR`. SIGTERM and ctrl-C stop it: running calls
/// finish, new ones are refused; a second one stops it at once. Exit 0 if every call that had begun
/// has finished. Faults are off unless asked for, and hit every request alike.
#[derive(Debug, Parser)]
#[command(name = "counter-server", version)]
struct Args {
    /// Address to listen on; port 0 lets the system choose one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7077", value_parser = address)]
    listen: SocketAddr,
    /// Allow an address that other machines can reach, without TLS and without a token
    #[arg(long)]
    insecure: bool,

    /// Probability that a request is lost: nothing happens
    #[arg(long, value_name = "P", default_value = "0", value_parser = probability, allow_negative_numbers = true, help_heading = "Faults")]
    drop_request: f64,
    /// Probability that a reply is lost: the effect has happened
    #[arg(long, value_name = "P", default_value = "0", value_parser = probability, allow_negative_numbers = true, help_heading = "Faults")]
    drop_reply: f64,
    /// Wait before each execution, in milliseconds; the call holds its place meanwhile
    #[arg(long, value_name = "MS", default_value = "0", help_heading = "Faults", allow_negative_numbers = true, value_parser = whole::<u64>(0, MAX_DELAY_MS))]
    delay_ms: u64,
    /// Wait before each reply, in milliseconds
    #[arg(long, value_name = "MS", default_value = "0", help_heading = "Faults", allow_negative_numbers = true, value_parser = whole::<u64>(0, MAX_DELAY_MS))]
    reply_delay_ms: u64,
    /// Wait before each reply for a time with a heavy tail, of at least MS milliseconds: it is
    /// longer than x with the probability (MS/x)^SHAPE
    #[arg(long, value_name = "MS:SHAPE", value_parser = pareto, conflicts_with = "reply_delay_ms", help_heading = "Faults")]
    reply_delay_pareto: Option<Delay>,
    /// Probability that a reply waits, where one of the two waits is asked for
    #[arg(long, value_name = "P", default_value = "1", value_parser = probability, allow_negative_numbers = true, help_heading = "Faults")]
    reply_delay_p: f64,
    /// Probability that the connection breaks: before the execution, before the reply, or in the
    /// middle of it, a third each, of those whose request or reply is not lost anyway
    #[arg(long, value_name = "P", default_value = "0", value_parser = probability, allow_negative_numbers = true, help_heading = "Faults")]
    cut: f64,
    /// Probability that a request arrives twice
    #[arg(long, value_name = "P", default_value = "0", value_parser = probability, allow_negative_numbers = true, help_heading = "Faults")]
    duplicate: f64,
    /// Seed of the faults; the same seed gives the same verdicts for the same requests [default:
    /// from the clock, and printed]
    #[arg(long, value_name = "N", help_heading = "Faults", allow_negative_numbers = true, value_parser = whole::<u64>(0, u64::MAX))]
    seed: Option<u64>,

    /// How long the reply to a finished call with a plain id is kept, in milliseconds
    #[arg(
        long,
        value_name = "N",
        default_value = "10000",
        help_heading = "Limits",
        allow_negative_numbers = true,
        value_parser = whole::<u64>(1, MAX_TTL_MS)
    )]
    ttl_ms: u64,
    /// Calls with plain ids on record at most
    #[arg(long, value_name = "N", default_value = "1000000", help_heading = "Limits", allow_negative_numbers = true, value_parser = whole::<usize>(1, u64::MAX))]
    table_records: usize,
    /// Memory for their records at most, in MiB
    #[arg(long, value_name = "N", default_value = "256", help_heading = "Limits", allow_negative_numbers = true, value_parser = whole::<usize>(1, u64::MAX))]
    table_mb: usize,
    /// How long a session outlives its last connection, in milliseconds
    #[arg(long, value_name = "N", default_value_t = LEASE_MS, help_heading = "Limits", allow_negative_numbers = true, value_parser = whole::<u64>(1, u64::MAX))]
    lease_ms: u64,
    /// Sessions at most
    #[arg(long, value_name = "N", default_value = "10000", help_heading = "Limits", allow_negative_numbers = true, value_parser = whole::<usize>(1, u64::MAX))]
    max_sessions: usize,
    /// Largest frame, in bytes
    #[arg(long, value_name = "N", default_value = "1048576", help_heading = "Limits", allow_negative_numbers = true, value_parser = whole::<usize>(MIN_FRAME_BYTES, u32::MAX.into()))]
    max_frame: usize,
    /// Calls that run at once at most
    #[arg(long, value_name = "N", default_value = "256", help_heading = "Limits", allow_negative_numbers = true, value_parser = whole::<usize>(1, u64::MAX))]
    max_running: usize,
    /// Calls that wait for a place at most
    #[arg(
        long,
        value_name = "N",
        default_value = "1024",
        help_heading = "Limits",
        allow_negative_numbers = true,
        value_parser = whole::<usize>(0, u64::MAX)
    )]
    queue: usize,
    /// Connections at most
    #[arg(long, value_name = "N", default_value = "1024", help_heading = "Limits", allow_negative_numbers = true, value_parser = whole::<usize>(1, u64::MAX))]
    max_connections: usize,
    /// How long a shutdown waits for running calls, in milliseconds
    #[arg(
        long,
        value_name = "N",
        default_value = "10000",
        help_heading = "Limits",
        allow_negative_numbers = true,
        value_parser = whole::<u64>(0, u64::MAX)
    )]
    drain_ms: u64,

    /// Append every effect to this file, as a line of JSON that is there before anybody is told of
    /// the effect, and that outlives this program however it ends
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    /// Write what happens to each attempt to this file, as lines of JSON
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
}

/// 10 minutes, in milliseconds.
const MAX_DELAY_MS: u64 = redial_server::MAX_DELAY.as_secs() * 1000;

/// A call of these counters, with all that a client may add to it, has somewhat less: in frames
/// that are much smaller there would be none.
const MIN_FRAME_BYTES: u64 = 256;

/// 30 minutes, in milliseconds.
const LEASE_MS: u64 = 30 * 60 * 1000;

/// 20 days, in milliseconds.
const MAX_TTL_MS: u64 = 20 * 24 * 60 * 60 * 1000;

fn address(text: &str) -> Result<SocketAddr, String> {
    let expected = "expected an IP address and a port, such as 127.0.0.1:7077 or [::1]:0";
    text.parse().map_err(|_| expected.to_owned())
}

fn probability(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(p) if (0.0..=1.0).contains(&p) => Ok(p),
        _ => Err("expected a probability from 0 to 1".to_owned()),
    }
}

/// A Pareto distribution; whether its shape makes one is for the rule to say.
fn pareto(text: &str) -> Result<Delay, String> {
    let expected = || "expected MS:SHAPE, such as 2:1.5, both above 0".to_owned();
    let (scale, shape) = text.split_once(':').ok_or_else(expected)?;
    let scale: f64 = scale.parse().map_err(|_| expected())?;
    let shape = shape.parse().map_err(|_| expected())?;
    if !(scale > 0.0 && scale <= MAX_DELAY_MS as f64 && shape > 0.0) {
        return Err(expected());
    }
    Ok(Delay::Pareto {
        scale: Duration::from_secs_f64(scale / 1e3),
        shape,
    })
}

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
            max_record_bytes: table_bytes.context("--table-mb is beyond all memory")?,
            session_lease: Duration::from_millis(self.lease_ms),
            max_sessions: self.max_sessions,
            max_running: self.max_running,
            max_queued: self.queue,
            max_connections: self.max_connections,
            drain_timeout: Duration::from_millis(self.drain_ms),
            insecure: self.insecure,
            ..Config::default()
        })
    }

    fn fault_rules(&self) -> anyhow::Result<Vec<FaultRule>> {
        let fixed = |ms| Delay::Fixed(Duration::from_millis(ms));
        let some = |delay| f64::from(u8::from(delay != fixed(0)));
        let delay = fixed(self.delay_ms);
        let reply_delay = self
            .reply_delay_pareto
            .unwrap_or(fixed(self.reply_delay_ms));
        // A third of the cuts each, although a rule only gets what those before it left over.
        let third = self.cut / 3.0;
        let of_the_rest = third / (1.0 - third);
        let last = if self.cut > 0.0 {
            third / (1.0 - 2.0 * third)
        } else {
            0.0
        };
        let rules = [
            (Fault::Cut(CutPoint::BeforeExecution), third),
            (Fault::DropRequest, self.drop_request),
            (Fault::Cut(CutPoint::BeforeReply), of_the_rest),
            (Fault::Cut(CutPoint::MidReply), last),
            (Fault::DropReply, self.drop_reply),
            (Fault::Duplicate, self.duplicate),
            (Fault::DelayExecution(delay), some(delay)),
            (
                Fault::DelayReply(reply_delay),
                some(reply_delay) * self.reply_delay_p,
            ),
        ];
        let wanted = rules.into_iter().filter(|(_, p)| *p > 0.0);
        Ok(wanted
            .map(|(fault, p)| FaultRule::new(fault, p))
            .collect::<Result<_, _>>()?)
    }

    fn server(&self) -> anyhow::Result<Server> {
        let rules = self.fault_rules()?;
        let seed = self.seed.unwrap_or_else(unix_us);
        if !rules.is_empty() {
            say(&format!("faults are on, with --seed {seed}"));
        }
        let faults = Faults::new(seed);
        faults.set(rules);
        let counters = match &self.ledger {
            None => Counters::default(),
            Some(path) => Counters::with_ledger(path)
                .with_context(|| format!("can't write --ledger {}", path.display()))?,
        };
        let builder = counters
            .register(Server::builder())
            .config(self.config()?)
            .info("counter", env!("CARGO_PKG_VERSION"))
            .faults(faults);
        Ok(match &self.events {
            None => builder.build()?,
            Some(path) => {
                let log = EventLog::create(path)
                    .with_context(|| format!("can't write --events {}", path.display()))?;
                builder.observer(log).build()?
            }
        })
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let server = match args.server() {
        Ok(server) => server,
        Err(error) => return complain(&error, 2),
    };
    match serve(server, args.listen).await {
        Ok(Shutdown { interrupted: 0 }) => ExitCode::SUCCESS,
        Ok(Shutdown { .. }) => ExitCode::FAILURE,
        Err(error) => complain(&error, 1),
    }
}

fn complain(error: &anyhow::Error, code: u8) -> ExitCode {
    say(&format!("error: {error:#}"));
    ExitCode::from(code)
}

async fn serve(server: Server, address: SocketAddr) -> anyhow::Result<Shutdown> {
    let listener = server
        .bind(&address.to_string())
        .await
        .map_err(|error| match error {
            ServeError::NotLoopback(_) => {
                anyhow::anyhow!("--listen: {error}; to say so on purpose, add --insecure")
            }
            _ => error.into(),
        })?;
    // Before anybody can read the address and send a signal.
    let mut signals = Signals::new()?;
    let mut stdout = std::io::stdout();
    writeln!(stdout, "listening on {}", listener.local_addr()?)?;
    stdout.flush()?;

    let stop = tokio::spawn({
        let server = server.clone();
        async move {
            signals.asked_to_stop().await;
            tokio::select! {
                shutdown = server.shutdown() => shutdown,
                () = signals.asked_to_stop() => {
                    say(&format!("stopped at once; {}", told(&server.stats())));
                    std::process::exit(1)
                }
            }
        }
    });
    server.serve(listener).await?;
    let shutdown = stop.await?;
    let stats = told(&server.stats());
    say(&format!(
        "stopped, {} calls interrupted; {stats}",
        shutdown.interrupted
    ));
    Ok(shutdown)
}

/// To stderr, if anybody reads it.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn told(stats: &Stats) -> String {
    let Stats {
        started,
        finished,
        joined,
        replayed,
        refused,
        ..
    } = stats;
    format!(
        "executions begun {started}, ended {finished}; \
         attempts joined {joined}, replayed {replayed}, refused {refused}"
    )
}

/// What asks a program to stop: ctrl-C and, where there is such a thing, SIGTERM.
#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    /// From now on they no longer end the program by themselves.
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn asked_to_stop(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn asked_to_stop(&mut self) {
        // If it can't be listened for, the program ends as it would have without us.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
