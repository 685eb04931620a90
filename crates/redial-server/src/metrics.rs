//! What a server does, as metrics by way of the facade [`metrics`](https://docs.rs/metrics), whichever
//! exporter the program installs (feature `metrics`). Names, labels and units are a stable interface.
//!
//! | metric | kind, unit | labels | counts |
//! |---|---|---|---|
//! | [`CALL_DURATION`] | histogram, s | `rpc.system.name`, `rpc.method`, of errors `rpc.response.status_code`, `error.type` | executions: time in the queue and in the handler (with a store, until it was durable). As many samples as executions; joins, replays and refusals have none |
//! | [`QUEUE_DURATION`] | histogram, s | `rpc.method` | the time in the queue of those executions that were queued |
//! | [`JOINS`], [`REPLAYS`], [`TIMEOUTS`] | counter | `rpc.method` | attempts that joined a running execution; that got a recorded reply; executions that ran into their timeout |
//! | [`REFUSALS`] | counter | `rpc.method`, `error.type` (the code) | attempts that were refused |
//! | [`SHEDS`] | counter | `redial.reason` (`queued_too_long`, `queue_full`, `displaced`, `given_up`) | calls that were not run because they would have been served too late, found no place in the queue, gave theirs to another, or had no caller any more, as of once a second |
//! | [`COMMITS`], [`COMMIT_STEPS`] | counter; histogram | | commits of the store; the steps that each has made durable |
//! | [`IN_FLIGHT`], [`QUEUED`], [`CONNECTIONS`], [`SESSIONS`] | gauge | | what there is now, as of once a second |
//! | [`RUNNING_LIMIT`], [`OVERLOADED`] | gauge | | how many calls may run at once; 1 while calls are queued for too long; as of once a second |
//! | [`RECORDS`], [`RECORD_BYTES`] | gauge | `redial.table` (`session`, `plain`) | what the table holds now, as of once a second |
//! | [`HANDSHAKE_FAILURES`] | counter | | TLS handshakes that came to nothing |
//!
//! No label holds an id, a key or a name of a peer's choosing: a method that the server has not is
//! `_OTHER`, and so are the codes of a method's own errors beyond the first 32.
//!
//! ```
//! use redial_server::Server;
//!
//! // After the program has installed its exporter.
//! let server = Server::builder()
//!     .query("greet", async |(): ()| Ok("hello"))
//!     .metrics()
//!     .build()?;
//! # Ok::<(), redial_server::BuildError>(())
//! ```

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use ::metrics::{
    Counter, Gauge, Histogram, Label, Unit, counter, describe_counter, describe_gauge,
    describe_histogram, gauge, histogram,
};
use redial_protocol::{ErrorCode, rpc};

use crate::{
    observe::{Event, EventKind, HiddenFailure, Observer},
    stats::Stats,
};

/// How long calls take.
pub const CALL_DURATION: &str = "rpc.server.call.duration";
/// How long calls are queued.
pub const QUEUE_DURATION: &str = "redial.server.queue.duration";
/// Attempts that joined.
pub const JOINS: &str = "redial.server.joins";
/// Attempts that were answered from the record.
pub const REPLAYS: &str = "redial.server.replays";
/// Executions that ran into their timeout.
pub const TIMEOUTS: &str = "redial.server.timeouts";
/// Attempts that were refused.
pub const REFUSALS: &str = "redial.server.refusals";
/// Calls that were not run for want of time or room.
pub const SHEDS: &str = "redial.server.sheds";
/// How many calls may run at once.
pub const RUNNING_LIMIT: &str = "redial.server.running_limit";
/// Whether calls are queued for too long.
pub const OVERLOADED: &str = "redial.server.overloaded";
/// Commits of the store.
pub const COMMITS: &str = "redial.server.commits";
/// How many steps a commit makes durable.
pub const COMMIT_STEPS: &str = "redial.server.commit.steps";
/// Calls that run.
pub const IN_FLIGHT: &str = "redial.server.in_flight";
/// Calls that are queued.
pub const QUEUED: &str = "redial.server.queued";
/// Connections that are open.
pub const CONNECTIONS: &str = "redial.server.connections";
/// Sessions that are kept.
pub const SESSIONS: &str = "redial.server.sessions";
/// Records of calls.
pub const RECORDS: &str = "redial.server.records";
/// What those keep in memory.
pub const RECORD_BYTES: &str = "redial.server.record.bytes";
/// TLS handshakes that came to nothing.
pub const HANDSHAKE_FAILURES: &str = "redial.server.handshake.failures";

/// The method of what names none that the server has, and the code of an error beyond those that have
/// a label.
pub const OTHER: &str = "_OTHER";

/// How many codes of its own errors a method may have as labels.
const MAX_CODES: usize = 32;

/// The methods of the protocol, which are refused like others.
const OWN: [&str; 11] = [
    rpc::PING,
    rpc::HEALTH,
    rpc::STATS,
    rpc::FAULTS,
    rpc::DISCOVER,
    rpc::HELLO,
    rpc::AUTH,
    rpc::ACK,
    rpc::GOODBYE,
    rpc::RESOLVE,
    rpc::CANCEL,
];

