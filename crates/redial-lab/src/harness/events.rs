//! The programs' own reports: the client's summary, and the event files of client and server.

use std::{collections::BTreeMap, fs, io, path::Path};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The last line of `counter-client --json`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Summary {
    pub(crate) calls: u64,
    pub(crate) ok: u64,
    pub(crate) not_executed: u64,
    pub(crate) failed: u64,
    pub(crate) unknown: u64,
    pub(crate) attempts_total: u64,
    /// Copies that went out because a call took long.
    pub(crate) hedges: u64,
    /// Whether the calls were those of a session, if a server was reached.
    pub(crate) sessions: Option<bool>,
    /// How many calls took how many attempts.
    pub(crate) attempts_histogram: BTreeMap<u32, u64>,
    pub(crate) elapsed_s: f64,
    pub(crate) latency_us: Latency,
}

/// Percentiles over the calls that were ok, in microseconds; `None` if no call was.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Latency {
    pub(crate) p50: Option<f64>,
    pub(crate) p99: Option<f64>,
    pub(crate) p999: Option<f64>,
}

impl Summary {
    /// Attempts per call.
    pub(crate) fn attempts_per_call(&self) -> f64 {
        self.attempts_total as f64 / self.calls.max(1) as f64
    }

    /// Calls of any outcome per second.
    pub(crate) fn calls_per_s(&self) -> f64 {
        self.calls as f64 / self.elapsed_s.max(1e-9)
    }

    /// The share of calls that were ok, from 0 to 1.
    pub(crate) fn success(&self) -> f64 {
        self.ok as f64 / self.calls.max(1) as f64
    }
}

/// How a call ended for its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    Ok,
    NotExecuted,
    Failed,
    Unknown,
}

/// One call, from the client's event file.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Call {
    /// Its number in the run.
    #[serde(rename = "call")]
    pub(crate) number: u64,
    pub(crate) outcome: Outcome,
    pub(crate) start_us: u64,
    pub(crate) end_us: u64,
    /// The counter as the call left it, if the call was ok.
    pub(crate) value: Option<i64>,
    /// Why the call has no value.
    #[serde(default)]
    pub(crate) error: Option<String>,
    pub(crate) attempts: Vec<Attempt>,
}

impl Call {
    /// How long the caller waited.
    pub(crate) fn took_us(&self) -> u64 {
        self.end_us.saturating_sub(self.start_us)
    }

    /// Whether its caller heard that the server was stopped in the middle of it (-32008).
    pub(crate) fn is_interrupted(&self) -> bool {
        let says_so = |error: &String| error.contains("-32008");
        self.outcome == Outcome::Unknown && self.error.as_ref().is_some_and(says_so)
    }
}

/// How long the calls took that were ok, in microseconds, sorted.
pub(crate) fn sorted_us(calls: &[Call]) -> Vec<f64> {
    let ok = calls.iter().filter(|call| call.outcome == Outcome::Ok);
    let mut sorted: Vec<_> = ok.map(|call| call.took_us() as f64).collect();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// One sending of a call.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Attempt {
    pub(crate) id: String,
    /// As the server saw it, from 1.
    pub(crate) attempt: u32,
    pub(crate) sent_us: u64,
    pub(crate) end_us: u64,
    pub(crate) end: AttemptEnd,
}

/// What ended the client's wait for one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AttemptEnd {
    Reply,
    Refused,
    Timeout,
    ConnectionLost,
    ConnectFailed,
    /// Still open when the reply to another attempt completed the call.
    Superseded,
}

/// What the server did with one attempt.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ServerEvent {
    pub(crate) t_us: u64,
    pub(crate) event: Event,
    pub(crate) id: Option<String>,
    pub(crate) attempt: u32,
}

/// A kind of [`ServerEvent`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Event {
    /// This attempt brought a new call; its handler may still wait for a permit or a delay.
    Accepted,
    /// The handler of the call that this attempt brought begins.
    Started,
    /// It waits for the execution that runs already.
    Joined,
    /// It gets the recorded reply.
    Replayed,
    /// The execution ended.
    Finished,
    /// An error reply without an execution.
    Refused,
    RequestDropped,
    ReplyDropped,
    /// A fault cut the connection.
    Cut,
    Duplicated,
    /// The reply's bytes went to the connection.
    Replied,
    /// Something that no picture shows.
    #[serde(other)]
    Other,
}

/// Reads one file of JSON lines.
pub(crate) fn read<T: DeserializeOwned>(file: &Path) -> Result<Vec<T>> {
    let text =
        fs::read_to_string(file).with_context(|| format!("can't read {}", file.display()))?;
    parse(&text).with_context(|| file.display().to_string())
}

/// Reads what a program wrote before it was killed, perhaps in the middle of a line, perhaps
/// before it had made its file.
pub(crate) fn read_until_killed<T: DeserializeOwned>(file: &Path) -> Result<Vec<T>> {
    let text = match fs::read_to_string(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        text => text.with_context(|| format!("can't read {}", file.display()))?,
    };
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    parse(whole).with_context(|| file.display().to_string())
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<Vec<T>> {
    text.lines()
        .enumerate()
        .map(|(index, line)| {
            serde_json::from_str(line).with_context(|| format!("line {}: {line}", index + 1))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_with_and_without_latencies_is_read() {
        let text = r#"{"calls":4,"ok":3,"not_executed":0,"failed":0,"unknown":1,"attempts_total":6,"hedges":1,"sessions":true,
            "attempts_histogram":{"1":3,"3":1},"replayed_or_joined":null,"elapsed_s":0.5,
            "calls_per_s":8.0,"latency_us":{"p50":900,"p90":1,"p99":2000,"p999":1,"max":1},
            "value":3,"naive":false,"connects":1}"#;
        let summary: Summary = serde_json::from_str(text).unwrap();
        assert_eq!(summary.attempts_histogram[&3], 1);
        assert!((summary.attempts_per_call() - 1.5).abs() < 1e-9);
        assert!((summary.success() - 0.75).abs() < 1e-9);
        let nulls = text.replace("900", "null").replace("2000", "null");
        let summary: Summary = serde_json::from_str(&nulls).unwrap();
        assert!(summary.latency_us.p50.is_none() && summary.latency_us.p99.is_none());
    }

    #[test]
    fn both_event_files_are_read_and_a_bad_line_is_named() {
        let calls: Vec<Call> = parse(
            r#"{"call":1,"outcome":"not_executed","start_us":1,"end_us":9,"value":null,"error":"x",
               "attempts":[{"id":"a","attempt":1,"sent_us":1,"end_us":5,"end":"connection_lost"}]}"#
                .replace('\n', "")
                .as_str(),
        )
        .unwrap();
        assert_eq!(calls[0].outcome, Outcome::NotExecuted);
        assert_eq!(calls[0].attempts[0].end, AttemptEnd::ConnectionLost);
        let line =
            r#"{"t_us":5,"event":"refused","id":null,"attempt":2,"method":"inc","code":-32001}"#;
        let verdicts: Vec<ServerEvent> = parse(line).unwrap();
        assert_eq!(
            (verdicts[0].event, verdicts[0].attempt),
            (Event::Refused, 2)
        );
        let verdicts: Vec<ServerEvent> = parse(&line.replace("refused", "admired")).unwrap();
        assert_eq!(verdicts[0].event, Event::Other);
        let error = parse::<ServerEvent>(&format!("{line}\n{{}}"))
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("line 2"), "{error}");
    }
}
