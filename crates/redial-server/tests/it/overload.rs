//! A server at its limits refuses early and plainly, without effect, and forgets no record.

use std::time::Duration;

use crate::common::{self, Service, code, executed, pipe, pipe_of, until, uuid};
use redial_server::{Config, Delay, Fault, FaultRule, Limits};
use serde_json::Value;

fn slow_inc(number: u32, ms: u64) -> String {
    format!(
        r#"{{"id":"{}","method":"slow_inc","params":{{"ms":{ms}}}}}"#,
        uuid(number)
    )
}

fn retry_after_ms(reply: &Value) -> u64 {
    reply["error"]["data"]["retry_after_ms"].as_u64().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses_without_effect_or_record_and_the_rest_is_served() {
    let service = Service::default();
    let config = Config {
        max_running: 2,
        max_queued: 3,
        ..Config::default()
    };
    let server = service.server(config);
    let mut peer = pipe(&server);
    for number in 0..6 {
        peer.send(slow_inc(number, 50)).await;
    }
    let refused: Value = serde_json::from_str(&peer.receive().await.unwrap()).unwrap();
    assert_eq!(refused["id"], uuid(5));
    assert_eq!((code(&refused), executed(&refused)), (-32001, "no"));
    assert!(retry_after_ms(&refused) > 0);
    assert_eq!(server.stats().records, 5);
    assert!(
        peer.call(r#"{"id":"p","method":"rpc.ping"}"#)
            .await
            .contains("pong")
    );
    for _ in 0..5 {
        assert!(peer.receive().await.unwrap().contains("result"));
    }
    assert_eq!(service.effects(), 5);
    let again = peer.call_json(slow_inc(5, 50)).await;
    assert_eq!(
        again["result"]["value"], 6,
        "what was refused may come again"
    );
    assert_eq!((server.stats().running, server.stats().queued), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn joins_and_replays_need_no_permit() {
    let service = Service::default();
    let config = Config {
        max_running: 1,
        max_queued: 0,
        ..Config::default()
    };
    let mut peer = pipe(&service.server(config));
    let done = peer.call(slow_inc(1, 10)).await;
    peer.send(slow_inc(2, 50)).await;
    assert_eq!(code(&peer.call_json(slow_inc(3, 50)).await), -32001);
    assert_eq!(
        peer.call(slow_inc(1, 10)).await,
        done,
        "a replay was refused"
    );
    peer.send(slow_inc(2, 50)).await;
    let joined = (peer.receive().await.unwrap(), peer.receive().await.unwrap());
    assert_eq!(joined.0, joined.1, "a join was refused");
    assert_eq!(service.effects(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_full_table_refuses_until_a_record_expires_and_evicts_nothing() {
    let service = Service::default();
    let config = Config {
        max_records: 3,
        ttl: Duration::from_millis(1_000),
        ..Config::default()
    };
    let mut peer = pipe(&service.server(config));
    let inc = |number| format!(r#"{{"id":"{}","method":"inc"}}"#, uuid(number));
    let mut replies = Vec::new();
    for number in 0..3 {
        replies.push(peer.call(inc(number)).await);
    }
    let refused = peer.call_json(inc(3)).await;
    assert_eq!((code(&refused), executed(&refused)), (-32001, "no"));
    for number in 0..3 {
        assert_eq!(
            peer.call(inc(number)).await,
            replies[number as usize],
            "evicted early"
        );
    }
    tokio::time::sleep(Duration::from_millis(retry_after_ms(&refused))).await;
    assert_eq!(peer.call_json(inc(3)).await["result"]["value"], 4);
    assert_eq!(service.effects(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_deadline_passes_in_the_queue_is_not_started() {
    let service = Service::default();
    let config = Config {
        max_running: 1,
        ..Config::default()
    };
    let server = service.server(config);
    let mut peer = pipe(&server);
    peer.send(slow_inc(1, 100)).await;
    let id = uuid(2);
    let hasty = format!(r#"{{"id":"{id}","method":"inc","redial":{{"timeout_ms":50}}}}"#);
    peer.send(&hasty).await;
    assert!(peer.receive().await.unwrap().contains(&uuid(1)));
    let refused: Value = serde_json::from_str(&peer.receive().await.unwrap()).unwrap();
    assert_eq!((code(&refused), executed(&refused)), (-32002, "no"));
    assert_eq!((service.effects(), server.stats().records), (1, 1));

    let at_once = r#"{"id":"x","method":"inc","redial":{"timeout_ms":0}}"#;
    assert_eq!(code(&peer.call_json(at_once).await), -32002);
    assert_eq!((service.effects(), server.stats().running), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_later_attempt_with_more_time_keeps_the_call_alive() {
    let service = Service::default();
    let config = Config {
        max_running: 1,
        ..Config::default()
    };
    let mut peer = pipe(&service.server(config));
    peer.send(slow_inc(1, 100)).await;
    let attempt = |timeout_ms: u64| {
        let id = uuid(2);
        format!(r#"{{"id":"{id}","method":"inc","redial":{{"timeout_ms":{timeout_ms}}}}}"#)
    };
    peer.send(attempt(50)).await;
    peer.send(attempt(5_000)).await;
    assert!(peer.receive().await.unwrap().contains(&uuid(1)));
    let (one, other) = (peer.receive().await.unwrap(), peer.receive().await.unwrap());
    assert!(one.contains("result"), "{one}");
    assert_eq!(one, other);
    assert_eq!(service.effects(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_connection_at_its_in_flight_limit_is_read_from_again_when_replies_leave() {
    let service = Service::default();
    let config = Config {
        max_in_flight: 4,
        ..Config::default()
    };
    let server = service.server(config);
    let mut peer = pipe(&server);
    for number in 0..40 {
        peer.send(slow_inc(number, 50)).await;
    }
    until("four of them run", || server.stats().running == 4).await;
    assert_eq!(
        server.stats().started,
        4,
        "the other requests were read, too"
    );
    for _ in 0..40 {
        assert!(peer.receive().await.unwrap().contains("result"));
    }
    assert_eq!(service.effects(), 40);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_nothing_is_stopped_and_closed_while_others_are_served() {
    let service = Service::default();
    let config = Config {
        unsent_pause_bytes: 10_000,
        ..Config::default()
    };
    let server = service.server(config);
    let mut deaf = pipe_of(&server, 1_000);
    let mut other = pipe(&server);
    let ask = async {
        for number in 0..100_000 {
            let request = format!(r#"{{"id":{number},"method":"big","params":[1000]}}"#);
            let mut frame = u32::try_from(request.len()).unwrap().to_be_bytes().to_vec();
            frame.extend_from_slice(request.as_bytes());
            tokio::io::AsyncWriteExt::write_all(&mut deaf.io, &frame).await?;
        }
        Ok::<(), std::io::Error>(())
    };
    ask.await.expect_err("the server went on reading");
    assert!(
        server.stats().started < 1_000,
        "{} requests were read",
        server.stats().started
    );
    assert!(
        other
            .call(r#"{"id":"1","method":"get"}"#)
            .await
            .contains("result")
    );
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_at_once() {
    let server = Service::default().server(Config {
        max_connections: 2,
        ..Config::default()
    });
    let (mut one, mut two) = (pipe(&server), pipe(&server));
    let ping = r#"{"id":"1","method":"rpc.ping"}"#;
    one.call(ping).await;
    two.call(ping).await;
    let mut third = pipe(&server);
    assert_eq!(code(&third.receive_json().await), -32001);
    third.expect_end().await;
    drop(one);
    until("the connection is closed", || {
        server.stats().connections == 1
    })
    .await;
    pipe(&server).call(ping).await;
}

#[tokio::test]
async fn a_reply_that_fits_into_no_frame_is_an_error_that_says_executed() {
    let limits = Limits {
        max_frame_bytes: 4_096,
        ..Limits::default()
    };
    let mut peer = pipe(&Service::default().server(Config {
        limits,
        ..Config::default()
    }));
    let reply = peer
        .call_json(r#"{"id":"1","method":"big","params":[5000]}"#)
        .await;
    assert_eq!((code(&reply), executed(&reply)), (-32603, "yes"));
    let reply = peer
        .call_json(r#"{"id":"2","method":"big","params":[3000]}"#)
        .await;
    assert_eq!(reply["result"].as_str().unwrap().len(), 3_000);
}

#[tokio::test(start_paused = true)]
async fn retry_after_follows_how_long_calls_take() {
    let service = Service::default();
    let config = Config {
        max_running: 1,
        max_queued: 1,
        ..Config::default()
    };
    let server = service.server(config);
    let delay = Delay::Fixed(Duration::from_millis(400));
    server
        .faults()
        .set([FaultRule::new(Fault::DelayExecution(delay), 1.0).unwrap()]);
    let mut peer = pipe(&server);
    peer.call(slow_inc(1, 0)).await;
    for number in 2..5 {
        peer.send(slow_inc(number, 0)).await;
    }
    let refused: Value = serde_json::from_str(&peer.receive().await.unwrap()).unwrap();
    assert!((300..=600).contains(&retry_after_ms(&refused)), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_ping_is_answered_at_once_behind_queued_calls() {
    let config = Config {
        max_in_flight: 4,
        ..Config::default()
    };
    let mut peer = pipe(&Service::default().server(config));
    for number in 0..8 {
        peer.send(slow_inc(number, 50_000)).await;
    }
    let start = common::now();
    assert!(
        peer.call(r#"{"id":"p","method":"rpc.ping"}"#)
            .await
            .contains("pong")
    );
    assert_eq!(start.elapsed(), Duration::ZERO);
    for _ in 0..8 {
        let mut header = [0; 4];
        tokio::io::AsyncReadExt::read_exact(&mut peer.io, &mut header)
            .await
            .unwrap();
        let mut body = vec![0; u32::from_be_bytes(header) as usize];
        tokio::io::AsyncReadExt::read_exact(&mut peer.io, &mut body)
            .await
            .unwrap();
        assert!(String::from_utf8(body).unwrap().contains("result"));
    }
}

#[tokio::test(start_paused = true)]
async fn replies_that_wait_for_their_batch_stop_reading_too() {
    let config = Config {
        unsent_pause_bytes: 100_000,
        ..Config::default()
    };
    let server = Service::default().server(config);
    let mut peer = pipe(&server);
    let big = r#"{"id":1,"method":"big","params":[50000]}"#;
    let batch = format!("[{big},{big},{}]", slow_inc(1, 100));
    for _ in 0..5 {
        peer.send(&batch).await;
    }
    until("the first batch waits", || server.stats().started == 3).await;
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(server.stats().started, 3, "the next batch was read");
    for _ in 0..5 {
        assert!(peer.receive().await.unwrap().len() > 100_000);
    }
}

/// Handlers of earlier calls in the same read use up the time of later ones.
#[tokio::test]
async fn the_clock_is_read_for_every_call_with_a_deadline() {
    let server = redial_server::Server::builder()
        .mutation("busy", async |_: Value, _: redial_server::Context| {
            let start = std::hint::black_box(common::now());
            while start.elapsed() < Duration::from_millis(5) {
                std::hint::spin_loop();
            }
            Ok(())
        })
        .build()
        .unwrap();
    let mut peer = pipe(&server);
    let mut all = Vec::new();
    for number in 0..20 {
        let id = uuid(number);
        let request = format!(r#"{{"id":"{id}","method":"busy","redial":{{"timeout_ms":30}}}}"#);
        all.extend_from_slice(&u32::try_from(request.len()).unwrap().to_be_bytes());
        all.extend_from_slice(request.as_bytes());
    }
    tokio::io::AsyncWriteExt::write_all(&mut peer.io, &all)
        .await
        .unwrap();
    let mut late = 0;
    for _ in 0..20 {
        late += u32::from(peer.receive().await.unwrap().contains("-32002"));
    }
    assert!(late >= 10, "{late} of 20 came too late, which 14 must");
}

/// The server stopped reading, most likely in the middle of a frame: the peer is not late.
#[tokio::test(start_paused = true)]
async fn a_frame_that_the_server_stopped_reading_is_not_late() {
    let config = Config {
        max_in_flight: 1,
        ..Config::default()
    };
    let service = Service::default();
    let mut peer = pipe(&service.server(config));
    let mut all = Vec::new();
    for number in 0..=3_000 {
        let request = slow_inc(number, if number == 0 { 15_000 } else { 0 });
        all.extend_from_slice(&u32::try_from(request.len()).unwrap().to_be_bytes());
        all.extend_from_slice(request.as_bytes());
    }
    // In one piece, so that the first read ends in the middle of a frame.
    tokio::io::AsyncWriteExt::write_all(&mut peer.io, &all)
        .await
        .unwrap();
    for number in 0..=3_000 {
        let reply = peer
            .receive()
            .await
            .unwrap_or_else(|| panic!("closed before {number}"));
        assert!(reply.contains("result"), "{reply}");
    }
    assert_eq!(service.effects(), 3_001);
}
