//! A trace that falls apart: spans without a parent, or below another call's; what they say is not so.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use redial_client::{CallToken, Client, RetryBudget};
use redial_server::{Abort, Context, Delay, Fault, FaultRule};
use tracing::{
    Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{Layer, Registry, layer, prelude::*};

use crate::metrics::{connect, hasty, ms, retried_hedged_and_replayed, server};

/// A span, as it was when it was looked at.
#[derive(Clone, Debug, Default)]
struct Span {
    name: &'static str,
    parent: Option<u64>,
    fields: BTreeMap<&'static str, String>,
    is_open: bool,
}

/// Keeps all spans of this thread, whether they are open or not.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Spans>>);

#[derive(Default)]
struct Spans {
    all: Vec<Span>,
    /// Where those that are open lie, as a span's id is used again.
    places: BTreeMap<u64, usize>,
}

struct Fields<'s>(&'s mut BTreeMap<&'static str, String>);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
}

impl<S> Layer<S> for Collector
where
    S: Subscriber + for<'s> tracing_subscriber::registry::LookupSpan<'s>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: layer::Context<'_, S>) {
        let mut spans = self.0.lock().unwrap();
        let parent = context.span(id).and_then(|span| span.parent());
        let parent = parent.and_then(|parent| spans.places.get(&parent.id().into_u64()).copied());
        let mut span = Span {
            name: attributes.metadata().name(),
            parent: parent.map(|place| place as u64),
            is_open: true,
            ..Span::default()
        };
        attributes.record(&mut Fields(&mut span.fields));
        let place = spans.all.len();
        spans.places.insert(id.into_u64(), place);
        spans.all.push(span);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _: layer::Context<'_, S>) {
        let mut spans = self.0.lock().unwrap();
        let place = spans.places[&id.into_u64()];
        values.record(&mut Fields(&mut spans.all[place].fields));
    }

    fn on_close(&self, id: Id, _: layer::Context<'_, S>) {
        let mut spans = self.0.lock().unwrap();
        let place = spans.places.remove(&id.into_u64()).unwrap();
        spans.all[place].is_open = false;
    }
}

impl Collector {
    /// Of this thread, from now on.
    fn install() -> (Self, tracing::subscriber::DefaultGuard) {
        let collector = Self::default();
        let subscriber = Registry::default().with(collector.clone());
        (collector, tracing::subscriber::set_default(subscriber))
    }

    /// The spans of this name, each with its place.
    fn of(&self, name: &str) -> Vec<(u64, Span)> {
        let spans = self.0.lock().unwrap();
        let named = spans
            .all
            .iter()
            .enumerate()
            .filter(|(_, span)| span.name == name);
        named
            .map(|(place, span)| (place as u64, span.clone()))
            .collect()
    }

    fn forget(&self) {
        let mut spans = self.0.lock().unwrap();
        assert!(spans.places.is_empty(), "open: {:?}", spans.all);
        spans.all.clear();
    }
}

impl Span {
    fn says(&self, field: &str) -> &str {
        self.fields.get(field).map_or("", |value| value)
    }
}

