//! Makes many `inc` calls against a counter server and says what became of them.

use std::{
    fs::File,
    io::Write,
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use clap::{CommandFactory, Parser, ValueEnum, error::ErrorKind};
use indicatif::{ProgressBar, ProgressStyle};
use redial_client::{
    Backoff, BackoffError, CallLimits, Client, Config, Hedge, Jitter, RetryBudget,
};
use redial_examples::{
    flags::whole,
    load::{Key, Load, summary::Summary, value},
};

/// Makes many `inc` calls at once, and says how many ended how. Exit 0 only if all are ok.
///
/// Ctrl-C ends it early: calls that have begun are finished and summed up, others are not begun.
/// Its defaults are made for showing losses; those of the library are more patient.
#[derive(Debug, Parser)]
#[command(name = "counter-client", version)]
struct Args {
    /// The server's address, HOST:PORT
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7077", value_parser = address)]
    connect: String,
    /// How many calls to make
    #[arg(long, value_name = "N", default_value_t = 100, allow_negative_numbers = true, value_parser = whole::<u64>(0, u64::MAX))]
    calls: u64,
    /// How many of them at once
    #[arg(long, value_name = "N", default_value_t = 8, allow_negative_numbers = true, value_parser = whole::<u64>(1, u64::MAX))]
    concurrency: u64,
    /// Which counter
    #[arg(long, value_name = "K", default_value = "k")]
    key: String,
    /// Let call n count under PREFIX-n, a counter of its own: any value but that of one effect is
    /// then a violation
    #[arg(long, value_name = "PREFIX", conflicts_with = "key")]
    key_per_call: Option<String>,
    /// What each call adds to it
    #[arg(
        long,
        value_name = "D",
        default_value_t = 1,
        allow_negative_numbers = true
    )]
    delta: i64,
    /// How long to wait for a reply before the next attempt, in milliseconds
    #[arg(long, value_name = "N", default_value_t = 250, allow_negative_numbers = true, value_parser = whole::<u64>(1, u64::MAX))]
    attempt_timeout_ms: u64,
    /// How many attempts a call may have, the first included
    #[arg(long, value_name = "N", default_value_t = 20, allow_negative_numbers = true, value_parser = whole::<u32>(1, u32::MAX.into()))]
    max_attempts: u32,
    /// What bounds a call with all its attempts, in milliseconds
    #[arg(long, value_name = "N", default_value_t = 10_000, allow_negative_numbers = true, value_parser = whole::<u64>(1, u64::MAX))]
    deadline_ms: u64,
    /// The first wait between attempts, in milliseconds
    #[arg(long, value_name = "N", default_value_t = 30, allow_negative_numbers = true, value_parser = whole::<u64>(0, u64::MAX))]
    backoff_ms: u64,
    /// What each wait is multiplied by
    #[arg(long, value_name = "F", default_value_t = 2.0)]
    factor: f64,
    /// The longest wait between attempts, in milliseconds [default: 500, or the first wait if that
    /// is longer]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = whole::<u64>(0, u64::MAX))]
    backoff_cap_ms: Option<u64>,
    /// full, equal, decorrelated, none or proportional:P
    #[arg(long, value_name = "KIND", default_value = "full")]
    jitter: Jitter,
    /// Makes the jitter repeat; ids are always random
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = whole::<u64>(0, u64::MAX))]
    seed: Option<u64>,
    /// How many retries per hundred calls, or "unlimited", since it is retries that this program
    /// is to show; a client's own default is 20
    #[arg(long, value_name = "PERCENT", default_value = "unlimited", value_parser = retry_budget, allow_hyphen_values = true)]
    retry_budget: RetryBudget,
    /// How many connections share the calls
    #[arg(long, value_name = "N", default_value_t = 1, allow_negative_numbers = true, value_parser = whole::<usize>(1, 1024))]
    connections: usize,
    /// Send a copy of a call on another connection if it has taken this long, in milliseconds
    #[arg(long, value_name = "N", conflicts_with_all = ["hedge", "naive"], allow_negative_numbers = true, value_parser = whole::<u64>(1, u64::MAX))]
    hedge_ms: Option<u64>,
    /// Send a copy of a call if it has taken longer than 95 % of those before: p95
    #[arg(long, value_name = "WHEN", conflicts_with = "naive")]
    hedge: Option<HedgeAt>,
    /// Use plain ids, which the server forgets after a time, even if it has sessions
    #[arg(long)]
    no_sessions: bool,
    /// Wait for a session even if the server does not answer: only one that says that it has none
    /// gets plain ids
    #[arg(long, conflicts_with_all = ["no_sessions", "naive"])]
    insist_on_session: bool,
    /// Give every attempt a fresh id, as a hand-made retry loop does
    #[arg(long)]
    naive: bool,
    /// Write one line of JSON per call to this file, as soon as the call has ended
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
    /// Print one object of JSON instead of text
    #[arg(long)]
    json: bool,
}

