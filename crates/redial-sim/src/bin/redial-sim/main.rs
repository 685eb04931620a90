//! Plays the worlds of many seeds, or shows one: `cargo xtask sim`.

mod summary;

use std::{
    io::{self, Write},
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Instant,
};

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use redial_sim::{Bug, Run, Subject, Tally, Violation, calls, judge, log, run, trace};

use self::summary::Summary;

/// The exit code for wrong flags, as in clap.
const WRONG_FLAGS: u8 = 2;

/// Simulated worlds of the real client and server, each from a seed, judged by an oracle.
///
/// 500 of them take some ten seconds after a build of minutes. It exits with 1 if a promise was
/// broken, and says how to see what happened in that world.
#[derive(Parser)]
#[command(bin_name = "cargo xtask sim")]
struct Args {
    /// How many seeds to play
    #[arg(long, default_value_t = 500, value_parser = whole::<u64>(1, 100_000_000), allow_negative_numbers = true)]
    seeds: u64,
    /// The first seed
    // Not so high that the next one would be the first again.
    #[arg(long, default_value_t = 1, value_parser = whole::<u64>(0, u64::MAX / 2), allow_negative_numbers = true)]
    from: u64,
    /// Play this one seed, and show what happened
    #[arg(long, conflicts_with_all = ["seeds", "from", "json"], value_parser = whole::<u64>(0, u64::MAX), allow_negative_numbers = true)]
    seed: Option<u64>,
    /// Of the one seed, show only what concerns this call
    #[arg(long, requires = "seed", value_parser = whole::<u32>(0, u32::MAX.into()), allow_negative_numbers = true)]
    call: Option<u32>,
    /// What to simulate: real, stored (the same with a durable store, on a disk that power cuts hit), shared
    /// (several servers on one table in a model of a database, behind a balancer),
    /// endpoints (several servers, on one table or each with its own, and clients with a list of addresses),
    /// model (a small server with the same rules), or a deliberate bug by its name, which the oracle must find; a wrong name lists them all
    #[arg(long, default_value = "real", value_parser = subject)]
    subject: Subject,
    /// How many seeds to play at once, each on a thread of its own
    #[arg(long, hide = true, default_value_t = cores(), value_parser = whole::<usize>(1, 1024), allow_negative_numbers = true)]
    jobs: usize,
    /// Print one JSON object on stdout, and nothing else there
    #[arg(long)]
    json: bool,
}

/// The results of many seeds.
#[derive(Default)]
struct Total {
    played: u64,
    tally: Tally,
    /// The lowest seed that failed.
    failed: Option<(u64, Vec<Violation>)>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let done = match args.seed {
        Some(seed) => show(&args, seed),
        None => play(&args),
    };
    // An error means that the reader closed stdout.
    done.unwrap_or(ExitCode::FAILURE)
}

fn cores() -> usize {
    thread::available_parallelism()
        .map_or(1, usize::from)
        .min(1024)
}

/// A parser of whole numbers from `least` to `most`, whose error names both.
fn whole<N: TryFrom<u64>>(
    least: u64,
    most: u64,
) -> impl Fn(&str) -> Result<N, String> + Clone + Send + Sync + 'static {
    move |text| {
        let number = text.parse().ok();
        number
            .filter(|number| (least..=most).contains(number))
            .and_then(|number| N::try_from(number).ok())
            .ok_or_else(|| format!("expected a whole number from {least} to {most}"))
    }
}

fn subject(name: &str) -> Result<Subject, String> {
    let bugs = Bug::ALL.into_iter();
    match name {
        "real" => Ok(Subject::Real),
        "stored" => Ok(Subject::Stored),
        "shared" => Ok(Subject::Shared),
        "endpoints" => Ok(Subject::Endpoints),
        "model" => Ok(Subject::Model),
        _ => bugs
            .clone()
            .find(|bug| bug.name() == name)
            .map(Subject::Buggy)
            .ok_or_else(|| {
                let names: Vec<_> = bugs.map(Bug::name).collect();
                format!(
                    "expected real, stored, shared, endpoints, model, or a bug: {}",
                    names.join(", ")
                )
            }),
    }
}

