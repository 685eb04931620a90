//! What a run gives in the end: figures that are stable as JSON, and the exit code.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use redial_client::AttemptEnd;
use serde::Serialize;

use super::{collect::Collected, drive::RunEnd, tally::Outcome, verify::Effects};
use crate::failure::Exit;

/// What was asked for.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Setup {
    /// The address, or the addresses.
    pub(crate) address: String,
    /// The method.
    pub(crate) method: String,
    /// `open` or `closed`.
    pub(crate) mode: &'static str,
    /// How many callers a closed loop has.
    pub(crate) callers: Option<usize>,
    /// The rate of an open loop as the flags say it.
    pub(crate) rate: Option<String>,
    /// How many connections there are to each address.
    pub(crate) connections: usize,
    /// The seed of what is random in the params and the starts.
    pub(crate) seed: u64,
}

/// What `redial load --json` prints.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LoadSummary {
    #[serde(flatten)]
    pub(crate) setup: Setup,
    /// From the first call to the end of the last one, in seconds.
    pub(crate) elapsed_s: f64,
    /// How many calls were made.
    pub(crate) calls: u64,
    /// How many returned a value.
    pub(crate) ok: u64,
    /// How many were certainly not executed.
    pub(crate) not_executed: u64,
    /// How many were executed and returned no value.
    pub(crate) failed: u64,
    /// How many were possibly executed.
    pub(crate) unknown: u64,
    /// How many were meant to start and were not sent.
    pub(crate) not_sent: u64,
    /// Calls per second that were meant to start; null in a closed loop.
    pub(crate) wanted_per_s: Option<f64>,
    /// Calls per second that started, while calls did.
    pub(crate) sent_per_s: f64,
    /// Calls per second that ended, over all of the time, in which calls started or ran.
    pub(crate) calls_per_s: f64,
    /// How many attempts all calls took together.
    pub(crate) attempts: u64,
    /// How many of them were hedges.
    pub(crate) hedges: u64,
    /// How many replies had been recorded for an earlier attempt.
    pub(crate) replayed: u64,
    /// How many attempts ended how.
    pub(crate) attempt_ends: BTreeMap<&'static str, u64>,
    /// How many connections were made.
    pub(crate) connects: u64,
    /// From the intended start of each call, of any outcome, to its end.
    pub(crate) latency_us: Percentiles,
    /// The same from the actual start.
    pub(crate) service_us: Percentiles,
    /// From the intended start to the actual one; null in a closed loop.
    pub(crate) lateness_us: Option<Percentiles>,
    /// The errors by kind.
    pub(crate) errors: Vec<ErrorKind>,
    /// What the counter of --verify shows.
    pub(crate) verify: Option<Effects>,
    /// Whether the run was stopped before its end.
    pub(crate) stopped: bool,
}

/// Errors of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ErrorKind {
    pub(crate) outcome: Outcome,
    pub(crate) kind: String,
    pub(crate) count: u64,
    /// The text of the first one.
    pub(crate) first: String,
}

/// A distribution in microseconds: so many of a hundred calls took no longer. Null if there was no call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Percentiles {
    pub(crate) mean: Option<f64>,
    pub(crate) p50: Option<f64>,
    pub(crate) p75: Option<f64>,
    pub(crate) p90: Option<f64>,
    pub(crate) p95: Option<f64>,
    pub(crate) p99: Option<f64>,
    pub(crate) p999: Option<f64>,
    pub(crate) p9999: Option<f64>,
    pub(crate) p99999: Option<f64>,
    pub(crate) max: Option<f64>,
}

impl Percentiles {
    pub(crate) fn of(histogram: &Histogram<u64>) -> Self {
        if histogram.is_empty() {
            return Self::default();
        }
        let us = |ns: f64| Some((ns / 100.0).round() / 10.0);
        let at = |quantile| us(histogram.value_at_quantile(quantile) as f64);
        Self {
            mean: us(histogram.mean()),
            p50: at(0.5),
            p75: at(0.75),
            p90: at(0.9),
            p95: at(0.95),
            p99: at(0.99),
            p999: at(0.999),
            p9999: at(0.999_9),
            p99999: at(0.999_99),
            max: us(histogram.max() as f64),
        }
    }
}

