//! Metrics that count something else than they say, twice, or not at all; and labels of a caller's choosing.

use std::{collections::BTreeMap, time::Duration};

use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use redial_client::{
    Backoff, Client, ClientBuilder, Config as ClientConfig, Hedge, Jitter, RetryBudget,
    metrics as of_client,
};
use redial_server::{
    Abort, Config, Context, Fault, FaultControl, FaultRule, Faults, MethodLimits, Server,
    ServerBuilder, metrics as of_server,
};
use tokio::io::duplex;

pub(crate) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// What a metric came to since it was looked at last: a counter's or a gauge's value, or how many samples
/// a histogram got.
#[derive(Debug)]
struct MetricChanges(BTreeMap<(String, String), f64>);

impl MetricChanges {
    fn look(snapshotter: &Snapshotter) -> Self {
        let all = snapshotter.snapshot().into_vec().into_iter();
        let all = all.map(|(key, _, _, value)| {
            let labels = key.key().labels();
            let labels = labels.map(|label| format!("{}={}", label.key(), label.value()));
            let labels: Vec<_> = labels
                .filter(|label| label != "rpc.system.name=jsonrpc")
                .collect();
            let value = match value {
                DebugValue::Counter(count) => count as f64,
                DebugValue::Gauge(value) => value.into_inner(),
                DebugValue::Histogram(samples) => samples.len() as f64,
            };
            ((key.key().name().to_owned(), labels.join(" ")), value)
        });
        Self(all.collect())
    }

    /// Takes out those that are not 0, of these names.
    fn counted(&self, of: &str) -> BTreeMap<&str, f64> {
        let counted = self
            .0
            .iter()
            .filter(|((name, _), value)| name == of && **value != 0.0);
        counted
            .map(|((_, labels), value)| (&**labels, *value))
            .collect()
    }

    fn expect(&self, name: &str, expected: &[(&str, f64)]) {
        let expected: BTreeMap<_, _> = expected.iter().copied().collect();
        assert_eq!(self.counted(name), expected, "{name} of {self:#?}");
    }
}

/// A client that retries and hedges, at times that a test knows.
pub(crate) fn hasty() -> ClientConfig {
    let mut config = ClientConfig {
        connections: 2,
        retry_budget: RetryBudget::unlimited(),
        ..ClientConfig::default()
    };
    config.call.attempt_timeout = ms(100);
    config.call.backoff = Backoff::new(ms(10), 1.0, ms(10), Jitter::None).unwrap();
    config.call.max_attempts = 10;
    config.call.deadline = ms(5_000);
    config.call.hedge = Hedge::After(ms(60));
    config
}

/// A server with methods that work, take long, and fail, and the rules of what goes wrong there.
pub(crate) fn server() -> (ServerBuilder, Faults) {
    let faults = Faults::new(1);
    let one = MethodLimits {
        max_running: Some(1),
        ..MethodLimits::default()
    };
    let slow = async |(): (), _: Context| {
        tokio::time::sleep(ms(90)).await;
        Ok(1)
    };
    let builder = Server::builder()
        .mutation("inc", async |(): (), _: Context| Ok(1))
        .mutation("slow", slow)
        .method_limits("slow", one)
        .query("fail", async |(code,): (i32,), _: Context| {
            Err::<(), _>(Abort::failed("no").code(code))
        })
        .faults(faults.clone());
    (builder, faults)
}

/// A client of a server in this process.
pub(crate) async fn connect(server: &Server, builder: ClientBuilder) -> Client {
    let server = server.clone();
    let connector = move || {
        let (near, far) = duplex(64 * 1024);
        let server = server.clone();
        tokio::spawn(async move { server.serve_connection(far).await });
        std::future::ready(Ok(near))
    };
    builder
        .connect_with(connector)
        .await
        .expect("a pipe connects")
}

/// A call whose attempts 1 to 5 are executed or replayed and lose their replies; 2, 4 and 6 are hedges.
pub(crate) async fn retried_hedged_and_replayed(client: &Client, faults: &Faults) {
    faults.set([FaultRule::new(Fault::DropReply, 1.0)
        .unwrap()
        .for_method("inc")]);
    let clearing = async {
        tokio::time::sleep(ms(250)).await;
        faults.clear();
    };
    let call = client.request("inc", ()).with_report();
    let (reply, ()) = tokio::join!(call, clearing);
    let report = reply.expect("it was executed").report;
    assert_eq!((report.attempts(), report.hedges()), (6, 3), "{report:?}");
    assert_eq!(report.replayed(), Some(true));
}

