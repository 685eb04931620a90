//! Plays the worlds of many seeds, or tells the story of one.

use std::{
    io::{self, Write},
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
};

use clap::Parser;
use redial_sim::{Bug, Run, Subject, Tally, Violation, calls, judge, log, run, story};
use serde_json::json;

/// The exit code where flags are wrong, as clap has it.
const WRONG_FLAGS: u8 = 2;

/// Simulated worlds of Redial, one for each seed, judged by an oracle.
#[derive(Parser)]
struct Args {
    /// How many seeds to play
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=u64::MAX / 2))]
    seeds: u64,
    /// The first of them
    // Not so high that the next one would be the first again.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(..=u64::MAX / 2))]
    from: u64,
    /// Play this one seed, and tell what happened
    #[arg(long, conflicts_with_all = ["seeds", "from", "json"])]
    seed: Option<u64>,
    /// Of the one seed, tell only what has to do with this call
    #[arg(long, requires = "seed")]
    call: Option<u32>,
    /// Whom to play with: real, model, or the name of a deliberate bug
    #[arg(long, default_value = "real", value_parser = subject)]
    subject: Subject,
    /// How many seeds are played at once; each has a thread of its own
    #[arg(long, default_value_t = thread::available_parallelism().map_or(1, usize::from))]
    jobs: usize,
    /// Print one JSON object on stdout, after a line with the number of seeds played for each so
    /// many of them
    #[arg(long)]
    json: bool,
}

/// What many seeds came to.
#[derive(Default)]
struct Total {
    played: u64,
    tally: Tally,
    /// The lowest seed that failed.
    failed: Option<(u64, Vec<Violation>)>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let told = match args.seed {
        Some(seed) => tell(&args, seed),
        None => play(&args),
    };
    // Whoever reads has enough of it.
    told.unwrap_or(ExitCode::FAILURE)
}

fn subject(name: &str) -> Result<Subject, String> {
    let bugs = Bug::ALL.into_iter();
    match name {
        "real" => Ok(Subject::Real),
        "model" => Ok(Subject::Model),
        _ => bugs
            .clone()
            .find(|bug| bug.name() == name)
            .map(Subject::Buggy)
            .ok_or_else(|| {
                let names: Vec<_> = bugs.map(Bug::name).collect();
                format!("expected real, model, or a bug: {}", names.join(", "))
            }),
    }
}

fn tell(args: &Args, seed: u64) -> io::Result<ExitCode> {
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
        (Some(call), _) => write!(out, "{}", story(&run, call))?,
        (None, true) => write!(out, "{}", log(&run.entries))?,
        (None, false) => {}
    }
    report(&mut out, &run, &violations)?;
    let tally = serde_json::to_string(&Tally::of(&run)).expect("figures are JSON");
    writeln!(out, "seed {seed}: {} violations; {tally}", violations.len())?;
    Ok(code(violations.is_empty()))
}

/// What was wrong, and the story of each call that it was wrong about.
fn report(out: &mut impl Write, run: &Run, violations: &[Violation]) -> io::Result<()> {
    let mut told = Vec::new();
    for violation in violations {
        writeln!(out, "VIOLATION {violation}")?;
        if let Some(tag) = violation.tag.filter(|tag| !told.contains(tag)) {
            told.push(tag);
            writeln!(out, "{}", story(run, tag))?;
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
    let end = args.from.saturating_add(args.seeds);
    let (next, total) = (AtomicU64::new(args.from), Mutex::new(Total::default()));
    thread::scope(|scope| {
        for _ in 0..args.jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Relaxed);
                    if seed >= end {
                        return;
                    }
                    let run = run(seed, args.subject);
                    let violations = judge(&run);
                    if !violations.is_empty() {
                        // Those before it are played to their end: the lowest counts.
                        next.store(end, Relaxed);
                    }
                    let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
                    total.add(&run, violations);
                    if total.played.is_multiple_of(10) && args.json {
                        println!("{}", total.played);
                    }
                }
            });
        }
    });
    let total = total.into_inner().unwrap_or_else(PoisonError::into_inner);
    total.print(args)
}

impl Total {
    fn add(&mut self, run: &Run, violations: Vec<Violation>) {
        self.played += 1;
        self.tally += Tally::of(run);
        let is_lowest = self
            .failed
            .as_ref()
            .is_none_or(|(lowest, _)| run.seed < *lowest);
        if !violations.is_empty() && is_lowest {
            self.failed = Some((run.seed, violations));
        }
    }

    fn print(self, args: &Args) -> io::Result<ExitCode> {
        let mut out = io::stdout().lock();
        let is_good = self.failed.is_none();
        let seed = self.failed.as_ref().map(|(seed, _)| *seed);
        let violations = self
            .failed
            .map(|(_, violations)| violations)
            .unwrap_or_default();
        if args.json {
            let violations: Vec<_> = violations.iter().map(ToString::to_string).collect();
            let summary = json!({
                "seeds": self.played,
                "first_failing_seed": seed,
                "violations": violations,
                "tally": self.tally,
            });
            writeln!(out, "{summary}")?;
            return Ok(code(is_good));
        }
        if let Some(seed) = seed {
            report(&mut out, &run(seed, args.subject), &violations)?;
            writeln!(
                out,
                "seed {seed} failed; again: cargo xtask sim --seed {seed}"
            )?;
        }
        let tally = serde_json::to_string(&self.tally).expect("figures are JSON");
        writeln!(out, "{} seeds; {tally}", self.played)?;
        Ok(code(is_good))
    }
}
