//! Timeouts of attempts that follow how long calls take.

use redial_client::{AdaptiveTimeout, CallLimits, Client};
use serde_json::json;
use tokio::time::sleep;

use crate::peer::{Peer, builder_with, connected_once, limits, ms, start};

/// Two seconds at most, and three times as long as calls take once that is known.
fn adaptive() -> CallLimits {
    CallLimits {
        attempt_timeout: ms(2_000),
        deadline: ms(20_000),
        adaptive_timeout: Some(AdaptiveTimeout {
            floor: ms(10),
            multiplier: 3.0,
        }),
        ..limits()
    }
}

/// Makes calls of a method that takes 20 ms.
async fn quick_calls(client: &Client, peer: &mut Peer, method: &'static str, count: usize) {
    for _ in 0..count {
        let call = start(client.request(method, json!({})));
        let request = peer.next().await;
        sleep(ms(20)).await;
        peer.result(&request, json!(1)).await;
        call.await.unwrap().unwrap();
    }
}

/// A lost request that is noticed after two seconds, where calls take 20 ms.
#[tokio::test(start_paused = true)]
async fn a_lost_request_is_sent_again_after_a_multiple_of_what_calls_take() {
    let config = builder_with(|config| config.call = adaptive());
    let (client, mut peer, _network) = connected_once(config).await;
    for (more, first_wait) in [(99, 2_000..=2_000), (300, 60..=76)] {
        quick_calls(&client, &mut peer, "inc", more).await;
        let call = start(client.request("inc", json!({})).max_attempts(3));
        let (first, second) = (peer.next().await, peer.next().await);
        let waited = (second.at - first.at).as_millis() - 30;
        assert!(first_wait.contains(&waited), "{waited} after {more}");
        if more == 300 {
            let third = peer.next().await;
            let waited = (third.at - second.at).as_millis() - 60;
            assert!((120..=152).contains(&waited), "twice as long: {waited}");
        }
        peer.result(&second, json!(1)).await;
        call.await.unwrap().unwrap();
    }
}

/// A slow method that is retried by the timeout of a quick one.
#[tokio::test(start_paused = true)]
async fn each_method_has_a_timeout_of_its_own() {
    let config = builder_with(|config| config.call = adaptive());
    let (client, mut peer, _network) = connected_once(config).await;
    quick_calls(&client, &mut peer, "quick", 200).await;
    for _ in 0..5 {
        let call = start(client.request("slow", json!({})));
        let request = peer.next().await;
        sleep(ms(1_500)).await;
        peer.result(&request, json!(1)).await;
        assert_eq!(call.await.unwrap().unwrap().report.attempts(), 1);
    }
}

/// A server that becomes slower than the timeout, whose retries make it slower still.
#[tokio::test(start_paused = true)]
async fn timeouts_raise_the_timeout_until_there_are_none() {
    let config = builder_with(|config| config.call = adaptive());
    let (client, mut peer, _network) = connected_once(config).await;
    quick_calls(&client, &mut peer, "inc", 600).await;
    let mut attempts = Vec::new();
    for _ in 0..100 {
        let call = start(client.request("inc", json!({})));
        let request = peer.next().await;
        sleep(ms(600)).await;
        peer.result(&request, json!(1)).await;
        attempts.push(call.await.unwrap().unwrap().report.attempts());
        for _ in 1..*attempts.last().unwrap() {
            assert_eq!(peer.next().await.id, request.id);
        }
    }
    assert!(attempts[0] >= 3, "{attempts:?}");
    assert!(
        attempts[40..].iter().all(|attempts| *attempts == 1),
        "{attempts:?}"
    );
}
