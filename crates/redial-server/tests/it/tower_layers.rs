//! `tower`'s layers around handlers, and its services as handlers: what their errors come to.

use std::{
    future::{Ready, ready},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use ::tower::{
    BoxError, Layer, Service as TowerService, ServiceBuilder,
    limit::ConcurrencyLimitLayer,
    load_shed::{LoadShedLayer, error::Overloaded},
    service_fn,
    timeout::TimeoutLayer,
};
use redial_server::{
    Abort, Config, LayerCall, Next, Outcome, Server, ServerBuilder,
    tower::{self, Handlers, TowerCall, TowerRequest},
};
use serde_json::{Value, json};

use crate::common::{
    Service, code, executed, pipe,
    session::{attempt, client, config},
    until, uuid,
};

const MS: Duration = Duration::from_millis(1);

fn call(method: &str, number: u32) -> String {
    json!({"id": uuid(number), "method": method}).to_string()
}

fn service() -> (Service, ServerBuilder) {
    let service = Service::default();
    let builder = service.builder().config(config());
    (service, builder)
}

/// What an error says of execution; those of handlers say by their code that they were.
fn says(reply: &Value) -> &str {
    let executed = &reply["error"]["data"]["executed"];
    executed.as_str().unwrap_or("yes")
}

/// What a layer of the tests does to calls, in each of a service's steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LayerFault {
    UnreadyFails,
    UnreadyPanics,
    CallFails,
    CallPanics,
    FailsAfter,
    PanicsAfter,
    AbortsAfter,
}

#[derive(Clone)]
struct FaultyService<S> {
    inner: S,
    fault: LayerFault,
}

fn fault(fault: LayerFault) -> impl Layer<Handlers, Service = FaultyService<Handlers>> {
    ::tower::layer::layer_fn(move |inner| FaultyService { inner, fault })
}

fn on_purpose() -> BoxError {
    "password=hunter2".into()
}

impl<S> TowerService<TowerCall> for FaultyService<S>
where
    S: TowerService<TowerCall, Response = Outcome, Error = std::convert::Infallible>,
    S::Future: Send + 'static,
{
    type Response = Outcome;
    type Error = BoxError;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Outcome, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        assert_ne!(self.fault, LayerFault::UnreadyPanics);
        Poll::Ready(match self.fault {
            LayerFault::UnreadyFails => Err(on_purpose()),
            _ => Ok(()),
        })
    }

    fn call(&mut self, call: TowerCall) -> Self::Future {
        let fault = self.fault;
        assert_ne!(fault, LayerFault::CallPanics);
        if fault == LayerFault::CallFails {
            return Box::pin(ready(Err(on_purpose())));
        }
        let inner = self.inner.call(call);
        Box::pin(async move {
            let Ok(_) = inner.await;
            match fault {
                LayerFault::PanicsAfter => panic!("as it was asked to"),
                LayerFault::AbortsAfter => Err(Abort::failed("on purpose").code(7).into()),
                _ => Err(on_purpose()),
            }
        })
    }
}

/// A handler that `Timeout` stops midway must not be executed again.
#[tokio::test(start_paused = true)]
async fn a_handler_that_a_timeout_stops_is_interrupted_for_good() {
    let (service, builder) = service();
    let builder = builder.layer(tower::layer(TimeoutLayer::new(10 * MS)));
    let (mut peer, session) = client(&builder.build().unwrap()).await;
    let first = peer.call_json(attempt("slow_inc", session, 0, 1)).await;
    assert_eq!((code(&first), executed(&first)), (-32008, "unknown"));
    tokio::time::sleep(1_000 * MS).await;
    let again = peer.call_json(attempt("slow_inc", session, 0, 2)).await;
    assert_eq!(again["error"], first["error"], "it is on record");
    assert_eq!(service.effects(), 0, "it was stopped");
    let quick = peer.call_json(attempt("inc", session, 1, 1)).await;
    assert_eq!(quick["result"]["value"], 1);
}

