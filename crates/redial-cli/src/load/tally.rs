//! What is counted of calls as they end, in slices of time that are handed over and added up.

use std::{collections::BTreeMap, time::Duration};

use hdrhistogram::Histogram;
use redial_client::{AttemptEnd, CallError, Cause, Executed, Reply, Report};
use serde::Serialize;

use crate::failure::in_flags;

/// The shortest latency that is distinguished from shorter ones, in nanoseconds.
const LEAST_NS: u64 = 1_000;

/// The longest latency that is recorded as it is, in nanoseconds: an hour.
const MOST_NS: u64 = 3_600_000_000_000;

/// How many kinds of errors are distinguished. Codes are a server's to choose, and each kind takes a line.
const MAX_KINDS: usize = 20;

/// How a call ended. The order is that of the errors in a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// Possibly executed.
    Unknown,
    /// Executed, without a value.
    Failed,
    /// Certainly not executed.
    NotExecuted,
    /// With a value.
    Ok,
}

impl Outcome {
    /// In words.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Failed => "failed",
            Self::NotExecuted => "not executed",
            Self::Ok => "ok",
        }
    }
}

/// A call that has ended.
#[derive(Debug)]
pub(crate) struct CallEnd {
    pub(crate) outcome: Outcome,
    pub(crate) attempts: u32,
    pub(crate) hedges: u32,
    /// Whether the reply had been recorded for an earlier attempt.
    pub(crate) replayed: bool,
    /// How many of its attempts a reply has ended, and how the others ended: mostly there aren't any.
    pub(crate) replies: u64,
    pub(crate) others: Vec<&'static str>,
    pub(crate) error: Option<Problem>,
}

/// Why a call gave no value.
#[derive(Debug)]
pub(crate) struct Problem {
    /// The same for all errors that are of one kind.
    pub(crate) kind: String,
    /// The whole text.
    pub(crate) text: String,
}

impl CallEnd {
    /// A call as the client has ended it.
    pub(crate) fn of<T>(result: Result<Reply<T>, CallError>) -> Self {
        match result {
            Ok(reply) => Self::new(Outcome::Ok, &reply.report, None),
            Err(error) => {
                let outcome = match error.executed() {
                    Executed::No => Outcome::NotExecuted,
                    Executed::Yes => Outcome::Failed,
                    Executed::Unknown => Outcome::Unknown,
                };
                let problem = Problem {
                    kind: kind(error.cause()),
                    text: in_flags(&error.to_string()),
                };
                Self::new(outcome, error.report(), Some(problem))
            }
        }
    }

    fn new(outcome: Outcome, report: &Report, error: Option<Problem>) -> Self {
        let ends = || report.history().map(|attempt| attempt.end);
        let is_reply = |end: &AttemptEnd| *end == AttemptEnd::Reply;
        Self {
            outcome,
            attempts: report.attempts(),
            hedges: report.hedges(),
            replayed: report.replayed() == Some(true),
            replies: ends().filter(is_reply).count() as u64,
            others: ends()
                .filter(|end| !is_reply(end))
                .map(AttemptEnd::name)
                .collect(),
            error,
        }
    }
}

/// What errors have in common that are counted as one kind.
fn kind(cause: &Cause) -> String {
    let name = match cause {
        Cause::Server(error) => return format!("{} {}", error.code, error.code.name()),
        Cause::NoReply(_) => "no reply",
        Cause::NotSent(_) => "not sent",
        Cause::Connect(_) => "no connection",
        Cause::NoEndpoint(_) => "no endpoint",
        Cause::ConnectionLost { .. } => "connection lost",
        Cause::TooLarge(_) => "request too large",
        Cause::ReplyTooLarge(_) => "reply too large",
        Cause::BadParams(_) => "bad params",
        Cause::BadOption(_) => "bad option",
        Cause::SessionLost => "session lost",
        Cause::Unread => "server shut down before it read the request",
        Cause::NoSession(_) => "no session",
        Cause::NoToken(_) => "no token",
        Cause::MalformedReply(_) => "malformed reply",
        Cause::Decode(_) => "result of another type",
        _ => "other",
    };
    name.to_owned()
}