/// Kind: a trace that falls apart. Instance: a call that is retried twice, hedged three times and replayed
/// five times.
#[tokio::test(start_paused = true)]
async fn a_call_with_all_its_attempts_is_one_trace_at_both_ends() {
    let (collector, _installed) = Collector::install();
    let (builder, faults) = server();
    let server = builder
        .traces(redial_server::Traces::new())
        .build()
        .unwrap();
    let traces = redial_client::Traces::new();
    let client = connect(&server, Client::builder().config(hasty()).traces(traces)).await;
    client.request("inc", ()).await.unwrap();
    tokio::time::sleep(ms(100)).await;
    collector.forget();

    let outer = tracing::info_span!("outer");
    let traced = tracing::Instrument::instrument(
        retried_hedged_and_replayed(&client, &faults),
        outer.clone(),
    );
    traced.await;
    drop(outer);
    tokio::time::sleep(ms(1_000)).await;

    let calls = collector.of("rpc.client.call");
    let [(place, call)] = &calls[..] else {
        panic!("{calls:?}");
    };
    assert_eq!(collector.of("outer")[0].0, call.parent.unwrap());
    for (field, expected) in [
        ("rpc.system.name", "jsonrpc"),
        ("rpc.method", "inc"),
        ("otel.kind", "client"),
        ("redial.attempts", "6"),
        ("redial.replayed", "true"),
        ("redial.executed", "yes"),
        ("error.type", ""),
    ] {
        assert_eq!(call.says(field), expected, "{field} of {call:?}");
    }
    let attempts = collector.of("rpc.client.attempt");
    let said = |field| {
        attempts
            .iter()
            .map(|(_, it)| it.says(field).to_owned())
            .collect::<Vec<_>>()
    };
    assert!(
        attempts
            .iter()
            .all(|(_, attempt)| attempt.parent == Some(*place))
    );
    assert_eq!(said("redial.attempt"), ["1", "2", "3", "4", "5", "6"]);
    let is_hedge = ["false", "true", "false", "true", "false", "true"];
    assert_eq!(said("redial.hedge"), is_hedge);
    let ends = said("redial.attempt.end");
    assert_eq!(ends[..4], ["timeout"; 4], "{ends:?}");
    assert_eq!(
        ends.iter().filter(|end| *end == "reply").count(),
        1,
        "{ends:?}"
    );

    let served = collector.of("rpc.server.attempt");
    let trace = call.says("trace_id");
    assert!(trace.len() == 32, "{call:?}");
    // By their numbers, which the server has of the requests.
    let sent: BTreeMap<_, _> = attempts
        .iter()
        .map(|(_, it)| (it.says("redial.attempt"), it.says("span_id")))
        .collect();
    let mut ids: BTreeSet<_> = sent.values().copied().collect();
    ids.insert(call.says("span_id"));
    assert!(
        ids.len() == 7 && ids.iter().all(|id| id.len() == 16),
        "{ids:?}"
    );
    for (_, attempt) in &served {
        assert_eq!(
            (attempt.says("trace_id"), attempt.says("parent_span_id")),
            (trace, sent[attempt.says("redial.attempt")])
        );
        assert_eq!(
            (attempt.says("rpc.method"), attempt.says("otel.kind")),
            ("inc", "server")
        );
    }
    let outcomes: Vec<_> = served
        .iter()
        .map(|(_, it)| it.says("redial.outcome"))
        .collect();
    assert_eq!(
        outcomes,
        [
            "executed", "replayed", "replayed", "replayed", "replayed", "replayed"
        ]
    );
    let executions = collector.of("rpc.server.execution");
    let parents: Vec<_> = executions.iter().map(|(_, span)| span.parent).collect();
    assert_eq!(parents, [Some(served[0].0)]);
    let brought = format!("00-{trace}-{}-01", sent["1"]);
    for (at, (_, attempt)) in served.iter().enumerate() {
        let expected = if at == 0 { "" } else { &brought };
        assert_eq!(attempt.says("redial.execution"), expected, "{attempt:?}");
    }
    // Nothing is left open.
    collector.forget();
}

/// Kind: what is said on one way through the server and not on another. Instance: that an attempt was executed,
/// if its call was queued or delayed.
#[tokio::test(start_paused = true)]
async fn an_attempt_whose_call_waits_says_that_it_was_executed() {
    let (collector, _installed) = Collector::install();
    let (builder, faults) = server();
    let server = builder
        .traces(redial_server::Traces::new())
        .build()
        .unwrap();
    let client = connect(&server, Client::builder()).await;
    // One of them runs at once.
    let (one, other) = (client.request("slow", ()), client.request("slow", ()));
    let (one, other) = tokio::join!(one, other);
    one.unwrap();
    other.unwrap();
    let delay = Fault::DelayExecution(Delay::Fixed(ms(10)));
    faults.set([FaultRule::new(delay, 1.0).unwrap()]);
    client.request("inc", ()).await.unwrap();
    let attempts = collector.of("rpc.server.attempt");
    let outcomes: Vec<_> = attempts
        .iter()
        .map(|(_, it)| it.says("redial.outcome"))
        .collect();
    assert_eq!(outcomes, ["executed"; 3]);
}