/// Calls that find no room: not executed, forgotten, and sent again where the program takes the error for
/// a lack of room.
#[tokio::test(start_paused = true)]
async fn calls_that_are_shed_were_not_executed() {
    let limits = || {
        ServiceBuilder::new()
            .layer(LoadShedLayer::new())
            .layer(ConcurrencyLimitLayer::new(1))
    };
    let (service, builder) = service();
    let shed = tower::layer(limits()).overloaded_if(50 * MS, |error| error.is::<Overloaded>());
    let builder = builder
        .layer_of("slow_inc", shed)
        .layer_of("inc", tower::layer(limits()));
    let server = builder
        .layer_of("inc", async |call: LayerCall, next: Next| {
            tokio::time::sleep(100 * MS).await;
            next.run(call).await
        })
        .build()
        .unwrap();
    let (mut peer, session) = client(&server).await;
    for (number, method, expected) in [(0, "slow_inc", -32001), (2, "inc", -32000)] {
        peer.send(attempt(method, session, number, 1)).await;
        let shed = peer
            .call_json(attempt(method, session, number + 1, 1))
            .await;
        assert_eq!((code(&shed), executed(&shed)), (expected, "no"), "{shed}");
        let after = &shed["error"]["data"]["retry_after_ms"];
        assert_eq!(after.as_u64(), (expected == -32001).then_some(50));
        assert!(!shed.to_string().contains("service overloaded"), "{shed}");
        assert!(peer.receive_json().await["result"].is_object());
        let again = peer
            .call_json(attempt(method, session, number + 1, 2))
            .await;
        assert!(again["result"].is_object(), "{again}");
    }
    assert_eq!(service.effects(), 4);
    assert_eq!(server.stats().running, 0);
}

/// A limit holds over all calls of the service that the layer is around, and what waits may be stopped.
#[tokio::test(start_paused = true)]
async fn a_limit_is_one_for_all_calls_and_frees_what_is_stopped() {
    let (service, builder) = service();
    let config = Config {
        execution_timeout: Some(150 * MS),
        ..config()
    };
    let limit = tower::layer(ConcurrencyLimitLayer::new(1));
    let server = builder.config(config).layer(limit).build().unwrap();
    let mut peer = pipe(&server);
    // One runs for 100 ms, the next is stopped 50 ms after it has begun, the last while it waits.
    for number in 0..3 {
        peer.send(call("slow_inc", number)).await;
    }
    let replies = peer.receive_all::<3>().await;
    let stopped = replies.iter().filter(|reply| reply["result"].is_null());
    assert_eq!(stopped.map(code).collect::<Vec<_>>(), [-32008, -32008]);
    assert_eq!(service.effects(), 1);
    let next = peer.call_json(call("slow_inc", 3)).await;
    assert!(
        next["result"].is_object(),
        "the limit's room is free: {next}"
    );
}

/// Errors and panics in each step: what is on record, and that their texts stay here.
#[tokio::test(start_paused = true)]
async fn errors_say_how_far_the_handler_had_come() {
    for (how, method, expected, said, is_on_record, effects) in [
        (LayerFault::UnreadyFails, "inc", -32000, "no", false, 0),
        (LayerFault::CallFails, "inc", -32000, "no", false, 0),
        (LayerFault::FailsAfter, "inc", -32000, "yes", true, 1),
        (LayerFault::FailsAfter, "no_effect", -32000, "no", false, 1),
        (LayerFault::AbortsAfter, "inc", 7, "yes", true, 1),
        (LayerFault::UnreadyPanics, "inc", -32603, "yes", true, 0),
        (LayerFault::CallPanics, "inc", -32603, "yes", true, 0),
        (LayerFault::PanicsAfter, "inc", -32603, "yes", true, 1),
    ] {
        let (service, builder) = service();
        let server = builder.layer(tower::layer(fault(how))).build().unwrap();
        let (mut peer, session) = client(&server).await;
        let first = peer.call_json(attempt(method, session, 0, 1)).await;
        assert_eq!((code(&first), says(&first)), (expected, said), "{how:?}");
        assert!(!first.to_string().contains("hunter2"), "{first}");
        let before = service.effects();
        assert_eq!(before, effects, "{how:?}");
        let again = peer.call_json(attempt(method, session, 0, 2)).await;
        assert_eq!(
            again["error"] == first["error"],
            is_on_record,
            "{how:?}: {again}"
        );
        let ran_again = service.effects() - before;
        assert_eq!(ran_again, if is_on_record { 0 } else { before }, "{how:?}");
        until("no permit is held", || server.stats().running == 0).await;
    }
}