impl LoadSummary {
    pub(crate) fn new(
        setup: Setup,
        collected: &Collected,
        end: &RunEnd,
        connects: u64,
        verify: Option<Effects>,
    ) -> Self {
        let (total, is_open) = (&collected.total, setup.mode == "open");
        let counts = &total.counts;
        let per_s = |calls: u64, time: f64| if time > 0.0 { calls as f64 / time } else { 0.0 };
        let (elapsed, sending) = (end.elapsed.as_secs_f64(), end.sending.as_secs_f64());
        let wanted = per_s(counts.started + end.not_sent, end.meant.as_secs_f64());
        Self {
            setup,
            elapsed_s: elapsed,
            calls: counts.ended(),
            ok: counts.ok,
            not_executed: counts.not_executed,
            failed: counts.failed,
            unknown: counts.unknown,
            not_sent: end.not_sent,
            wanted_per_s: is_open.then_some(wanted),
            sent_per_s: per_s(counts.started, sending),
            // The last one of a slow rate ends before its time is over.
            calls_per_s: per_s(counts.ended(), elapsed.max(sending)),
            attempts: counts.attempts,
            hedges: counts.hedges,
            replayed: counts.replayed,
            attempt_ends: total.attempt_ends.clone(),
            connects,
            latency_us: Percentiles::of(&total.latency),
            service_us: Percentiles::of(&total.service),
            lateness_us: is_open.then(|| Percentiles::of(&total.lateness)),
            errors: errors(collected),
            verify,
            stopped: end.is_stopped,
        }
    }

    /// How many calls ended how, in words; those that never occurred are left out.
    pub(crate) fn outcomes(&self) -> Vec<(&'static str, u64)> {
        let all = [
            (Outcome::Ok, self.ok),
            (Outcome::NotExecuted, self.not_executed),
            (Outcome::Failed, self.failed),
            (Outcome::Unknown, self.unknown),
        ];
        let is_shown = |(outcome, count): &(Outcome, u64)| *outcome == Outcome::Ok || *count > 0;
        let shown = all.into_iter().filter(is_shown);
        shown
            .map(|(outcome, count)| (outcome.name(), count))
            .collect()
    }

    /// The attempts that brought their call no reply, by what ended them.
    pub(crate) fn lost_attempts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let ends = self.attempt_ends.iter().map(|(end, count)| (*end, *count));
        ends.filter(|(end, _)| *end != AttemptEnd::Reply.name())
    }

    /// The exit code: of all calls, the one that matters most.
    pub(crate) fn exit(&self) -> Exit {
        let is_wrong = self
            .verify
            .as_ref()
            .is_some_and(|effects| !effects.is_right());
        match self {
            _ if is_wrong => Exit::Failed,
            _ if self.unknown > 0 => Exit::Unknown,
            _ if self.failed > 0 => Exit::Failed,
            _ if self.not_executed > 0 || self.not_sent > 0 => Exit::NotExecuted,
            _ => Exit::Ok,
        }
    }
}