/// Plain counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) started: u64,
    pub(crate) ok: u64,
    pub(crate) not_executed: u64,
    pub(crate) failed: u64,
    pub(crate) unknown: u64,
    pub(crate) attempts: u64,
    pub(crate) hedges: u64,
    pub(crate) replayed: u64,
}

impl Counts {
    /// How many calls have ended.
    pub(crate) fn ended(&self) -> u64 {
        self.ok + self.errors()
    }

    /// How many have ended without a value.
    pub(crate) fn errors(&self) -> u64 {
        self.not_executed + self.failed + self.unknown
    }

    fn add(&mut self, other: &Self) {
        self.started += other.started;
        self.ok += other.ok;
        self.not_executed += other.not_executed;
        self.failed += other.failed;
        self.unknown += other.unknown;
        self.attempts += other.attempts;
        self.hedges += other.hedges;
        self.replayed += other.replayed;
    }
}

/// How often an error was seen, and the text of the first one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ErrorSample {
    pub(crate) count: u64,
    pub(crate) first: String,
}

/// Everything that is counted, of a slice of time or of all of it.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    pub(crate) counts: Counts,
    /// How many attempts ended how.
    pub(crate) attempt_ends: BTreeMap<&'static str, u64>,
    pub(crate) errors: BTreeMap<(Outcome, String), ErrorSample>,
    /// From the intended start of each call to its end.
    pub(crate) latency: Histogram<u64>,
    /// From the actual start of each call to its end.
    pub(crate) service: Histogram<u64>,
    /// From the intended start to the actual one.
    pub(crate) lateness: Histogram<u64>,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            counts: Counts::default(),
            attempt_ends: BTreeMap::new(),
            errors: BTreeMap::new(),
            latency: histogram(),
            service: histogram(),
            lateness: histogram(),
        }
    }
}

/// An empty histogram of nanoseconds, with three digits of precision.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(LEAST_NS, MOST_NS, 3).expect("the bounds are right")
}

impl Tally {
    /// A call starts, so much later than it was meant to.
    pub(crate) fn start(&mut self, late: Duration) {
        self.counts.started += 1;
        record(&mut self.lateness, late);
    }

    /// A call has ended, so long after its intended and after its actual start.
    pub(crate) fn end(&mut self, latency: Duration, service: Duration, ended: CallEnd) {
        record(&mut self.latency, latency);
        record(&mut self.service, service);
        let counts = &mut self.counts;
        *match ended.outcome {
            Outcome::Ok => &mut counts.ok,
            Outcome::NotExecuted => &mut counts.not_executed,
            Outcome::Failed => &mut counts.failed,
            Outcome::Unknown => &mut counts.unknown,
        } += 1;
        counts.attempts += u64::from(ended.attempts);
        counts.hedges += u64::from(ended.hedges);
        counts.replayed += u64::from(ended.replayed);
        self.attempts_ended(AttemptEnd::Reply.name(), ended.replies);
        for end in ended.others {
            self.attempts_ended(end, 1);
        }
        if let Some(Problem { kind, text }) = ended.error {
            let first = ErrorSample {
                count: 1,
                first: text,
            };
            self.saw(ended.outcome, kind, first);
        }
    }

    fn attempts_ended(&mut self, end: &'static str, count: u64) {
        if count > 0 {
            *self.attempt_ends.entry(end).or_default() += count;
        }
    }

    fn saw(&mut self, outcome: Outcome, kind: String, sample: ErrorSample) {
        let is_known = self.errors.contains_key(&(outcome, kind.clone()));
        let kind = if is_known || self.errors.len() < MAX_KINDS {
            kind
        } else {
            "other".to_owned()
        };
        let entry = self.errors.entry((outcome, kind));
        let count = sample.count;
        entry.and_modify(|old| old.count += count).or_insert(sample);
    }

