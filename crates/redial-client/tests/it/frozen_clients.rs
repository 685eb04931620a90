//! What has arrived is read before what has expired is judged: a process that was stopped finds its
//! timers due before it hears of what lies in its sockets.

use crate::peer::{SentRequest, builder, connected, ends, inc, ms, start};
use redial_client::{CallError, Cause};
use serde_json::json;

/// The client stands still, and hears of what arrived meanwhile only some time later.
async fn freeze(time: u64) {
    tokio::time::advance(ms(time)).await;
    tokio::time::sleep(ms(3)).await;
}

#[tokio::test(start_paused = true)]
async fn replies_that_lie_in_the_socket_count_against_a_deadline() {
    let (client, mut peer, _network) = connected(builder()).await;
    let calls: Vec<_> = (0..50)
        .map(|_| start(client.request("inc", json!({})).deadline(ms(1000))))
        .collect();
    let mut requests: Vec<SentRequest> = Vec::new();
    for _ in &calls {
        requests.push(peer.next().await);
    }
    freeze(1200).await;
    for request in &requests {
        peer.result(request, json!(1)).await;
    }
    for call in calls {
        let reply = call.await.unwrap().unwrap();
        assert_eq!(ends(&reply.report), ["reply"], "and no retry was sent");
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_is_not_sent_while_a_reply_lies_in_the_socket() {
    let (client, mut peer, _network) = connected(builder()).await;
    let call = inc(&client);
    let request = peer.next().await;
    freeze(500).await;
    peer.result(&request, json!(1)).await;
    let reply = call.await.unwrap().unwrap();
    assert_eq!(ends(&reply.report), ["reply"]);
    assert!(peer.is_quiet_for(ms(1000)).await);
}

/// A future that is polled for another reason judges no sooner.
#[tokio::test(start_paused = true)]
async fn a_call_that_is_polled_by_chance_does_not_judge_either() {
    let (client, mut peer, _network) = connected(builder()).await;
    let mut call = std::pin::pin!(
        client
            .request("inc", json!({}))
            .deadline(ms(1000))
            .into_future()
    );
    let request = tokio::select! {
        biased;
        _ = &mut call => unreachable!(),
        request = peer.next() => request,
    };
    tokio::time::advance(ms(1200)).await;
    assert!(tokio::time::timeout(ms(0), &mut call).await.is_err());
    peer.result(&request, json!(1)).await;
    assert_eq!(call.await.unwrap(), 1);
}

/// The look is short, and the deadline holds if there is nothing to see.
#[tokio::test(start_paused = true)]
async fn a_deadline_is_judged_after_a_look_that_found_nothing() {
    let (client, mut peer, _network) = connected(builder()).await;
    let call = start(client.request("inc", json!({})).deadline(ms(1000)));
    peer.next().await;
    #[expect(clippy::disallowed_methods, reason = "the test's own clock is tokio's")]
    let before = tokio::time::Instant::now();
    tokio::time::advance(ms(1200)).await;
    let error = call.await.unwrap().unwrap_err();
    assert!(matches!(error, CallError::Unknown { .. }), "{error}");
    assert!(matches!(error.cause(), Cause::NoReply(_)), "{error}");
    let took = before.elapsed();
    assert!(took >= ms(1250) && took <= ms(1260), "{took:?}");
}

/// A connection that is closed meanwhile has brought its replies before.
#[tokio::test(start_paused = true)]
async fn a_reply_before_the_end_of_a_connection_counts() {
    let (client, mut peer, _network) = connected(builder()).await;
    let call = start(client.request("inc", json!({})).deadline(ms(1000)));
    let request = peer.next().await;
    freeze(1200).await;
    peer.result(&request, json!(1)).await;
    drop(peer);
    assert_eq!(call.await.unwrap().unwrap().value, 1);
}
