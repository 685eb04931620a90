//! `retry_after_ms`: when a call comes back that a server has asked to wait.

use std::time::Duration;

use redial_client::{Backoff, CallLimits, Executed, GiveUpReason, Jitter, RetryBudget};
use serde_json::json;

use crate::peer::{builder_with, connected, connected_once, inc, limits, ms, start};

/// Limits whose backoff is short, and spread.
fn spread() -> CallLimits {
    CallLimits {
        backoff: Backoff::new(ms(1), 2.0, ms(2), Jitter::Full).unwrap(),
        ..limits()
    }
}

/// A fleet that was refused in one moment, and comes back in one, however it spreads its backoff.
#[tokio::test(start_paused = true)]
async fn calls_that_were_refused_together_come_back_one_by_one() {
    let budget = RetryBudget::unlimited();
    let config = builder_with(|config| (config.call, config.retry_budget) = (spread(), budget));
    let (client, mut peer, _network) = connected(config).await;
    let calls: Vec<_> = (0..100).map(|_| inc(&client)).collect();
    let mut refused_at = None;
    for _ in 0..100 {
        let request = peer.next().await;
        refused_at = Some(request.at);
        let data = json!({"executed": "no", "retry_after_ms": 400});
        peer.error(&request, -32001, data).await;
    }
    let refused_at = refused_at.unwrap();
    let mut quarters = [0; 4];
    for _ in 0..100 {
        let request = peer.next().await;
        let waited = request.at - refused_at;
        assert!((ms(400)..=ms(801)).contains(&waited), "{waited:?}");
        quarters[((waited - ms(400)).as_millis() as usize / 101).min(3)] += 1;
        peer.result(&request, json!(1)).await;
    }
    assert!(quarters.iter().all(|count| *count > 10), "{quarters:?}");
    for call in calls {
        call.await.unwrap().unwrap();
    }
}

/// A call that its own jitter has ended, although the server asked it to come back in time.
#[tokio::test(start_paused = true)]
async fn a_hint_that_ends_just_before_the_deadline_is_obeyed_and_one_beyond_it_ends_the_call() {
    let config = builder_with(|config| config.call = spread());
    let (client, mut peer, _network) = connected(config).await;
    for _ in 0..20 {
        let call = inc(&client);
        let request = peer.next().await;
        let data = json!({"executed": "no", "retry_after_ms": 2_950});
        peer.error(&request, -32001, data).await;
        let again = peer.next().await;
        assert!(again.at - request.at >= ms(2_950));
        assert!(again.meta.timeout_ms.unwrap() >= 20, "{:?}", again.meta);
        peer.result(&again, json!(1)).await;
        call.await.unwrap().unwrap();
    }
    let call = inc(&client);
    let request = peer.next().await;
    let data = json!({"executed": "no", "retry_after_ms": 3_000});
    peer.error(&request, -32001, data).await;
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(error.executed(), Executed::No);
    assert_eq!(error.details().reason, GiveUpReason::Deadline);
    assert_eq!(error.report().total(), Duration::ZERO);
}

/// A hint that comes late, about an attempt before the latest, and is obeyed without jitter, or not at all.
#[tokio::test(start_paused = true)]
async fn a_hint_that_comes_while_a_retry_waits_is_obeyed_too() {
    let patient = CallLimits {
        backoff: Backoff::new(ms(100), 1.0, ms(100), Jitter::Proportional(0.0)).unwrap(),
        ..limits()
    };
    let config = builder_with(|config| config.call = patient);
    let (client, mut peer, _network) = connected_once(config).await;
    let call = inc(&client);
    let first = peer.next().await;
    // Its time is up after 100 ms; the next attempt waits for 100 ms more.
    tokio::time::sleep(ms(150)).await;
    let data = json!({"executed": "no", "retry_after_ms": 500});
    peer.error(&first, -32001, data).await;
    let second = peer.next().await;
    let waited = second.at - first.at;
    assert!((ms(650)..=ms(1_150)).contains(&waited), "{waited:?}");
    assert_ne!(waited, ms(650), "with jitter");
    peer.result(&second, json!(1)).await;
    call.await.unwrap().unwrap();
}

/// A retry that is charged when it is planned and again when it is put off, or not at all.
#[tokio::test(start_paused = true)]
async fn a_retry_is_charged_once_however_often_it_is_put_off() {
    let budget = RetryBudget {
        percent_of_calls: 0.0,
        min_per_second: 0.0,
        burst: 3.0,
    };
    let config = builder_with(|config| (config.call, config.retry_budget) = (spread(), budget));
    let (client, mut peer, _network) = connected(config).await;
    for attempts in [2, 2, 2, 1] {
        let call = start(client.request("inc", json!({})));
        for attempt in 1..=attempts {
            let request = peer.next().await;
            assert_eq!(request.meta.attempt, attempt);
            if attempt == 2 {
                peer.result(&request, json!(1)).await;
            } else {
                let data = json!({"executed": "no", "retry_after_ms": 50});
                peer.error(&request, -32001, data).await;
            }
        }
        let ended = call.await.unwrap();
        if attempts == 1 {
            let error = ended.unwrap_err();
            assert_eq!(error.details().reason, GiveUpReason::Budget);
            assert_eq!(error.executed(), Executed::No);
        } else {
            ended.unwrap();
        }
    }
}
