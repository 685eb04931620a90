//! Makes many `inc` calls against a counter server and sums up how they ended.

use std::{
    fs::File,
    io::Write,
    ops::RangeInclusive,
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
    Backoff, BackoffError, BuildError, CallLimits, Client, Config, Hedge, Jitter, RetryBudget,
};
use redial_examples::{
    descriptors::runtime,
    doors::ClientDoors,
    flags::{DAY_MS, SEEDS, Whole, number, whole},
    load::{Key, Load, summary::Summary, value},
    signals::Signals,
};

/// How many calls.
const CALLS: Whole = 0..=1_000_000_000_000;

/// How many calls at once, each of which is a task.
const CONCURRENCY: Whole = 1..=65_536;

/// How many attempts of a call.
const ATTEMPTS: Whole = 1..=1_000_000;

/// What a call may add: all that a counter may hold.
const DELTAS: Whole = i64::MIN as i128..=i64::MAX as i128;

/// How long something is waited for, in milliseconds.
const WAITS_MS: Whole = 1..=DAY_MS;

/// How many connections, each of which is a socket.
const CONNECTIONS: Whole = 1..=1024;

/// What a wait is multiplied by.
const FACTOR: RangeInclusive<f64> = 1.0..=1000.0;

/// Retries per hundred calls.
const PERCENT: RangeInclusive<f64> = 0.0..=10_000.0;

/// Makes many `inc` calls, and sums up how they ended. It exits with 0 only if all succeeded.
///
/// Ctrl-C or SIGTERM ends it early: calls that have started finish, and no others start. Its defaults suit a
/// lossy server; those of the library are more patient.
#[derive(Debug, Parser)]
#[command(name = "counter-client", version)]
struct Args {
    #[command(flatten)]
    doors: ClientDoors,
    /// How many calls to make
    #[arg(long, value_name = "N", default_value_t = 100, allow_negative_numbers = true, value_parser = whole::<u64>(CALLS))]
    calls: u64,
    /// How many calls are in flight at once
    #[arg(long, value_name = "N", default_value_t = 8, allow_negative_numbers = true, value_parser = whole::<u64>(CONCURRENCY))]
    concurrency: u64,
    /// The name of the counter
    #[arg(long, value_name = "K", default_value = "k")]
    key: String,
    /// Give call n its own counter, PREFIX-n: any value but that of exactly one effect is a
    /// violation
    #[arg(long, value_name = "PREFIX", conflicts_with = "key")]
    key_per_call: Option<String>,
    /// What each call adds to the counter
    #[arg(long, value_name = "D", default_value_t = 1, allow_negative_numbers = true, value_parser = whole::<i64>(DELTAS))]
    delta: i64,
    /// How long to wait for a reply before the next attempt, in milliseconds
    #[arg(long, value_name = "N", default_value_t = 250, allow_negative_numbers = true, value_parser = whole::<u64>(WAITS_MS))]
    attempt_timeout_ms: u64,
    /// The most attempts of a call, the first included
    #[arg(long, value_name = "N", default_value_t = 20, allow_negative_numbers = true, value_parser = whole::<u32>(ATTEMPTS))]
    max_attempts: u32,
    /// How long a call may take with all its attempts, in milliseconds
    #[arg(long, value_name = "N", default_value_t = 10_000, allow_negative_numbers = true, value_parser = whole::<u64>(WAITS_MS))]
    deadline_ms: u64,
    /// The first wait between attempts, in milliseconds
    #[arg(long, value_name = "N", default_value_t = 30, allow_negative_numbers = true, value_parser = whole::<u64>(WAITS_MS))]
    backoff_ms: u64,
    /// By how much each wait is longer than the one before
    #[arg(long, value_name = "F", default_value_t = 2.0, allow_negative_numbers = true, value_parser = number("a number", FACTOR))]
    factor: f64,
    /// The longest wait between attempts, in milliseconds [default: 500, or the first wait if that
    /// is longer]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = whole::<u64>(WAITS_MS))]
    backoff_cap_ms: Option<u64>,
    /// The jitter of waits: full, equal, decorrelated, none or proportional:P
    #[arg(long, value_name = "KIND", default_value = "full")]
    jitter: Jitter,
    /// Seed of the jitter, to make it repeat; ids are always random
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = whole::<u64>(SEEDS))]
    seed: Option<u64>,
    /// The most retries per hundred calls, or "unlimited"; the library's default is 20
    #[arg(long, value_name = "PERCENT", default_value = "unlimited", value_parser = retry_budget, allow_hyphen_values = true)]
    retry_budget: RetryBudget,
    /// How many connections share the calls
    #[arg(long, value_name = "N", default_value_t = 1, allow_negative_numbers = true, value_parser = whole::<usize>(CONNECTIONS))]
    connections: usize,
    /// Send a copy of a call on another connection once it has taken this long, in milliseconds
    #[arg(long, value_name = "N", conflicts_with_all = ["hedge", "naive"], allow_negative_numbers = true, value_parser = whole::<u64>(WAITS_MS))]
    hedge_ms: Option<u64>,
    /// Send a copy of a call once it has taken longer than 95 % of the calls before it: p95
    #[arg(long, value_name = "WHEN", conflicts_with = "naive")]
    hedge: Option<HedgeAt>,
    /// Use plain ids, which the server forgets after a time, even if it has sessions
    #[arg(long)]
    no_sessions: bool,
    /// How long after its first attempt a call with a plain id is sent again, in milliseconds: less
    /// than the server's --ttl-ms
    #[arg(long, value_name = "N", default_value_t = 8000, allow_negative_numbers = true, value_parser = whole::<u64>(WAITS_MS))]
    resend_window_ms: u64,
    /// Don't ask the server for a session: it has none, and doesn't answer what it doesn't know
    #[arg(long, conflicts_with_all = ["no_sessions", "naive"])]
    assume_plain: bool,
    /// Give every attempt a new id, as a hand-made retry loop does
    #[arg(long)]
    naive: bool,
    /// Write a line of JSON for each call to this file, as soon as the call has ended
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
    /// Print a JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// When to hedge, other than after a fixed time.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum HedgeAt {
    P95,
}