/// A service that is not ready: the handler waits. A worker behind a buffer that outlives its call.
#[tokio::test(start_paused = true)]
async fn a_buffered_handler_does_not_start_after_its_call_has_ended() {
    let (service, builder) = service();
    let buffered = ServiceBuilder::new()
        .buffer(16)
        .layer(ConcurrencyLimitLayer::new(1));
    // Around the buffer, so that a call is given up while it lies there.
    let stack = ServiceBuilder::new()
        .layer(TimeoutLayer::new(150 * MS))
        .layer(buffered);
    let server = builder.layer(tower::layer(stack)).build().unwrap();
    let (mut peer, session) = client(&server).await;
    for number in 0..3 {
        peer.send(attempt("slow_inc", session, number, 1)).await;
    }
    let replies = peer.receive_all::<3>().await;
    let ended = |code_of: i64| {
        let codes = replies.iter().filter(|reply| reply["result"].is_null());
        codes.filter(|reply| code(reply) == code_of).count()
    };
    assert_eq!((ended(-32008), ended(-32000)), (1, 1), "{replies:?}");
    tokio::time::sleep(1_000 * MS).await;
    assert_eq!(service.effects(), 1, "neither of the others had an effect");
    let again = peer.call_json(attempt("slow_inc", session, 2, 2)).await;
    assert!(
        again["result"].is_object(),
        "it was not executed before: {again}"
    );
}

/// A service that is ready when the test says so, if it does not fail first.
#[derive(Clone)]
struct Gated {
    is_open: Arc<AtomicBool>,
    polls: Arc<AtomicU32>,
    fails: bool,
}

impl TowerService<TowerRequest<(u32,)>> for Gated {
    type Response = u32;
    type Error = BoxError;
    type Future = Ready<Result<u32, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.polls.fetch_add(1, SeqCst);
        if self.fails {
            return Poll::Ready(Err(on_purpose()));
        }
        if self.is_open.load(SeqCst) {
            return Poll::Ready(Ok(()));
        }
        let waker = context.waker().clone();
        tokio::spawn(async move {
            tokio::time::sleep(10 * MS).await;
            waker.wake();
        });
        Poll::Pending
    }

    fn call(&mut self, request: TowerRequest<(u32,)>) -> Self::Future {
        ready(match request.params.0 {
            0 => Err(on_purpose()),
            1 => Err(Abort::no_effect("not that one").code(8).into()),
            number => Ok(number + request.context.attempt()),
        })
    }
}

/// Services as handlers: one that is not ready, one that fails in each step.
#[tokio::test(start_paused = true)]
async fn a_service_is_a_handler() {
    let (is_open, polls) = (Arc::new(AtomicBool::new(false)), Arc::default());
    let gated = |fails| Gated {
        is_open: Arc::clone(&is_open),
        polls: Arc::clone(&polls),
        fails,
    };
    let echo = service_fn(async |request: TowerRequest<Value>| Ok::<_, Abort>(request.params));
    let server = Server::builder()
        .query("echo", tower::handler(echo))
        .mutation("gated", tower::handler(gated(false)))
        .mutation("closed", tower::handler(gated(true)))
        .build()
        .unwrap();
    let mut peer = pipe(&server);
    let call = |number: u32, method: &str, param: u32| {
        json!({"id": uuid(number), "method": method, "params": [param]}).to_string()
    };
    assert_eq!(
        peer.call_json(call(0, "echo", 7)).await["result"],
        json!([7])
    );
    peer.send(call(1, "gated", 5)).await;
    until("it was found not ready", || polls.load(SeqCst) > 1).await;
    is_open.store(true, SeqCst);
    assert_eq!(peer.receive_json().await["result"], 6);
    for (number, method, param, expected, said) in [
        (2, "gated", 0, -32000, "yes"),
        (3, "gated", 1, 8, "no"),
        (4, "closed", 5, -32000, "no"),
    ] {
        let reply = peer.call_json(call(number, method, param)).await;
        assert_eq!((code(&reply), says(&reply)), (expected, said), "{reply}");
        assert!(!reply.to_string().contains("hunter2"), "{reply}");
    }
}
