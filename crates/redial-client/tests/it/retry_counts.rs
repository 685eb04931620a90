//! What a client says of its own retries: how many, why, and what kept others from being made.

use redial_client::{Client, RetryBudget, RetryStats};
use serde_json::json;
use tokio::time::sleep;

use crate::peer::{builder, builder_with, connected, inc, lazy, ms, start};

/// The counts of the client, which are those of its one endpoint.
fn counts(client: &Client) -> RetryStats {
    let (stats, endpoints) = (client.stats(), client.endpoints());
    assert_eq!(endpoints.len(), 1);
    assert_eq!(endpoints[0].retries, stats.retries);
    assert_eq!(endpoints[0].attempts, stats.attempts);
    stats.retries
}

/// Retries that are not seen, or for the wrong reason.
#[tokio::test(start_paused = true)]
async fn each_retry_is_counted_once_by_why_it_was_made() {
    let (client, mut peer, mut network) = connected(builder()).await;
    let call = inc(&client);
    let request = peer.next().await;
    let data = json!({"executed": "no", "retry_after_ms": 70});
    peer.error(&request, -32001, data).await;
    let request = peer.next().await;
    peer.result(&request, json!(1)).await;
    assert_eq!(call.await.unwrap().unwrap().report.hint_waits(), 1);
    assert_eq!(
        (counts(&client).after_refusal, counts(&client).made()),
        (1, 1)
    );

    let call = inc(&client);
    let request = peer.next().await;
    sleep(ms(110)).await;
    peer.error(&request, -32001, json!({"executed": "no"}))
        .await;
    let request = peer.next().await;
    peer.result(&request, json!(1)).await;
    let report = call.await.unwrap().unwrap().report;
    assert_eq!((report.attempts(), report.hint_waits()), (2, 0));

    let call = inc(&client);
    let request = peer.next().await;
    drop(peer);
    let mut peer = network.accept().await;
    let again = peer.next().await;
    assert_eq!(again.id, request.id);
    peer.result(&again, json!(1)).await;
    call.await.unwrap().unwrap();
    // Without another connection to move to.
    network.refuse(true);
    let call = inc(&client);
    peer.next().await;
    let again = peer.next().await;
    peer.result(&again, json!(1)).await;
    call.await.unwrap().unwrap();
    let counts = counts(&client);
    let reasons = (
        counts.after_refusal,
        counts.after_timeout,
        counts.after_loss,
    );
    assert_eq!((reasons, counts.made()), ((2, 1, 1), 4), "{counts:?}");
    assert_eq!(
        (counts.hint_waits, counts.postponed, counts.suppressed),
        (1, 0, 0)
    );
    assert_eq!(client.stats().attempts, 8);
}

/// Retries that are kept back, and nothing says so.
#[tokio::test(start_paused = true)]
async fn what_the_budget_kept_back_is_counted() {
    let budget = RetryBudget {
        percent_of_calls: 0.0,
        min_per_second: 1.0,
        burst: 1.0,
    };
    let (client, mut peer, network) =
        connected(builder_with(|config| config.retry_budget = budget)).await;
    network.refuse(true);
    let call = start(client.request("inc", json!({})).max_attempts(3));
    // The second attempt takes the token, the third waits for the next one.
    let _three = (peer.next().await, peer.next().await, peer.next().await);
    let hurried = start(client.request("inc", json!({})).deadline(ms(500)));
    let error = hurried.await.unwrap().unwrap_err();
    assert!(error.report().is_suppressed(), "{error}");
    call.await.unwrap().unwrap_err();
    let counts = counts(&client);
    assert_eq!((counts.after_timeout, counts.made()), (2, 2));
    assert_eq!((counts.postponed, counts.suppressed), (1, 1));
}

/// Calls that end at once, and look as if there had been none.
#[tokio::test(start_paused = true)]
async fn calls_that_failed_fast_are_counted() {
    let (client, network) = lazy(builder());
    network.refuse(true);
    for _ in 0..3 {
        let call = client.request("inc", json!({})).fail_fast(true);
        start(call).await.unwrap().unwrap_err();
    }
    assert_eq!(counts(&client).failed_fast, 3);
    assert_eq!((client.stats().attempts, counts(&client).made()), (0, 0));
}