/// Records events.
#[derive(Default)]
pub(crate) struct Recorder {
    /// Made when the server is built, with its methods.
    instruments: OnceLock<Instruments>,
}

struct Instruments {
    /// Of the server's methods, in the order in which they were registered.
    registered: Vec<Arc<MethodInstruments>>,
    methods: HashMap<Box<str>, Arc<MethodInstruments>>,
    other: MethodInstruments,
    commits: Counter,
    commit_steps: Histogram,
    gauges: ServerGauges,
}

/// Of one method.
struct MethodInstruments {
    name: Box<str>,
    duration: Histogram,
    queue_duration: Histogram,
    joins: Counter,
    replays: Counter,
    timeouts: Counter,
    /// By the code of what ended so.
    errors: Mutex<HashMap<Option<i32>, Histogram>>,
    refusals: Mutex<HashMap<Option<i32>, Counter>>,
}

/// What the server holds.
struct ServerGauges {
    in_flight: Gauge,
    queued: Gauge,
    connections: Gauge,
    sessions: Gauge,
    session_records: Gauge,
    session_bytes: Gauge,
    plain_records: Gauge,
    plain_bytes: Gauge,
    running_limit: Gauge,
    overloaded: Gauge,
    handshake_failures: Counter,
    /// By reason.
    sheds: [Counter; 4],
}

impl Observer for Recorder {
    fn wants(&self, kind: EventKind) -> bool {
        matches!(
            kind,
            EventKind::Finished
                | EventKind::Joined
                | EventKind::Replayed
                | EventKind::TimedOut
                | EventKind::Refused(_)
                | EventKind::Committed { .. }
        )
    }

    fn observe_methods(&self, names: &[&str]) {
        describe();
        let make = |name: &&str| Arc::new(MethodInstruments::new(name));
        let registered: Vec<_> = names.iter().map(make).collect();
        let all = registered.iter().cloned().chain(OWN.iter().map(make));
        let made = self.instruments.set(Instruments {
            methods: all.map(|method| (method.name.clone(), method)).collect(),
            registered,
            other: MethodInstruments::new(OTHER),
            commits: counter!(COMMITS),
            commit_steps: histogram!(COMMIT_STEPS),
            gauges: ServerGauges::new(),
        });
        debug_assert!(made.is_ok(), "a server is built once");
    }

    fn observe(&self, event: &Event<'_>) {
        let Some(instruments) = self.instruments.get() else {
            return;
        };
        if let EventKind::Committed { steps } = event.kind {
            instruments.commits.increment(1);
            instruments.commit_steps.record(steps as f64);
            return;
        }
        let method = instruments.methods.get(event.method);
        let method = method.map_or(&instruments.other, |method| method);
        match event.kind {
            EventKind::Finished => method.finished(event),
            EventKind::Joined => method.joins.increment(1),
            EventKind::Replayed => method.replays.increment(1),
            EventKind::TimedOut => method.timeouts.increment(1),
            EventKind::Refused(code) => method.refused(code),
            _ => {}
        }
    }

    fn observe_stats(&self, stats: &Stats) {
        if let Some(instruments) = self.instruments.get() {
            instruments.gauges.set(stats);
        }
    }

    /// What is for people goes where it goes without metrics.
    fn observe_hidden(&self, _: &HiddenFailure<'_>) {}
}

impl Recorder {
    /// A handler has finished in place, without having been queued: almost every one, so that no event is
    /// made of it where nothing else wants that.
    pub(crate) fn finished_in_place(&self, method: usize, ran: Duration, error: Option<ErrorCode>) {
        let instruments = self.instruments.get();
        let method = instruments.and_then(|instruments| instruments.registered.get(method));
        if let Some(method) = method {
            method.ended(ran, error);
        }
    }
}

impl MethodInstruments {
    fn new(name: &str) -> Self {
        let labels = method_labels(name);
        Self {
            duration: histogram!(CALL_DURATION, call_labels(name, None)),
            queue_duration: histogram!(QUEUE_DURATION, labels.clone()),
            joins: counter!(JOINS, labels.clone()),
            replays: counter!(REPLAYS, labels.clone()),
            timeouts: counter!(TIMEOUTS, labels.clone()),
            errors: Mutex::default(),
            refusals: Mutex::default(),
            name: name.into(),
        }
    }

    fn finished(&self, event: &Event<'_>) {
        self.ended(event.queued + event.ran, event.error);
        if !event.queued.is_zero() {
            self.queue_duration.record(event.queued.as_secs_f64());
        }
    }

    fn ended(&self, took: Duration, error: Option<ErrorCode>) {
        match error {
            None => self.duration.record(took.as_secs_f64()),
            Some(code) => self.failed(code, took.as_secs_f64()),
        }
    }

