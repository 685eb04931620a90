//! The report of a run: one HTML file that needs nothing else, readable in light and in dark.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::{
    chart::{Axis, Chart, Curve},
    collect::{Collected, Point},
    markup::escape,
    schedule::Schedule,
    summary::{LoadSummary, Percentiles},
    table::{shown, warnings},
};
use crate::{
    failure::{Exit, Failure},
    numbers::{latency, percent, rate, thousands},
};

/// How many points a curve over time has at most.
const POINTS: usize = 300;

/// Percentiles of the distribution, as the share of calls that took longer.
const TAIL: [f64; 16] = [
    0.9, 0.75, 0.5, 0.35, 0.25, 0.15, 0.1, 0.05, 0.025, 0.01, 0.005, 0.001, 0.000_5, 0.000_1,
    0.000_05, 0.000_01,
];

/// What the page says of them.
const PERCENTILES: &str = "Percentiles are nearest ranks of all calls, however they ended, to three digits: 99 % is the \
    least time that 99 % of them did not exceed.";

/// Whether the file can be written: to be known before the run, which leaves nothing behind if it fails.
pub(crate) fn check(file: &Path) -> Result<(), Failure> {
    let draft = draft(file);
    let checked = if file.is_dir() {
        Err(ErrorKind::IsADirectory.into())
    } else {
        fs::File::create(&draft).and_then(|_| fs::remove_file(&draft))
    };
    checked.map_err(|error| {
        Failure::usage(format!(
            "--html: can't write {}: {error}; expected a file in a folder that is there",
            file.display()
        ))
    })
}

fn draft(file: &Path) -> PathBuf {
    file.with_extension("html.new")
}

/// Writes the report in one step: a browser never loads half of it.
pub(crate) fn write(
    file: &Path,
    summary: &LoadSummary,
    collected: &Collected,
    schedule: Option<&Schedule>,
) -> Result<()> {
    let draft = draft(file);
    fs::write(&draft, page(summary, collected, schedule))
        .and_then(|()| fs::rename(&draft, file))
        .with_context(|| format!("--html: can't write {}", file.display()))
}

fn page(summary: &LoadSummary, collected: &Collected, schedule: Option<&Schedule>) -> String {
    let title = format!("{} at {}", summary.setup.method, summary.setup.address);
    let body = [
        head(summary, &title),
        "<div class=\"panels\">".to_owned(),
        over_time(collected, schedule),
        latencies_over_time(collected),
        distribution(collected, summary),
        "</div><div class=\"panels\">".to_owned(),
        percentile_table(summary),
        figures(summary),
        "</div>".to_owned(),
        errors(summary),
    ];
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{}</title>\n\
         <style>\n{}{}</style>\n</head>\n<body>\n<main>\n{}\n</main>\n</body>\n</html>\n",
        escape(&title),
        include_str!("base.css"),
        include_str!("style.css"),
        body.join("\n")
    )
}

fn head(summary: &LoadSummary, title: &str) -> String {
    let setup = &summary.setup;
    let how = match (&setup.rate, setup.callers) {
        (Some(rate), _) => format!("open loop, {rate} calls per second"),
        (None, callers) => format!("closed loop, {} callers", callers.unwrap_or_default()),
    };
    let outcomes = summary.outcomes();
    let outcomes = outcomes
        .iter()
        .map(|(name, count)| format!("{} {name}", thousands(*count)));
    let outcomes = outcomes.collect::<Vec<_>>().join(", ");
    let class = if summary.exit() == Exit::Ok {
        "good"
    } else {
        "bad"
    };
    let connections = match setup.connections {
        1 => "1 connection".to_owned(),
        count => format!("{count} connections"),
    };
    let mut html = format!(
        "<h1>{}</h1>\n<p class=\"soft\">{}, {connections}, seed {}</p>\n\
         <p class=\"{class}\">{} calls in {:.2} s: {outcomes}</p>",
        escape(title),
        escape(&how),
        setup.seed,
        thousands(summary.calls),
        summary.elapsed_s
    );
    if let Some(effects) = &summary.verify {
        let class = if effects.is_right() { "good" } else { "bad" };
        html += &format!("\n<p class=\"{class}\">{}</p>", escape(&effects.text()));
    }
    for warning in warnings(summary) {
        html += &format!("\n<p class=\"bad\">{}</p>", escape(&warning));
    }
    html
}

