//! The measurements of all rounds, what follows from them, and the goals they are held against.

use serde::Serialize;

use super::{Cell, DurableSubject, measure::DurableSample};
use crate::bench::{
    goals::{
        Bound::{AtLeast, AtMost},
        Goal,
    },
    stats::Spread,
};

/// How many rounds it takes for medians to say something.
const COMPARED_FROM: usize = 3;

/// From this ratio of SQLite's fastest round to its slowest on the machine was too busy for a verdict. A commit
/// waits for its disk and then for a core, so what else runs slows most what commits alone.
const MAX_WIDTH: f64 = 1.5;

/// Every cell with its rounds.
pub(super) struct DurableMeasurements {
    pub(super) rows: Vec<DurableRow>,
}

/// One cell, and what was measured in each round.
pub(super) struct DurableRow {
    pub(super) cell: Cell,
    pub(super) samples: Vec<DurableSample>,
}

/// A row in figures: the middle of all rounds, and how far apart they were.
#[derive(Serialize)]
pub(super) struct DurableFigures {
    #[serde(flatten)]
    pub(super) cell: Cell,
    pub(super) calls_per_s: Spread,
    /// Calls per second in those of SQLite in process, with batches of that size.
    pub(super) of_sqlite: Option<Spread>,
    /// The same of SQLite that only appends its rows.
    pub(super) of_appended: Option<Spread>,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    /// CPU seconds per million calls.
    pub(super) server_cpu: Option<Spread>,
}

impl DurableMeasurements {
    fn can_be_compared(&self) -> bool {
        let mut rows = self.rows.iter();
        rows.all(|row| row.samples.len() >= COMPARED_FROM)
    }

    /// Why no goal is judged, if SQLite's own rounds varied.
    pub(super) fn noise(&self) -> Option<String> {
        let width = |row: &DurableRow| {
            let speeds = row.samples.iter().map(|sample| sample.calls_per_s);
            Spread::of(speeds).map_or(1.0, |spread| spread.most / spread.least)
        };
        let is_sqlite = |row: &&DurableRow| {
            matches!(
                row.cell.what,
                DurableSubject::Sqlite | DurableSubject::Appended
            )
        };
        let sqlite = self.rows.iter().filter(is_sqlite);
        let widest = sqlite.map(width).fold(1.0, f64::max);
        (widest > MAX_WIDTH).then(|| {
            format!(
                "This machine was too busy for a verdict: SQLite in process was {widest:.1} times as fast in \
                 one round as in another, and {MAX_WIDTH} is the most. CPU per call says more."
            )
        })
    }

    fn values(&self, cell: Cell, figure: impl Fn(&DurableSample) -> Option<f64>) -> Vec<f64> {
        let row = self.rows.iter().find(|row| row.cell == cell);
        let samples = row.into_iter().flat_map(|row| &row.samples);
        samples.filter_map(figure).collect()
    }

    /// One in the other, round by round.
    fn ratio(
        &self,
        whats: [DurableSubject; 2],
        batch: usize,
        figure: impl Fn(&DurableSample) -> Option<f64>,
    ) -> Option<Spread> {
        let [one, other] = whats.map(|what| self.values(Cell { what, batch }, &figure));
        Spread::of_ratios(&one, &other)
    }

    /// Calls per second of one in those of the other.
    pub(super) fn speed_ratio(&self, whats: [DurableSubject; 2], batch: usize) -> Option<Spread> {
        self.ratio(whats, batch, |sample| Some(sample.calls_per_s))
    }

    /// All rows in figures.
    pub(super) fn figures(&self) -> Vec<DurableFigures> {
        let cells = self.rows.iter().map(|row| row.cell);
        cells.filter_map(|cell| self.figures_of(cell)).collect()
    }

    fn figures_of(&self, cell: Cell) -> Option<DurableFigures> {
        let of = |figure: fn(&DurableSample) -> Option<f64>| Spread::of(self.values(cell, figure));
        Some(DurableFigures {
            cell,
            calls_per_s: of(|sample| Some(sample.calls_per_s))?,
            of_sqlite: self.speed_ratio([cell.what, DurableSubject::Sqlite], cell.batch),
            of_appended: self.speed_ratio([cell.what, DurableSubject::Appended], cell.batch),
            p50_us: of(|sample| Some(sample.p50_us))?.median,
            p99_us: of(|sample| Some(sample.p99_us))?.median,
            server_cpu: of(|sample| sample.server_cpu),
        })
    }
}

