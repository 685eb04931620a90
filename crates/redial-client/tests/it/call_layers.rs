//! Layers around calls: what they see, what they may do, and that none of them breaks a promise.

use std::{
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
};

use redial_client::{
    CallEnd, CallError, Cause, Executed, GiveUpReason, LayerCall, MethodKind, Next, Resolution,
    layers::{self, InjectedFault},
};
use serde_json::{Value, json};

use crate::peer::{
    builder, connected, connected_once, inc, lazy, ms,
    session::{Sessions, number},
    start, with_sessions,
};

type Log = Arc<Mutex<Vec<String>>>;

fn take(log: &Log) -> Vec<String> {
    std::mem::take(&mut *log.lock().unwrap())
}

/// Notes what it sees before and after.
fn noting(
    log: &Log,
    name: &'static str,
) -> impl Fn(LayerCall, Next) -> redial_client::LayerFuture + use<> {
    let log = Arc::clone(log);
    move |call, next| {
        let log = Arc::clone(&log);
        Box::pin(async move {
            let kind = match (call.kind(), call.is_notification()) {
                (_, true) => "notification",
                (MethodKind::Query, _) => "query",
                (MethodKind::Mutation, _) => "mutation",
            };
            let seen = format!("{name} {kind} {} {:?}", call.method(), call.params());
            log.lock().unwrap().push(seen);
            let end = next.run(call).await;
            assert_eq!(
                end.result().is_ok(),
                end.result().is_ok_and(|text| !text.is_empty())
            );
            let attempts = end.report().attempts();
            assert_eq!(end.report().endpoint().is_some(), attempts > 0);
            let seen = format!(
                "{name} {:?} {attempts} {:?}",
                end.result().ok(),
                end.executed()
            );
            log.lock().unwrap().push(seen);
            end
        })
    }
}

/// Goes on with the call, unless it is to be refused.
async fn refusing(call: LayerCall, next: Next) -> CallEnd {
    match call.meta().get("refuse").map(str::to_owned) {
        Some(why) => next.refuse(call, why),
        None => next.run(call).await,
    }
}

/// A call with a retry, a query whose result is of another type, an error, a notification, bad params.
#[tokio::test(start_paused = true)]
async fn layers_are_around_calls_in_order_and_once_for_all_attempts() {
    let log = Log::default();
    let builder = builder()
        .layer(noting(&log, "outer"))
        .layer(noting(&log, "inner"));
    let (client, mut peer, _network) = connected_once(builder).await;
    let call = inc(&client);
    let first = peer.next().await;
    let second = peer.next().await;
    assert_eq!(first.id, second.id);
    peer.result(&second, json!(7)).await;
    let reply = call.await.unwrap().unwrap();
    let report = reply.report;
    assert_eq!(
        (reply.value, report.attempts()),
        (json!(7), 2),
        "{report:?}"
    );
    let params = r#"Some("{\"key\":\"k\"}")"#;
    assert_eq!(
        take(&log),
        [
            format!("outer mutation inc {params}"),
            format!("inner mutation inc {params}"),
            "inner Some(\"7\") 2 Yes".to_owned(),
            "outer Some(\"7\") 2 Yes".to_owned(),
        ]
    );
    let query = client.query("get", ()).returning::<String>();
    let query = tokio::spawn(async move { query.await });
    let request = peer.next().await;
    peer.result(&request, json!(1)).await;
    let error = query.await.unwrap().unwrap_err();
    assert!(matches!(error.cause(), Cause::Decode(_)), "{error}");
    let details = (error.executed(), error.report().attempts());
    assert_eq!(details, (Executed::Yes, 1));
    assert_eq!(error.details().id.to_string(), request.id.trim_matches('"'));
    assert_eq!(
        take(&log)[..2],
        ["outer query get None", "inner query get None"]
    );
    let failing = inc(&client);
    let request = peer.next().await;
    peer.error(&request, 7, Value::Null).await;
    let error = failing.await.unwrap().unwrap_err();
    assert_eq!(error.executed(), Executed::Yes);
    assert_eq!(take(&log)[2..], ["inner None 1 Yes", "outer None 1 Yes"]);
    client.notify("note", (1,)).await.unwrap();
    assert!(peer.next().await.is_notification);
    let seen = take(&log);
    assert_eq!(seen[1], "inner notification note Some(\"[1]\")");
    assert_eq!(seen[2], "inner Some(\"null\") 1 Unknown");
    client.request("inc", 5).await.unwrap_err();
    assert_eq!(take(&log), Vec::<String>::new(), "it can't be sent");
}