/// Fewer points, none of which hides what is worst in those that it stands for.
fn fewer(points: &[Point]) -> Vec<Point> {
    let group = points.len().div_ceil(POINTS).max(1);
    let merge = |points: &[Point]| {
        let most = |read: fn(&Point) -> f64| points.iter().map(read).fold(0.0, f64::max);
        let sum = |read: fn(&Point) -> u64| points.iter().map(read).sum();
        Point {
            from: points[0].from,
            until: points[points.len() - 1].until,
            started: sum(|point| point.started),
            ended: sum(|point| point.ended),
            errors: sum(|point| point.errors),
            p50_us: most(|point| point.p50_us),
            p99_us: most(|point| point.p99_us),
            max_us: most(|point| point.max_us),
        }
    };
    points.chunks(group).map(merge).collect()
}

fn time_axis(points: &[Point]) -> Axis {
    Axis::linear(points.last().map_or(0.0, |point| point.until.as_secs_f64()))
}

fn seconds(value: f64) -> String {
    // A multiple of a tenth has no exact binary form.
    format!("{} s", (value * 1e3).round() / 1e3)
}

fn over_time(collected: &Collected, schedule: Option<&Schedule>) -> String {
    let points = fewer(&collected.points);
    let per_s = |count: fn(&Point) -> u64| {
        let one = |point: &Point| {
            let length = (point.until - point.from).as_secs_f64().max(1e-9);
            (point.until.as_secs_f64(), count(point) as f64 / length)
        };
        points.iter().map(one).collect::<Vec<_>>()
    };
    let ended = per_s(|point| point.ended);
    let wanted = schedule.map(|schedule| {
        let one = |point: &Point| (point.until.as_secs_f64(), schedule.rate_at(point.until));
        points.iter().map(one).collect::<Vec<_>>()
    });
    let most = ended
        .iter()
        .chain(wanted.iter().flatten())
        .map(|point| point.1)
        .fold(0.0, f64::max);
    let mut curves = Vec::new();
    let mut legend = vec![("ended", "ended"), ("errors", "without a value")];
    if let Some(points) = wanted {
        curves.push(Curve {
            class: "wanted",
            points,
        });
        legend.insert(1, ("wanted", "wanted"));
    }
    curves.push(Curve {
        class: "ended",
        points: ended,
    });
    // Dashed, and above the other: where every call fails, both are visible.
    curves.push(Curve {
        class: "errors",
        points: per_s(|point| point.errors),
    });
    let chart = Chart {
        name: "Calls per second over time",
        x: (time_axis(&points), &seconds),
        y: (Axis::linear(most * 1.05), &rate),
        curves,
    };
    panel("Calls per second", &legend, &chart)
}

fn latencies_over_time(collected: &Collected) -> String {
    let points = fewer(&collected.points);
    let points: Vec<_> = points.into_iter().filter(|point| point.ended > 0).collect();
    let curve = |class, read: fn(&Point) -> f64| Curve {
        class,
        points: points
            .iter()
            .map(|point| (point.until.as_secs_f64(), read(point)))
            .collect(),
    };
    let least = points
        .iter()
        .map(|point| point.p50_us)
        .fold(f64::MAX, f64::min);
    let most = points.iter().map(|point| point.max_us).fold(1.0, f64::max);
    let chart = Chart {
        name: "Latency over time",
        x: (time_axis(&collected.points), &seconds),
        y: (Axis::log(least.min(most), most), &latency),
        curves: vec![
            curve("slowest", |point| point.max_us),
            curve("p99", |point| point.p99_us),
            curve("p50", |point| point.p50_us),
        ],
    };
    let legend = [("p50", "p50"), ("p99", "p99"), ("slowest", "slowest")];
    panel("Latency over time", &legend, &chart)
}

