//! The measurements of all rounds, and what follows from them.

use serde::Serialize;

use super::{
    measure::Round,
    plan::{BenchCell, BenchSubject, SHAPES, Shape},
    stats::Spread,
};

/// How many rounds it takes for medians to say something.
const COMPARED_FROM: usize = 3;

/// From this width of the echo's rounds on the machine was too noisy.
const MAX_WIDTH: f64 = 0.15;

/// Every cell with its rounds.
pub(crate) struct Measurements {
    pub(crate) rows: Vec<Row>,
}

/// One cell, and what was measured in each round.
pub(crate) struct Row {
    pub(crate) cell: BenchCell,
    pub(crate) samples: Vec<Round>,
}

/// A row in figures: the middle of all rounds, and how far apart they were.
#[derive(Serialize)]
pub(crate) struct Figures {
    #[serde(flatten)]
    pub(crate) cell: BenchCell,
    pub(crate) calls_per_s: Spread,
    /// Calls per second in those of the echo of the same shape.
    pub(crate) of_echo: Option<Spread>,
    /// While the machine did nothing else.
    pub(crate) undisturbed_per_s: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    /// CPU seconds per million calls.
    pub(crate) server_cpu: Option<Spread>,
    pub(crate) client_cpu: Option<Spread>,
    pub(crate) peak_kib: Option<f64>,
}

impl Measurements {
    /// Whether there were rounds enough for medians to say something.
    pub(crate) fn can_be_compared(&self) -> bool {
        self.rows
            .iter()
            .all(|row| row.samples.len() >= COMPARED_FROM)
    }

    /// The rounds of a cell.
    fn samples(&self, what: BenchSubject, shape: Shape) -> &[Round] {
        let cell = BenchCell { what, shape };
        let row = self.rows.iter().find(|row| row.cell == cell);
        row.map_or(&[], |row| &row.samples)
    }

    fn values(
        &self,
        what: BenchSubject,
        shape: Shape,
        figure: impl Fn(&Round) -> Option<f64>,
    ) -> Vec<f64> {
        self.samples(what, shape)
            .iter()
            .filter_map(figure)
            .collect()
    }

    /// Calls per second of one in those of the other, round by round; on a noisy machine those of
    /// its quiet moments.
    pub(crate) fn speed_ratio(
        &self,
        what: BenchSubject,
        to: BenchSubject,
        shape: Shape,
    ) -> Option<Spread> {
        let is_noisy = self.noise().is_some();
        let figure = |sample: &Round| {
            if is_noisy {
                sample.undisturbed_per_s
            } else {
                sample.calls_per_s
            }
        };
        let speed = |what| self.values(what, shape, |sample| Some(figure(sample)));
        Spread::of_ratios(&speed(what), &speed(to))
    }

    /// The server's CPU per call of one in that of the other.
    pub(crate) fn cpu_ratio(
        &self,
        what: BenchSubject,
        to: BenchSubject,
        shape: Shape,
    ) -> Option<Spread> {
        let cpu = |what| self.values(what, shape, |sample| sample.server_cpu);
        Spread::of_ratios(&cpu(what), &cpu(to))
    }

    /// The client's CPU per call in the server's.
    pub(crate) fn client_to_server(&self, shape: Shape) -> Option<Spread> {
        let of =
            |figure: fn(&Round) -> Option<f64>| self.values(BenchSubject::Client, shape, figure);
        Spread::of_ratios(
            &of(|sample| sample.client_cpu),
            &of(|sample| sample.server_cpu),
        )
    }

    /// All rows in figures.
    pub(crate) fn figures(&self) -> Vec<Figures> {
        let rows = self.rows.iter();
        rows.filter_map(|row| self.figures_of(row.cell)).collect()
    }

