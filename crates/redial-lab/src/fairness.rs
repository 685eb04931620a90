//! `cargo xtask fairness`: a principal that takes everything it may get, connections, sessions, calls and
//! results of 1 MiB, and what it leaves to another one.

mod greedy;

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result};
use indicatif::ProgressBar;
use serde::Serialize;

use self::greedy::{Greedy, Takings};
use crate::{
    experiment::{Experiment, Lab, Report},
    harness::{
        command_line::words,
        descriptors,
        events::Summary,
        flags::{ROUNDS, whole},
        percentiles::Percentiles,
        programs::{Programs, Server},
        progress,
    },
    report::{
        scale::{PERCENTILES, duration, thousands},
        terminal::{self, wrap},
    },
};

/// The slowest call of a hundred may be at most so many times slower beside the greedy principal.
const RATIO: f64 = 3.0;
/// How long one round of calls may take on the slowest machine.
const ROUND: Duration = Duration::from_secs(600);
/// How long a handler waits for what is behind it. Its limits are the server's defaults.
const DELAY_MS: u64 = 5;
/// The other principal's calls in flight, on two connections.
const CONCURRENCY: u64 = 8;

/// What a principal shows, and its SHA-256.
struct Token {
    name: &'static str,
    secret: &'static str,
    hash: &'static str,
}

const GREEDY: Token = Token {
    name: "greedy",
    secret: "the greedy one",
    hash: "c0961bb48d1c732d7a616e2f683479db9c3ec874a0991d6bb0470bef8a725a3e",
};
const MODEST: Token = Token {
    name: "modest",
    secret: "the modest one",
    hash: "9435001b022016725e0095a87ef84616109d2cbb6cd5092c163cbb837426d956",
};

/// The flags of the experiment.
#[derive(clap::Args)]
pub(crate) struct Fairness {
    /// How often the modest principal is measured alone and beside the greedy one, by turns
    #[arg(long, default_value_t = 5, value_parser = whole(ROUNDS), allow_negative_numbers = true)]
    rounds: u64,
    /// How many calls it makes each time
    #[arg(long, default_value_t = 4_000, value_parser = whole(100..=1_000_000), allow_negative_numbers = true)]
    calls: u64,
}

/// What the greedy principal left to the modest one.
#[derive(Serialize)]
pub(crate) struct FairnessResults {
    alone: Percentiles,
    beside: Percentiles,
    /// The 99th percentile beside it, in those of it alone.
    ratio: f64,
    /// How many of the modest principal's calls the server refused, or lost.
    refused: u64,
    /// What the greedy one had, in the round in which it had least.
    greedy: Takings,
    problems: Vec<String>,
}

/// The measurement of the modest principal.
struct ModestMeasurement<'a> {
    programs: &'a Programs,
    server: &'a Server,
    /// The file with the modest principal's token.
    token: String,
    calls: u64,
    bar: ProgressBar,
}

impl Experiment for Fairness {
    const NAME: &'static str = "fairness";
    const RUNS_ALONE: bool = true;

    type Results = FairnessResults;

    fn run(&self, lab: &Lab<'_>) -> Result<FairnessResults> {
        let programs = lab.programs()?;
        descriptors::raise()?;
        let folder = lab.empty_folder(Self::NAME)?;
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            fs::write(&path, text).with_context(|| format!("can't write {}", path.display()))?;
            Ok::<_, anyhow::Error>(path.display().to_string())
        };
        let lines = [&GREEDY, &MODEST].map(|token| format!("{} {}\n", token.name, token.hash));
        let tokens = write("tokens", &lines.concat())?;
        let flags = format!("--delay-ms {DELAY_MS} --tokens");
        let server = programs.server(&[words(&flags), vec![tokens]].concat())?;
        let measurement = ModestMeasurement {
            programs: &programs,
            server: &server,
            token: write("modest.token", MODEST.secret)?,
            calls: self.calls,
            bar: progress::bar(self.rounds * 2, "{pos}/{len} rounds, {msg}"),
        };
        let results = measurement.run(self.rounds)?;
        server.stop()?;
        Ok(results)
    }
}