/// Kind: a count that is not of what it says. Instance: one call that is executed once, retried twice,
/// hedged three times and replayed five times.
#[tokio::test(start_paused = true)]
async fn a_call_raises_exactly_what_it_should() {
    let recorder = DebuggingRecorder::new();
    let (snapshotter, _installed) = (
        recorder.snapshotter(),
        metrics::set_default_local_recorder(&recorder),
    );
    let (builder, faults) = server();
    let server = builder.metrics().build().unwrap();
    let client = connect(&server, Client::builder().config(hasty()).metrics()).await;
    // Opens the session, and both connections.
    client.request("inc", ()).await.unwrap();
    tokio::time::sleep(ms(1_500)).await;
    let before = MetricChanges::look(&snapshotter);
    before.expect(of_client::ATTEMPTS, &[("rpc.method=inc", 1.0)]);
    before.expect(of_client::RETRIES, &[]);
    before.expect(of_server::CALL_DURATION, &[("rpc.method=inc", 1.0)]);
    before.expect(of_server::SESSIONS, &[("", 1.0)]);

    retried_hedged_and_replayed(&client, &faults).await;
    let seen = MetricChanges::look(&snapshotter);
    let inc = |value| [("rpc.method=inc", value)];
    seen.expect(of_client::CALL_DURATION, &inc(1.0));
    seen.expect(of_client::ATTEMPTS, &inc(6.0));
    seen.expect(of_client::RETRIES, &inc(2.0));
    seen.expect(of_client::HEDGES, &inc(3.0));
    seen.expect(of_client::REPLAYS, &inc(1.0));
    seen.expect(
        of_client::ATTEMPT_FAILURES,
        &[
            ("rpc.method=inc redial.attempt.end=superseded", 1.0),
            ("rpc.method=inc redial.attempt.end=timeout", 4.0),
        ],
    );
    seen.expect(of_client::FAILURES, &[]);
    seen.expect(of_client::IN_FLIGHT, &[]);
    seen.expect(of_server::CALL_DURATION, &inc(1.0));
    seen.expect(of_server::REPLAYS, &inc(5.0));
    seen.expect(of_server::JOINS, &[]);
    seen.expect(of_server::REFUSALS, &[]);
    seen.expect(of_server::QUEUE_DURATION, &[]);
}

/// Kind: the same. Instances: a call that is joined, one that is queued, one that fails, and what the server
/// holds.
#[tokio::test(start_paused = true)]
async fn joins_queues_errors_and_what_is_held_are_counted() {
    let recorder = DebuggingRecorder::new();
    let (snapshotter, _installed) = (
        recorder.snapshotter(),
        metrics::set_default_local_recorder(&recorder),
    );
    let server = server().0.metrics().build().unwrap();
    let client = connect(&server, Client::builder().config(hasty()).metrics()).await;
    client.request("inc", ()).await.unwrap();
    let _ = MetricChanges::look(&snapshotter);
    // The second waits for the first. Both are hedged after 60 ms, and the second after its retry, too.
    let slow = || async { client.request("slow", ()).await.unwrap() };
    tokio::join!(slow(), slow());
    let seen = MetricChanges::look(&snapshotter);
    let slow = |value| [("rpc.method=slow", value)];
    seen.expect(of_server::CALL_DURATION, &slow(2.0));
    seen.expect(of_server::QUEUE_DURATION, &slow(1.0));
    seen.expect(
        of_server::JOINS,
        &slow(seen.counted(of_client::ATTEMPTS)["rpc.method=slow"] - 2.0),
    );
    seen.expect(of_server::REPLAYS, &[]);

    for _ in 0..2 {
        let failed = client.query("fail", (7,)).await;
        failed.unwrap_err();
    }
    tokio::time::sleep(ms(1_500)).await;
    let seen = MetricChanges::look(&snapshotter);
    let failed = "rpc.method=fail rpc.response.status_code=7 error.type=7";
    seen.expect(of_server::CALL_DURATION, &[(failed, 2.0)]);
    let failed = "rpc.method=fail error.type=7 rpc.response.status_code=7";
    seen.expect(of_client::CALL_DURATION, &[(failed, 2.0)]);
    seen.expect(
        of_client::FAILURES,
        &[("rpc.method=fail error.type=7 redial.executed=yes", 2.0)],
    );
    seen.expect(of_server::CONNECTIONS, &[("", 2.0)]);
    let bytes = seen.counted(of_server::RECORD_BYTES);
    assert!(bytes.len() <= 1, "{bytes:?}");
}

/// Kind: a label of a caller's choosing, and so as many series as that likes. Instances: methods that the
/// server has not, codes of errors, ids.
#[tokio::test(start_paused = true)]
async fn no_label_is_of_a_callers_choosing() {
    let recorder = DebuggingRecorder::new();
    let (snapshotter, _installed) = (
        recorder.snapshotter(),
        metrics::set_default_local_recorder(&recorder),
    );
    let builder = server().0.config(Config::default()).metrics();
    let server = builder.build().unwrap();
    let client = connect(&server, Client::builder().config(hasty()).metrics()).await;
    for number in 0..100 {
        let unknown = client.request(format!("made-up-{number}"), ()).await;
        unknown.unwrap_err();
        let failed = client.query("fail", (number,)).await;
        failed.unwrap_err();
    }
    let seen = MetricChanges::look(&snapshotter);
    seen.expect(
        of_server::REFUSALS,
        &[("rpc.method=_OTHER error.type=-32601", 100.0)],
    );
    seen.expect(
        of_client::ATTEMPTS,
        &[("rpc.method=_OTHER", 100.0), ("rpc.method=fail", 100.0)],
    );
    let codes = seen.counted(of_server::CALL_DURATION);
    assert_eq!(codes.len(), 33, "{codes:?}");
    assert_eq!(codes.values().sum::<f64>(), 100.0);
    let session = server.stats().sessions;
    assert_eq!(session, 1);
    for (name, labels) in seen.0.keys() {
        assert!(!labels.contains("made-up"), "{name} {labels}");
        assert!(!labels.contains("-8"), "an id: {name} {labels}");
    }
}