/// All goals that these results can be held against.
pub(super) fn goals(results: &DurableMeasurements) -> Vec<Goal> {
    let speed = |what: DurableSubject, to: DurableSubject, batch, least| {
        let text = format!("{batch}: {} / {}", what.short_name(), to.short_name());
        let measured = results.speed_ratio([what, to], batch);
        Goal::new(text, measured, AtLeast(least))
    };
    let cpu = |what: DurableSubject| {
        let text = format!("64: CPU, {} / SQLite", what.short_name());
        let measured = results.ratio([what, DurableSubject::Sqlite], 64, |sample| {
            sample.server_cpu
        });
        Goal::new(text, measured, AtMost(1.3))
    };
    let ours = [DurableSubject::Session, DurableSubject::Plain];
    let of_sqlite = [1, 64, 256]
        .into_iter()
        .flat_map(|batch| ours.map(|what| speed(what, DurableSubject::Sqlite, batch, 0.7)));
    let of_redis = [(64, 1.2), (256, 1.0)]
        .into_iter()
        .flat_map(|(batch, least)| {
            ours.map(|what| speed(what, DurableSubject::Redis, batch, least))
        });
    let mut goals: Vec<Goal> = of_sqlite.chain(ours.map(cpu)).chain(of_redis).collect();
    let is_noisy = results.noise().is_some();
    if is_noisy || !results.can_be_compared() {
        goals.iter_mut().for_each(|goal| goal.is_reached = None);
    }
    if is_noisy {
        goals
            .iter_mut()
            .for_each(|goal| goal.unjudged = "too noisy");
    }
    goals
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::bench::durable::cells;

    /// Rounds in which SQLite has these speeds, and everything else a share of them.
    pub(in super::super) fn results(speeds: &[f64]) -> DurableMeasurements {
        let sample = |what, speed: f64| {
            let (share, cpu) = match what {
                DurableSubject::Sqlite => (1.0, 10.0),
                DurableSubject::Appended => (2.0, 5.0),
                DurableSubject::Session => (0.8, 12.0),
                _ => (0.5, 14.0),
            };
            DurableSample {
                calls_per_s: speed * share,
                p50_us: 800.0,
                p99_us: 1500.0,
                server_cpu: Some(cpu),
            }
        };
        let row = |cell: Cell| DurableRow {
            cell,
            samples: speeds
                .iter()
                .enumerate()
                .map(|(round, speed)| {
                    let mut sample = sample(cell.what, *speed);
                    // Ratios that differ a little.
                    if cell.what != DurableSubject::Sqlite {
                        sample.calls_per_s *= 1.0 + round as f64 / 100.0;
                    }
                    sample
                })
                .collect(),
        };
        DurableMeasurements {
            rows: cells(false).into_iter().map(row).collect(),
        }
    }

    fn verdict(goals: &[Goal], text: &str) -> &'static str {
        let goal = goals.iter().find(|goal| goal.text.starts_with(text));
        goal.expect("it is a goal").verdict()
    }

    #[test]
    fn goals_are_held_against_ratios_of_each_round() {
        let goals = goals(&results(&[80e3, 70e3, 60e3]));
        assert_eq!(verdict(&goals, "64: sessions / SQLite"), "ok");
        assert_eq!(verdict(&goals, "64: CPU, sessions"), "ok");
        assert_eq!(verdict(&goals, "256: plain ids / SQLite"), "missed");
        assert_eq!(verdict(&goals, "64: CPU, plain ids"), "missed");
        let redis = "64: sessions / Redis";
        assert_eq!(verdict(&goals, redis), "not known here");
    }

    /// A kind of fault: verdicts of a machine that was busy with something else.
    #[test]
    fn a_busy_machine_is_judged_by_no_goal_and_said_to_be_one() {
        let busy = results(&[80e3, 8e3, 60e3]);
        assert!(busy.noise().unwrap().contains("10.0 times"));
        let goals = goals(&busy);
        assert_eq!(verdict(&goals, "64: sessions / SQLite"), "too noisy");
        assert_eq!(verdict(&goals, "64: sessions / Redis"), "not known here");
        assert_eq!(results(&[80e3, 70e3, 60e3]).noise(), None);
    }

    #[test]
    fn too_few_rounds_are_judged_by_no_goal() {
        let goals = goals(&results(&[80e3]));
        assert!(goals.iter().all(|goal| goal.is_reached.is_none()));
    }
}
