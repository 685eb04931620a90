//! What ends a call: its deadline, its attempts, the server's `retry_after_ms`, the retry budget.

use std::time::Duration;

use crate::peer::{
    builder, builder_with, config, connected, connected_once, ends, inc, lazy, limits, ms, network,
    start,
};
use redial_client::{
    CallError, CallLimits, Cause, Config, Executed, GiveUpReason, Method, MethodKind, RetryBudget,
};
use serde_json::{Value, json};
use tokio::time::sleep;

#[tokio::test(start_paused = true)]
async fn retry_after_delays_the_next_attempt() {
    let (client, mut peer, _network) = connected(builder()).await;
    let call = inc(&client);
    let first = peer.next().await;
    let data = json!({"executed": "no", "retry_after_ms": 700});
    peer.error(&first, -32001, data).await;
    let second = peer.next().await;
    assert_eq!(second.at - first.at, ms(700));
    assert_eq!(second.meta.attempt, 2);
    peer.result(&second, json!(1)).await;
    let reply = call.await.unwrap().unwrap();
    assert_eq!(ends(&reply.report), ["refused", "reply"]);
}

#[tokio::test(start_paused = true)]
async fn a_retry_after_beyond_the_deadline_ends_the_call_at_once() {
    let (client, mut peer, _network) = connected(builder()).await;
    for wait in [3000, u64::MAX] {
        let call = inc(&client);
        let request = peer.next().await;
        let data = json!({"executed": "no", "retry_after_ms": wait});
        peer.error(&request, -32001, data).await;
        let error = call.await.unwrap().unwrap_err();
        assert_eq!(error.executed(), Executed::No);
        assert_eq!(error.details().reason, GiveUpReason::Deadline);
        assert_eq!(
            error.report().total(),
            Duration::ZERO,
            "no sleep for nothing"
        );
        assert_eq!(error.server_error().unwrap().code, (-32001).into());
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_with_refusals_alone_is_not_executed() {
    let (client, mut peer, _network) = connected(builder()).await;
    let call = start(client.request("inc", json!({})).max_attempts(3));
    for _ in 0..3 {
        let request = peer.next().await;
        peer.error(&request, -32001, json!({"executed": "no"}))
            .await;
    }
    let error = call.await.unwrap().unwrap_err();
    assert!(matches!(error, CallError::NotExecuted { .. }), "{error}");
    assert_eq!(
        error.report().total(),
        ms(30 + 60),
        "no wait after the last"
    );
    assert_eq!(ends(error.report()), ["refused"; 3]);
}

#[tokio::test(start_paused = true)]
async fn a_silent_attempt_among_refusals_makes_the_call_unknown() {
    let (client, mut peer, _network) = connected_once(builder()).await;
    let call = client.request("inc", json!({}));
    let call = start(call.max_attempts(2).deadline(ms(700)));
    peer.next().await;
    let second = peer.next().await;
    peer.error(&second, -32001, json!({"executed": "no"})).await;
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(error.executed(), Executed::Unknown);
    assert_eq!(ends(error.report()), ["timeout", "refused"]);
    // The first attempt could still get a reply.
    assert_eq!(error.report().total(), ms(700));
}

#[tokio::test(start_paused = true)]
async fn the_deadline_bounds_attempts() {
    let (client, mut peer, _network) = connected_once(builder()).await;
    let call = client.request("inc", json!({})).deadline(ms(250));
    let call = start(call.max_attempts(1000).attempt_timeout(ms(100)));
    let first = peer.next().await;
    assert_eq!(first.meta.timeout_ms, Some(250));
    let second = peer.next().await;
    assert_eq!(second.meta.timeout_ms, Some(120), "what is left");
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(error.report().total(), ms(250));
    assert_eq!(error.details().reason, GiveUpReason::Deadline);
    assert_eq!(error.executed(), Executed::Unknown);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_bounds_connecting() {
    let never = || std::future::pending::<std::io::Result<tokio::io::DuplexStream>>();
    let client = builder().connect_lazy_with(never).unwrap();
    let call = client.request("inc", json!({})).deadline(ms(1234));
    let error = start(call).await.unwrap().unwrap_err();
    assert_eq!(error.report().total(), ms(1234));
    assert_eq!(error.executed(), Executed::No, "nothing was ever sent");
    assert_eq!(error.report().attempts(), 0);
    assert!(matches!(error.cause(), Cause::NotSent(_)), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_call_ended_before_it_left_never_leaves() {
    let (client, mut network) = lazy(builder());
    network.refuse(true);
    let failed = start(client.request("warm", json!({})).deadline(ms(10)));
    failed.await.unwrap().unwrap_err();
    network.refuse(false);
    // The connection is delayed, and the call ends before it is made.
    let call = start(
        client
            .request("lost", json!({}))
            .deadline(Duration::from_nanos(1)),
    );
    assert_eq!(call.await.unwrap().unwrap_err().executed(), Executed::No);
    let dropped = client.request("dropped", json!({})).with_report();
    tokio::time::timeout(Duration::from_nanos(1), dropped)
        .await
        .unwrap_err();
    let next = start(client.request("kept", json!({})));
    let mut peer = network.accept().await;
    let request = peer.next().await;
    assert_eq!(request.method, "kept");
    peer.result(&request, json!(1)).await;
    next.await.unwrap().unwrap();
    assert_eq!(client.stats().in_flight, 0);
}

/// A budget of one token, which is spent for a long time.
fn spent(min_per_second: f64) -> Config {
    Config {
        retry_budget: RetryBudget {
            percent_of_calls: 0.0,
            min_per_second,
            burst: 1.0,
        },
        ..config()
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_waits_for_a_token() {
    let (client, mut peer, _network) = connected_once(builder().config(spent(1.0))).await;
    let call = inc(&client);
    let mut times = Vec::new();
    for _ in 0..3 {
        times.push(peer.next().await.at);
    }
    assert_eq!(times[1] - times[0], ms(130), "the burst");
    assert_eq!(
        times[2] - times[0],
        ms(1100),
        "a second after the burst was taken"
    );
    drop(call);
}

#[tokio::test(start_paused = true)]
async fn a_late_reply_counts_while_a_retry_waits_for_a_token() {
    let (client, mut peer, _network) = connected_once(builder().config(spent(0.0))).await;
    let call = inc(&client);
    peer.next().await;
    let second = peer.next().await;
    assert!(peer.is_quiet_for(ms(2000)).await, "no token is left");
    peer.result(&second, json!(5)).await;
    let reply = call.await.unwrap().unwrap();
    assert_eq!((reply.value, reply.report.attempts()), (json!(5), 2));
}

#[tokio::test(start_paused = true)]
async fn without_a_token_a_call_listens_to_its_deadline_or_gives_up_at_once() {
    let (client, mut peer, _network) = connected_once(builder().config(spent(0.0))).await;
    let call = inc(&client);
    peer.next().await;
    peer.next().await;
    assert!(peer.is_quiet_for(ms(2500)).await);
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(
        (error.details().reason, error.executed()),
        (GiveUpReason::Budget, Executed::Unknown)
    );
    assert_eq!(error.report().total(), ms(3000));
    let call = inc(&client);
    let request = peer.next().await;
    peer.error(&request, -32001, json!({"executed": "no"}))
        .await;
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(
        (error.details().reason, error.executed()),
        (GiveUpReason::Budget, Executed::No)
    );
    assert_eq!(error.report().total(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_not_multiplied_by_its_retries() {
    let budget = RetryBudget {
        percent_of_calls: 20.0,
        min_per_second: 0.0,
        burst: 10.0,
    };
    let config = Config {
        retry_budget: budget,
        ..config()
    };
    let (client, mut peer, _network) = connected_once(builder().config(config)).await;
    let calls: Vec<_> = (0..100).map(|_| inc(&client)).collect();
    let mut requests = 0;
    while let Ok(seen) = tokio::time::timeout(ms(5000), peer.request()).await {
        seen.expect("the connection stands");
        requests += 1;
    }
    for call in calls {
        call.await.unwrap().unwrap_err();
    }
    assert_eq!(requests, 100 + 10, "every call once, and the burst");
}

struct Look;
impl Method for Look {
    const NAME: &'static str = "look";
    const KIND: MethodKind = MethodKind::Query;
    type Params = ();
    type Output = u64;
}

#[tokio::test(start_paused = true)]
async fn a_mutation_is_not_sent_again_once_the_server_may_have_forgotten_it() {
    let config = Config {
        resend_window: ms(200),
        ..config()
    };
    let (client, mut peer, _network) = connected_once(builder().config(config)).await;
    let call = inc(&client);
    peer.next().await;
    peer.next().await;
    assert!(
        peer.is_quiet_for(ms(5000)).await,
        "the third would be too late"
    );
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(
        (error.details().reason, error.executed()),
        (GiveUpReason::Window, Executed::Unknown)
    );

    let query = tokio::spawn(client.call::<Look>(()).with_report());
    for _ in 0..4 {
        peer.next().await;
    }
    let last = peer.next().await;
    assert_eq!((last.params.clone(), last.meta.attempt), (Value::Null, 5));
    peer.result(&last, json!(3)).await;
    assert_eq!(
        query.await.unwrap().unwrap().value,
        3,
        "a query is always safe"
    );
}

/// Not even if it was taken to be written in time, and the transport had no room for it.
#[tokio::test(start_paused = true)]
async fn a_retry_that_could_not_be_written_in_time_is_not_written() {
    let config = Config {
        resend_window: ms(200),
        ..config()
    };
    let (mut network, connector) = network(256);
    let client = builder().config(config).connect_with(connector).await;
    let client = client.unwrap();
    let mut peer = network.accept().await;
    network.refuse(true);
    let patient = |bytes: usize| {
        let call = client.request("other", json!({"text": "x".repeat(bytes)}));
        call.max_attempts(1).deadline(ms(60_000))
    };
    let call = inc(&client);
    let first = peer.next().await;
    // The first stops in the middle. What lies behind it, the retry too, is taken as soon as it
    // is through, and stops in the middle of the second.
    let one = start(patient(500));
    tokio::time::sleep(ms(50)).await;
    let other = start(patient(2_000));
    tokio::time::sleep(ms(100)).await;
    assert_eq!(peer.next().await.method, "other");
    tokio::time::sleep(ms(1_000)).await;
    assert_eq!(peer.next().await.method, "other");
    assert!(peer.is_quiet_for(ms(5_000)).await, "the retry is too late");
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(error.executed(), Executed::Unknown);
    // The connection goes on.
    let next = start(client.request("inc", json!({})));
    let request = peer.next().await;
    assert_ne!(request.id, first.id);
    peer.result(&request, json!(1)).await;
    next.await.unwrap().unwrap();
    drop((one, other));
}

#[tokio::test(start_paused = true)]
async fn a_full_buffer_makes_calls_wait_no_longer_than_their_deadline() {
    let (mut network, connector) = network(64);
    let config = Config {
        max_buffered_bytes: 100,
        ..config()
    };
    let client = builder()
        .config(config)
        .connect_with(connector)
        .await
        .unwrap();
    let mut peer = network.accept().await;
    let patient = || {
        client
            .request("inc", json!({"text": "x".repeat(60)}))
            .max_attempts(1)
    };
    let first = start(patient().attempt_timeout(ms(3000)));
    tokio::task::yield_now().await;
    let hasty = start(patient().deadline(ms(50)));
    let waiting = start(patient().attempt_timeout(ms(3000)));
    let error = hasty.await.unwrap().unwrap_err();
    assert_eq!(error.report().total(), ms(50));
    assert_eq!(
        (error.executed(), error.report().attempts()),
        (Executed::No, 0)
    );
    for call in [first, waiting] {
        let request = peer.next().await;
        peer.result(&request, json!(1)).await;
        call.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn an_unsendable_request_fails_at_once_and_affects_no_other() {
    let config = Config {
        max_frame_bytes: 1000,
        ..config()
    };
    let (client, mut peer, _network) = connected(builder().config(config)).await;
    let large = start(client.request("inc", json!({"text": "x".repeat(1000)})));
    let scalar = start(client.request("inc", 7));
    let option = start(client.request("inc", json!({})).max_attempts(0));
    let trace = start(client.request("inc", json!({})).traceparent("nonsense"));
    let good = inc(&client);
    for (call, expected) in [
        (
            large,
            "inc was not executed; 0 attempts: the request is too large: frame of",
        ),
        (
            scalar,
            "bad params: got 7; expected an object, an array, or null to leave them out",
        ),
        (
            option,
            "bad option: max_attempts is 0; expected more than 0",
        ),
        (
            trace,
            "traceparent is \"nonsense\"; expected the form of W3C",
        ),
    ] {
        let error = call.await.unwrap().unwrap_err();
        assert_eq!(error.executed(), Executed::No);
        assert!(error.to_string().contains(expected), "{error}");
    }
    let request = peer.next().await;
    peer.result(&request, json!(1)).await;
    good.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_invalid_configuration_is_refused_by_field_name() {
    let error = builder_with(|config| config.connections = 0)
        .connect_lazy("127.0.0.1:1")
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "bad configuration: connections is 0; expected more than 0"
    );
    let limits = CallLimits {
        deadline: Duration::ZERO,
        ..limits()
    };
    let error = builder_with(|config| config.call = limits)
        .connect_lazy("127.0.0.1:1")
        .unwrap_err();
    assert!(error.to_string().contains("deadline"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn limits_of_any_size_do_not_overflow() {
    let (client, mut peer, _network) = connected(builder()).await;
    let call = client.request("inc", json!({})).deadline(Duration::MAX);
    let call = start(call.attempt_timeout(Duration::MAX));
    let request = peer.next().await;
    sleep(ms(5)).await;
    peer.result(&request, json!(1)).await;
    call.await.unwrap().unwrap();
}