    fn figures_of(&self, cell: BenchCell) -> Option<Figures> {
        let BenchCell { what, shape } = cell;
        let of =
            |figure: &dyn Fn(&Round) -> Option<f64>| Spread::of(self.values(what, shape, figure));
        let latency = |figure: fn(&Round) -> f64| of(&|sample| Some(figure(sample)));
        Some(Figures {
            cell,
            calls_per_s: of(&|sample| Some(sample.calls_per_s))?,
            of_echo: self.speed_ratio(what, BenchSubject::Echo, shape),
            undisturbed_per_s: of(&|sample| Some(sample.undisturbed_per_s))?.median,
            p50_us: latency(|sample| sample.latency_us.p50)?.median,
            p99_us: latency(|sample| sample.latency_us.p99)?.median,
            p999_us: latency(|sample| sample.latency_us.p999)?.median,
            server_cpu: of(&|sample| sample.server_cpu),
            client_cpu: of(&|sample| sample.client_cpu),
            peak_kib: of(&|sample| sample.peak_kib.map(|kib| kib as f64)).map(|it| it.median),
        })
    }

    /// Why the figures are not to be taken at their face value, if the echo's own varied.
    pub(crate) fn noise(&self) -> Option<String> {
        let width = |shape: &Shape| {
            let speed = self.values(BenchSubject::Echo, *shape, |sample| {
                Some(sample.calls_per_s)
            });
            Spread::of(speed).map_or(0.0, Spread::width)
        };
        let widths = SHAPES.iter().map(width);
        let widest = widths.fold(0.0, f64::max);
        (widest > MAX_WIDTH).then(|| {
            format!(
                "This machine was too noisy for absolute numbers: the fastest and the slowest \
                 round of the bare echo lie {:.0} % apart, more than {:.0} %. So ratios are those \
                 of its quiet moments (calls/s in the best tenth of all slices of 10 ms); even so \
                 CPU per call says more.",
                widest * 100.0,
                MAX_WIDTH * 100.0
            )
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::bench::{measure::RoundLatency, plan::cells};

    /// Rounds in which the machine has these speeds, and everything but the echo has half of it.
    pub(crate) fn results(speeds: &[f64]) -> Measurements {
        let sample = |what, speed: &f64| {
            let share = if what == BenchSubject::Echo { 1.0 } else { 0.5 };
            Round {
                calls_per_s: speed * share,
                undisturbed_per_s: speed * share * 2.0,
                latency_us: RoundLatency {
                    p50: 10.0,
                    p99: 20.0,
                    p999: 30.0,
                    max: 40.0,
                },
                server_cpu: Some(0.2 / share),
                client_cpu: Some(0.3),
                peak_kib: Some(4096),
            }
        };
        let row = |cell: BenchCell| Row {
            cell,
            samples: speeds.iter().map(|it| sample(cell.what, it)).collect(),
        };
        Measurements {
            rows: cells().into_iter().map(row).collect(),
        }
    }

    #[test]
    fn what_slows_a_whole_round_changes_no_ratio_but_is_told() {
        let noisy = results(&[1e6, 2e6, 1.5e6]);
        let ratio = noisy.speed_ratio(BenchSubject::Session, BenchSubject::Echo, SHAPES[0]);
        let ratio = ratio.unwrap();
        assert!((ratio.least - 0.5).abs() < 1e-9 && (ratio.most - 0.5).abs() < 1e-9);
        let noise = noisy.noise().unwrap();
        assert!(noise.contains("67 % apart"), "{noise}");
        assert_eq!(results(&[1e6, 1.1e6, 1.05e6]).noise(), None);
        assert_eq!(results(&[1e6]).noise(), None);
    }

    #[test]
    fn figures_are_medians() {
        let results = results(&[1e6, 3e6, 2e6]);
        let figures = results.figures();
        assert_eq!(figures.len(), cells().len());
        let busy = BenchCell {
            what: BenchSubject::Session,
            shape: SHAPES[2],
        };
        let row = figures.iter().find(|row| row.cell == busy).unwrap();
        assert!((row.calls_per_s.median - 1e6).abs() < 1.0);
        assert!((row.server_cpu.unwrap().median - 0.4).abs() < 1e-9);
        let cpu = results.cpu_ratio(BenchSubject::Session, BenchSubject::Echo, SHAPES[2]);
        assert!((cpu.unwrap().median - 2.0).abs() < 1e-9);
        let client = results.client_to_server(SHAPES[2]).unwrap();
        assert!((client.median - 0.75).abs() < 1e-9);
    }
}
