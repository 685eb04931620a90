//! `cargo xtask bench --durable`: what a durable call costs, next to SQLite in process and to a bare
//! log, in one run whose measurements take turns.

mod measure;
mod page;
mod results;
mod table;

use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::json;

use self::{
    measure::DurableSetup,
    results::{DurableMeasurements, DurableRow},
};
use super::{goals::Goal, plan};
use crate::{
    experiment::{Lab, Report},
    harness::progress,
    report::terminal::wrap,
};

/// Calls in flight, and in a batch.
const BATCHES: [usize; 4] = [1, 16, 64, 256];

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum DurableSubject {
    /// A record at the end of a file, and one sync for each batch.
    Log,
    /// SQLite in process, where each id is found again and claimed once: the same job.
    Sqlite,
    /// SQLite in process, rows that are only appended: no duplicate would be found.
    Appended,
    /// `counter-server --store`, calls of a session.
    Session,
    /// The same with plain ids.
    Plain,
    /// Redis with `appendfsync always` and a script that finds duplicates.
    Redis,
}

const ALL: [DurableSubject; 6] = [
    DurableSubject::Log,
    DurableSubject::Appended,
    DurableSubject::Sqlite,
    DurableSubject::Session,
    DurableSubject::Plain,
    DurableSubject::Redis,
];

impl DurableSubject {
    fn name(self) -> &'static str {
        match self {
            Self::Log => "a bare log",
            Self::Sqlite => "SQLite, unique",
            Self::Appended => "SQLite, appended",
            Self::Session => "Redial, sessions",
            Self::Plain => "Redial, plain ids",
            Self::Redis => "Redis, always",
        }
    }

    /// In a word or two, for a ratio.
    fn short_name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Sqlite => "SQLite",
            Self::Appended => "appended",
            Self::Session => "sessions",
            Self::Plain => "plain ids",
            Self::Redis => "Redis",
        }
    }
}

/// One measurement, made in every round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct Cell {
    what: DurableSubject,
    batch: usize,
}

/// Batch by batch, so that what is compared is measured within seconds.
fn cells(has_redis: bool) -> Vec<Cell> {
    let of = |batch| ALL.map(|what| Cell { what, batch });
    let cells = BATCHES.into_iter().flat_map(of);
    cells
        .filter(|cell| has_redis || cell.what != DurableSubject::Redis)
        .collect()
}

/// What was measured, held against the goals.
pub(super) struct DurableResults {
    measurements: DurableMeasurements,
    goals: Vec<Goal>,
    how: String,
}

pub(super) fn run(
    lab: &Lab<'_>,
    [seconds, warmup]: [f64; 2],
    rounds: usize,
) -> Result<DurableResults> {
    let setup = DurableSetup {
        programs: lab.build("redial-bench", super::PROFILE)?,
        servers: lab.build("redial-examples", super::PROFILE)?,
        folder: lab.empty_folder("bench-durable")?,
        redis: measure::find_redis(),
        seconds,
        warmup,
    };
    let is_pinned = measure::keep_to_two_cores();
    let measurements = measure_all(&setup, rounds)?;
    Ok(DurableResults {
        goals: results::goals(&measurements),
        how: how(&setup, rounds, is_pinned),
        measurements,
    })
}

fn measure_all(setup: &DurableSetup, rounds: usize) -> Result<DurableMeasurements> {
    let cells = cells(setup.redis.is_some());
    let bar = progress::bar(
        (rounds * cells.len()) as u64,
        "{pos}/{len}, {msg}, {eta} left",
    );
    let row = |cell: &Cell| DurableRow {
        cell: *cell,
        samples: Vec::new(),
    };
    let mut rows: Vec<DurableRow> = cells.iter().map(row).collect();
    for round in 0..rounds {
        for index in plan::order(cells.len(), round) {
            let Cell { what, batch } = cells[index];
            let name = format!("{} at {batch}", what.name());
            bar.set_message(name.clone());
            bar.tick();
            let sample = setup.measure(cells[index]).context(name)?;
            rows[index].samples.push(sample);
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    Ok(DurableMeasurements { rows })
}

fn how(setup: &DurableSetup, rounds: usize, is_pinned: bool) -> String {
    let DurableSetup {
        seconds, warmup, ..
    } = setup;
    let cores = if is_pinned {
        "server and load share two cores"
    } else {
        "nothing could be kept to two cores"
    };
    let redis = match &setup.redis {
        Some(_) => "",
        None => " Redis is left out: there is no redis-server on the PATH.",
    };
    format!(
        "Rounds: {rounds}, each measurement {seconds} s after {warmup} s; {cores}. One connection; \
         the server takes 1024 calls at once. Built with --profile {}.{redis}",
        super::PROFILE
    )
}

impl Report for DurableResults {
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
            "how": self.how,
            "noise": self.measurements.noise(),
            "cells": cells.collect::<Vec<_>>(),
            "goals": self.goals,
        });
        Ok(json.to_string())
    }

    fn html(&self) -> Option<String> {
        Some(page::html(&self.measurements, &self.goals, &self.how))
    }

    /// A slow run breaks no promise; a call without its effect is an error of the programs.
    fn problems(&self) -> Vec<String> {
        Vec::new()
    }
}

#[cfg(test)]
pub(super) fn sample_page() -> String {
    let results = results::tests::results(&[80e3, 70e3, 60e3]);
    page::html(&results, &results::goals(&results), "Rounds: 3.")
}