impl ModestMeasurement<'_> {
    fn run(&self, rounds: u64) -> Result<FairnessResults> {
        let (mut alone, mut beside) = (Vec::new(), Vec::new());
        let mut least: Option<Takings> = None;
        for _ in 0..rounds {
            alone.push(self.round("alone")?);
            let greedy = Greedy::start(self.server.address, GREEDY.secret)?;
            beside.push(self.round("beside the greedy one")?);
            let takings = greedy.stop()?;
            least = Some(least.map_or(takings, |least| least.min(takings)));
        }
        self.bar.finish_and_clear();
        let greedy = least.context("no round")?;
        Ok(FairnessResults::new(&alone, &beside, greedy))
    }

    fn round(&self, what: &'static str) -> Result<Summary> {
        self.bar.set_message(what);
        self.bar.tick();
        // One attempt, so that a refusal shows.
        let flags = format!(
            "--calls {} --concurrency {CONCURRENCY} --connections 2 --max-attempts 1 \
             --attempt-timeout-ms 10000 --json --connect {} --token-file",
            self.calls, self.server.address
        );
        let flags = [words(&flags), vec![self.token.clone()]].concat();
        let summary = self.programs.client(&flags, ROUND).context(what)?;
        self.bar.inc(1);
        Ok(summary)
    }
}

impl FairnessResults {
    fn new(alone: &[Summary], beside: &[Summary], greedy: Takings) -> Self {
        let all = alone.iter().chain(beside);
        let refused = all.map(|summary| summary.calls - summary.ok).sum();
        let (alone, beside) = (Percentiles::of(alone), Percentiles::of(beside));
        let ratio = beside.p99_us / alone.p99_us.max(1.0);
        let mut problems = Vec::new();
        if ratio > RATIO {
            problems.push(format!(
                "the 99th percentile is {ratio:.1} times that of the principal alone; expected at most {RATIO}"
            ));
        }
        if refused > 0 {
            problems.push(format!(
                "{refused} calls of the modest principal were not ok; expected none"
            ));
        }
        if greedy.calls_per_s == 0 {
            problems.push(
                "the greedy principal had no call in some round, so nothing was tested".to_owned(),
            );
        }
        Self {
            alone,
            beside,
            ratio,
            refused,
            greedy,
            problems,
        }
    }
}

impl Report for FairnessResults {
    fn text(&self, _page: &Path) -> String {
        let mut table = terminal::table(&["a modest principal", "p50", "p99"]);
        for (name, found) in [
            ("alone", &self.alone),
            ("beside the greedy one", &self.beside),
        ] {
            table.add_row([
                name.to_owned(),
                duration(found.p50_us),
                duration(found.p99_us),
            ]);
        }
        terminal::numbers_from(&mut table, 1);
        let Takings {
            connections,
            sessions,
            calls_per_s,
            refused,
            large_per_s,
        } = self.greedy;
        let figures = format!(
            "The slowest of a hundred calls took {:.2} times as long beside it; {} of its calls were refused. {PERCENTILES} \
             The greedy principal had {} connections, {} sessions, {} calls/s ({} refused) and {} results of 1 MiB a \
             second. Handlers take {DELAY_MS} ms; all limits are the defaults.",
            self.ratio,
            thousands(self.refused),
            thousands(connections),
            thousands(sessions),
            thousands(calls_per_s),
            thousands(refused),
            thousands(large_per_s),
        );
        format!("{table}\n{}", wrap(&figures))
    }

    fn json(&self, _page: &Path) -> Result<String> {
        Ok(serde_json::to_string(self)?)
    }

    /// Nothing of it needs a picture.
    fn html(&self) -> Option<String> {
        None
    }

    fn problems(&self) -> Vec<String> {
        self.problems.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::events::Latency;

    fn rounds(p99s: &[f64], ok: u64) -> Vec<Summary> {
        let summary = |p99: &f64| Summary {
            calls: 10,
            ok,
            latency_us: Latency {
                p50: Some(10.0),
                p99: Some(*p99),
                p999: None,
            },
            ..Summary::default()
        };
        p99s.iter().map(summary).collect()
    }

    #[test]
    fn slower_calls_and_refused_ones_are_problems() {
        let alone = rounds(&[100.0, 900.0, 100.0], 10);
        let problems = |beside: &[f64], ok| {
            let greedy = Takings {
                calls_per_s: 1,
                ..Takings::default()
            };
            FairnessResults::new(&alone, &rounds(beside, ok), greedy).problems
        };
        assert!(problems(&[290.0, 5000.0, 280.0], 10).is_empty());
        assert!(problems(&[310.0, 500.0, 280.0], 10)[0].contains("3.1 times"));
        assert!(problems(&[100.0], 9)[0].contains("1 calls"));
    }

    /// Kind: a run that tested nothing passes. Instance: a greedy principal that got nothing.
    #[test]
    fn a_greedy_principal_without_calls_is_no_pass() {
        let alone = rounds(&[100.0], 10);
        let problems = FairnessResults::new(&alone, &alone, Takings::default()).problems;
        assert!(problems[0].contains("nothing was tested"), "{problems:?}");
    }
}
