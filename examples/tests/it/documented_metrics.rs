//! Metrics that METRICS.md does not know, and such that there are not: their names, kinds, units and labels are a
//! stable interface.

use std::collections::{BTreeMap, BTreeSet};

use metrics::Unit;
use metrics_util::{MetricKind, debugging::DebuggingRecorder};
use redial_client::Client;

use crate::metrics::{connect, hasty, retried_hedged_and_replayed, server};

const PAGE: &str = include_str!("../../../crates/METRICS.md");
const SOURCES: [&str; 2] = [
    include_str!("../../../crates/redial-server/src/metrics.rs"),
    include_str!("../../../crates/redial-client/src/metrics.rs"),
];

/// A row of the page.
#[derive(Debug)]
struct Documented {
    prometheus: String,
    kind: String,
    labels: BTreeSet<String>,
}

fn words(cell: &str) -> BTreeSet<String> {
    cell.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

fn documented() -> BTreeMap<String, Documented> {
    let rows = PAGE.lines().filter(|line| line.starts_with("| `r"));
    let rows = rows.map(|row| {
        row.trim_matches('|')
            .split('|')
            .map(str::trim)
            .collect::<Vec<_>>()
    });
    let metrics = rows.filter(|cells| cells.len() == 5);
    let read = |cells: Vec<&str>| {
        let row = Documented {
            prometheus: cells[1].trim_matches('`').to_owned(),
            kind: cells[2].to_owned(),
            labels: words(cells[3]),
        };
        (cells[0].trim_matches('`').to_owned(), row)
    };
    metrics.map(read).collect()
}

/// A name in the code that the page has not, or the other way round.
#[test]
fn the_page_has_the_names_of_the_code_and_no_others() {
    let lines = SOURCES.iter().flat_map(|source| source.lines());
    let constants = lines.filter_map(|line| line.strip_prefix("pub const ")?.split('"').nth(1));
    let named: BTreeSet<_> = constants.filter(|name| name.contains('.')).collect();
    assert!(named.len() > 20, "{named:?}");
    let documented = documented();
    let on_the_page: BTreeSet<_> = documented.keys().map(String::as_str).collect();
    assert_eq!(on_the_page, named);
}

/// A kind, a unit or a label that is not as the page says.
#[tokio::test(start_paused = true)]
async fn what_is_recorded_is_as_the_page_says() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _installed = metrics::set_default_local_recorder(&recorder);
    let (builder, faults) = server();
    let server = builder.metrics().build().unwrap();
    let client = connect(&server, Client::builder().config(hasty()).metrics()).await;
    client.request("inc", ()).await.unwrap();
    retried_hedged_and_replayed(&client, &faults).await;
    client.query("fail", (7,)).await.unwrap_err();
    client.request("nothing", ()).await.unwrap_err();
    let mut documented = documented();
    let mut labels = BTreeMap::<_, BTreeSet<_>>::new();
    for (key, unit, _, _) in snapshotter.snapshot().into_vec() {
        let name = key.key().name().to_owned();
        let row = documented
            .get(&name)
            .unwrap_or_else(|| panic!("no {name} on the page"));
        let kind = match key.kind() {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        };
        let (unit, suffix) = match unit {
            Some(Unit::Seconds) => (", s", "_seconds"),
            Some(Unit::Bytes) => (", bytes", ""),
            _ => ("", ""),
        };
        assert_eq!(row.kind, format!("{kind}{unit}"), "{name}");
        let total = if kind == "counter" { "_total" } else { "" };
        let prometheus = format!("{}{suffix}{total}", name.replace('.', "_"));
        assert_eq!(row.prometheus, prometheus);
        let keys = key.key().labels().map(|label| label.key().to_owned());
        labels.entry(name).or_default().extend(keys);
    }
    for (name, labels) in labels {
        let row = documented.remove(&name).expect("it was there");
        assert_eq!(row.labels, labels, "{name}");
    }
    assert!(documented.is_empty(), "not recorded: {documented:?}");
    let described: BTreeSet<_> = words(PAGE.split_once("## Labels").unwrap().1);
    for label in [
        "rpc.method",
        "error.type",
        "redial.executed",
        "redial.table",
        "redial.attempt.end",
    ] {
        assert!(described.contains(label), "{label}");
    }
}