    /// Adds what another one has counted.
    pub(crate) fn add(&mut self, other: &Self) {
        self.counts.add(&other.counts);
        for (end, count) in &other.attempt_ends {
            self.attempts_ended(end, *count);
        }
        for ((outcome, kind), sample) in &other.errors {
            self.saw(*outcome, kind.clone(), sample.clone());
        }
        for (ours, theirs) in [
            (&mut self.latency, &other.latency),
            (&mut self.service, &other.service),
            (&mut self.lateness, &other.lateness),
        ] {
            ours.add(theirs).expect("the bounds are the same");
        }
    }

    /// Forgets everything, and keeps its memory.
    pub(crate) fn clear(&mut self) {
        self.counts = Counts::default();
        self.attempt_ends.clear();
        self.errors.clear();
        self.latency.reset();
        self.service.reset();
        self.lateness.reset();
    }
}

fn record(histogram: &mut Histogram<u64>, time: Duration) {
    histogram.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
}

#[cfg(test)]
pub(crate) mod tests {
    use redial_client::ErrorCode;
    use redial_protocol::ErrorObject;

    use super::*;

    pub(crate) const MS: Duration = Duration::from_millis(1);

    pub(crate) fn ok() -> CallEnd {
        CallEnd {
            outcome: Outcome::Ok,
            attempts: 1,
            hedges: 0,
            replayed: false,
            replies: 1,
            others: Vec::new(),
            error: None,
        }
    }

    pub(crate) fn error(outcome: Outcome, kind: &str, text: &str) -> CallEnd {
        CallEnd {
            outcome,
            attempts: 2,
            replies: 0,
            others: vec!["timeout", "timeout"],
            error: Some(Problem {
                kind: kind.to_owned(),
                text: text.to_owned(),
            }),
            ..ok()
        }
    }

    #[test]
    fn slices_add_up_to_what_one_tally_would_have_counted() {
        let (mut whole, mut sum, mut slice) = <(Tally, Tally, Tally)>::default();
        for call in 0..100u32 {
            let ended = || match call % 10 {
                0 => error(Outcome::Unknown, "no reply", &format!("call {call}")),
                _ => ok(),
            };
            for tally in [&mut whole, &mut slice] {
                tally.start(MS / 2);
                tally.end(MS * call, MS, ended());
            }
            if call % 7 == 0 {
                sum.add(&slice);
                slice.clear();
            }
        }
        sum.add(&slice);
        assert_eq!(sum.counts, whole.counts);
        assert_eq!(
            (sum.counts.ok, sum.counts.unknown, sum.counts.attempts),
            (90, 10, 110)
        );
        assert_eq!(
            sum.attempt_ends,
            BTreeMap::from([("reply", 90), ("timeout", 20)])
        );
        assert_eq!(sum.errors, whole.errors);
        let sample = &sum.errors[&(Outcome::Unknown, "no reply".to_owned())];
        assert_eq!((sample.count, &sample.first[..]), (10, "call 0"));
        assert!(sum.latency == whole.latency && sum.lateness == whole.lateness);
    }

    /// A server that answers each call with another code costs no memory per call.
    #[test]
    fn kinds_beyond_a_limit_are_counted_as_one() {
        let mut tally = Tally::default();
        for code in 0..1000 {
            let cause = Cause::Server(ErrorObject::raised(ErrorCode::from(code), "no"));
            tally.end(MS, MS, error(Outcome::Failed, &kind(&cause), "text"));
        }
        assert_eq!(tally.errors.len(), MAX_KINDS + 1);
        let others = &tally.errors[&(Outcome::Failed, "other".to_owned())];
        assert_eq!(others.count, 1000 - MAX_KINDS as u64);
    }

    #[test]
    fn a_wait_longer_than_the_histogram_counts_as_its_longest() {
        let mut tally = Tally::default();
        tally.end(Duration::MAX, Duration::ZERO, ok());
        assert!(tally.latency.max() >= MOST_NS && tally.service.len() == 1);
    }
}