fn distribution(collected: &Collected, summary: &LoadSummary) -> String {
    let (total, calls) = (&collected.total, summary.calls as f64);
    let tail: Vec<_> = TAIL
        .into_iter()
        .filter(|longer| longer * calls >= 0.999)
        .collect();
    let curve = |class, histogram: &hdrhistogram::Histogram<u64>| {
        let at = |longer: &f64| {
            let ns = histogram.value_at_quantile(1.0 - longer) as f64;
            (1.0 / longer, (ns / 1e3).max(1.0))
        };
        let points = tail.iter().map(at).collect();
        Curve { class, points }
    };
    let mut curves = vec![curve("intended", &total.latency)];
    let mut legend = vec![("intended", "latency")];
    if summary.lateness_us.is_some() {
        legend[0].1 = "from the intended start";
        curves.push(curve("actual", &total.service));
        legend.push(("actual", "from the actual start"));
    }
    let values = || {
        curves
            .iter()
            .flat_map(|curve| &curve.points)
            .map(|point| point.1)
    };
    let (least, most) = (
        values().fold(f64::MAX, f64::min),
        values().fold(1.0, f64::max),
    );
    let slowest = tail.last().map_or(10.0, |longer| 1.0 / longer);
    let share = |odds: f64| match odds as u64 {
        0 | 1 => "0 %".to_owned(),
        10 => "90 %".to_owned(),
        100 => "99 %".to_owned(),
        1_000 => "99.9 %".to_owned(),
        10_000 => "99.99 %".to_owned(),
        _ => "99.999 %".to_owned(),
    };
    let chart = Chart {
        name: "Latency by percentile",
        x: (Axis::log(1.0, slowest), &share),
        y: (Axis::log(least.min(most), most), &latency),
        curves,
    };
    panel("Latency by percentile", &legend, &chart)
}

fn panel(heading: &str, legend: &[(&str, &str)], chart: &Chart<'_>) -> String {
    let key = |(class, name): &(&str, &str)| {
        format!(
            "<span><svg viewBox=\"0 0 26 8\" aria-hidden=\"true\"><path class=\"curve {class}\" \
             d=\"M0 4H26\"/></svg>{name}</span>"
        )
    };
    let legend: String = legend.iter().map(key).collect();
    let svg = chart.svg();
    format!("<section><h2>{heading}</h2>\n<p class=\"legend\">{legend}</p>\n{svg}</section>")
}

fn percentile_table(summary: &LoadSummary) -> String {
    let columns: Vec<(&str, &Percentiles)> = match &summary.lateness_us {
        Some(late) => vec![
            ("from the intended start", &summary.latency_us),
            ("from the actual start", &summary.service_us),
            ("sent late by", late),
        ],
        None => vec![("latency", &summary.latency_us)],
    };
    let cell = |value: Option<f64>| {
        let text = value.map_or("-".to_owned(), latency);
        format!("<td class=\"number\">{text}</td>")
    };
    let row = |name: &str, read: fn(&Percentiles) -> Option<f64>| {
        let cells: String = columns.iter().map(|(_, of)| cell(read(of))).collect();
        format!("<tr><th scope=\"row\">{name}</th>{cells}</tr>")
    };
    let heading = |(name, _): &(&str, &Percentiles)| {
        format!("<th scope=\"col\" class=\"number\">{name}</th>")
    };
    let headings: String = columns.iter().map(heading).collect();
    let rows: String = shown(summary)
        .map(|(name, read, _)| row(name, read))
        .collect();
    format!(
        "<section><h2>Percentiles</h2><div class=\"scroll\" tabindex=\"0\"><table><thead><tr>\
         <th scope=\"col\">of calls</th>{headings}</tr></thead><tbody>{rows}{}</tbody></table></div><p class=\"soft\">{PERCENTILES}</p></section>",
        row("mean", |of| of.mean)
    )
}

