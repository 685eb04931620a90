//! The grid: the settings that are tried, and what is measured of each.

use crate::{
    harness::{command_line::words, events::Summary},
    report::scale::duration,
};

/// Below, above and far above the 20 ms that the server needs.
pub(super) const TIMEOUTS_MS: [u64; 3] = [15, 40, 100];
pub(super) const BASES_MS: [u64; 3] = [5, 20, 80];
pub(super) const FACTORS: [u64; 3] = [1, 2, 3];
pub(super) const JITTERS: [&str; 5] = ["none", "equal", "full", "decorrelated", "proportional:0.3"];

/// Why the client's retry budget is off.
pub(super) const WHY_UNLIMITED: &str = "The retry budget is unlimited: at 30 % loss the default \
    of 20 % would refuse retries in every cell, and the grid would show the budget, not the backoff.";

/// One choice of the four.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Setting {
    pub(super) jitter: &'static str,
    pub(super) timeout_ms: u64,
    pub(super) base_ms: u64,
    pub(super) factor: u64,
}

/// A setting and its measurement.
pub(super) struct GridCell {
    pub(super) setting: Setting,
    pub(super) summary: Summary,
}

/// The share of calls that must be ok for a cell to be compared by its latency: a percentile of
/// those that were ok flatters a policy that gives up on the others.
const GOOD_SUCCESS: f64 = 0.99;

/// Which cells did best, in a sentence.
pub(super) fn conclusion(cells: &[GridCell]) -> String {
    let good: Vec<&GridCell> = cells
        .iter()
        .filter(|cell| cell.summary.success() >= GOOD_SUCCESS)
        .collect();
    let best = |metric: Metric| {
        let value = |cell: &&&GridCell| metric.of(&cell.summary).unwrap_or(f64::INFINITY);
        let best = good.iter().min_by(|a, b| value(a).total_cmp(&value(b)))?;
        let (text, flags) = (
            metric.text(metric.of(&best.summary)),
            best.setting.flags().join(" "),
        );
        Some(format!("{} {text} with {flags}", metric.name()))
    };
    let bests = [Metric::P99, Metric::ExtraLoad]
        .into_iter()
        .filter_map(best);
    let bests: Vec<String> = bests.collect();
    format!(
        "In {} of {} cells at least 99 % of the calls were ok. The best of these: {}. Where fewer \
         were ok, the latencies flatter: they are of the calls that were.",
        good.len(),
        cells.len(),
        if bests.is_empty() {
            "none".to_owned()
        } else {
            bests.join("; ")
        }
    )
}

/// All settings, in the order in which they are shown.
pub(super) fn settings() -> Vec<Setting> {
    let mut settings = Vec::new();
    for jitter in JITTERS {
        for timeout_ms in TIMEOUTS_MS {
            for base_ms in BASES_MS {
                for factor in FACTORS {
                    settings.push(Setting {
                        jitter,
                        timeout_ms,
                        base_ms,
                        factor,
                    });
                }
            }
        }
    }
    settings
}

impl Setting {
    /// As flags of the client.
    pub(super) fn flags(self) -> Vec<String> {
        [
            ("--jitter", self.jitter.to_owned()),
            ("--attempt-timeout-ms", self.timeout_ms.to_string()),
            ("--backoff-ms", self.base_ms.to_string()),
            ("--factor", self.factor.to_string()),
        ]
        .into_iter()
        .flat_map(|(flag, value)| [flag.to_owned(), value])
        .collect()
    }
}

/// The server, the same for all cells.
pub(super) fn server_flags(seed: u64) -> Vec<String> {
    words(&format!("--drop-request 0.3 --delay-ms 20 --seed {seed}"))
}

/// What all cells' clients have in common. The deadline is short enough for long backoffs to
/// cost success.
pub(super) fn client_flags(calls: u64, seed: u64) -> Vec<String> {
    words(&format!(
        "--calls {calls} --concurrency 32 --max-attempts 5 --deadline-ms 500 \
         --backoff-cap-ms 1000 --retry-budget unlimited --seed {seed} --json"
    ))
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Metric {
    Success,
    P50,
    P99,
    ExtraLoad,
}

impl Metric {
    pub(super) const ALL: [Self; 4] = [Self::Success, Self::P50, Self::P99, Self::ExtraLoad];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::P50 => "p50",
            Self::P99 => "p99",
            Self::ExtraLoad => "extra load",
        }
    }

    /// What it means, and how to read the colour.
    pub(super) fn about(self) -> &'static str {
        match self {
            Self::Success => {
                "The share of calls that were ok within five attempts and 500 ms. The stronger the \
                 colour, the better."
            }
            Self::P50 => {
                "Half of the calls that were ok took no longer. Seven calls in ten never meet a \
                 loss, so no policy changes much here. The stronger the colour, the slower."
            }
            Self::P99 => {
                "99 % of the calls that were ok took no longer: what waiting too long, or backing \
                 off too far, costs the unlucky. The stronger the colour, the slower."
            }
            Self::ExtraLoad => {
                "Attempts beyond the first, per call. Replacing what is lost costs about 0.43; the \
                 rest was sent while an answer was on its way. The stronger the colour, the more."
            }
        }
    }

    /// Its value; `None` if no call was ok.
    pub(super) fn of(self, summary: &Summary) -> Option<f64> {
        match self {
            Self::Success => Some(summary.success()),
            Self::P50 => summary.latency_us.p50,
            Self::P99 => summary.latency_us.p99,
            Self::ExtraLoad => Some(summary.attempts_per_call() - 1.0),
        }
    }

    /// The value with its unit.
    pub(super) fn text(self, value: Option<f64>) -> String {
        let Some(value) = value else {
            return "-".to_owned();
        };
        match self {
            Self::Success => format!("{:.1} %", value * 100.0),
            Self::P50 | Self::P99 => duration(value),
            Self::ExtraLoad => format!("{value:.2}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grid_is_complete_and_each_cell_its_own() {
        let settings = settings();
        assert_eq!(settings.len(), 5 * 3 * 3 * 3);
        for (index, setting) in settings.iter().enumerate() {
            assert!(!settings[..index].contains(setting), "{setting:?} twice");
        }
        let flags = settings[0].flags().join(" ");
        assert_eq!(
            flags,
            "--jitter none --attempt-timeout-ms 15 --backoff-ms 5 --factor 1"
        );
    }

    #[test]
    fn metrics_are_read_off_the_summary() {
        let mut summary = Summary {
            calls: 4,
            ok: 3,
            attempts_total: 6,
            ..Summary::default()
        };
        assert_eq!(Metric::Success.text(Metric::Success.of(&summary)), "75.0 %");
        assert_eq!(
            Metric::ExtraLoad.text(Metric::ExtraLoad.of(&summary)),
            "0.50"
        );
        assert_eq!(Metric::P99.text(Metric::P99.of(&summary)), "-");
        summary.latency_us.p99 = Some(42_000.0);
        assert_eq!(Metric::P99.text(Metric::P99.of(&summary)), "42 ms");
    }
}
