//! What a client's calls come to, as metrics by way of the facade [`metrics`](https://docs.rs/metrics),
//! whichever exporter the program installs (feature `metrics`). Names, labels and units are a stable
//! interface.
//!
//! | metric | kind, unit | labels | counts |
//! |---|---|---|---|
//! | [`CALL_DURATION`] | histogram, s | `rpc.system.name`, `rpc.method`, of errors `error.type`, and `rpc.response.status_code` if the server sent one | calls, from the first poll to the end, over all attempts |
//! | [`ATTEMPTS`], [`RETRIES`], [`HEDGES`] | counter | `rpc.method` | attempts that were sent; those of them that were not a call's first; copies that were sent because a call took long |
//! | [`SUPPRESSED`] | counter | `rpc.method` | calls of which a retry was not made because the retry budget had no token for it |
//! | [`HINT_WAITS`] | counter | `rpc.method` | waits that a server has asked for (`retry_after_ms`) |
//! | [`ATTEMPT_FAILURES`] | counter | `rpc.method`, `redial.attempt.end` | attempts without a reply that ended their call, by [why](crate::AttemptEnd::name): `refused`, `timeout`, `connection_lost`, `connect_failed`, `superseded` |
//! | [`REPLAYS`] | counter | `rpc.method` | calls whose reply was recorded for an earlier attempt |
//! | [`FAILURES`] | counter | `rpc.method`, `error.type`, `redial.executed` (`no`, `yes`, `unknown`) | calls that ended with an error, by what is known of their execution |
//! | [`IN_FLIGHT`] | gauge | | calls that have begun and not ended |
//!
//! `error.type` is the code of the server's error, or one of `timeout`, `not_sent`, `connect`,
//! `endpoint_down`, `connection_lost`, `session_lost`, `too_large`, `refused_by_layer`, `malformed_reply`, `token` and
//! `_OTHER`. No label holds an id or a key. A method that the server has not is `_OTHER`, as are all beyond
//! the first 256.
//!
//! ```
//! use redial_client::Client;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), redial_client::BuildError> {
//! // After the program has installed its exporter.
//! let client = Client::builder().metrics().connect_lazy("127.0.0.1:7077")?;
//! # drop(client);
//! # Ok(())
//! # }
//! ```

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ::metrics::{
    Counter, Gauge, Histogram, Label, Unit, counter, describe_counter, describe_gauge,
    describe_histogram, gauge, histogram,
};
use redial_protocol::{ErrorCode, Executed};

use crate::{
    clock,
    error::CallError,
    error_kind::{code_of, kind_of},
    layer::{Layer, LayerCall, LayerFuture, Next},
    report::{AttemptEnd, Report},
};

/// How long calls take.
pub const CALL_DURATION: &str = "rpc.client.call.duration";
/// Attempts that were sent.
pub const ATTEMPTS: &str = "redial.client.attempts";
/// Attempts that were not a call's first.
pub const RETRIES: &str = "redial.client.retries";
/// Calls of which a retry was not made because the retry budget had no token for it.
pub const SUPPRESSED: &str = "redial.client.retries.suppressed";
/// Waits that a server has asked for.
pub const HINT_WAITS: &str = "redial.client.hint_waits";
/// Copies that were sent because a call took long.
pub const HEDGES: &str = "redial.client.hedges";
/// Attempts that ended otherwise than with the reply that ended their call.
pub const ATTEMPT_FAILURES: &str = "redial.client.attempt.failures";
/// Calls whose reply was recorded for an earlier attempt.
pub const REPLAYS: &str = "redial.client.replays";
/// Calls that ended with an error.
pub const FAILURES: &str = "redial.client.failures";
/// Calls that have begun and not ended.
pub const IN_FLIGHT: &str = "redial.client.in_flight";

/// The method of calls beyond those that have a label, and of those that the server has not.
pub const OTHER: &str = crate::error_kind::OTHER;

/// How many methods, and how many kinds of error of one, may be labels.
const MAX_METHODS: usize = 256;
const MAX_ERRORS: usize = 64;

/// Records calls.
#[derive(Clone)]
pub(crate) struct Recorder(Arc<Instruments>);

struct Instruments {
    methods: Mutex<Methods>,
    other: Arc<MethodInstruments>,
    in_flight: Gauge,
}