    #[cold]
    fn failed(&self, code: ErrorCode, seconds: f64) {
        let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        let code = told_apart(&errors, code);
        let made = errors.entry(code);
        let made = made.or_insert_with(|| {
            let code = label_of(code);
            histogram!(CALL_DURATION, call_labels(&self.name, Some(&code)))
        });
        made.record(seconds);
    }

    #[cold]
    fn refused(&self, code: ErrorCode) {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        let code = told_apart(&refusals, code);
        let made = refusals.entry(code);
        let made = made.or_insert_with(|| {
            let mut labels = method_labels(&self.name);
            labels.push(Label::new("error.type", label_of(code)));
            counter!(REFUSALS, labels.clone())
        });
        made.increment(1);
    }
}

impl ServerGauges {
    fn new() -> Self {
        let table = |name| vec![Label::from_static_parts("redial.table", name)];
        let (session, plain) = (table("session"), table("plain"));
        Self {
            in_flight: gauge!(IN_FLIGHT),
            queued: gauge!(QUEUED),
            connections: gauge!(CONNECTIONS),
            sessions: gauge!(SESSIONS),
            session_records: gauge!(RECORDS, session.clone()),
            session_bytes: gauge!(RECORD_BYTES, session.clone()),
            plain_records: gauge!(RECORDS, plain.clone()),
            plain_bytes: gauge!(RECORD_BYTES, plain.clone()),
            running_limit: gauge!(RUNNING_LIMIT),
            overloaded: gauge!(OVERLOADED),
            handshake_failures: counter!(HANDSHAKE_FAILURES),
            sheds: ["queued_too_long", "queue_full", "displaced", "given_up"].map(|reason| {
                let labels = vec![Label::from_static_parts("redial.reason", reason)];
                counter!(SHEDS, labels.clone())
            }),
        }
    }

    fn set(&self, stats: &Stats) {
        let values = [
            (&self.in_flight, stats.running),
            (&self.queued, stats.queued),
            (&self.connections, stats.connections),
            (&self.sessions, stats.sessions),
            (&self.session_records, stats.session_records),
            (&self.session_bytes, stats.session_bytes),
            (&self.plain_records, stats.records),
            (&self.plain_bytes, stats.record_bytes),
            (&self.running_limit, stats.running_limit),
            (&self.overloaded, usize::from(stats.overloaded)),
        ];
        for (gauge, value) in values {
            gauge.set(value as f64);
        }
        self.handshake_failures.absolute(stats.failed_handshakes);
        let sheds = [
            stats.shed,
            stats.queue_full,
            stats.displaced,
            stats.given_up,
        ];
        for (counter, count) in self.sheds.iter().zip(sheds) {
            counter.absolute(count);
        }
    }
}

fn method_labels(name: &str) -> Vec<Label> {
    vec![Label::new("rpc.method", name.to_owned())]
}

fn call_labels(name: &str, code: Option<&str>) -> Vec<Label> {
    let mut labels = method_labels(name);
    labels.push(Label::from_static_parts("rpc.system.name", "jsonrpc"));
    if let Some(code) = code {
        labels.push(Label::new("rpc.response.status_code", code.to_owned()));
        labels.push(Label::new("error.type", code.to_owned()));
    }
    labels
}

/// The code, if it has a label or may get one; `None` stands for all others.
fn told_apart<T>(known: &HashMap<Option<i32>, T>, code: ErrorCode) -> Option<i32> {
    let code = Some(i32::from(code));
    (known.contains_key(&code) || known.len() < MAX_CODES)
        .then_some(code)
        .flatten()
}

fn label_of(code: Option<i32>) -> String {
    code.map_or_else(|| OTHER.to_owned(), |code| code.to_string())
}

fn describe() {
    describe_histogram!(
        CALL_DURATION,
        Unit::Seconds,
        "Duration of executions, with their time in the queue"
    );
    describe_histogram!(
        QUEUE_DURATION,
        Unit::Seconds,
        "Time in the queue of executions that were queued"
    );
    describe_counter!(JOINS, "Attempts that joined a running execution");
    describe_counter!(REPLAYS, "Attempts that got a recorded reply");
    describe_counter!(TIMEOUTS, "Executions that ran into their timeout");
    describe_counter!(REFUSALS, "Attempts that were refused, by error code");
    describe_counter!(SHEDS, "Calls that were not run, by reason");
    describe_gauge!(RUNNING_LIMIT, "Calls that may run at once");
    describe_gauge!(OVERLOADED, "1 while calls are queued for too long");
    describe_counter!(COMMITS, "Commits of the store");
    describe_histogram!(COMMIT_STEPS, "Steps that one commit made durable");
    describe_gauge!(IN_FLIGHT, "Calls that run");
    describe_gauge!(QUEUED, "Calls that are queued");
    describe_gauge!(CONNECTIONS, "Connections that are open");
    describe_gauge!(SESSIONS, "Sessions that are kept");
    describe_gauge!(RECORDS, "Records of calls in the table");
    describe_gauge!(
        RECORD_BYTES,
        Unit::Bytes,
        "What the records of calls keep in memory"
    );
    describe_counter!(HANDSHAKE_FAILURES, "TLS handshakes that came to nothing");
}
