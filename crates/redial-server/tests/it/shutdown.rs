//! A server that shuts down finishes what it has begun, accepts nothing new, and answers every
//! request.

use std::time::Duration;

use crate::common::{self, Service, code, connect, executed, listen, pipe, until, uuid};
use redial_server::{Config, Shutdown};
use serde_json::Value;

fn slow_inc(number: u32, ms: u64) -> String {
    format!(
        r#"{{"id":"{}","method":"slow_inc","params":{{"ms":{ms}}}}}"#,
        uuid(number)
    )
}

#[tokio::test(start_paused = true)]
async fn running_calls_finish_new_ones_are_refused_and_recorded_ones_replayed() {
    let service = Service::default();
    let server = service.server(Config::default());
    let mut peer = pipe(&server);
    let done = peer.call(slow_inc(1, 1)).await;
    peer.send(slow_inc(2, 500)).await;
    until("it runs", || server.stats().running == 1).await;

    let stopping = tokio::spawn({
        let server = server.clone();
        async move { server.shutdown().await }
    });
    tokio::task::yield_now().await;
    let refused = peer.call_json(slow_inc(3, 1)).await;
    assert_eq!((code(&refused), executed(&refused)), (-32006, "no"));
    assert_eq!(peer.call(slow_inc(1, 1)).await, done);
    let last = peer.receive().await.unwrap();
    assert!(last.contains(r#""value":2"#), "{last}");
    peer.expect_end().await;
    assert_eq!(stopping.await.unwrap(), Shutdown { interrupted: 0 });
    assert_eq!(service.effects(), 2);
}

#[tokio::test(start_paused = true)]
async fn queued_calls_hear_that_they_were_not_executed() {
    let service = Service::default();
    let server = service.server(Config {
        max_running: 1,
        ..Config::default()
    });
    let mut peer = pipe(&server);
    peer.send(slow_inc(1, 200)).await;
    peer.send(slow_inc(2, 200)).await;
    until("one waits", || server.stats().queued == 1).await;
    let shutdown = server.shutdown();
    let replies = async {
        let refused: Value = serde_json::from_str(&peer.receive().await.unwrap()).unwrap();
        assert_eq!((code(&refused), executed(&refused)), (-32006, "no"));
        assert!(peer.receive().await.unwrap().contains("result"));
        peer.expect_end().await;
    };
    tokio::join!(shutdown, replies);
    assert_eq!((service.effects(), server.stats().records), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn calls_that_outlast_the_drain_are_reported_as_unknown() {
    let service = Service::default();
    let config = Config {
        drain_timeout: Duration::from_secs(3),
        ..Config::default()
    };
    let server = service.server(config);
    let mut peer = pipe(&server);
    peer.send(slow_inc(1, 60_000)).await;
    until("it runs", || server.stats().running == 1).await;
    let start = common::now();
    let shutdown = server.shutdown();
    let reply = async {
        let reply: Value = serde_json::from_str(&peer.receive().await.unwrap()).unwrap();
        assert_eq!((code(&reply), executed(&reply)), (-32008, "unknown"));
        assert_eq!(start.elapsed(), Duration::from_secs(3));
        peer.expect_end().await;
    };
    let (shutdown, ()) = tokio::join!(shutdown, reply);
    assert_eq!(shutdown, Shutdown { interrupted: 1 });
}

#[tokio::test]
async fn serving_ends_with_the_shutdown_and_the_port_is_closed() {
    let server = Service::default().server(Config::default());
    let address = listen(&server).await;
    let mut peer = connect(address).await;
    peer.call(r#"{"id":"1","method":"rpc.ping"}"#).await;
    let ((), shutdown) = tokio::join!(peer.expect_end(), server.shutdown());
    assert_eq!(shutdown, Shutdown { interrupted: 0 });
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

/// The last reply and the close race each other: a client that sees the close has seen the reply.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_reply_is_lost_between_the_last_execution_and_the_end() {
    for round in 0..300 {
        let server = Service::default().server(Config::default());
        let mut peer = connect(listen(&server).await).await;
        for number in 0..4 {
            peer.send(slow_inc(number, 1)).await;
        }
        while server.stats().running + server.stats().finished as usize == 0 {
            tokio::task::yield_now().await;
        }
        let replies = async {
            let mut answered = 0;
            while peer.receive().await.is_some() {
                answered += 1;
            }
            drop(peer);
            answered
        };
        let (answered, _) = tokio::join!(replies, server.shutdown());
        let finished = server.stats().finished;
        assert!(
            answered >= finished,
            "round {round}: {answered} of {finished} replies arrived"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_has_closed_its_writing_end_gets_every_reply() {
    let server = Service::default().server(Config::default());
    let address = listen(&server).await;
    for round in 0..300 {
        let mut peer = connect(address).await;
        for number in 0..4 {
            peer.send(slow_inc(round * 4 + number, 1)).await;
        }
        tokio::io::AsyncWriteExt::shutdown(&mut peer.io)
            .await
            .unwrap();
        for _ in 0..4 {
            assert!(
                peer.receive().await.is_some(),
                "round {round}: a reply was lost"
            );
        }
        peer.expect_end().await;
    }
}

#[test]
fn dropping_a_runtime_with_a_full_queue_answers_all_and_does_not_overflow() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let server = Service::default().server(Config {
        max_running: 8,
        max_queued: 20_000,
        running_reserve_percent: 0,
        max_in_flight: 20_000,
        ..Config::default()
    });
    runtime.block_on(async {
        let mut peer = pipe(&server);
        for number in 0..20_000 {
            peer.send(slow_inc(number, 60_000)).await;
        }
        until("the queue is full", || server.stats().queued == 19_992).await;
    });
    drop(runtime);
    let stats = server.stats();
    assert_eq!((stats.running, stats.queued), (0, 0));
}
