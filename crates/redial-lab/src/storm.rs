//! `cargo xtask storm`: load at and beyond a server's limit, in virtual time: a fleet of plain clients, and
//! Redial's as it is by default.

mod chart;
mod page;
mod record;
mod stories;
mod table;

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use indicatif::ProgressBar;
use serde_json::json;

use self::{
    record::{FLEETS, Fleet, StormRecord},
    table::FigureRow,
};
use crate::{
    experiment::{Experiment, Lab, Report},
    harness::{clock, command_line, flags::whole, process::Process, programs::listening, progress},
    report,
};

/// The scenarios, by their letters.
const LETTERS: [char; 9] = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i'];
/// Those that are played in real time, too.
const REAL_LETTERS: [char; 3] = ['a', 'b', 'c'];
/// So many clients have sockets at most.
const REAL_CLIENTS: u64 = 100;

/// The flags of the storms.
#[derive(clap::Args)]
pub(crate) struct StormFlags {
    /// Which storms, by their letters: a stall, b steps of load, c a greedy principal, d timeouts, e hello after a
    /// restart, f a dead endpoint, g a slow one, h duplicates, i a slow database. All of them by default
    #[arg(long, value_delimiter = ',', value_parser = letter, allow_negative_numbers = true, value_name = "LETTERS")]
    scenario: Vec<char>,
    /// How many seeds each is played from
    #[arg(long, default_value_t = 1, value_parser = whole(1..=10_000), allow_negative_numbers = true)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 1, value_parser = whole(0..=1_000_000_000), allow_negative_numbers = true)]
    from: u64,
    /// How many clients there are at most; storms in which more would show nothing new have fewer
    #[arg(long, default_value_t = 10_000, value_parser = whole(20..=20_000), allow_negative_numbers = true)]
    clients: u64,
    /// Play a, b and c with two real processes on loopback, in real time and on a smaller scale: a minute and a
    /// half for each seed
    #[arg(long)]
    real: bool,
    /// Write the page to this file, too
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// All storms, played.
pub(crate) struct StormResults {
    records: Vec<StormRecord>,
    seeds: u64,
    took: Duration,
    is_real: bool,
    /// How it is played again.
    command: String,
}

/// What is to be played.
#[derive(Clone, Copy)]
struct Job {
    letter: char,
    fleet: Fleet,
    seed: u64,
    clients: u64,
    is_real: bool,
}

fn letter(text: &str) -> Result<char, String> {
    let mut letters = LETTERS.into_iter();
    letters
        .find(|letter| text == letter.to_string())
        .ok_or_else(|| "expected letters from a to i, with commas in between".to_owned())
}

impl Experiment for StormFlags {
    const NAME: &'static str = "storm";

    fn page(&self) -> &'static str {
        if self.real { "storm-real" } else { Self::NAME }
    }

    type Results = StormResults;

    fn run(&self, lab: &Lab<'_>) -> Result<StormResults> {
        ensure!(
            !self.letters().is_empty(),
            "--real plays a, b and c, and --scenario asks for none of them"
        );
        let folder = lab.build("redial-sim", "release")?;
        let program = folder.join(format!("redial-storm{}", std::env::consts::EXE_SUFFIX));
        let start = clock::now();
        let records = play(&program, &self.jobs())?;
        let results = StormResults {
            records,
            seeds: self.seeds,
            took: clock::now().duration_since(start),
            is_real: self.real,
            command: self.command(),
        };
        if let (Some(file), Some(page)) = (&self.html, results.html()) {
            fs::write(file, page).with_context(|| format!("can't write {}", file.display()))?;
        }
        Ok(results)
    }
}

impl StormFlags {
    fn letters(&self) -> Vec<char> {
        let is_asked = |letter: &char| self.scenario.is_empty() || self.scenario.contains(letter);
        let all = if self.real {
            &REAL_LETTERS[..]
        } else {
            &LETTERS
        };
        all.iter().copied().filter(is_asked).collect()
    }

    fn jobs(&self) -> Vec<Job> {
        let letters = self.letters().into_iter();
        letters
            .flat_map(|letter| FLEETS.map(|fleet| (letter, fleet)))
            .flat_map(|(letter, fleet)| {
                (0..self.seeds).map(move |at| Job {
                    letter,
                    fleet,
                    seed: self.from + at,
                    clients: self.clients,
                    is_real: self.real,
                })
            })
            .collect()
    }

    fn command(&self) -> String {
        let letters: Vec<_> = self.letters().iter().map(char::to_string).collect();
        let Self {
            seeds,
            from,
            clients,
            ..
        } = self;
        let real = if self.real { " --real" } else { "" };
        format!(
            "cargo xtask storm{real} --scenario {} --seeds {seeds} --from {from} --clients {clients}",
            letters.join(",")
        )
    }
}