/// A moment for a copy that is not given in milliseconds.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum HedgeAt {
    P95,
}

/// No call is worth a copy sooner than this, however fast the others are.
const HEDGE_AT_LEAST: Duration = Duration::from_millis(1);

impl Args {
    fn limits(&self) -> Result<CallLimits, BackoffError> {
        let ms = Duration::from_millis;
        Ok(CallLimits {
            attempt_timeout: ms(self.attempt_timeout_ms),
            max_attempts: self.max_attempts,
            deadline: ms(self.deadline_ms),
            backoff: Backoff::new(
                ms(self.backoff_ms),
                self.factor,
                ms(self.backoff_cap_ms.unwrap_or(self.backoff_ms.max(500))),
                self.jitter,
            )?,
            hedge: self.hedging(),
        })
    }

    fn hedging(&self) -> Hedge {
        match (self.hedge, self.hedge_ms) {
            (Some(HedgeAt::P95), _) => Hedge::P95 {
                at_least: HEDGE_AT_LEAST,
            },
            (None, Some(ms)) => Hedge::After(Duration::from_millis(ms)),
            (None, None) => Hedge::Off,
        }
    }

    fn config(&self, call: CallLimits) -> Config {
        Config {
            // A hello whose answer is lost is sent again after as long as an attempt, and retries
            // wait for it.
            call,
            jitter_seed: self.seed,
            retry_budget: self.retry_budget,
            connections: self.connections,
            // A loop around an ordinary client does not tell the server its deadline either.
            extensions: !self.naive,
            sessions: !self.no_sessions,
            assume_plain_on_silence: !self.insist_on_session,
            ..Config::default()
        }
    }

    fn load(&self, limits: CallLimits, progress: &ProgressBar) -> Load {
        Load {
            calls: self.calls,
            concurrency: self.concurrency,
            key: match &self.key_per_call {
                Some(prefix) => Key::PerCall(prefix.clone()),
                None => Key::Same(self.key.clone()),
            },
            delta: self.delta,
            limits,
            naive: self.naive,
            seed: self.seed.unwrap_or_default(),
            stop: stop_on_ctrl_c(),
            progress: progress.clone(),
        }
    }
}

fn address(text: &str) -> Result<String, String> {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
            Ok(text.to_owned())
        }
        _ => Err("expected HOST:PORT, such as 127.0.0.1:7077".to_owned()),
    }
}

fn retry_budget(text: &str) -> Result<RetryBudget, String> {
    if text == "unlimited" {
        return Ok(RetryBudget::unlimited());
    }
    match text.parse() {
        Ok(percent_of_calls) if (0.0..=10_000.0).contains(&percent_of_calls) => Ok(RetryBudget {
            percent_of_calls,
            ..RetryBudget::default()
        }),
        _ => Err("expected \"unlimited\" or a percentage from 0 to 10000".to_owned()),
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let limits = args.limits().unwrap_or_else(|error| {
        // Built, because only then does the usage line have the program's name.
        let mut command = Args::command();
        command.build();
        command.error(ErrorKind::ValueValidation, error).exit()
    });
    match run(&args, limits).await {
        Ok(summary) if summary.ok == args.calls && summary.violations.unwrap_or(0) == 0 => {
            ExitCode::SUCCESS
        }
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args, limits: CallLimits) -> anyhow::Result<Summary> {
    let events = args
        .events
        .as_ref()
        .map(|path| File::create(path).with_context(|| format!("cannot write {}", path.display())));
    let events = events.transpose()?;
    let client = Client::builder()
        .config(args.config(limits))
        .connect(&args.connect)
        .await?;
    let progress = progress(args.calls);
    let (mut summary, written) = args.load(limits, &progress).run(&client, events).await;
    progress.finish_and_clear();
    // No use in asking a server that no call reached.
    let reached = summary.not_executed < summary.calls || args.calls == 0;
    if reached && args.key_per_call.is_none() {
        summary.value = value(&client, &args.key, limits).await.ok();
    }
    let stats = client.stats();
    client.close().await;
    summary.connects = stats.connects;
    summary.sessions = reached.then_some(stats.sessions_opened > 0);
    let text = match args.json {
        true => serde_json::to_string(&summary)?,
        false => summary.to_string(),
    };
    // Whatever comes of the events, the summary of what was done is not lost.
    writeln!(std::io::stdout(), "{text}").context("cannot write the summary")?;
    written.context("cannot write the events")?;
    Ok(summary)
}

/// On stderr, and only if that is a terminal.
fn progress(calls: u64) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{wide_bar} {human_pos}/{human_len} calls, {eta} left");
    ProgressBar::new(calls).with_style(style.expect("the template is right"))
}

fn stop_on_ctrl_c() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&stop);
    tokio::spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() {
            if asked.swap(true, Ordering::Relaxed) {
                std::process::exit(1);
            }
        }
    });
    stop
}
