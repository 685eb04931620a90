//! `cargo xtask power`: what a power cut leaves of a store's files, rebuilt from the system calls of a
//! real server at many points, and whether every acknowledged call is there exactly once.
//!
//! A process that is killed leaves all that it has written to the kernel. A power cut leaves only what
//! was synced: of the rest, each sector may be on the disk or not, whatever its order.

mod check;
mod cuts;
mod disk;
mod outside;
mod record;
mod trace;

use std::{env, fs, path::Path, time::Duration};

use anyhow::{Result, ensure};
use serde::Serialize;

use self::{
    cuts::{Cuts, Findings},
    record::{Recorder, has_strace},
};
use crate::{
    crash::stored::IncKind,
    experiment::{Experiment, Lab, Report},
    harness::{
        clock,
        flags::{SEEDS, whole},
    },
    report::{scale::thousands, terminal},
};

/// How many cuts of the run without syncs prove that the check finds what is lost.
const CONTROL_CUTS: u64 = 20;
/// How many broken cuts are shown.
const SHOWN: usize = 20;

/// The flags of the power cuts.
#[derive(clap::Args)]
pub(crate) struct Power {
    /// Decides where the power is cut, and what of the unsynced writes is on the disk
    #[arg(long, default_value_t = 1, value_parser = whole(SEEDS), allow_negative_numbers = true)]
    seed: u64,
    /// How often the power is cut
    #[arg(long, default_value_t = 500, value_parser = whole(1..=100_000), allow_negative_numbers = true)]
    cuts: u64,
    /// How many calls each of the two clients makes: one with a session, one with plain ids
    #[arg(long, default_value_t = 3_000, value_parser = whole(10..=1_000_000), allow_negative_numbers = true)]
    calls: u64,
    /// How often the server is killed (-9) and started again meanwhile
    #[arg(long, default_value_t = 20, value_parser = whole(0..=100), allow_negative_numbers = true)]
    kills: u64,
    /// What kind of method `inc` is. Outside a transaction its effects lie in a file that loses nothing, as a
    /// service elsewhere would
    #[arg(long, value_name = "KIND", value_enum, default_value_t = IncKind::Transaction)]
    inc_as: IncKind,
}

/// What the cuts left.
#[derive(Default, Serialize)]
pub(crate) struct PowerResults {
    /// Why nothing was tried.
    skipped: Option<&'static str>,
    synced: Findings,
    /// Of a run without syncs, which the check has to find.
    unsynced: Findings,
    took_s: f64,
}

impl Experiment for Power {
    const NAME: &'static str = "power";
    const RUNS_ALONE: bool = true;

    type Results = PowerResults;

    fn run(&self, lab: &Lab<'_>) -> Result<PowerResults> {
        if !has_strace() {
            ensure!(
                env::var_os("REDIAL_REQUIRE_SERVICES").is_none(),
                "there is no strace here, and REDIAL_REQUIRE_SERVICES is set; nothing was tried"
            );
            return Ok(PowerResults {
                skipped: Some("no strace"),
                ..PowerResults::default()
            });
        }
        let start = clock::now();
        let programs = lab.programs()?;
        let folder = lab.empty_folder(Self::NAME)?;
        let mut recorder = Recorder {
            programs: &programs,
            folder: &folder,
            name: "synced",
            calls: self.calls,
            kills: self.kills,
            is_synced: true,
            kind: self.inc_as,
        };
        let synced = self.cut(&recorder, self.cuts)?;
        recorder.name = "unsynced";
        recorder.is_synced = false;
        recorder.calls = self.calls.min(300);
        recorder.kills = 0;
        let unsynced = self.cut(&recorder, self.cuts.min(CONTROL_CUTS))?;
        Ok(PowerResults {
            skipped: None,
            synced,
            unsynced,
            took_s: clock::now().duration_since(start).as_secs_f64(),
        })
    }
}

impl Power {
    /// Records a run and cuts its power.
    fn cut(&self, recorder: &Recorder<'_>, cuts: u64) -> Result<Findings> {
        let recording = recorder.record()?;
        let rebuilt = recorder.folder.join(format!("{}-cut", recorder.name));
        let findings = Cuts {
            recording: &recording,
            folder: &rebuilt,
            seed: self.seed,
            count: cuts,
        }
        .run()?;
        if findings.broken == 0 {
            // The system calls of a run take hundreds of megabytes.
            fs::remove_dir_all(&rebuilt)?;
            fs::remove_dir_all(recorder.run_folder())?;
        }
        Ok(findings)
    }
}

impl Report for PowerResults {
    fn text(&self, _: &Path) -> String {
        if let Some(why) = self.skipped {
            return format!("skipped: {why}");
        }
        let of = |findings: &Findings| {
            [
                findings.calls,
                findings.syncs,
                findings.cuts,
                findings.acknowledged,
                findings.lost,
                findings.doubled,
                findings.broken,
            ]
            .map(thousands)
        };
        let names = [
            "acknowledgements in the run",
            "syncs",
            "power cuts",
            "acknowledgements before a cut, summed",
            "of them lost",
            "calls doubled",
            "files that broke a promise",
        ];
        let mut table = terminal::table(&["", "synced", "without syncs"]);
        let rows = names
            .into_iter()
            .zip(of(&self.synced))
            .zip(of(&self.unsynced));
        for ((name, synced), unsynced) in rows {
            table.add_row([name, &synced, &unsynced]);
        }
        terminal::numbers_from(&mut table, 1);
        let took = Duration::from_secs_f64(self.took_s);
        format!("{table}\n{:.1} s", took.as_secs_f64())
    }

    fn json(&self, _: &Path) -> Result<String> {
        Ok(serde_json::to_string(self)?)
    }

    fn html(&self) -> Option<String> {
        None
    }

    fn problems(&self) -> Vec<String> {
        if self.skipped.is_some() {
            return Vec::new();
        }
        let mut problems: Vec<_> = self.synced.problems.iter().take(SHOWN).cloned().collect();
        if self.synced.broken > 0 {
            problems.push(format!(
                "{} of {} power cuts broke a promise",
                self.synced.broken, self.synced.cuts
            ));
        }
        if self.unsynced.broken == 0 {
            problems.push("the check found nothing in a run without syncs".to_owned());
        }
        problems
    }
}
