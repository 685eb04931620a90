//! Layers around handlers: what they see, what they may say, and what no layer sees.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use redial_server::{
    Abort, BuildError, Config, Context, LayerCall, Next, Outcome, OutcomeKind, ServerBuilder,
    layers,
};
use serde_json::{Value, json};

use crate::common::{
    Service, code, executed, pipe,
    session::{attempt, client, config, request},
    until, uuid,
};

type Log = Arc<Mutex<Vec<String>>>;

/// A layer that notes what it sees before and after.
fn noting(log: &Log, name: &'static str) -> impl Fn(LayerCall, Next) -> Noted + use<> {
    let log = Arc::clone(log);
    move |call, next| {
        let log = Arc::clone(&log);
        let seen = format!("{name} {} {}", call.method(), call.context().attempt());
        Box::pin(async move {
            log.lock().unwrap().push(seen);
            let outcome = next.run(call).await;
            log.lock()
                .unwrap()
                .push(format!("{name} {:?}", outcome.kind()));
            outcome
        })
    }
}

type Noted = std::pin::Pin<Box<dyn Future<Output = Outcome> + Send>>;

fn take(log: &Log) -> Vec<String> {
    std::mem::take(&mut *log.lock().unwrap())
}

fn service() -> ServerBuilder {
    Service::default().builder().config(config())
}

