//! `cargo xtask sweep`: what backoff base, factor, jitter and attempt timeout do to success,
//! latency and load, on real programs under 30 % loss.

mod grid;
mod heat;
mod page;

use std::{
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use comfy_table::Table;
use serde_json::json;

use self::grid::{GridCell, Metric, Setting};
use crate::{
    experiment::{Experiment, Lab, Report},
    harness::{
        clock,
        flags::{CALLS_PER_RUN, SEEDS, whole},
        programs::Programs,
        progress,
    },
    report::{self, scale::thousands},
};

/// So many cells run at once: their clients wait most of the time, but a busy machine would
/// show in the latencies.
const AT_ONCE: usize = 4;
/// How long one cell's client may take; its calls end after half a second each.
const CLIENT: Duration = Duration::from_secs(60);

/// The flags of the sweep.
#[derive(clap::Args)]
pub(crate) struct Sweep {
    /// Decides the faults and the jitter
    #[arg(long, default_value_t = 1, value_parser = whole(SEEDS), allow_negative_numbers = true)]
    seed: u64,
    /// How many calls each cell makes
    #[arg(long, default_value_t = 300, value_parser = whole(CALLS_PER_RUN), allow_negative_numbers = true)]
    calls: u64,
}

/// The whole grid, measured.
pub(crate) struct SweepResults {
    seed: u64,
    calls: u64,
    cells: Vec<GridCell>,
    took: Duration,
}

impl Experiment for Sweep {
    const NAME: &'static str = "sweep";

    type Results = SweepResults;

    fn run(&self, lab: &Lab<'_>) -> Result<SweepResults> {
        let programs = lab.programs()?;
        let start = clock::now();
        let cells = self.measure(&programs)?;
        Ok(SweepResults {
            seed: self.seed,
            calls: self.calls,
            cells,
            took: clock::now().duration_since(start),
        })
    }
}

impl Sweep {
    /// Several cells at a time; the first error ends the sweep.
    fn measure(&self, programs: &Programs) -> Result<Vec<GridCell>> {
        let settings = grid::settings();
        let bar = progress::bar(settings.len() as u64, "{pos}/{len} cells");
        bar.tick();
        let next = AtomicUsize::new(0);
        let done = Mutex::new(Vec::new());
        let worker = || -> Result<()> {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(setting) = settings.get(index) else {
                    return Ok(());
                };
                let cell = self.cell(programs, *setting).inspect_err(|_| {
                    next.store(settings.len(), Ordering::Relaxed);
                });
                let cell =
                    cell.with_context(|| format!("the cell {}", setting.flags().join(" ")))?;
                done.lock().expect("no holder panics").push((index, cell));
                bar.inc(1);
            }
        };
        thread::scope(|scope| {
            let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(worker)).collect();
            workers
                .into_iter()
                .try_for_each(|worker| worker.join().expect("a worker does not panic"))
        })?;
        bar.finish_and_clear();
        let mut cells = done.into_inner().expect("no holder panics");
        cells.sort_by_key(|(index, _)| *index);
        Ok(cells.into_iter().map(|(_, cell)| cell).collect())
    }

    /// One cell: a server of its own, one client.
    fn cell(&self, programs: &Programs, setting: Setting) -> Result<GridCell> {
        let server = programs.server(&grid::server_flags(self.seed))?;
        let mut flags = setting.flags();
        flags.extend(grid::client_flags(self.calls, self.seed));
        flags.extend(["--connect".to_owned(), server.address.to_string()]);
        let summary = programs.client(&flags, CLIENT)?;
        server.stop()?;
        Ok(GridCell { setting, summary })
    }
}

impl SweepResults {
    fn about(&self) -> String {
        format!(
            "{} calls per cell. Server: {}. Client: {}.\n{}",
            thousands(self.calls),
            grid::server_flags(self.seed).join(" "),
            grid::client_flags(self.calls, self.seed).join(" "),
            grid::WHY_UNLIMITED
        )
    }

    fn table(&self) -> Table {
        let mut headings = vec!["jitter", "timeout", "base", "factor"];
        headings.extend(Metric::ALL.map(Metric::name));
        let mut table = report::terminal::table(&headings);
        for cell in &self.cells {
            let setting = cell.setting;
            let mut row = vec![
                setting.jitter.to_owned(),
                format!("{} ms", setting.timeout_ms),
                format!("{} ms", setting.base_ms),
                setting.factor.to_string(),
            ];
            row.extend(Metric::ALL.map(|metric| metric.text(metric.of(&cell.summary))));
            table.add_row(row);
        }
        report::terminal::numbers_from(&mut table, 1);
        table
    }
}

impl Report for SweepResults {
    fn text(&self, page: &Path) -> String {
        format!(
            "{}\n\n{}\n{}\nseed {}, {:.1} s. Heat maps: {}",
            self.about(),
            self.table(),
            grid::conclusion(&self.cells),
            self.seed,
            self.took.as_secs_f64(),
            page.display()
        )
    }

    fn json(&self, page: &Path) -> Result<String> {
        let cells = self.cells.iter().map(|cell| {
            json!({
                "jitter": cell.setting.jitter,
                "attempt_timeout_ms": cell.setting.timeout_ms,
                "backoff_ms": cell.setting.base_ms,
                "factor": cell.setting.factor,
                "success": cell.summary.success(),
                "p50_us": cell.summary.latency_us.p50,
                "p99_us": cell.summary.latency_us.p99,
                "extra_load": cell.summary.attempts_per_call() - 1.0,
            })
        });
        let json = json!({
            "seed": self.seed,
            "calls_per_cell": self.calls,
            "elapsed_s": self.took.as_secs_f64(),
            "page": page,
            "server": grid::server_flags(self.seed),
            "client": grid::client_flags(self.calls, self.seed),
            "conclusion": grid::conclusion(&self.cells),
            "cells": cells.collect::<Vec<_>>(),
        });
        Ok(json.to_string())
    }

    fn html(&self) -> Option<String> {
        Some(page::html(self))
    }

    /// It compares policies and promises nothing.
    fn problems(&self) -> Vec<String> {
        Vec::new()
    }
}

#[cfg(test)]
pub(crate) fn sample_page() -> String {
    use crate::harness::events::{Latency, Summary};

    let cell = |(index, setting)| {
        let share = index as u64 % 40;
        let latency_us = Latency {
            p50: Some(25_000.0 + share as f64 * 900.0),
            p99: Some(120_000.0 + share as f64 * 9_000.0),
            p999: None,
        };
        let summary = Summary {
            calls: 300,
            ok: 300 - share,
            attempts_total: 420 + share * 9,
            latency_us,
            ..Summary::default()
        };
        GridCell { setting, summary }
    };
    page::html(&SweepResults {
        seed: 1,
        calls: 300,
        cells: grid::settings().into_iter().enumerate().map(cell).collect(),
        took: Duration::from_secs(40),
    })
}
