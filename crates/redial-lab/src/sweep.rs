//! `cargo xtask sweep`: what backoff base, factor, jitter and attempt timeout do to success,
//! latency and load, on real programs under 30 % loss.

mod grid;
mod heat;
mod page;

use std::{
    path::PathBuf,
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use comfy_table::{CellAlignment, Table};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use self::grid::{Cell, Metric, Setting};
use crate::{
    harness::{clock, flags::whole, programs::Programs, workspace::Workspace},
    report::{self, scale::thousands},
};

/// So many cells run at once: their clients wait most of the time, but a busy machine would
/// show in the latencies.
const AT_ONCE: usize = 4;
/// How long one cell's client may take; its calls end after half a second each.
const CLIENT: Duration = Duration::from_secs(60);

/// What may be chosen.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print one JSON object on stdout, and nothing else there
    #[arg(long)]
    json: bool,
    /// Decides the faults and the jitter
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Calls per cell
    #[arg(long, default_value_t = 300, value_parser = whole(1, 5000), allow_negative_numbers = true)]
    calls: u64,
    /// Use the programs in this folder instead of building them
    #[arg(long, hide = true, value_name = "DIR")]
    programs: Option<PathBuf>,
}

/// Everything that was measured.
struct Sweep {
    seed: u64,
    calls: u64,
    cells: Vec<Cell>,
    took: Duration,
}

/// Runs the whole grid.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let workspace = Workspace::find()?;
    let programs = workspace.programs(args.programs.as_deref(), args.json)?;
    let start = clock::now();
    let cells = measure(&programs, args)?;
    let sweep = Sweep {
        seed: args.seed,
        calls: args.calls,
        cells,
        took: clock::now().duration_since(start),
    };
    let page = workspace.output()?.join("sweep.html");
    report::page::write(&page, &page::html(&sweep))?;
    if args.json {
        println!("{}", sweep.json(&page.display().to_string()));
    } else {
        println!("\n{}\n\n{}", sweep.about(), sweep.table());
        println!("{}", grid::conclusion(&sweep.cells));
        let took = sweep.took.as_secs_f64();
        println!(
            "seed {}, {took:.1} s. Heat maps: {}",
            sweep.seed,
            page.display()
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Several cells at a time; the first error ends the sweep.
fn measure(programs: &Programs, args: &Args) -> Result<Vec<Cell>> {
    let settings = grid::settings();
    let bar = ProgressBar::new(settings.len() as u64).with_style(
        ProgressStyle::with_template("{bar:24} {pos}/{len} cells").context("a fixed template")?,
    );
    bar.tick();
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    let worker = || -> Result<()> {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(setting) = settings.get(index) else {
                return Ok(());
            };
            let cell = one(programs, *setting, args).inspect_err(|_| {
                next.store(settings.len(), Ordering::Relaxed);
            });
            let cell = cell.with_context(|| format!("the cell {}", setting.flags().join(" ")))?;
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
fn one(programs: &Programs, setting: Setting, args: &Args) -> Result<Cell> {
    let server = programs.server(&grid::server_flags(args.seed))?;
    let mut flags = setting.flags();
    flags.extend(grid::client_flags(args.calls, args.seed));
    flags.extend(["--connect".to_owned(), server.address.to_string()]);
    let summary = programs.client(&flags, CLIENT)?;
    server.stop()?;
    Ok(Cell { setting, summary })
}

impl Sweep {
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
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }

    fn json(&self, page: &str) -> Value {
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
        json!({
            "seed": self.seed,
            "calls_per_cell": self.calls,
            "elapsed_s": self.took.as_secs_f64(),
            "page": page,
            "server": grid::server_flags(self.seed),
            "client": grid::client_flags(self.calls, self.seed),
            "conclusion": grid::conclusion(&self.cells),
            "cells": cells.collect::<Vec<_>>(),
        })
    }
}
