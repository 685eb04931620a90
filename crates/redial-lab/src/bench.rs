//! `cargo xtask bench`: what a safe call costs, next to a bare echo of the same bytes, in one run
//! whose measurements take turns.

mod chart;
mod durable;
mod goals;
mod measure;
mod page;
mod plan;
mod results;
mod stats;
mod table;

use std::{fs, io, path::Path};

use anyhow::{Context, Result};
use redial_test_ca::TestCa;
use serde_json::json;

use self::{
    goals::Goal,
    measure::Setup,
    results::{Measurements, Row},
};
use crate::{
    experiment::{Experiment, Lab, Report},
    harness::{
        flags::{ROUNDS, whole},
        progress,
    },
    report::terminal::wrap,
};

/// How the programs are built.
const PROFILE: &str = "fast";

/// How long nothing is measured at the start of each measurement, in seconds.
const WARMUP: f64 = 0.5;
/// The same, and how long is measured, with `--quick`.
const QUICK: f64 = 0.2;

/// The flags of the bench.
#[derive(clap::Args)]
pub(crate) struct Bench {
    /// How often everything is measured, by turns
    #[arg(long, default_value_t = 5, value_parser = whole(ROUNDS), allow_negative_numbers = true)]
    rounds: u64,
    /// How many seconds each measurement takes, after half a second of warming up
    #[arg(long, default_value = "2", value_parser = seconds, allow_negative_numbers = true)]
    seconds: f64,
    /// One short round, to check that it works: don't trust its figures
    #[arg(long, conflicts_with_all = ["rounds", "seconds"])]
    quick: bool,
    /// Measure durable calls instead, on a server with a store, next to SQLite in process
    #[arg(long)]
    durable: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.1..=60.0).contains(&seconds) => Ok(seconds),
        _ => Err("expected seconds from 0.1 to 60".to_owned()),
    }
}

/// What was measured, held against the goals.
pub(crate) struct BenchResults {
    setup: Setup,
    measurements: Measurements,
    goals: Vec<Goal>,
    /// How it was measured, in words.
    how: String,
}

impl Experiment for Bench {
    const NAME: &'static str = "bench";
    const RUNS_ALONE: bool = true;

    type Results = Box<dyn Report>;

    fn page(&self) -> &'static str {
        if self.durable {
            "bench-durable"
        } else {
            Self::NAME
        }
    }

    fn run(&self, lab: &Lab<'_>) -> Result<Self::Results> {
        let (seconds, warmup, rounds) = if self.quick {
            (QUICK, QUICK, 1)
        } else {
            (self.seconds, WARMUP, self.rounds as usize)
        };
        if self.durable {
            let results = durable::run(lab, [seconds, warmup], rounds)?;
            return Ok(Box::new(results));
        }
        let folder = lab.build("redial-bench", PROFILE)?;
        let certificates = lab.empty_folder(Self::NAME)?;
        write_certificates(&certificates).context("can't write the certificates")?;
        let setup = Setup {
            folder,
            certificates,
            cores: measure::two_cores(),
            seconds,
            warmup,
        };
        let measurements = measure_all(&setup, rounds)?;
        Ok(Box::new(BenchResults {
            goals: goals::goals(&measurements),
            how: how(&setup, rounds, measurements.can_be_compared()),
            setup,
            measurements,
        }))
    }
}

impl Report for BenchResults {
    fn text(&self, page: &Path) -> String {
        let text = table::text(&self.measurements, &self.goals, page);
        format!("{}\n{text}", wrap(&self.how))
    }

    fn json(&self, _page: &Path) -> Result<String> {
        let rows = self.measurements.rows.iter().map(|row| &row.samples);
        let figures = self.measurements.figures();
        let cells = figures.iter().zip(rows);
        let cells = cells.map(|(figures, rounds)| json!({"median": figures, "rounds": rounds}));
        let json = json!({
            "seconds": self.setup.seconds,
            "cores": self.setup.cores,
            "noise": self.measurements.noise(),
            "cells": cells.collect::<Vec<_>>(),
            "goals": self.goals,
        });
        Ok(json.to_string())
    }

    fn html(&self) -> Option<String> {
        Some(page::html(&self.measurements, &self.goals, &self.how))
    }

    /// A slow run breaks no promise; a call without its effect, or with two, is an error of the
    /// programs.
    fn problems(&self) -> Vec<String> {
        Vec::new()
    }
}

/// A server's certificate, and that of the authority that has signed it.
fn write_certificates(folder: &Path) -> io::Result<()> {
    let ca = TestCa::new("bench");
    fs::write(folder.join("ca.pem"), ca.pem())?;
    ca.sign(&["127.0.0.1"]).write(folder, "server")?;
    Ok(())
}

fn measure_all(setup: &Setup, rounds: usize) -> Result<Measurements> {
    let cells = plan::cells();
    let steps = (rounds * cells.len()) as u64;
    let bar = progress::bar(steps, "{pos}/{len}, {msg}, {eta} left");
    let row = |cell: &plan::BenchCell| Row {
        cell: *cell,
        samples: Vec::new(),
    };
    let mut rows: Vec<Row> = cells.iter().map(row).collect();
    for round in 0..rounds {
        for index in plan::order(cells.len(), round) {
            let cell = cells[index];
            let name = format!("{} {}", cell.shape.name(), cell.what.name());
            bar.set_message(name.clone());
            bar.tick();
            let sample = setup.measure(cell).context(name)?;
            rows[index].samples.push(sample);
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    Ok(Measurements { rows })
}

fn how(setup: &Setup, rounds: usize, is_trusted: bool) -> String {
    let Setup {
        seconds, warmup, ..
    } = setup;
    let pinned = match setup.cores {
        Some([server, client]) => {
            format!("the server is kept on core {server}, the load on core {client}")
        }
        None => "nothing is kept on a core of its own, since there are no two, or the system \
                 can't: ratios say little"
            .to_owned(),
    };
    let trust = if is_trusted {
        ""
    } else {
        "\nDon't trust so few rounds."
    };
    format!(
        "Rounds: {rounds}, each measurement {seconds} s after {warmup} s; {pinned}. Built \
         with --profile {PROFILE}. Awake: the generator never sleeps, so that no server pays for waking \
         it up.{trust}"
    )
}

#[cfg(test)]
pub(crate) fn sample_pages() -> [String; 2] {
    let results = results::tests::results(&[1e6, 2e6, 1.5e6]);
    let how = "Rounds: 3, each measurement 2 s after 0.5 s; cores 0 and 1.";
    [
        page::html(&results, &goals::goals(&results), how),
        durable::sample_page(),
    ]
}
