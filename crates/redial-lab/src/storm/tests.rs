//! What is made of the records of storms.

use super::*;
use crate::storm::record::{CallCount, StormFigure, StormMark, StormSeries, Unit, Wanted};

fn record(fleet: Fleet, seed: u64, value: Option<f64>) -> StormRecord {
    let wanted = Wanted::AtMost(2.0);
    StormRecord {
        letter: 'a',
        title: "a stall".to_owned(),
        fleet,
        seed,
        lasted_s: 2.0,
        marks: vec![StormMark {
            from_s: 0.5,
            until_s: 1.0,
            text: "nothing gets on".to_owned(),
        }],
        figures: vec![StormFigure {
            name: "back at full goodput".to_owned(),
            unit: Unit::Seconds,
            value,
            wanted: (fleet == Fleet::Redial).then_some(wanted),
            holds: fleet == Fleet::Naive || value.is_some_and(|value| value <= 2.0),
        }],
        count: CallCount::default(),
        violations: Vec::new(),
        series: StormSeries {
            step_ms: 100,
            offered: vec![28; 20],
            goodput: vec![28; 20],
            p50_ms: vec![Some(10.0), None, Some(20.0)],
            p99_ms: vec![Some(10.0); 20],
            queue_ms: vec![Some(0.0); 20],
            sheds: vec![0; 20],
            retries: vec![3; 20],
        },
    }
}

fn results(redial: &[Option<f64>]) -> StormResults {
    let mut records = vec![record(Fleet::Naive, 1, None)];
    records.extend(
        (1..)
            .zip(redial)
            .map(|(seed, value)| record(Fleet::Redial, seed, *value)),
    );
    StormResults {
        records,
        seeds: redial.len() as u64,
        took: Duration::from_secs(1),
        is_real: false,
        command: "cargo xtask storm".to_owned(),
    }
}

/// A line that holds for one seed and not for another.
#[test]
fn a_line_fails_with_its_worst_seed() {
    let cells = |redial: &[Option<f64>]| results(redial).rows()[0].cells();
    let expected = [
        "a back at full goodput",
        "holds",
        "never",
        "0.4–1.2 s",
        "<= 2 s",
    ];
    assert_eq!(cells(&[Some(1.2), Some(0.4)]), expected);
    assert_eq!(
        cells(&[Some(1.2), Some(2.4)])[1..],
        ["fails", "never", "1.2–2.4 s", "<= 2 s"]
    );
    assert_eq!(cells(&[None, Some(2.0)])[3], "2.0 s–never");
}

/// Kind: a figure that no program can read. Instance: a bound in per cent beside a share of 1.
#[test]
fn a_figure_says_in_json_what_it_is_counted_in_and_is_bounded_in_that() {
    let mut results = results(&[Some(0.97)]);
    results.records[1].figures[0] = StormFigure {
        unit: Unit::Share,
        wanted: Some(Wanted::AtLeast(0.95)),
        ..results.records[1].figures[0].clone()
    };
    let expected = json!({
        "scenario": "a",
        "figure": "back at full goodput",
        "unit": "share",
        "naive": { "least": null, "most": null },
        "redial": { "least": 0.97, "most": 0.97 },
        "wanted": { "at-least": 0.95 },
        "holds": true,
    });
    assert_eq!(results.rows()[0].json(), expected);
}

/// Kind: a page that says more than is so. Instance: a run in real time that would come to the same again.
#[test]
fn only_what_was_simulated_comes_to_the_same_again() {
    let mut results = results(&[Some(1.0)]);
    assert!(page::html(&results).contains("comes to the same"));
    results.is_real = true;
    assert!(!page::html(&results).contains("comes to the same"));
}

#[test]
fn what_fails_is_a_problem_with_its_seed() {
    assert!(results(&[Some(1.0)]).problems().is_empty());
    let expected = "storm a, redial, seed 2: back at full goodput: 2.4 s; expected <= 2 s";
    assert_eq!(results(&[Some(1.0), Some(2.4)]).problems(), [expected]);
    let mut broken = results(&[Some(1.0)]);
    broken.records[1]
        .violations
        .push("call 3 is ok: 0 effects".to_owned());
    assert_eq!(
        broken.problems(),
        ["storm a, redial, seed 1: call 3 is ok: 0 effects"]
    );
}

#[test]
fn the_table_fits_a_terminal_of_80_columns() {
    let mut results = results(&[Some(1.2), Some(10.4)]);
    for record in &mut results.records {
        let figure = &mut record.figures[0];
        figure.name = "others' p99, of before".to_owned();
        figure.unit = Unit::Share;
    }
    let text = table::terminal(&results.rows()).to_string();
    let widest = text.lines().map(|line| line.chars().count()).max();
    assert!(widest <= Some(80), "{text}");
}

#[test]
fn a_picture_has_a_curve_of_each_kind_and_no_gap_is_bridged() {
    let results = results(&[Some(1.0)]);
    let records: Vec<_> = results.records.iter().collect();
    let svg = chart::draw(&records);
    assert_eq!(svg.matches("class=\"curve offered\"").count(), 1);
    assert_eq!(svg.matches("class=\"curve naive\"").count(), 4);
    assert_eq!(svg.matches("class=\"curve session thin\"").count(), 2);
    assert!(
        svg.contains("nothing gets on") && !svg.contains("NaN"),
        "{svg}"
    );
    let thin = svg
        .split("class=\"curve session thin\" d=\"")
        .nth(1)
        .unwrap();
    let data = thin.split('"').next().unwrap();
    assert_eq!(data.matches('M').count(), 2, "{data}");
}

#[test]
fn the_page_has_a_section_for_each_storm_that_was_played() {
    let page = results(&[Some(1.0)]).html().unwrap();
    assert!(page.contains("<h2>a: a stall</h2>") && !page.contains("<h2>b"));
    assert!(page.contains("class=\"exact\">holds"), "{page}");
}

pub(super) fn sample_page() -> String {
    page::html(&results(&[Some(1.2), Some(0.4)]))
}