/// Handlers that are ready, that wait, that fail; a replay, a join, refused params.
#[tokio::test(start_paused = true)]
async fn layers_are_around_executions_alone_and_in_order() {
    let log = Log::default();
    let builder = service()
        .layer(noting(&log, "outer"))
        .layer(noting(&log, "inner"));
    let server = builder
        .layer_of("fail", noting(&log, "own"))
        .build()
        .unwrap();
    let (mut peer, session) = client(&server).await;
    for (number, method, kind) in [
        (0, "inc", "Result"),
        (1, "slow_inc", "Result"),
        (2, "fail", "Failed"),
        (3, "no_effect", "NoEffect"),
        (4, "panic", "Failed"),
    ] {
        peer.call_json(attempt(method, session, number, 1)).await;
        let seen = take(&log);
        let own = seen.iter().filter(|line| line.starts_with("own")).count();
        assert_eq!(own, if method == "fail" { 2 } else { 0 });
        let (first, last) = (&seen[0], &seen[seen.len() - 1]);
        assert_eq!(*first, format!("outer {method} 1"));
        assert_eq!(seen[1], format!("inner {method} 1"));
        assert_eq!(*last, format!("outer {kind}"));
    }
    // A replay executes nothing, nor does a join, nor what the params refuse.
    peer.call_json(attempt("inc", session, 0, 2)).await;
    peer.call_json(r#"{"id":1,"method":"big","params":["no number"]}"#)
        .await;
    assert_eq!(take(&log), Vec::<String>::new());
    peer.send(attempt("slow_inc", session, 5, 1)).await;
    peer.send(attempt("slow_inc", session, 5, 2)).await;
    peer.receive_all::<2>().await;
    assert_eq!(take(&log).len(), 4);
    assert_eq!(server.stats().running, 0);
}

/// A refusal before the handler: forgotten or for good, as the layer says; the handler does not run.
#[tokio::test(start_paused = true)]
async fn a_layer_may_refuse_before_the_handler() {
    let service = Service::default();
    let builder = service
        .builder()
        .config(config())
        .layer(
            async |call: LayerCall, next: Next| match call.context().meta().get("role") {
                Some("admin") => next.run(call).await,
                Some(_) => Abort::failed("expected an admin").code(7).into(),
                None => Abort::no_effect("expected a role").code(8).into(),
            },
        );
    let (mut peer, session) = client(&builder.build().unwrap()).await;
    let with = |number: u64, attempt: u32, role: Option<&str>| {
        let meta = role.map_or(json!({}), |role| json!({"role": role}));
        request(
            "inc",
            session,
            number,
            json!({"attempt": attempt, "meta": meta}),
        )
    };
    let forgotten = peer.call_json(with(0, 1, None)).await;
    assert_eq!((code(&forgotten), executed(&forgotten)), (8, "no"));
    assert_eq!(service.effects(), 0);
    let done = peer.call_json(with(0, 2, Some("admin"))).await;
    assert_eq!(done["result"]["value"], 1);
    let for_good = peer.call_json(with(1, 1, Some("guest"))).await;
    assert_eq!(code(&for_good), 7);
    let again = peer.call_json(with(1, 2, Some("admin"))).await;
    assert_eq!(again["error"], for_good["error"]);
    assert_eq!(service.effects(), 1);
}

/// Layers that panic, in each of their steps, wait, or run into the timeout of the handler.
#[tokio::test(start_paused = true)]
async fn a_layer_that_panics_or_hangs_takes_nothing_along() {
    let config = Config {
        max_running: 1,
        execution_timeout: Some(Duration::from_secs(1)),
        ..config()
    };
    let builder =
        Service::default()
            .builder()
            .config(config)
            .layer(async |call: LayerCall, next: Next| {
                let fault = call.context().meta().get("fault").map(str::to_owned);
                assert_ne!(fault.as_deref(), Some("before"));
                if fault.as_deref() == Some("hang") {
                    std::future::pending::<()>().await;
                }
                tokio::task::yield_now().await;
                let outcome = next.run(call).await;
                assert_ne!(fault.as_deref(), Some("after"));
                outcome
            });
    let builder = builder.layer_of("get", |_: LayerCall, _: Next| -> Noted {
        panic!("at once")
    });
    let server = builder.build().unwrap();
    let mut peer = pipe(&server);
    let faulty = |number: u32, fault: &str| {
        let id = uuid(number);
        format!(r#"{{"id":"{id}","method":"inc","redial":{{"meta":{{"fault":"{fault}"}}}}}}"#)
    };
    for (number, fault, expected) in [
        (1, "before", -32603),
        (2, "after", -32603),
        (3, "hang", -32008),
    ] {
        let reply = peer.call_json(faulty(number, fault)).await;
        assert_eq!(code(&reply), expected, "{fault}: {reply}");
        assert_eq!(
            peer.call_json(faulty(number, "none")).await,
            reply,
            "{fault} is on record"
        );
    }
    assert_eq!(
        code(&peer.call_json(r#"{"id":9,"method":"get"}"#).await),
        -32603
    );
    assert!(peer.call(faulty(4, "none")).await.contains("result"));
    until("no permit is held", || server.stats().running == 0).await;
}

/// A handler that is stopped midway, or goes on elsewhere, by a layer that says that nothing was executed.
#[tokio::test(start_paused = true)]
async fn a_handler_that_a_layer_cuts_is_interrupted_for_good() {
    let service = Service::default();
    let builder = service
        .builder()
        .config(config())
        .layer(async |call: LayerCall, next: Next| {
            let how = call.context().meta().get("how").map(str::to_owned);
            let timeout = Duration::from_millis(10);
            let no_effect = || Abort::no_effect("too late").code(8).into();
            match how.as_deref() {
                Some("cut") => {
                    let outcome = tokio::time::timeout(timeout, next.run(call)).await;
                    outcome.unwrap_or_else(|_| no_effect())
                }
                Some("let go") => {
                    drop(tokio::spawn(next.run(call)));
                    tokio::time::sleep(timeout).await;
                    no_effect()
                }
                Some("never started") => {
                    drop(tokio::spawn(next.run(call)));
                    no_effect()
                }
                Some("failed") => {
                    let outcome = tokio::time::timeout(timeout, next.run(call)).await;
                    outcome.unwrap_or_else(|_| Abort::failed("too late").code(9).into())
                }
                _ => next.run(call).await,
            }
        });
    let (mut peer, session) = client(&builder.build().unwrap()).await;
    let with = |number: u64, attempt: u32, how: &str| {
        let extra = json!({"attempt": attempt, "meta": {"how": how}});
        request("slow_inc", session, number, extra)
    };
    for (number, how, expected) in [(0, "cut", -32008), (1, "let go", -32008), (2, "failed", 9)] {
        let first = peer.call_json(with(number, 1, how)).await;
        assert_eq!(code(&first), expected, "{how}: {first}");
        if expected == -32008 {
            assert_eq!(executed(&first), "unknown", "{how}");
        }
        let again = peer.call_json(with(number, 2, "not at all")).await;
        assert_eq!(again["error"], first["error"], "{how} is on record");
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(service.effects(), 1, "of the one that was let go");
    // The handler of a call that has ended doesn't start, so that a retry is its one execution.
    let refused = peer.call_json(with(3, 1, "never started")).await;
    assert_eq!((code(&refused), executed(&refused)), (8, "no"));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(service.effects(), 1);
    let done = peer.call_json(with(3, 2, "not at all")).await;
    assert!(done["result"].is_object(), "{done}");
    assert_eq!(service.effects(), 2);
}

/// A layer that replaces the outcome, and one that never runs what it is around.
#[tokio::test(start_paused = true)]
async fn what_a_layer_returns_is_the_outcome() {
    let builder = service()
        .layer_of("get", async |_: LayerCall, next: Next| {
            drop(next);
            Outcome::of(100, || Ok("cached"))
        })
        .layer_of("context", async |call: LayerCall, next: Next| {
            let outcome = next.run(call).await;
            assert_eq!(outcome.kind(), OutcomeKind::Result);
            Outcome::of(1_000, || Ok(String::from_utf8_lossy(outcome.bytes()).len()))
        });
    let mut peer = pipe(&builder.build().unwrap());
    assert_eq!(
        peer.call_json(r#"{"id":1,"method":"get"}"#).await["result"],
        "cached"
    );
    let length = peer.call_json(r#"{"id":2,"method":"context"}"#).await;
    assert!(length["result"].as_u64().unwrap() > 20, "{length}");
}

/// The layer that logs: how each execution ended, and how long it took.
#[tokio::test(start_paused = true)]
async fn a_logging_layer_sees_how_each_execution_ends() {
    let log = Log::default();
    let seen = Arc::clone(&log);
    let server = service().layer(layers::log(move |call| {
        let line = format!("{} {:?} {:?}", call.method, call.outcome, call.took);
        seen.lock().unwrap().push(line);
    }));
    let mut peer = pipe(&server.build().unwrap());
    for (id, method) in [(1, "inc"), (2, "slow_inc"), (3, "fail"), (2, "slow_inc")] {
        peer.call(format!(r#"{{"id":{id},"method":"{method}"}}"#))
            .await;
    }
    let expected = ["inc Result 0ns", "slow_inc Result 100ms", "fail Failed 0ns"];
    assert_eq!(take(&log), expected);
}

#[test]
fn a_layer_around_no_method_is_refused() {
    let builder = service().layer_of("nothing", async |call: LayerCall, next: Next| {
        next.run(call).await
    });
    let Err(BuildError::Layer { method, problem }) = builder.build() else {
        panic!("it was built");
    };
    assert_eq!(
        (method.as_str(), problem),
        ("nothing", "there is no such method")
    );
    let ignored = |_: Value, _: Context| async { Ok(()) };
    let all = service().layer(async |call: LayerCall, next: Next| next.run(call).await);
    assert!(all.query("later", ignored).build().is_ok());
}