fn figures(summary: &LoadSummary) -> String {
    let mut rows = Vec::new();
    if let Some(wanted) = summary.wanted_per_s {
        let share = percent(summary.sent_per_s / wanted.max(f64::MIN_POSITIVE));
        rows.push(("calls/s wanted", rate(wanted)));
        rows.push((
            "calls/s sent",
            format!("{} ({share})", rate(summary.sent_per_s)),
        ));
    }
    rows.push(("calls/s ended", rate(summary.calls_per_s)));
    rows.push(("attempts", thousands(summary.attempts)));
    rows.push(("hedges", thousands(summary.hedges)));
    rows.push(("replayed", thousands(summary.replayed)));
    rows.push(("connections made", thousands(summary.connects)));
    for (end, count) in summary.lost_attempts() {
        rows.push((end, thousands(count)));
    }
    let row = |(name, value): (&str, String)| {
        let name = escape(&name.replace('_', " "));
        format!("<tr><th scope=\"row\">{name}</th><td class=\"number\">{value}</td></tr>")
    };
    let rows: String = rows.into_iter().map(row).collect();
    format!(
        "<section><h2>Figures</h2><div class=\"scroll\" tabindex=\"0\"><table><tbody>{rows}</tbody></table></div></section>"
    )
}

fn errors(summary: &LoadSummary) -> String {
    if summary.errors.is_empty() {
        return String::new();
    }
    let rows = summary.errors.iter().map(|error| {
        format!(
            "<tr><td class=\"number\">{}</td><th scope=\"row\">{}</th><td>{}</td>\
             <td class=\"text\">{}</td></tr>",
            thousands(error.count),
            error.outcome.name(),
            escape(&error.kind),
            escape(&error.first)
        )
    });
    format!(
        "<section><h2>Errors</h2><div class=\"scroll\" tabindex=\"0\"><table><thead><tr>\
         <th scope=\"col\">calls</th><th scope=\"col\">outcome</th><th scope=\"col\">kind</th>\
         <th scope=\"col\">the first one</th></tr></thead><tbody>{}</tbody></table></div></section>",
        rows.collect::<String>()
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::load::summary::tests::{collected, summary};

    fn pages() -> [String; 2] {
        let (collected, _) = collected();
        let schedule = Schedule::constant(100.0);
        [
            page(&summary("open"), &collected, Some(&schedule)),
            page(&summary("closed"), &collected, None),
        ]
    }

    #[test]
    fn a_report_asks_nothing_of_the_network_and_holds_no_foreign_markup() {
        for page in pages() {
            for needle in [
                "http:", "https:", "src=", "@import", "url(", "<script", "<link", "<why>",
            ] {
                assert!(!page.contains(needle), "{needle}");
            }
            assert!(page.contains("prefers-color-scheme: dark") && page.contains("&lt;why&gt;"));
            assert!(!page.contains("NaN"), "{page}");
        }
    }

    #[test]
    fn a_report_says_what_happened_in_its_first_lines() {
        let [open, closed] = pages();
        assert!(open.contains("<h1>inc at 127.0.0.1:7077</h1>"), "{open}");
        assert!(
            open.contains("class=\"bad\">200 calls in 2.50 s: 198 ok, 1 not executed"),
            "{open}"
        );
        assert!(
            open.contains("class=\"good\">within bounds: get shows 199 effects"),
            "{open}"
        );
        assert!(open.contains("curve wanted") && open.contains("from the intended start"));
        assert!(!closed.contains("curve wanted") && !closed.contains("from the intended start"));
    }

    /// A curve of a long run must not smooth a stall away.
    #[test]
    fn fewer_points_keep_the_worst() {
        let point = |index: u32| Point {
            from: Duration::from_secs(index.into()),
            until: Duration::from_secs(u64::from(index) + 1),
            started: 10,
            ended: 10,
            errors: u64::from(index == 777),
            p50_us: 1.0,
            p99_us: 2.0,
            max_us: if index == 777 { 1e6 } else { 3.0 },
        };
        let points: Vec<_> = (0..1000).map(point).collect();
        let fewer = fewer(&points);
        assert!(fewer.len() <= POINTS);
        assert_eq!(fewer.iter().map(|point| point.ended).sum::<u64>(), 10_000);
        assert!(
            fewer
                .iter()
                .any(|point| point.max_us == 1e6 && point.errors == 1)
        );
        assert!(fewer.windows(2).all(|pair| pair[0].until == pair[1].from));
    }
}
