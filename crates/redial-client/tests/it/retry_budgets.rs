//! Who pays for retries: what servers answer, and each endpoint for those that go there.

use redial_client::{Config, GiveUpReason, RetryBudget};
use serde_json::json;
use tokio::time::sleep;

use crate::peer::{
    builder, builder_with, config, connected_once, fleet::Fleet, inc, ms, start, with_sessions_and,
};

/// So many tokens, and none that come by themselves or by calls.
fn only(burst: f64) -> RetryBudget {
    RetryBudget {
        percent_of_calls: 0.0,
        min_per_second: 0.0,
        burst,
    }
}

/// Retries on top of calls that a server can't answer, which keep it from answering.
#[tokio::test(start_paused = true)]
async fn calls_bring_tokens_when_they_are_answered_and_not_when_they_are_made() {
    let budget = RetryBudget {
        percent_of_calls: 100.0,
        ..only(2.0)
    };
    let config = builder_with(|config| config.retry_budget = budget);
    let (client, mut peer, _network) = connected_once(config).await;
    let call = || client.request("inc", json!({})).deadline(ms(300));
    let mut requests = 0;
    for _ in 0..10 {
        let unanswered = start(call().max_attempts(2));
        while let Ok(request) = tokio::time::timeout(ms(300), peer.request()).await {
            request.expect("the connection stands");
            requests += 1;
        }
        unanswered.await.unwrap().unwrap_err();
    }
    assert_eq!(
        requests,
        10 + 2,
        "each call once, and what there was at first"
    );
    let answered = start(call());
    let request = peer.next().await;
    peer.result(&request, json!(1)).await;
    answered.await.unwrap().unwrap();
    let retried = start(call());
    peer.next().await;
    let second = peer.next().await;
    assert_eq!(second.meta.attempt, 2, "the answer has paid for it");
    peer.error(&second, -32000, json!({"executed": "yes"}))
        .await;
    retried.await.unwrap().unwrap_err();
    let again = start(call());
    peer.next().await;
    let second = peer.next().await;
    assert_eq!(second.meta.attempt, 2, "and so has the handler's error");
    peer.result(&second, json!(1)).await;
    again.await.unwrap().unwrap();
}

/// The retries of calls that only a dead server can answer, which leave none to others.
#[tokio::test(start_paused = true)]
async fn one_dead_endpoint_leaves_the_others_their_retries() {
    let fleet = Fleet::new(&["a", "b"]);
    let builder = with_sessions_and(|config| config.retry_budget = only(20.0));
    let client = fleet.client(builder).await;
    fleet.servers[0].silence(true);
    let calls: Vec<_> = (0..60)
        .map(|n| start(client.request("inc", json!({ "key": format!("k{n}") }))))
        .collect();
    sleep(ms(1)).await;
    let first = client.endpoints()[0].attempts;
    assert!(first > 10, "{first}");
    sleep(ms(2_000)).await;
    let dead = &client.endpoints()[0];
    assert!(dead.attempts <= first + 10, "half of the budget: {dead:?}");
    fleet.servers[1].lose_replies(8);
    let others: Vec<_> = (0..8)
        .map(|n| start(client.request("inc", json!({ "key": format!("l{n}") }))))
        .collect();
    for other in others {
        assert_eq!(other.await.unwrap().unwrap().report.attempts(), 2);
    }
    fleet.servers[0].revive();
    fleet.servers[0].cut();
    for call in calls {
        let _: Result<_, _> = call.await.unwrap();
    }
    fleet.check();
}

/// The calls of a dead server, which are all sent again to the next one in one moment and take it down, too.
#[tokio::test(start_paused = true)]
async fn an_endpoint_gets_no_more_retries_than_its_own_budget_allows() {
    let fleet = Fleet::new(&["t", "t"]);
    let builder = with_sessions_and(|config| config.retry_budget = only(20.0));
    let client = fleet.client(builder).await;
    fleet.servers[0].silence(true);
    let calls: Vec<_> = (0..80)
        .map(|n| start(client.request("inc", json!({ "key": format!("k{n}") }))))
        .collect();
    sleep(ms(1)).await;
    let (lost, first) = (
        client.endpoints()[0].attempts,
        client.endpoints()[1].attempts,
    );
    assert!(lost > 20, "{lost}");
    let mut suppressed = 0;
    for call in calls {
        if let Err(error) = call.await.unwrap() {
            assert_eq!(error.details().reason, GiveUpReason::Budget, "{error}");
            suppressed += 1;
        }
    }
    assert_eq!(client.endpoints()[1].attempts, first + 10);
    assert_eq!(suppressed, lost - 10);
    fleet.check();
}

/// A budget that is divided although there is one endpoint alone.
#[tokio::test(start_paused = true)]
async fn one_address_has_the_whole_budget() {
    let config = Config {
        retry_budget: only(20.0),
        ..config()
    };
    let (client, mut peer, _network) = connected_once(builder().config(config)).await;
    let calls: Vec<_> = (0..40).map(|_| inc(&client)).collect();
    let mut requests = 0;
    while let Ok(request) = tokio::time::timeout(ms(2_500), peer.request()).await {
        request.expect("the connection stands");
        requests += 1;
    }
    assert_eq!(requests, 40 + 20);
    for call in calls {
        call.await.unwrap().unwrap_err();
    }
}