/// Refusals that would be read as *not executed* of a call that was sent before.
#[tokio::test(start_paused = true)]
async fn a_call_that_a_layer_refuses_was_not_executed_by_it() {
    let (client, mut peer, _network) = connected_once(with_sessions().layer(refusing)).await;
    let mut sessions = Sessions::new();
    let first = inc(&client);
    let request = peer.next_call(&mut sessions).await;
    peer.execute(&mut sessions, &request, json!(1)).await;
    first.await.unwrap().unwrap();

    let call = client
        .request("inc", json!({}))
        .meta("refuse", "on purpose");
    let error = call.await.unwrap_err();
    assert!(matches!(error, CallError::NotExecuted { .. }), "{error}");
    assert_eq!(error.report().attempts(), 0);
    assert_eq!(
        error.to_string(),
        "inc was not executed; 0 attempts: a layer of this client refused it: on purpose"
    );
    // A call with a token, whose number is free again.
    let mut bound = client.request("inc", json!({})).meta("refuse", "bound");
    let token = bound.token().await.unwrap();
    let error = bound.await.unwrap_err();
    assert_eq!(
        (error.executed(), error.details().id),
        (Executed::No, token.id)
    );
    drop(token);
    peer.serve_for(&mut sessions, ms(100)).await;
    assert_eq!(sessions.only().ack, 2);
    // A call that is sent, ends as unknown, and is refused when it is resumed.
    let unknown = client.request("inc", json!({"key": "k"})).max_attempts(1);
    let unknown = start(unknown.deadline(ms(200)));
    peer.next_call(&mut sessions).await;
    let Err(CallError::Unknown { token, .. }) = unknown.await.unwrap() else {
        panic!("it has no reply");
    };
    let id = token.id;
    let resumed = client.resume(token).meta("refuse", "resumed");
    let Err(CallError::Unknown { token, details }) = resumed.await else {
        panic!("it may have been executed");
    };
    assert_eq!((token.id, details.id), (id, id));
    assert_eq!(token.params.as_ref().unwrap().get(), r#"{"key":"k"}"#);
    // The token still asks for the same call.
    let resolve = client.resolve(token);
    let resolve = tokio::spawn(async move { resolve.await });
    peer.serve_for(&mut sessions, ms(10)).await;
    assert_eq!(resolve.await.unwrap().unwrap(), Resolution::Never);
}

/// A query from a cache, and a mutation that must not pretend to have been executed.
#[tokio::test(start_paused = true)]
async fn a_layer_may_answer_queries_alone() {
    let executed = Arc::new(Mutex::new(None));
    let seen = Arc::clone(&executed);
    let builder = builder()
        .layer(move |call: LayerCall, next: Next| {
            let seen = Arc::clone(&seen);
            async move {
                let end = next.run(call).await;
                *seen.lock().unwrap() = Some(end.executed());
                end
            }
        })
        .layer(async |call: LayerCall, next: Next| next.answer(call, &json!([1, 2])));
    let (client, mut network) = lazy(builder);
    let reply = client.query("get", ()).returning::<Vec<u8>>();
    let reply = reply.with_report().await.unwrap();
    assert_eq!((reply.value, reply.report.attempts()), (vec![1, 2], 0));
    assert_eq!(executed.lock().unwrap().take(), Some(Executed::No));
    let error = client.query("get", ()).returning::<u8>().await;
    let error = error.unwrap_err();
    assert!(matches!(error.cause(), Cause::Decode(_)), "{error}");
    assert_eq!(error.executed(), Executed::No, "{error}");
    let error = client.request("inc", json!({})).await.unwrap_err();
    assert!(matches!(error, CallError::NotExecuted { .. }), "{error}");
    assert!(matches!(error.cause(), Cause::RefusedByLayer(_)), "{error}");
    assert!(network.is_quiet());
}

/// Futures that are dropped while a layer waits before the call, around it, and after it.
#[tokio::test(start_paused = true)]
async fn a_dropped_call_is_cancelled_as_without_layers() {
    let builder = with_sessions().layer(async |call: LayerCall, next: Next| {
        let hangs = call.meta().get("hang").map(str::to_owned);
        if hangs.as_deref() == Some("before") {
            pending::<()>().await;
        }
        let end = next.run(call).await;
        if hangs.as_deref() == Some("after") {
            pending::<()>().await;
        }
        end
    });
    let (client, mut peer, _network) = connected(builder).await;
    let mut sessions = Sessions::new();
    let before = start(client.request("inc", json!({})).meta("hang", "before"));
    peer.serve_for(&mut sessions, ms(10)).await;
    before.abort();
    before.await.unwrap_err();
    let call = inc(&client);
    let request = peer.next_call(&mut sessions).await;
    assert_eq!(number(&request), 0);
    call.abort();
    let cancel = peer.next().await;
    assert_eq!(cancel.method, "rpc.cancel");
    peer.serve(&mut sessions, &cancel).await;
    assert!(sessions.only().fenced.contains(&0));
    let after = start(client.request("inc", json!({})).meta("hang", "after"));
    let request = peer.next_call(&mut sessions).await;
    peer.execute(&mut sessions, &request, json!(1)).await;
    peer.serve_for(&mut sessions, ms(10)).await;
    after.abort();
    after.await.unwrap_err();
    peer.serve_for(&mut sessions, ms(100)).await;
    assert_eq!((client.stats().in_flight, sessions.only().ack), (0, 2));
}

/// What outlives a call: its token, which was taken before, is resolved and resumed by way of layers.
#[tokio::test(start_paused = true)]
async fn tokens_know_nothing_of_layers() {
    let log = Log::default();
    let builder = || {
        let saying = layers::meta("authorization", |_| "secret".to_owned());
        with_sessions().layer(noting(&log, "layer")).layer(saying)
    };
    let (client, mut peer, _network) = connected(builder()).await;
    let mut sessions = Sessions::new();
    let clone = client.clone();
    let task = tokio::spawn(async move {
        let mut call = clone.request("inc", json!({"key": "k"})).max_attempts(1);
        let token = serde_json::to_string(&call.token().await.unwrap()).unwrap();
        (token, call.await)
    });
    let request = peer.next_call(&mut sessions).await;
    assert!(request.text.contains(r#""authorization":"secret""#));
    let (token, ended) = task.await.unwrap();
    assert!(matches!(ended, Err(CallError::Unknown { .. })), "{ended:?}");
    assert!(!token.contains("secret"), "{token}");
    assert_eq!(take(&log).len(), 2, "taking a token is no call");
    drop((client, peer));

    let (client, mut peer, _network) = connected(builder()).await;
    let token: redial_client::CallToken = serde_json::from_str(&token).unwrap();
    let resumed = start(client.resume(token.clone()));
    let again = peer.next_call(&mut sessions).await;
    assert_eq!((&again.id, &again.params), (&request.id, &request.params));
    assert!(again.text.contains(r#""authorization":"secret""#));
    peer.execute(&mut sessions, &again, json!(3)).await;
    assert_eq!(resumed.await.unwrap().unwrap().value, json!(3));
    assert_eq!(take(&log).len(), 2);
    let resolve = client.resolve(token);
    let resolve = tokio::spawn(async move { resolve.await });
    let question = peer.next_resolve(&mut sessions).await;
    assert!(!question.text.contains("secret"), "{}", question.text);
    peer.serve(&mut sessions, &question).await;
    assert_eq!(resolve.await.unwrap().unwrap(), Resolution::Value(json!(3)));
    assert_eq!(take(&log), Vec::<String>::new(), "a question is no call");
}

/// A layer that waits for long before the call.
#[tokio::test(start_paused = true)]
async fn the_deadline_includes_what_layers_do_before_the_call() {
    let builder = builder().layer(layers::faults(|call| {
        let delay = call.meta().get("delay")?.parse().ok()?;
        Some(InjectedFault::Delay(ms(delay)))
    }));
    let (client, mut peer, _network) = connected(builder).await;
    let call = |delay: u64| {
        let call = client.request("inc", json!({}));
        start(call.meta("delay", delay.to_string()))
    };
    let error = call(4_000).await.unwrap().unwrap_err();
    assert!(matches!(error, CallError::NotExecuted { .. }), "{error}");
    let cause = (error.details().reason, error.report().attempts());
    assert_eq!(cause, (GiveUpReason::Deadline, 0));
    assert!(peer.is_quiet_for(ms(1)).await);
    let late = call(2_000);
    // What it sends again and again is not answered.
    while !late.is_finished() {
        let _: bool = peer.is_quiet_for(ms(100)).await;
    }
    let error = late.await.unwrap().unwrap_err();
    assert_eq!(error.executed(), Executed::Unknown);
    let total = error.report().total();
    assert!(total <= ms(1_001), "{total:?}");
}

/// Panics in each step of a layer reach the caller, and no other call.
#[tokio::test(start_paused = true)]
async fn a_layer_that_panics_takes_no_other_call_along() {
    let builder = builder().layer(async |call: LayerCall, next: Next| {
        let fault = call.meta().get("panic").map(str::to_owned);
        assert_ne!(fault.as_deref(), Some("before"));
        let end = next.run(call).await;
        assert_ne!(fault.as_deref(), Some("after"));
        end
    });
    let (client, mut peer, _network) = connected(builder).await;
    let before = start(client.request("inc", json!({})).meta("panic", "before"));
    assert!(before.await.unwrap_err().is_panic());
    let after = start(client.request("inc", json!({})).meta("panic", "after"));
    let request = peer.next().await;
    peer.result(&request, json!(1)).await;
    assert!(after.await.unwrap_err().is_panic());
    let good = inc(&client);
    let request = peer.next().await;
    peer.result(&request, json!(1)).await;
    good.await.unwrap().unwrap();
    assert_eq!(client.stats().in_flight, 0);
}

/// A layer that lets go of the call: it is awaited elsewhere, and is one call all the same.
#[tokio::test(start_paused = true)]
async fn a_layer_may_move_the_call_to_a_task_of_its_own() {
    let builder = with_sessions()
        .layer(async |call: LayerCall, next: Next| tokio::spawn(next.run(call)).await.unwrap());
    let (client, mut peer, _network) = connected(builder).await;
    let mut sessions = Sessions::new();
    let call = inc(&client);
    let request = peer.next_call(&mut sessions).await;
    call.abort();
    call.await.unwrap_err();
    assert_eq!(client.stats().in_flight, 1, "it goes on");
    peer.execute(&mut sessions, &request, json!(1)).await;
    peer.serve_for(&mut sessions, ms(100)).await;
    assert_eq!((client.stats().in_flight, sessions.only().ack), (0, 1));
    assert!(sessions.only().fenced.is_empty());
}

/// The layers that are ready to be used: what the call has said itself is kept, what can't be said is not
/// sent.
#[tokio::test(start_paused = true)]
async fn layers_that_say_something_leave_the_callers_own_words() {
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let other = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203332-00";
    let builder = builder()
        .layer(layers::meta("tenant", move |call| {
            count.fetch_add(1, SeqCst);
            match call.method() {
                "long" => "v".repeat(9_000),
                _ => "acme".to_owned(),
            }
        }))
        .layer(layers::traceparent(move |call| match call.method() {
            "untraced" => None,
            "garbled" => Some("00-".to_owned()),
            _ => Some(trace.to_owned()),
        }));
    let (client, mut peer, _network) = connected(builder).await;
    let call = |method: &'static str| client.request(method, json!({}));
    for (call, tenant, expected) in [
        (call("inc"), "acme", Some(trace)),
        (call("inc").meta("tenant", "own"), "own", Some(trace)),
        (call("inc").traceparent(other), "acme", Some(other)),
        (call("untraced"), "acme", None),
    ] {
        let call = start(call);
        let request = peer.next().await;
        let sent: Value = serde_json::from_str(&request.text).unwrap();
        assert_eq!(sent["redial"]["meta"]["tenant"], tenant);
        assert_eq!(request.meta.traceparent.as_deref(), expected);
        peer.result(&request, json!(1)).await;
        call.await.unwrap().unwrap();
    }
    assert_eq!(asked.load(SeqCst), 3);
    for (method, expected) in [("long", "8192 bytes"), ("garbled", "traceparent")] {
        let error = call(method).await.unwrap_err();
        assert_eq!(error.executed(), Executed::No);
        assert!(error.to_string().contains(expected), "{error}");
    }
    assert!(peer.is_quiet_for(ms(100)).await);
}

/// The layer that logs, and the one that lets calls go wrong.
#[tokio::test(start_paused = true)]
async fn a_logging_layer_sees_how_each_call_ends() {
    let log = Log::default();
    let seen = Arc::clone(&log);
    let builder = builder()
        .layer(layers::log(move |call| {
            let (end, took) = (call.end, call.took);
            let line = format!("{} {:?} {took:?}", end.method(), end.executed());
            seen.lock().unwrap().push(line);
        }))
        .layer(layers::faults(|call| match call.method() {
            "refused" => Some(InjectedFault::Refuse("on purpose".to_owned())),
            _ => None,
        }));
    let (client, mut peer, _network) = connected(builder).await;
    client.request("refused", ()).await.unwrap_err();
    let lost = start(client.request("lost", ()).max_attempts(1).deadline(ms(500)));
    peer.next().await;
    lost.await.unwrap().unwrap_err();
    assert_eq!(take(&log).len(), 2);
    let good = inc(&client);
    let request = peer.next().await;
    peer.result(&request, json!(1)).await;
    good.await.unwrap().unwrap();
    assert!(take(&log)[0].starts_with("inc Yes"));
}

/// What others may do with a call, whatever its layers are.
#[test]
fn calls_and_their_futures_may_be_shared_among_threads() {
    fn is_shared<T: Send + Sync + Unpin>() {}
    is_shared::<redial_client::Call<Value>>();
    is_shared::<redial_client::CallFuture<Value>>();
}
