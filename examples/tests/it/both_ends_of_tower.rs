//! `tower` at both ends: a service that calls, and layers around what it calls.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::SeqCst},
    },
    time::Duration,
};

use redial_client::{CallLimits, Client, Config, Method, MethodKind, RetryBudget};
use redial_server::{Abort, Server, tower::TowerRequest};
use tower::{
    ServiceBuilder, ServiceExt, load_shed::error::Overloaded, service_fn, timeout::TimeoutLayer,
};

/// Adds a number, and answers the sum.
enum Add {}

impl Method for Add {
    const NAME: &'static str = "add";
    const KIND: MethodKind = MethodKind::Mutation;
    type Params = (i64,);
    type Output = i64;
}

/// Calls that are shed again and again, and sent again by the client: each has one effect.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_through_services_and_layers_take_effect_once() {
    const CALLS: i64 = 64;
    let sum = Arc::new(AtomicI64::new(0));
    let add = {
        let sum = Arc::clone(&sum);
        service_fn(move |request: TowerRequest<(i64,)>| {
            let sum = Arc::clone(&sum);
            async move {
                tokio::time::sleep(Duration::from_millis(1)).await;
                Ok::<_, Abort>(sum.fetch_add(request.params.0, SeqCst) + request.params.0)
            }
        })
    };
    let limits = ServiceBuilder::new()
        .load_shed()
        .concurrency_limit(8)
        .layer(TimeoutLayer::new(Duration::from_secs(20)));
    let shed = redial_server::tower::layer(limits);
    let server = Server::builder()
        .mutation("add", redial_server::tower::handler(add))
        .layer(shed.overloaded_if(Duration::from_millis(1), |error| error.is::<Overloaded>()))
        .build()
        .unwrap();
    let listener = server.bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = server.clone();
    tokio::spawn(async move { serving.serve(listener).await });
    let call = CallLimits {
        max_attempts: 10_000,
        deadline: Duration::from_secs(20),
        ..CallLimits::default()
    };
    let config = Config {
        call,
        retry_budget: RetryBudget::unlimited(),
        ..Config::default()
    };
    let client = Client::builder().config(config).connect(address).await;
    let add = redial_client::tower::method::<Add>(&client.unwrap());
    let calls: Vec<_> = (0..CALLS)
        .map(|_| tokio::spawn(add.clone().oneshot((1,))))
        .collect();
    let (mut values, mut attempts) = (Vec::new(), 0);
    for call in calls {
        let reply = call.await.unwrap().unwrap();
        values.push(reply.value);
        attempts += i64::from(reply.report.attempts());
    }
    values.sort_unstable();
    assert_eq!(values, (1..=CALLS).collect::<Vec<_>>());
    assert!(attempts > CALLS, "some were shed");
}
