//! `cargo xtask bench`: what a safe call costs, next to a bare echo of the same bytes, in one run
//! whose measurements take turns.

mod chart;
mod goals;
mod measure;
mod page;
mod plan;
mod results;
mod stats;
mod table;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use self::{
    goals::Goal,
    measure::Bench,
    results::{Results, Row},
};
use crate::{
    harness::{flags::whole, workspace::Workspace},
    report,
};

/// How the programs are built.
const PROFILE: &str = "fast";

/// How long nothing is measured at the start of each measurement, in seconds.
const WARMUP: f64 = 0.5;
/// The same, and how long is measured, where it is only to be seen that it works.
const QUICK: f64 = 0.2;

/// What may be chosen.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print one JSON object on stdout, and nothing else there
    #[arg(long)]
    json: bool,
    /// How often everything is measured, by turns
    #[arg(long, default_value_t = 5, value_parser = whole(1, 99), allow_negative_numbers = true)]
    rounds: u64,
    /// How long each measurement takes, after half a second of warming up
    #[arg(long, default_value = "2", value_parser = seconds, allow_negative_numbers = true)]
    seconds: f64,
    /// One short round, to see that it works: its figures are not to be trusted
    #[arg(long, conflicts_with_all = ["rounds", "seconds"])]
    quick: bool,
    /// Use the programs in this folder instead of building them
    #[arg(long, hide = true, value_name = "DIR")]
    programs: Option<PathBuf>,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.1..=60.0).contains(&seconds) => Ok(seconds),
        _ => Err("expected seconds from 0.1 to 60".to_owned()),
    }
}

/// Measures. The exit code says whether every call had its effect exactly once, not how fast.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let workspace = Workspace::find()?;
    let _claim = workspace.claim("bench")?;
    let folder = match &args.programs {
        Some(folder) => folder.clone(),
        None => workspace.build_as(PROFILE, "redial-bench", args.json)?,
    };
    let (seconds, warmup, rounds) = match args.quick {
        true => (QUICK, QUICK, 1),
        false => (args.seconds, WARMUP, args.rounds as usize),
    };
    let bench = Bench {
        folder,
        cores: measure::two_cores(),
        seconds,
        warmup,
    };
    let results = measure_all(&bench, rounds)?;
    let goals = goals::goals(&results);
    let page = workspace.output()?.join("bench.html");
    let how = how(&bench, rounds, results.can_be_compared());
    report::page::write(&page, &page::html(&results, &goals, &how))?;
    if args.json {
        println!("{}", as_json(&results, &goals, &bench));
    } else {
        println!("\n{how}\n{}", table::text(&results, &goals, &page));
    }
    Ok(ExitCode::SUCCESS)
}

fn measure_all(bench: &Bench, rounds: usize) -> Result<Results> {
    let cells = plan::cells();
    let bar = ProgressBar::new((rounds * cells.len()) as u64).with_style(
        ProgressStyle::with_template("{bar:24} {pos}/{len}, {msg}, {eta} left")
            .context("a fixed template")?,
    );
    let row = |cell: &plan::Cell| Row {
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
            let sample = bench.measure(cell).context(name)?;
            rows[index].samples.push(sample);
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    Ok(Results { rows })
}

fn how(bench: &Bench, rounds: usize, is_trusted: bool) -> String {
    let Bench {
        seconds, warmup, ..
    } = bench;
    let pinned = match bench.cores {
        Some([server, client]) => {
            format!("the server is kept on core {server}, the load on core {client}")
        }
        None => "nothing is kept on a core of its own, since there are no two, or the system \
                 can't: ratios say little"
            .to_owned(),
    };
    let trust = match is_trusted {
        true => "",
        false => "\nSo few rounds are not to be trusted.",
    };
    format!(
        "Rounds: {rounds}, each measurement {seconds} s after {warmup} s; {pinned}. Built \
         with --profile {PROFILE}. Awake: the generator never sleeps, so that no server pays for waking \
         it up.{trust}"
    )
}

fn as_json(results: &Results, goals: &[Goal], bench: &Bench) -> serde_json::Value {
    let rows = results.rows.iter().map(|row| &row.samples);
    let figures = results.figures();
    let cells = figures.iter().zip(rows);
    let cells = cells.map(|(figures, rounds)| json!({"median": figures, "rounds": rounds}));
    json!({
        "seconds": bench.seconds,
        "cores": bench.cores,
        "noise": results.noise(),
        "cells": cells.collect::<Vec<_>>(),
        "goals": goals,
    })
}