fn show(args: &Args, seed: u64) -> io::Result<ExitCode> {
    let run = run(seed, args.subject);
    if let Some(call) = args.call
        && !calls(&run).contains(&call)
    {
        eprintln!(
            "error: invalid value '{call}' for '--call <CALL>': expected the number of a call of \
             seed {seed}; --seed {seed} alone shows them all"
        );
        return Ok(ExitCode::from(WRONG_FLAGS));
    }
    let violations = judge(&run);
    let mut out = io::stdout().lock();
    match (args.call, violations.is_empty()) {
        (Some(call), _) => write!(out, "{}", trace(&run, call))?,
        (None, true) => write!(out, "{}", log(&run.entries))?,
        (None, false) => {}
    }
    report(&mut out, &run, &violations)?;
    let tally = serde_json::to_string(&Tally::of(&run)).expect("figures are JSON");
    writeln!(out, "seed {seed}: {} violations; {tally}", violations.len())?;
    Ok(code(violations.is_empty()))
}

/// Writes every violation, and the trace of each call that broke a rule.
fn report(out: &mut impl Write, run: &Run, violations: &[Violation]) -> io::Result<()> {
    let mut shown = Vec::new();
    for violation in violations {
        writeln!(out, "VIOLATION {violation}")?;
        if let Some(tag) = violation.tag.filter(|tag| !shown.contains(tag)) {
            shown.push(tag);
            writeln!(out, "{}", trace(run, tag))?;
        }
    }
    Ok(())
}

fn code(is_good: bool) -> ExitCode {
    if is_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn play(args: &Args) -> io::Result<ExitCode> {
    let start = wall_clock();
    let end = args.from.saturating_add(args.seeds);
    let (next, total) = (AtomicU64::new(args.from), Mutex::new(Total::default()));
    let bar = bar(args.seeds);
    thread::scope(|scope| {
        for _ in 0..args.jobs {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Relaxed);
                    if seed >= end {
                        return;
                    }
                    let run = run(seed, args.subject);
                    let violations = judge(&run);
                    if !violations.is_empty() {
                        // Lower seeds are played to their ends: the lowest failure counts.
                        next.store(end, Relaxed);
                    }
                    let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
                    total.add(&run, violations);
                    bar.inc(1);
                }
            });
        }
    });
    bar.finish_and_clear();
    let total = total.into_inner().unwrap_or_else(PoisonError::into_inner);
    let is_good = total.failed.is_none();
    let summary = Summary {
        subject: args.subject,
        seeds: total.played,
        tally: total.tally,
        failed: total.failed,
        seconds: wall_clock().duration_since(start).as_secs_f64(),
    };
    let text = if args.json {
        summary.json().to_string()
    } else {
        summary.text()
    };
    writeln!(io::stdout(), "{text}")?;
    Ok(code(is_good))
}

/// Shows how far it is, on stderr and only in a terminal.
fn bar(seeds: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:24} {pos}/{len} seeds, {per_sec}, {eta} to go");
    ProgressBar::new(seeds).with_style(style.expect("the template is fixed"))
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long it took is shown and decides nothing"
)]
fn wall_clock() -> Instant {
    Instant::now()
}

impl Total {
    fn add(&mut self, run: &Run, violations: Vec<Violation>) {
        self.played += 1;
        self.tally += Tally::of(run);
        let lowest = self.failed.as_ref().map(|(lowest, _)| *lowest);
        if !violations.is_empty() && lowest.is_none_or(|lowest| run.seed < lowest) {
            self.failed = Some((run.seed, violations));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_flag_is_named_and_a_wrong_value_gets_its_range() {
        for (words, expected) in [
            (["--seeds", "0"], "a whole number from 1 to 100000000"),
            (["--seeds", "-1"], "a whole number from 1 to 100000000"),
            (["--seed", "x"], "a whole number from 0"),
            (["--from", "18446744073709551615"], "--from"),
            (["--call", "1"], "--seed"),
            (["--subject", "x"], "no-join"),
        ] {
            let error = Args::try_parse_from(["sim"].iter().chain(&words));
            let error = error.err().expect("it is wrong").to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn every_number_has_a_range() {
        let flags = ["--seeds", "--from", "--seed", "--call", "--jobs"];
        for (flag, number) in flags.into_iter().flat_map(|flag| {
            let numbers = ["-1", "18446744073709551616", "NaN", "many", "1.5", ""];
            numbers.map(|number| (flag, number))
        }) {
            let error = Args::try_parse_from(["sim", flag, number]);
            let error = error.err().expect("it is wrong").to_string();
            let is_clear = error.contains(flag) && error.contains("a whole number from ");
            assert!(is_clear, "{flag} {number}: {error}");
        }
    }
}
