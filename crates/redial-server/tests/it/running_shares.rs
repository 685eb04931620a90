//! One peer, or one method, takes all run permits: others run all the same, and what makes room for them
//! is refused without having been executed.

use std::time::Duration;

use redial_server::{Config, Context, Server};
use serde_json::Value;
use tokio::io::DuplexStream;

use crate::common::{
    Peer, Service, code, executed, now, pipe_from,
    session::{attempt, config, inc, one_at_a_time, open},
    until, uuid,
};

const HOG: &str = "192.0.2.1";
const OTHER: &str = "192.0.2.2";

fn call(method: &str, number: u32, params: &str) -> String {
    let id = uuid(number);
    format!(r#"{{"id":"{id}","method":"{method}","params":{params}}}"#)
}

/// The service, and a mutation and a query that never end.
fn hanging(config: Config) -> Server {
    let builder = Service::default()
        .builder()
        .mutation("hang", async |_: Value, _: Context| {
            std::future::pending::<()>().await;
            Ok(())
        })
        .query("hang_too", async |_: Value, _: Context| {
            std::future::pending::<()>().await;
            Ok(())
        });
    builder.config(config).build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn handlers_that_hang_leave_other_methods_alive() {
    for max_running in [4, 16] {
        let server = hanging(Config {
            max_running,
            max_queued: 8,
            ..config()
        });
        let mut peer = pipe_from(&server, HOG);
        for number in 0..40 {
            peer.send(call("hang", number, "{}")).await;
        }
        until("all that may run do", || {
            server.stats().running == max_running * 3 / 4
        })
        .await;
        let mut other = pipe_from(&server, HOG);
        for number in 100..140 {
            let slow = other.call(call("slow_inc", number, r#"{"ms":10}"#)).await;
            assert!(slow.contains("result"), "{slow}");
            let get = other.call(call("get", number, "{}")).await;
            assert!(get.contains("result"), "{get}");
        }
    }
}

/// Two peers, with two methods each: each has less of what is left, and something is.
#[tokio::test(start_paused = true)]
async fn two_peers_with_two_methods_that_hang_leave_a_third_alive() {
    let server = hanging(Config {
        max_running: 64,
        ..config()
    });
    let mut peers = [pipe_from(&server, HOG), pipe_from(&server, OTHER)];
    for peer in &mut peers {
        for number in 0..100 {
            peer.send(call("hang_too", number, "{}")).await;
        }
        for number in 0..100 {
            peer.send(call("hang", number, "{}")).await;
        }
    }
    for _ in 0..10_000 {
        tokio::task::yield_now().await;
    }
    let mut third = pipe_from(&server, "192.0.2.3");
    for number in 1_000..1_010 {
        let slow = third.call(call("slow_inc", number, r#"{"ms":10}"#)).await;
        assert!(slow.contains("result"), "{slow}");
    }
}

/// Sends calls of 100 ms without end, on a connection whose replies are thrown away.
fn flood(server: &Server, connection: u32) -> tokio::task::JoinHandle<()> {
    let Peer { io } = pipe_from(server, HOG);
    let (mut from, mut to) = tokio::io::split(io);
    tokio::spawn(async move {
        tokio::io::copy(&mut from, &mut tokio::io::sink())
            .await
            .ok();
    });
    tokio::spawn(async move {
        for number in 0.. {
            let slow = call("slow_inc", connection << 24 | number, r#"{"ms":100}"#);
            let length = u32::try_from(slow.len()).unwrap().to_be_bytes();
            let frame = [&length, slow.as_bytes()].concat();
            if tokio::io::AsyncWriteExt::write_all(&mut to, &frame)
                .await
                .is_err()
            {
                return;
            }
            if number % 16 == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    })
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_slow_calls_does_not_slow_another_peer_down() {
    let server = Service::default().server(Config::default());
    let floods = [1, 2, 3].map(|connection| flood(&server, connection));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(server.stats().queued > 500, "{:?}", server.stats());
    let mut other = pipe_from(&server, OTHER);
    let mut slowest = Duration::ZERO;
    for number in 0..20 {
        let start = now();
        for at in 0..8 {
            other
                .send(call("slow_inc", 100 * number + at, r#"{"ms":100}"#))
                .await;
        }
        for _ in 0..8 {
            let reply = other.receive().await.unwrap();
            assert!(reply.contains("result"), "{number}: {reply}");
        }
        slowest = slowest.max(start.elapsed());
    }
    assert!(slowest <= Duration::from_millis(110), "{slowest:?}");
    for flood in floods {
        flood.abort();
    }
}

/// The queue is the hog's: its newest call makes room, is not executed, and may come again.
#[tokio::test(start_paused = true)]
async fn a_call_that_makes_room_is_not_executed_and_may_come_again() {
    let service = Service::default();
    let server = service.server(Config {
        max_queued: 2,
        ..one_at_a_time()
    });
    let mut hog = pipe_from(&server, HOG);
    let session = open(&mut hog).await;
    hog.send(attempt("slow_inc", session, 0, 1)).await;
    for number in 1..=2 {
        hog.send(inc(session, number)).await;
    }
    until("the queue is full", || server.stats().queued == 2).await;
    let mut other = pipe_from(&server, OTHER);
    other.send(call("inc", 1, "{}")).await;
    let refused = hog.receive_json().await;
    assert_eq!(refused["id"], crate::common::session::id(session, 2));
    assert_eq!((code(&refused), executed(&refused)), (-32001, "no"));
    assert!(refused["error"]["data"]["retry_after_ms"].is_u64());
    assert!(other.receive().await.unwrap().contains("result"));
    for _ in 0..2 {
        assert!(hog.receive().await.unwrap().contains("result"));
    }
    assert_eq!(service.effects(), 3);
    // A copy of the refused attempt does not run, another attempt does.
    assert_eq!(code(&hog.call_json(inc(session, 2)).await), -32001);
    let again = hog.call_json(attempt("inc", session, 2, 2)).await;
    assert_eq!(again["result"]["value"], 4);
}

/// The connection whose call makes room is gone: others go on.
#[tokio::test(start_paused = true)]
async fn a_call_of_a_connection_that_is_gone_makes_room_too() {
    let server = Service::default().server(Config {
        max_queued: 2,
        ..one_at_a_time()
    });
    let mut hog: Peer<DuplexStream> = pipe_from(&server, HOG);
    for number in 0..3 {
        hog.send(call("slow_inc", number, r#"{"ms":1000}"#)).await;
    }
    until("the queue is full", || server.stats().queued == 2).await;
    drop(hog);
    let mut other = pipe_from(&server, OTHER);
    assert!(other.call(call("inc", 9, "{}")).await.contains("result"));
}
