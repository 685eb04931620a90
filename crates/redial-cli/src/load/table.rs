//! The end of a run in the terminal: what happened, and the table of percentiles, in 80 columns.

use std::fmt::Write as _;

use super::summary::{LoadSummary, Percentiles, Setup};
use crate::{
    numbers::{fit, latency, percent, rate, thousands},
    output::one_line,
};

/// How wide a line may be.
const COLUMNS: usize = 80;

/// The rows of the table: how it is called, its value, and one call in so many takes longer.
type Row = (&'static str, fn(&Percentiles) -> Option<f64>, f64);

/// From the middle to the end.
const ROWS: [Row; 9] = [
    ("50 %", |of| of.p50, 0.5),
    ("75 %", |of| of.p75, 0.25),
    ("90 %", |of| of.p90, 0.1),
    ("95 %", |of| of.p95, 0.05),
    ("99 %", |of| of.p99, 0.01),
    ("99.9 %", |of| of.p999, 0.001),
    ("99.99 %", |of| of.p9999, 0.000_1),
    ("99.999 %", |of| of.p99999, 0.000_01),
    ("100 %", |of| of.max, 0.0),
];

/// Everything that the end of a run says.
pub(crate) fn text(summary: &LoadSummary) -> String {
    let mut text = head(summary);
    text.push('\n');
    for line in percentiles(summary) {
        text.push_str(&line);
        text.push('\n');
    }
    for error in &summary.errors {
        let outcome = error.outcome.name();
        let line = format!(
            "{} x {outcome}, {}: {}",
            thousands(error.count),
            error.kind,
            error.first
        );
        let _ = writeln!(text, "{}", fit(&one_line(&line), COLUMNS));
    }
    if let Some(effects) = &summary.verify {
        let _ = writeln!(text, "{}", effects.text());
    }
    for warning in warnings(summary) {
        let _ = writeln!(text, "{warning}");
    }
    text
}

/// What was asked for, in one line.
fn setup(setup: &Setup) -> String {
    let how = match &setup.rate {
        Some(rate) => format!("open loop, {rate}/s"),
        None => format!("closed loop, {} callers", setup.callers.unwrap_or_default()),
    };
    let line = format!(
        "{} at {}: {how}, seed {}",
        setup.method, setup.address, setup.seed
    );
    fit(&line, COLUMNS) + "\n"
}

fn head(summary: &LoadSummary) -> String {
    let mut text = setup(&summary.setup);
    let outcomes = summary.outcomes();
    let outcomes = outcomes
        .iter()
        .map(|(name, count)| format!("{} {name}", thousands(*count)));
    let outcomes: Vec<_> = outcomes.collect();
    let calls = thousands(summary.calls);
    let _ = writeln!(
        text,
        "{calls} calls in {:.2} s: {}",
        summary.elapsed_s,
        outcomes.join(", ")
    );
    let ended = rate(summary.calls_per_s);
    let _ = match summary.wanted_per_s {
        Some(wanted) => {
            let share = percent(summary.sent_per_s / wanted.max(f64::MIN_POSITIVE));
            let sent = rate(summary.sent_per_s);
            writeln!(
                text,
                "sent {sent}/s of {}/s wanted ({share}), ended {ended}/s",
                rate(wanted)
            )
        }
        None => writeln!(text, "{ended} calls/s"),
    };
    let per_call = summary.attempts as f64 / summary.calls.max(1) as f64;
    let _ = write!(
        text,
        "{} attempts ({per_call:.3} a call)",
        thousands(summary.attempts)
    );
    for (name, count) in [("hedges", summary.hedges), ("replayed", summary.replayed)] {
        if count > 0 {
            let _ = write!(text, ", {} {name}", thousands(count));
        }
    }
    let _ = writeln!(text, " over {} connections", thousands(summary.connects));
    if summary.lost_attempts().next().is_some() {
        let end = |(end, count): (&&str, &u64)| {
            format!("{} {}", thousands(*count), end.replace('_', " "))
        };
        let ends: Vec<_> = summary.attempt_ends.iter().map(end).collect();
        let _ = writeln!(text, "attempts by their end: {}", ends.join(", "));
    }
    text
}

/// The table. Percentiles that too few calls have reached are left out.
fn percentiles(summary: &LoadSummary) -> Vec<String> {
    let is_open = summary.lateness_us.is_some();
    let mut lines = Vec::new();
    lines.push(if is_open {
        "            from the intended  from the actual      sent      calls that".to_owned()
    } else {
        "                                calls that".to_owned()
    });
    lines.push(if is_open {
        "percentile              start            start      late     took longer".to_owned()
    } else {
        "percentile       latency       took longer".to_owned()
    });
    for (name, read, longer) in shown(summary) {
        let cell = |of: &Percentiles| read(of).map_or("-".to_owned(), latency);
        let longer = thousands((longer * summary.calls as f64).floor() as u64);
        lines.push(match &summary.lateness_us {
            Some(late) => format!(
                "{name:>10}  {:>17}  {:>15}  {:>8}  {longer:>14}",
                cell(&summary.latency_us),
                cell(&summary.service_us),
                cell(late),
            ),
            None => format!(
                "{name:>10}  {:>12}  {longer:>16}",
                cell(&summary.latency_us)
            ),
        });
    }
    let mean = |of: &Percentiles| of.mean.map_or("-".to_owned(), latency);
    lines.push(match &summary.lateness_us {
        Some(late) => format!(
            "{:>10}  {:>17}  {:>15}  {:>8}",
            "mean",
            mean(&summary.latency_us),
            mean(&summary.service_us),
            mean(late)
        ),
        None => format!("{:>10}  {:>12}", "mean", mean(&summary.latency_us)),
    });
    lines
}

/// The rows for which there were enough calls.
pub(crate) fn shown(summary: &LoadSummary) -> impl Iterator<Item = Row> {
    let calls = summary.calls as f64;
    ROWS.into_iter()
        .filter(move |(_, _, longer)| *longer == 0.0 || longer * calls >= 0.999)
}

/// What a reader has to know before believing the figures.
pub(crate) fn warnings(summary: &LoadSummary) -> Vec<String> {
    let mut warnings = Vec::new();
    if summary.not_sent > 0 {
        warnings.push(format!(
            "{} calls were meant to start and were not sent: too many were in flight\n\
             (--max-in-flight), or this program did not keep up. Their latencies are missing.",
            thousands(summary.not_sent)
        ));
    }
    if summary.stopped {
        warnings.push("stopped before its end".to_owned());
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::summary::tests::summary;

    #[test]
    fn no_line_is_wider_than_80_columns() {
        for mode in ["open", "closed"] {
            let mut summary = summary(mode);
            summary.errors[0].first = "x".repeat(500);
            summary.calls = 10_000_000_000;
            summary.attempts = 12_345_678_901_234;
            summary.wanted_per_s = summary.wanted_per_s.map(|_| 1e6);
            let text = text(&summary);
            for line in text.lines() {
                assert!(line.chars().count() <= COLUMNS, "{line}");
            }
        }
    }

    #[test]
    fn the_end_of_an_open_loop_says_what_was_wanted_and_what_was_missed() {
        let text = text(&summary("open"));
        let expected = [
            "200 calls in 2.50 s: 198 ok, 1 not executed, 1 unknown",
            "sent 100/s of 101/s wanted (99.50 %), ended 80/s",
            "202 attempts (1.010 a call) over 2 connections",
            "attempts by their end: 198 reply, 4 timeout",
            "      50 %             100 ms",
            "1 x unknown, no reply: inc may have been executed; <why>",
            "within bounds: get shows 199 effects; expected 198 to 199",
            "1 calls were meant to start and were not sent",
        ];
        for line in expected {
            assert!(text.contains(line), "{line}\n\n{text}");
        }
        // One in a thousand of 200 calls is less than one call.
        assert!(text.contains("99 %") && !text.contains("99.9 %"), "{text}");
        assert!(text.contains("100 %"), "{text}");
    }

    #[test]
    fn a_closed_loop_has_one_latency() {
        let mut summary = summary("closed");
        (summary.not_sent, summary.stopped) = (0, true);
        let text = text(&summary);
        assert!(text.contains("percentile       latency"), "{text}");
        assert!(
            !text.contains("intended") && text.ends_with("stopped before its end\n"),
            "{text}"
        );
    }
}