/// Kind: what a handler does that is in no trace, or in that of another call. Instances: one that finishes
/// at once, one that waits, and one that fails, each with a span of its own.
#[tokio::test(start_paused = true)]
async fn what_a_handler_does_is_below_its_execution() {
    let (collector, _installed) = Collector::install();
    let work = async |(time,): (u64,), _: Context| {
        tracing::info_span!("before").in_scope(|| ());
        if time > 0 {
            tokio::time::sleep(ms(time)).await;
        }
        tracing::info_span!("after").in_scope(|| ());
        match time {
            13 => Err(Abort::failed("no").code(13)),
            _ => Ok(time),
        }
    };
    let builder = server().0.mutation("work", work);
    let server = builder
        .traces(redial_server::Traces::new())
        .build()
        .unwrap();
    let client = connect(&server, Client::builder()).await;
    for time in [0, 5, 13] {
        let worked = client.request("work", (time,)).await;
        assert_eq!(worked.is_ok(), time != 13);
    }
    let unknown = client.request("made-up", ()).await;
    unknown.unwrap_err();
    tokio::time::sleep(ms(100)).await;
    let executions = collector.of("rpc.server.execution");
    assert_eq!(executions.len(), 3);
    for name in ["before", "after"] {
        let parents: Vec<_> = collector.of(name).iter().map(|(_, it)| it.parent).collect();
        let expected: Vec<_> = executions.iter().map(|(place, _)| Some(*place)).collect();
        assert_eq!(parents, expected, "{name}");
    }
    let errors: Vec<_> = executions
        .iter()
        .map(|(_, it)| it.says("error.type"))
        .collect();
    assert_eq!(errors, ["", "", "13"]);
    let attempts = collector.of("rpc.server.attempt");
    let said = |field| {
        attempts
            .iter()
            .map(|(_, it)| it.says(field).to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(said("rpc.method"), ["work", "work", "work", "_OTHER"]);
    assert_eq!(said("error.type"), ["", "", "13", "-32601"]);
    assert_eq!(said("rpc.response.status_code"), said("error.type"));
    assert_eq!(
        said("redial.outcome"),
        ["executed", "executed", "executed", "refused"]
    );
    collector.forget();
}

/// Kind: a trace that begins anew in the middle. Instance: the program says which trace a call is in, by
/// itself or by its tracing library, and reads it at the server.
#[tokio::test(start_paused = true)]
async fn a_trace_that_the_program_knows_goes_on() {
    let (collector, _installed) = Collector::install();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let parents = Arc::clone(&heard);
    let at_server = redial_server::Traces::new().parent(move |span, traceparent| {
        assert!(!span.is_disabled());
        parents.lock().unwrap().push(traceparent.to_owned());
    });
    let server = server().0.traces(at_server).build().unwrap();
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let given = format!("00-{trace}-b7ad6b7169203331-01");
    let client = connect(
        &server,
        Client::builder().traces(redial_client::Traces::new()),
    )
    .await;
    client
        .request("inc", ())
        .traceparent(given.clone())
        .await
        .unwrap();
    let call = collector.of("rpc.client.call").remove(0).1;
    assert_eq!(
        (call.says("trace_id"), call.says("parent_span_id")),
        (trace, "b7ad6b7169203331")
    );
    let attempt = collector.of("rpc.client.attempt").remove(0).1;
    let expected = format!("00-{trace}-{}-01", attempt.says("span_id"));
    assert_eq!(*heard.lock().unwrap(), [expected]);

    let of_library = given.clone();
    let traces = redial_client::Traces::new().traceparent(move |_| Some(of_library.clone()));
    let client = connect(&server, Client::builder().traces(traces)).await;
    client.request("inc", ()).await.unwrap();
    assert_eq!(heard.lock().unwrap()[1], given);

    // What is no `traceparent` costs the trace, and not the call.
    let traces = redial_client::Traces::new().traceparent(|_| Some(String::new()));
    let client = connect(&server, Client::builder().traces(traces)).await;
    client.request("inc", ()).await.unwrap();
    assert_eq!(heard.lock().unwrap().len(), 2, "it says nothing");
}

/// Kind: what is paid back is used all the same. Instance: the token of a copy that waits for its span.
#[tokio::test(start_paused = true)]
async fn copies_with_spans_are_paid_for() {
    let (_collector, _installed) = Collector::install();
    let mut config = hasty();
    config.retry_budget = RetryBudget {
        percent_of_calls: 0.0,
        min_per_second: 0.0,
        burst: 2.0,
    };
    let builder = Client::builder().config(config);
    let client = connect(
        &server().0.build().unwrap(),
        builder.traces(redial_client::Traces::new()),
    )
    .await;
    for _ in 0..4 {
        client.request("slow", ()).await.unwrap();
    }
    assert_eq!(client.stats().hedges, 2, "as many as there are tokens");
}

/// Kind: an outcome whose execution is in another trace, and can't be found from there. Instances: calls of
/// one client that are resumed by another, while the call runs, while it is queued, and when it has ended.
/// Neighbour: another `traceparent` makes no other call of it.
#[tokio::test(start_paused = true)]
async fn who_gets_an_outcome_in_another_trace_is_linked_to_its_execution() {
    let (collector, _installed) = Collector::install();
    let named = Arc::new(Mutex::new(Vec::new()));
    let linked = Arc::new(Mutex::new(Vec::new()));
    let (names, links) = (Arc::clone(&named), Arc::clone(&linked));
    let traces = redial_server::Traces::new().links(
        move |span| {
            let name = format!("00-{:032x}-{:016x}-01", 7, span.id()?.into_u64());
            names.lock().unwrap().push(name.clone());
            Some(name)
        },
        move |_, execution| links.lock().unwrap().push(execution.to_owned()),
    );
    let server = server().0.traces(traces).build().unwrap();
    let traced = || Client::builder().traces(redial_client::Traces::new());
    let first = connect(&server, traced()).await;
    let other = connect(&server, traced()).await;

    let mut tokens = Vec::new();
    let mut calls = Vec::new();
    for _ in 0..2 {
        let mut call = first.request("slow", ());
        // As another process gets it.
        let token = serde_json::to_string(&call.token().await.unwrap()).unwrap();
        tokens.push(serde_json::from_str::<CallToken>(&token).unwrap());
        calls.push(tokio::spawn(call.into_future()));
    }
    // One of the two runs, and the other is queued.
    tokio::time::sleep(ms(10)).await;
    let resume = || {
        tokens
            .iter()
            .map(|token| other.resume(token.clone()).into_future())
    };
    let mut joined: Vec<_> = resume().map(tokio::spawn).collect();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap(), 1);
    }
    joined.extend(resume().map(tokio::spawn));
    for call in joined {
        assert_eq!(call.await.unwrap().unwrap(), 1);
    }

    let named = named.lock().unwrap().clone();
    assert_eq!(named.len(), 2, "{named:?}");
    let served = collector.of("rpc.server.attempt");
    let mut expected = Vec::new();
    for (outcome, count) in [("executed", 2), ("joined", 2), ("replayed", 2)] {
        let of_it = served.iter().map(|(_, it)| it);
        let of_it: Vec<_> = of_it
            .filter(|it| it.says("redial.outcome") == outcome)
            .collect();
        assert_eq!(of_it.len(), count, "{served:?}");
        let executions: Vec<_> = of_it.iter().map(|it| it.says("redial.execution")).collect();
        match outcome {
            "executed" => assert_eq!(executions, ["", ""]),
            _ => assert_eq!(executions, [&*named[0], &*named[1]], "{outcome}"),
        }
        expected.extend(executions.into_iter().filter(|it| !it.is_empty()));
    }
    assert_eq!(*linked.lock().unwrap(), expected);
    drop((first, other));
    tokio::time::sleep(ms(100)).await;
    collector.forget();
}
