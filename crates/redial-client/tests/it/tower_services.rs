//! The client as a service of `tower`: its clones are one client, and each request is one call.

use std::{
    future::{Ready, ready},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
};

use ::tower::{
    BoxError, Service, ServiceBuilder, ServiceExt,
    retry::{Policy, RetryLayer},
    timeout::error::Elapsed,
};
use redial_client::{
    CallError, Executed, LayerCall, Method, MethodKind, Next, Reply,
    tower::{self, TowerRequest},
};
use serde_json::{Value, json};

use crate::peer::{
    connected, connected_once, ms,
    session::{Sessions, number},
    with_sessions,
};

/// Adds a number.
enum Add {}

impl Method for Add {
    const NAME: &'static str = "add";
    const KIND: MethodKind = MethodKind::Mutation;
    type Params = (i64,);
    type Output = i64;
}

fn inc() -> TowerRequest {
    TowerRequest::mutation("inc", json!({"key": "k"}))
}

/// Requests by name and by type, over clones, with the client's own layers further in.
#[tokio::test(start_paused = true)]
async fn a_client_and_each_of_its_methods_are_services() {
    let builder = with_sessions().layer(async |mut call: LayerCall, next: Next| {
        call.insert_meta("kind", &format!("{:?}", call.kind()))
            .unwrap();
        next.run(call).await
    });
    let (client, mut peer, _network) = connected(builder).await;
    let mut sessions = Sessions::new();
    let mut add = tower::method::<Add>(&client).clone();
    let mut all = tower::service(&client);
    let named = all.ready().await.unwrap().call(inc());
    let query = all.call(TowerRequest::query("get", Value::Null));
    let typed = add.ready().await.unwrap().call((2,));
    let calls = tokio::spawn(async move { tokio::join!(named, query, typed) });
    for _ in 0..3 {
        let request = peer.next_call(&mut sessions).await;
        let kind = match request.method.as_str() {
            "get" => "Query",
            _ => "Mutation",
        };
        assert!(
            request.text.contains(&format!(r#""kind":"{kind}""#)),
            "{}",
            request.text
        );
        if kind == "Query" {
            peer.result(&request, json!(7)).await;
        } else {
            peer.execute(&mut sessions, &request, json!(7)).await;
        }
    }
    let (named, query, typed) = calls.await.unwrap();
    assert_eq!(
        (named.unwrap().value, query.unwrap().value),
        (json!(7), json!(7))
    );
    let typed = typed.unwrap();
    assert_eq!((typed.value, typed.report.attempts()), (7, 1));
    assert!(typed.report.endpoint().is_some());
    let bad = all.call(TowerRequest::mutation("inc", json!(5))).await;
    assert_eq!(bad.unwrap_err().executed(), Executed::No);
    assert_eq!(client.stats().sessions_opened, 1);
}

/// A call that `Timeout` drops is cancelled, as any other that is dropped.
#[tokio::test(start_paused = true)]
async fn a_call_that_a_timeout_drops_is_cancelled() {
    let (client, mut peer, _network) = connected(with_sessions()).await;
    let mut sessions = Sessions::new();
    let service = ServiceBuilder::new()
        .timeout(ms(50))
        .service(tower::service(&client));
    let call = tokio::spawn(service.oneshot(inc()));
    let request = peer.next_call(&mut sessions).await;
    let cancel = peer.next().await;
    assert_eq!(
        (cancel.method.as_str(), number(&request)),
        ("rpc.cancel", 0)
    );
    peer.serve(&mut sessions, &cancel).await;
    assert!(call.await.unwrap().unwrap_err().is::<Elapsed>());
    assert!(sessions.only().fenced.contains(&0));
    assert_eq!(client.stats().in_flight, 0);
}

/// Requests that lie in a buffer, whose worker calls the client for them.
#[tokio::test(start_paused = true)]
async fn a_buffer_hands_calls_to_one_client() {
    let (client, mut peer, _network) = connected_once(with_sessions()).await;
    let mut sessions = Sessions::new();
    let service = ServiceBuilder::new()
        .buffer::<TowerRequest>(4)
        .concurrency_limit(1)
        .service(tower::service(&client));
    let call = |service: &_| {
        let service: ::tower::buffer::Buffer<_, _> = Clone::clone(service);
        tokio::spawn(ServiceExt::<TowerRequest>::oneshot(service, inc()))
    };
    let (first, second) = (call(&service), call(&service));
    let request = peer.next_call(&mut sessions).await;
    assert_eq!(client.stats().in_flight, 1, "one at a time");
    peer.execute(&mut sessions, &request, json!(1)).await;
    let request = peer.next_call(&mut sessions).await;
    assert_eq!(number(&request), 1);
    peer.execute(&mut sessions, &request, json!(2)).await;
    for (call, expected) in [(first, 1), (second, 2)] {
        let reply: Reply<Value> = call.await.unwrap().unwrap();
        assert_eq!(reply.value, expected);
    }
    // One that is given up while it lies there is not sent.
    let held = call(&service);
    let request = peer.next_call(&mut sessions).await;
    let given_up = call(&service);
    tokio::task::yield_now().await;
    given_up.abort();
    given_up.await.unwrap_err();
    peer.execute(&mut sessions, &request, json!(3)).await;
    held.await.unwrap().unwrap();
    peer.serve_for(&mut sessions, ms(100)).await;
    assert_eq!((client.stats().in_flight, sessions.only().ack), (0, 3));
}

/// Calls again what was certainly not executed.
#[derive(Clone)]
struct IfNotExecuted(Arc<AtomicU32>);

impl Policy<TowerRequest, Reply<Value>, CallError> for IfNotExecuted {
    type Future = Ready<()>;

    fn retry(
        &mut self,
        _: &mut TowerRequest,
        result: &mut Result<Reply<Value>, CallError>,
    ) -> Option<Ready<()>> {
        let error = result.as_ref().err()?;
        self.0.fetch_add(1, SeqCst);
        (error.executed() == Executed::No).then(|| ready(()))
    }

    fn clone_request(&mut self, request: &TowerRequest) -> Option<TowerRequest> {
        Some(request.clone())
    }
}

/// A retry of `tower`'s is a new call, with another number; the client's own are attempts of one.
#[tokio::test(start_paused = true)]
async fn a_retry_on_top_is_a_new_call() {
    let (client, mut peer, _network) = connected_once(with_sessions()).await;
    let mut sessions = Sessions::new();
    let asked = Arc::new(AtomicU32::new(0));
    let policy = IfNotExecuted(Arc::clone(&asked));
    let service = ServiceBuilder::new()
        .layer(RetryLayer::new(policy))
        .service(tower::service(&client));
    let retried = tokio::spawn(service.clone().oneshot(inc()));
    let first = peer.next_call(&mut sessions).await;
    let refused = json!({"executed": "no"});
    peer.error(&first, -32602, refused).await;
    let second = peer.next_call(&mut sessions).await;
    assert_eq!((number(&first), number(&second)), (0, 1), "another call");
    let third = peer.next_call(&mut sessions).await;
    assert_eq!(second.id, third.id, "the client's own retry");
    peer.error(&third, 7, Value::Null).await;
    let error = retried.await.unwrap().unwrap_err();
    assert_eq!(error.executed(), Executed::Yes);
    assert_eq!(
        asked.load(SeqCst),
        2,
        "a handler's error is not tried again"
    );
    let unknown = tokio::spawn(service.oneshot(inc()));
    // None of its attempts is answered.
    while !unknown.is_finished() {
        let _: bool = peer.is_quiet_for(ms(100)).await;
    }
    let error = unknown.await.unwrap().unwrap_err();
    assert_eq!(
        (error.executed(), asked.load(SeqCst)),
        (Executed::Unknown, 3)
    );
}

/// What generic code asks of a service.
#[test]
fn the_services_and_their_futures_may_go_to_other_threads() {
    fn is_service<R, S>()
    where
        S: Service<R, Error = CallError> + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError>,
    {
    }
    is_service::<TowerRequest, tower::ClientService>();
    is_service::<(i64,), tower::MethodService<Add>>();
}