/// By outcome, those that matter most first, and the most frequent ones first among those of one outcome.
fn errors(collected: &Collected) -> Vec<ErrorKind> {
    let errors = collected.total.errors.iter();
    let mut errors: Vec<_> = errors
        .map(|((outcome, kind), seen)| ErrorKind {
            outcome: *outcome,
            kind: kind.clone(),
            count: seen.count,
            first: seen.first.clone(),
        })
        .collect();
    errors.sort_by_key(|error| (error.outcome, std::cmp::Reverse(error.count)));
    errors
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::load::{
        tally::{
            Tally,
            tests::{MS, error, ok},
        },
        verify::Counter,
    };

    pub(crate) fn setup(mode: &'static str) -> Setup {
        Setup {
            address: "127.0.0.1:7077".to_owned(),
            method: "inc".to_owned(),
            mode,
            callers: (mode == "closed").then_some(8),
            rate: (mode == "open").then(|| "100".to_owned()),
            connections: 2,
            seed: 42,
        }
    }

    /// Two seconds, 198 ok calls of 1 to 198 ms, an unknown and a refused one, and one that was not sent.
    pub(crate) fn collected() -> (Collected, RunEnd) {
        let mut collected = Collected::default();
        let mut slice = Tally::default();
        for call in 1..=200u32 {
            slice.start(MS);
            let ended = match call {
                199 => error(
                    Outcome::Unknown,
                    "no reply",
                    "inc may have been executed; <why>",
                ),
                200 => error(
                    Outcome::NotExecuted,
                    "-32001 Overloaded",
                    "inc was not executed",
                ),
                _ => ok(),
            };
            slice.end(MS * call, MS * call / 2, ended);
            if call % 20 == 0 {
                collected.add(&slice, MS * 10 * call);
                slice.clear();
            }
        }
        let end = RunEnd {
            rest: Tally::default(),
            elapsed: Duration::from_millis(2_500),
            sending: Duration::from_secs(2),
            meant: Duration::from_secs(2),
            not_sent: 1,
            is_stopped: false,
        };
        (collected, end)
    }

    pub(crate) fn summary(mode: &'static str) -> LoadSummary {
        let (collected, end) = collected();
        let counter = Counter {
            method: "get".to_owned(),
            params: None,
            at: String::new(),
            effect: 1,
        };
        let effects = counter.judge(0, 199, &collected.total.counts);
        LoadSummary::new(setup(mode), &collected, &end, 2, Some(effects))
    }

    #[test]
    fn rates_count_what_was_wanted_sent_and_ended() {
        let open = summary("open");
        assert_eq!((open.calls, open.ok, open.not_sent), (200, 198, 1));
        assert_eq!(open.wanted_per_s, Some(100.5));
        assert_eq!((open.sent_per_s, open.calls_per_s), (100.0, 80.0));
        let near =
            |found: Option<f64>, expected: f64| (found.unwrap() / expected - 1.0).abs() < 0.01;
        assert!(near(open.latency_us.p50, 100_000.0) && near(open.latency_us.max, 200_000.0));
        assert!(near(open.service_us.p50, 50_000.0), "{:?}", open.service_us);
        assert!(near(open.lateness_us.unwrap().max, 1000.0));
        let closed = summary("closed");
        assert_eq!((closed.wanted_per_s, closed.lateness_us), (None, None));
    }

    #[test]
    fn the_exit_code_is_that_of_the_worst_call() {
        let mut summary = summary("open");
        let exit = |summary: &LoadSummary| summary.exit();
        assert_eq!(exit(&summary), Exit::Unknown);
        summary.unknown = 0;
        assert_eq!(exit(&summary), Exit::NotExecuted);
        summary.failed = 1;
        assert_eq!(exit(&summary), Exit::Failed);
        (summary.failed, summary.not_executed) = (0, 0);
        assert_eq!(exit(&summary), Exit::NotExecuted, "one was not sent");
        summary.not_sent = 0;
        assert_eq!(exit(&summary), Exit::Ok);
        let (collected, _) = collected();
        let counter = Counter {
            method: "get".to_owned(),
            params: None,
            at: String::new(),
            effect: 1,
        };
        summary.verify = Some(counter.judge(0, 250, &collected.total.counts));
        summary.unknown = 1;
        assert_eq!(exit(&summary), Exit::Failed, "the counter shows too many");
    }

    /// Scripts read these names.
    #[test]
    fn the_names_of_the_members_are_stable() {
        let json = serde_json::to_value(summary("open")).unwrap();
        let names: Vec<_> = json
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        let mut expected = [
            "address",
            "method",
            "mode",
            "callers",
            "rate",
            "connections",
            "seed",
            "elapsed_s",
            "calls",
            "ok",
            "not_executed",
            "failed",
            "unknown",
            "not_sent",
            "wanted_per_s",
            "sent_per_s",
            "calls_per_s",
            "attempts",
            "hedges",
            "replayed",
            "attempt_ends",
            "connects",
            "latency_us",
            "service_us",
            "lateness_us",
            "errors",
            "verify",
            "stopped",
        ];
        expected.sort_unstable();
        assert_eq!(names, expected);
        let percentiles = json["latency_us"].as_object().unwrap();
        assert_eq!(percentiles.len(), 10);
        assert!(percentiles["p999"].is_f64());
        assert_eq!(json["errors"][0]["outcome"], "unknown");
        assert_eq!(json["errors"][0]["kind"], "no reply");
        assert_eq!(json["verify"]["is_right"], true);
    }

    #[test]
    fn a_run_without_calls_has_no_percentiles() {
        let end = RunEnd {
            rest: Tally::default(),
            elapsed: Duration::ZERO,
            sending: Duration::ZERO,
            meant: Duration::ZERO,
            not_sent: 0,
            is_stopped: true,
        };
        let summary = LoadSummary::new(setup("open"), &Collected::default(), &end, 0, None);
        let json = serde_json::to_value(&summary).unwrap();
        assert!(json["latency_us"]["p50"].is_null());
        assert_eq!(
            (&json["calls_per_s"], summary.exit()),
            (&0.0.into(), Exit::Ok)
        );
    }
}