/// No call is hedged sooner than this, however fast the others are.
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
            ..CallLimits::default()
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
            // An unanswered hello is sent again after the attempt timeout, and retries wait for it.
            call,
            jitter_seed: self.seed,
            retry_budget: self.retry_budget,
            connections: self.connections,
            resend_window: Duration::from_millis(self.resend_window_ms),
            // A hand-made loop does not send its deadline either.
            extensions: !self.naive,
            sessions: !self.no_sessions,
            assume_plain: self.assume_plain,
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
            stop: stop_on_signal(),
            progress: progress.clone(),
        }
    }
}

fn retry_budget(text: &str) -> Result<RetryBudget, String> {
    if text == "unlimited" {
        return Ok(RetryBudget::unlimited());
    }
    let percent = number("\"unlimited\" or a percentage", PERCENT)(text);
    percent.map(|percent_of_calls| RetryBudget {
        percent_of_calls,
        ..RetryBudget::default()
    })
}

fn main() -> ExitCode {
    let args = Args::parse();
    let limits = args.limits().unwrap_or_else(|error| {
        let flag = match error {
            BackoffError::Proportion(_) => "--jitter",
            BackoffError::Factor(_) => "--factor",
            _ => "--backoff-ms",
        };
        refuse(format!("{flag}: {error}"))
    });
    if args.key_per_call.is_some() && args.delta == 0 {
        let error = "--key-per-call checks what each call adds, and --delta 0 adds nothing; expected another \
                     --delta";
        refuse(error.to_owned());
    }
    let events = args.events.as_ref().map(|path| {
        File::create(path).with_context(|| format!("cannot write --events {}", path.display()))
    });
    let events = match events.transpose() {
        Ok(events) => events,
        Err(error) => return fail(&error, 2),
    };
    match runtime() {
        Ok(runtime) => runtime.block_on(calls(&args, limits, events)),
        Err(error) => fail(&error, 1),
    }
}

/// Ends the program, for flags that each are right and together are not.
fn refuse(error: String) -> ! {
    // Built, because only then does the usage line have the program's name.
    let mut command = Args::command();
    command.build();
    command.error(ErrorKind::ValueValidation, error).exit()
}

fn fail(error: &anyhow::Error, code: u8) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "error: {error:#}");
    ExitCode::from(code)
}

async fn calls(args: &Args, limits: CallLimits, events: Option<File>) -> ExitCode {
    let builder = Client::builder().config(args.config(limits));
    let client = match args.doors.connect(builder).await {
        Ok(client) => client,
        Err(error) if error.is::<BuildError>() => {
            return fail(&anyhow::anyhow!("{error:#}; nothing was executed"), 1);
        }
        // A file is not as a flag says.
        Err(error) => return fail(&error, 2),
    };
    match run(args, client, limits, events).await {
        Ok(summary) if summary.ok == args.calls && summary.violations.unwrap_or(0) == 0 => {
            ExitCode::SUCCESS
        }
        Ok(_) => ExitCode::FAILURE,
        Err(error) => fail(&error, 1),
    }
}

async fn run(
    args: &Args,
    client: Client,
    limits: CallLimits,
    events: Option<File>,
) -> anyhow::Result<Summary> {
    let progress = progress(args.calls);
    let (mut summary, written) = args.load(limits, &progress).run(&client, events).await;
    progress.finish_and_clear();
    // A server that no call reached cannot be asked.
    let reached = summary.not_executed < summary.calls || args.calls == 0;
    if reached && args.key_per_call.is_none() {
        summary.value = value(&client, &args.key, limits).await.ok();
    }
    let (stats, endpoints) = (client.stats(), client.endpoints());
    client.close().await;
    summary.connects = stats.connects;
    if endpoints.len() > 1 {
        let attempts = endpoints.into_iter().map(|one| (one.address, one.attempts));
        summary.endpoints = attempts.collect();
    }
    summary.sessions = reached.then_some(stats.sessions_opened > 0);
    let text = if args.json {
        serde_json::to_string(&summary)?
    } else {
        summary.to_string()
    };
    // The summary is printed even if the events could not be written.
    writeln!(std::io::stdout(), "{text}").context("cannot write the summary")?;
    written.context("cannot write all --events")?;
    Ok(summary)
}

/// A bar on stderr, if that is a terminal.
fn progress(calls: u64) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{wide_bar} {human_pos}/{human_len} calls, {eta} left");
    ProgressBar::new(calls).with_style(style.expect("the template is valid"))
}

/// Set by Ctrl-C or SIGTERM; the second one ends the program.
fn stop_on_signal() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&stop);
    tokio::spawn(async move {
        let Ok(mut signals) = Signals::new() else {
            return;
        };
        loop {
            signals.stop_requested().await;
            if asked.swap(true, Ordering::Relaxed) {
                std::process::exit(1);
            }
        }
    });
    stop
}