#[derive(Default)]
struct Methods {
    by_name: HashMap<Box<str>, Arc<MethodInstruments>>,
    /// That of the call before: most often the next call's, too.
    latest: Option<Arc<MethodInstruments>>,
}

/// Of one method.
struct MethodInstruments {
    name: Box<str>,
    duration: Histogram,
    attempts: Counter,
    retries: Counter,
    hedges: Counter,
    suppressed: Counter,
    hint_waits: Counter,
    replays: Counter,
    attempt_failures: [(AttemptEnd, Counter); 5],
    errors: Mutex<HashMap<Box<str>, Failures>>,
}

/// Of one kind of error of one method.
#[derive(Clone)]
struct Failures {
    duration: Histogram,
    executed: [Counter; 3],
}

/// A call that has begun; one whose future is dropped ends, too.
struct InFlight(Gauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

impl Recorder {
    pub(crate) fn new() -> Self {
        describe();
        Self(Arc::new(Instruments {
            methods: Mutex::default(),
            other: Arc::new(MethodInstruments::new(OTHER)),
            in_flight: gauge!(IN_FLIGHT),
        }))
    }

    /// A call begins that nothing else is around.
    pub(crate) fn begin(&self) {
        self.0.in_flight.increment(1.0);
    }

    /// Its future was dropped.
    pub(crate) fn abandon(&self) {
        self.0.in_flight.decrement(1.0);
    }

    /// It has ended with a result, after one attempt, which was not replayed.
    pub(crate) fn end_plain(&self, method: &str, took: Duration) {
        self.0.in_flight.decrement(1.0);
        let method = self.0.method(method, None);
        method.attempts.increment(1);
        method.duration.record(took.as_secs_f64());
    }

    /// It has ended otherwise.
    pub(crate) fn end(
        &self,
        method: &str,
        report: &Report,
        error: Option<&CallError>,
        executed: Executed,
    ) {
        self.0.in_flight.decrement(1.0);
        let method = self.0.method(method, error);
        method.record(report, error, executed, report.total());
    }
}

impl Layer for Recorder {
    fn call(&self, call: LayerCall, next: Next) -> LayerFuture {
        let instruments = Arc::clone(&self.0);
        instruments.in_flight.increment(1.0);
        let in_flight = InFlight(instruments.in_flight.clone());
        Box::pin(async move {
            let began = clock::now();
            let end = next.run(call).await;
            drop(in_flight);
            let took = clock::now().saturating_duration_since(began);
            let error = end.result().err();
            let method = instruments.method(end.method(), error);
            method.record(end.report(), error, end.executed(), took);
            end
        })
    }
}

impl Instruments {
    /// Where a call is counted.
    fn method(&self, name: &str, error: Option<&CallError>) -> Arc<MethodInstruments> {
        let is_unknown = |error| code_of(error) == Some(ErrorCode::METHOD_NOT_FOUND);
        if error.is_some_and(is_unknown) {
            return Arc::clone(&self.other);
        }
        let mut methods = self.methods.lock().unwrap_or_else(PoisonError::into_inner);
        match &methods.latest {
            Some(latest) if *latest.name == *name => Arc::clone(latest),
            _ => {
                let found = methods.find(name);
                let found = found.unwrap_or_else(|| Arc::clone(&self.other));
                methods.latest = Some(Arc::clone(&found));
                found
            }
        }
    }
}

impl Methods {
    /// `None` if there are too many.
    fn find(&mut self, name: &str) -> Option<Arc<MethodInstruments>> {
        if let Some(known) = self.by_name.get(name) {
            return Some(Arc::clone(known));
        }
        if self.by_name.len() >= MAX_METHODS {
            return None;
        }
        let made = Arc::new(MethodInstruments::new(name));
        self.by_name.insert(name.into(), Arc::clone(&made));
        Some(made)
    }
}

impl MethodInstruments {
    fn new(name: &str) -> Self {
        let labels = method_labels(name);
        let failures = |end: AttemptEnd| {
            let mut labels = labels.clone();
            labels.push(Label::from_static_parts("redial.attempt.end", end.name()));
            (end, counter!(ATTEMPT_FAILURES, labels.clone()))
        };
        Self {
            duration: histogram!(CALL_DURATION, call_labels(name)),
            attempts: counter!(ATTEMPTS, labels.clone()),
            retries: counter!(RETRIES, labels.clone()),
            hedges: counter!(HEDGES, labels.clone()),
            suppressed: counter!(SUPPRESSED, labels.clone()),
            hint_waits: counter!(HINT_WAITS, labels.clone()),
            replays: counter!(REPLAYS, labels.clone()),
            attempt_failures: [
                AttemptEnd::Refused,
                AttemptEnd::Timeout,
                AttemptEnd::ConnectionLost,
                AttemptEnd::ConnectFailed,
                AttemptEnd::Superseded,
            ]
            .map(failures),
            errors: Mutex::default(),
            name: name.into(),
        }
    }

    fn record(
        &self,
        report: &Report,
        error: Option<&CallError>,
        executed: Executed,
        took: Duration,
    ) {
        let seconds = took.as_secs_f64();
        let (attempts, hedges) = (report.attempts(), report.hedges());
        self.attempts.increment(attempts.into());
        if attempts > 1 {
            self.hedges.increment(hedges.into());
            let retries = (attempts - 1).saturating_sub(hedges);
            self.retries.increment(retries.into());
        }
        if report.is_suppressed() {
            self.suppressed.increment(1);
        }
        if report.hint_waits() > 0 {
            self.hint_waits.increment(report.hint_waits().into());
        }
        if report.replayed() == Some(true) {
            self.replays.increment(1);
        }
        for attempt in report.history() {
            let counted = self.attempt_failures.iter();
            for (_, counter) in counted.filter(|(end, _)| *end == attempt.end) {
                counter.increment(1);
            }
        }
        match error {
            None => self.duration.record(seconds),
            Some(error) => self.failed(error, executed, seconds),
        }
    }

    #[cold]
    fn failed(&self, error: &CallError, executed: Executed, seconds: f64) {
        let code = code_of(error);
        let kind = match code {
            Some(code) => code.to_string(),
            None => kind_of(error.cause()).to_owned(),
        };
        let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        let is_told_apart = errors.contains_key(&*kind) || errors.len() < MAX_ERRORS;
        let kind = if is_told_apart { &kind } else { OTHER };
        let code = code.filter(|_| is_told_apart);
        let made = errors.entry(kind.into());
        let made = made.or_insert_with(|| Failures::new(&self.name, kind, code));
        made.duration.record(seconds);
        let executed = match executed {
            Executed::No => 0,
            Executed::Yes => 1,
            Executed::Unknown => 2,
        };
        made.executed[executed].increment(1);
    }
}

impl Failures {
    fn new(method: &str, kind: &str, code: Option<ErrorCode>) -> Self {
        let of_kind = Label::new("error.type", kind.to_owned());
        let mut labels = call_labels(method);
        labels.push(of_kind.clone());
        if let Some(code) = code {
            labels.push(Label::new("rpc.response.status_code", code.to_string()));
        }
        let executed = |word| {
            let mut labels = method_labels(method);
            labels.push(of_kind.clone());
            labels.push(Label::from_static_parts("redial.executed", word));
            counter!(FAILURES, labels.clone())
        };
        Self {
            duration: histogram!(CALL_DURATION, labels.clone()),
            executed: ["no", "yes", "unknown"].map(executed),
        }
    }
}

fn method_labels(name: &str) -> Vec<Label> {
    vec![Label::new("rpc.method", name.to_owned())]
}

fn call_labels(name: &str) -> Vec<Label> {
    let mut labels = method_labels(name);
    labels.push(Label::from_static_parts("rpc.system.name", "jsonrpc"));
    labels
}

fn describe() {
    describe_histogram!(
        CALL_DURATION,
        Unit::Seconds,
        "Duration of calls, over all attempts"
    );
    describe_counter!(ATTEMPTS, "Attempts that were sent");
    describe_counter!(RETRIES, "Attempts that were not a call's first");
    describe_counter!(HEDGES, "Copies that were sent because a call took long");
    describe_counter!(
        SUPPRESSED,
        "Calls of which a retry was not made because the retry budget had no token for it"
    );
    describe_counter!(HINT_WAITS, "Waits that a server has asked for");
    describe_counter!(
        ATTEMPT_FAILURES,
        "Attempts that ended otherwise than with their call's reply"
    );
    describe_counter!(
        REPLAYS,
        "Calls whose reply was recorded for an earlier attempt"
    );
    describe_counter!(
        FAILURES,
        "Calls that ended with an error, by what is known of their execution"
    );
    describe_gauge!(IN_FLIGHT, "Calls that have begun and not ended");
}