/// Plays all of them, as many at once as there are processors; the first error ends it.
fn play(program: &Path, jobs: &[Job]) -> Result<Vec<StormRecord>> {
    let bar = progress::bar(jobs.len() as u64, "{pos}/{len} storms, {msg}");
    let (next, records) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let is_real = jobs.iter().any(|job| job.is_real);
    let at_once = match thread::available_parallelism() {
        // What is measured has the machine for itself.
        Ok(processors) if !is_real => processors.get(),
        _ => 1,
    };
    thread::scope(|scope| {
        let player = || {
            while let Some((at, job)) = next_job(jobs, &next) {
                let record = one(program, job, &bar).inspect_err(|_| {
                    next.store(jobs.len(), Relaxed);
                })?;
                let mut records = records.lock().unwrap_or_else(PoisonError::into_inner);
                records.push((at, record));
                bar.inc(1);
            }
            Ok::<_, anyhow::Error>(())
        };
        let players: Vec<_> = (0..at_once).map(|_| scope.spawn(player)).collect();
        let ends = players.into_iter().map(|player| player.join());
        ends.map(|end| end.expect("no player panics"))
            .collect::<Result<Vec<()>>>()
    })?;
    bar.finish_and_clear();
    let mut records = records.into_inner().unwrap_or_else(PoisonError::into_inner);
    records.sort_by_key(|(at, _)| *at);
    Ok(records.into_iter().map(|(_, record)| record).collect())
}

fn next_job<'a>(jobs: &'a [Job], next: &AtomicUsize) -> Option<(usize, &'a Job)> {
    let at = next.fetch_add(1, Relaxed);
    jobs.get(at).map(|job| (at, job))
}

fn one(program: &Path, job: &Job, bar: &ProgressBar) -> Result<StormRecord> {
    let Job { letter, fleet, .. } = *job;
    let what = format!("storm {letter}, {}, seed {}", fleet.name(), job.seed);
    bar.set_message(what.clone());
    bar.tick();
    let (mut words, mut server) = (job.words(), None);
    if job.is_real {
        let serving = [words.clone(), vec!["--serve".to_owned()]].concat();
        let process = Process::start("the storm's server", program, &serving)?;
        let address: SocketAddr = listening(&process)?;
        words.extend(["--connect".to_owned(), address.to_string()]);
        server = Some(process);
    }
    let output = Command::new(program)
        .args(words)
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("can't run {}", program.display()))?;
    drop(server);
    ensure!(output.status.success(), "{what}: {}", output.status);
    serde_json::from_slice(&output.stdout).with_context(|| what)
}

impl Job {
    /// The flags of the program that plays it.
    fn words(&self) -> Vec<String> {
        let clients = if self.is_real {
            self.clients.min(REAL_CLIENTS)
        } else {
            self.clients
        };
        let text = format!(
            "--scenario {} --fleet {} --seed {} --clients {clients}",
            self.letter,
            self.fleet.name(),
            self.seed
        );
        command_line::words(&text)
    }
}

impl StormResults {
    /// The letters that were played.
    fn letters(&self) -> Vec<char> {
        let is_played = |letter: &char| self.records.iter().any(|record| record.letter == *letter);
        LETTERS.into_iter().filter(is_played).collect()
    }

    fn of(&self, letter: char, fleet: Fleet) -> impl Iterator<Item = &StormRecord> {
        let records = self.records.iter();
        records.filter(move |record| record.letter == letter && record.fleet == fleet)
    }

    /// A line for each figure, storm by storm.
    fn rows(&self) -> Vec<FigureRow> {
        let letters = self.letters().into_iter();
        letters
            .flat_map(|letter| {
                let [naive, redial] =
                    FLEETS.map(|fleet| self.of(letter, fleet).collect::<Vec<_>>());
                table::rows(letter, &naive, &redial)
            })
            .collect()
    }
}

impl Report for StormResults {
    fn text(&self, page: &Path) -> String {
        let calls = self.records.iter().map(|record| record.count.calls);
        format!(
            "{}\n{}\n{} calls in {:.0} s; the page: {}",
            table::terminal(&self.rows()),
            table::exactness(&self.records),
            report::scale::thousands(calls.sum()),
            self.took.as_secs_f64(),
            page.display()
        )
    }

    fn json(&self, page: &Path) -> Result<String> {
        let rows: Vec<_> = self.rows().iter().map(FigureRow::json).collect();
        let value = json!({
            "command": self.command,
            "seeds": self.seeds,
            "seconds": self.took.as_secs_f64(),
            "rows": rows,
            "problems": self.problems(),
            "page": page.display().to_string(),
        });
        Ok(value.to_string())
    }

    fn html(&self) -> Option<String> {
        Some(page::html(self))
    }

    fn problems(&self) -> Vec<String> {
        self.records
            .iter()
            .flat_map(StormRecord::problems)
            .collect()
    }
}

#[cfg(test)]
pub(crate) fn sample_page() -> String {
    tests::sample_page()
}

#[cfg(test)]
mod tests;