/// Kind: a name that is missing in a list. Instance: that of `rpc.faults` among the protocol's own methods.
#[tokio::test(start_paused = true)]
async fn a_refusal_of_the_protocols_own_methods_has_their_names() {
    let recorder = DebuggingRecorder::new();
    let (snapshotter, _installed) = (
        recorder.snapshotter(),
        metrics::set_default_local_recorder(&recorder),
    );
    let control = FaultControl::Principals(Vec::new());
    let builder = server().0.fault_control(control).metrics();
    let client = connect(&builder.build().unwrap(), Client::builder()).await;
    let methods = [
        "ping", "health", "stats", "faults", "discover", "hello", "ack", "goodbye", "resolve",
        "cancel",
    ];
    for method in methods {
        let refused = client.query(format!("rpc.{method}"), [("no", 1)]).await;
        refused.unwrap_err();
    }
    let seen = MetricChanges::look(&snapshotter);
    let seen = seen.counted(of_server::REFUSALS);
    assert_eq!(seen.values().sum::<f64>(), methods.len() as f64, "{seen:?}");
    for method in methods {
        let label = format!("rpc.method=rpc.{method} error.type=");
        assert!(
            seen.keys().any(|labels| labels.starts_with(&label)),
            "{method} of {seen:?}"
        );
    }
}

/// Kind: what happens on a thread that no test sees. Instance: the commits of a store's writer.
#[tokio::test]
async fn commits_and_their_steps_are_counted() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _installed = metrics::set_default_local_recorder(&recorder);
    let path = format!(
        "{}/commits-{}.db",
        env!("CARGO_TARGET_TMPDIR"),
        std::process::id()
    );
    let store = redial_store_sqlite::SqliteStore::open(&path).unwrap();
    let server = server().0.store(store).metrics().build().unwrap();
    let client = connect(&server, Client::builder()).await;
    for _ in 0..3 {
        client.request("inc", ()).await.unwrap();
    }
    client.close().await;
    server.shutdown().await;
    let (seen, stats) = (MetricChanges::look(&snapshotter), server.stats());
    // The session, and of each call the intent and the outcome.
    assert!(
        stats.commits >= 7 && stats.committed >= stats.commits,
        "{stats:?}"
    );
    assert!(stats.largest_commit >= 1, "{stats:?}");
    seen.expect(of_server::COMMITS, &[("", stats.commits as f64)]);
    seen.expect(of_server::COMMIT_STEPS, &[("", stats.commits as f64)]);
    std::fs::remove_file(path).unwrap();
}

/// Kind: counts that depend on what else there is. Instances: calls of a client with nothing but metrics, and
/// of one with a layer around them, that work, fail, are not known, are not answered, are not awaited to
/// their end, and have no answer.
#[tokio::test(start_paused = true)]
async fn a_client_counts_the_same_with_a_layer_and_without() {
    let recorder = DebuggingRecorder::new();
    let (snapshotter, _installed) = (
        recorder.snapshotter(),
        metrics::set_default_local_recorder(&recorder),
    );
    let (builder, faults) = server();
    let server = builder.build().unwrap();
    let mut seen = Vec::new();
    for is_layered in [false, true] {
        let mut builder = Client::builder().config(hasty());
        if is_layered {
            builder = builder.layer(|call, next: redial_client::Next| next.run(call));
        }
        let client = connect(&server, builder.metrics()).await;
        faults.clear();
        client.request("inc", ()).await.unwrap();
        client.query("fail", (7,)).await.unwrap_err();
        client.request("made-up", ()).await.unwrap_err();
        client.notify("inc", ()).await.unwrap();
        let slow = client.request("slow", ()).into_future();
        tokio::time::timeout(ms(10), slow).await.unwrap_err();
        faults.set([FaultRule::new(Fault::DropReply, 1.0).unwrap()]);
        let lost = client.request("inc", ()).deadline(ms(300));
        lost.await.unwrap_err();
        drop(client);
        tokio::time::sleep(ms(1_500)).await;
        let MetricChanges(mut counts) = MetricChanges::look(&snapshotter);
        counts.retain(|(name, _), value| name.contains("client") && *value != 0.0);
        seen.push(counts);
    }
    assert!(seen[0].len() > 8, "{seen:#?}");
    assert_eq!(seen[0], seen[1]);
    let is_in_flight = |name: &str| name == of_client::IN_FLIGHT;
    assert!(!seen[0].keys().any(|(name, _)| is_in_flight(name)));
}
