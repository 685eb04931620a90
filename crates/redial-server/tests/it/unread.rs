//! What lies unread in a connection is judged as if it had been read when it came, however often and
//! for whatever reason reading pauses; and what comes to a busy connection is not taken for old.
//!
//! A `pipe_of` few bytes stands for the socket, and a task that waits to write into it for the
//! peer's own buffer.

use std::{future::Future, pin::pin, task::Poll, time::Duration};

use redial_server::{Config, Context, Server, ServerBuilder};
use serde_json::{Value, json};
use tokio::{
    io::AsyncWriteExt,
    time::{advance, sleep},
};

use crate::common::{Peer, Service, code, executed, pipe, pipe_of, uuid};

fn inc(number: u32) -> String {
    format!(r#"{{"id":"{}","method":"inc"}}"#, uuid(number))
}

fn slow_inc(number: u32, ms: u64) -> String {
    json!({"id": uuid(number), "method": "slow_inc", "params": {"ms": ms}}).to_string()
}

fn frame(body: &str) -> Vec<u8> {
    let len = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&len[..], body.as_bytes()].concat()
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Calls of another peer, in all parts of the table, that let what has expired go.
async fn others(server: &Server, round: u32) {
    let mut other = pipe(server);
    for number in 0..500 {
        let reply = other.call_json(inc(1_000 * (round + 1) + number)).await;
        assert!(reply["error"].is_null(), "{reply}");
    }
}

/// How many replies there are until that to `id`, and that one.
async fn reply_to<S>(peer: &mut Peer<S>, id: &str) -> String
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    loop {
        let reply = peer.receive().await.expect("the connection was closed");
        if reply.contains(id) {
            return reply;
        }
    }
}

/// The horizon of a sweep is old by the next one.
#[tokio::test(start_paused = true)]
async fn a_record_that_expires_between_two_sweeps_waits_for_what_became_unread_meanwhile() {
    let service = Service::default();
    let server = service.server(Config {
        max_in_flight: 1,
        ..Config::default()
    });
    // At whichever moment between two sweeps.
    for step in 0..12 {
        let mut peer = pipe(&server);
        let first = peer.call(inc(step)).await;
        sleep(ms(9_950)).await;
        peer.send(slow_inc(100 + step, 3_000 + 43)).await;
        peer.send(inc(step)).await;
        sleep(ms(60)).await;
        others(&server, step).await;
        assert_eq!(reply_to(&mut peer, &uuid(step)).await, first, "step {step}");
    }
    assert_eq!(service.effects(), 12 * (1 + 1 + 500));
}

/// The first read after a pause finds the socket empty before the peer's buffer is, in the middle of a
/// frame or between two.
#[tokio::test(start_paused = true)]
async fn what_a_pause_has_held_up_in_the_peers_buffer_is_as_old_as_the_pause() {
    let service = Service::default();
    let ping = frame(r#"{"id":7,"method":"get"}"#);
    // Whole frames, and not.
    for (round, pipe_bytes) in [(0, ping.len() * 40), (1, 1_000)] {
        let server = service.server(Config {
            max_in_flight: 1,
            ..Config::default()
        });
        let mut peer = pipe_of(&server, pipe_bytes);
        let first = peer.call(inc(round)).await;
        let slow = frame(&slow_inc(100 + round, 60_000));
        // More than is read ahead.
        let many = ping.repeat(90_000 / ping.len());
        let bytes = [&slow[..], &many, &frame(&inc(round))].concat();
        let (read, mut write) = tokio::io::split(peer.io);
        tokio::spawn(async move { write.write_all(&bytes).await.unwrap() });
        sleep(ms(59_000)).await;
        others(&server, round).await;
        let mut peer = Peer {
            io: tokio::io::join(read, tokio::io::sink()),
        };
        assert_eq!(
            reply_to(&mut peer, &uuid(round)).await,
            first,
            "{pipe_bytes}"
        );
    }
    assert_eq!(service.effects(), 2 * (1 + 1 + 500));
}

/// A server with a query that holds up its thread for so many milliseconds.
fn stalling(service: &Service) -> ServerBuilder {
    service
        .builder()
        .query("stall", async |(ms,): (u64,), _: Context| {
            std::future::poll_fn(move |context| {
                // The clock moves on in its first poll.
                let _ = pin!(advance(Duration::from_millis(ms))).poll(context);
                Poll::Ready(Ok(()))
            })
            .await
        })
}

/// Kind: what lay unread is taken for new. Instance: its connection was woken, and waited for a thread
/// until the record had expired; idle, at its limit or in the middle of a frame.
#[tokio::test(start_paused = true)]
async fn what_arrives_while_the_thread_is_held_up_is_as_old_as_its_arrival() {
    let service = Service::default();
    let config = Config {
        max_in_flight: 1,
        ..Config::default()
    };
    let server = stalling(&service).config(config).build().unwrap();
    for round in 0..3 {
        let (mut peer, mut other) = (pipe(&server), pipe(&server));
        let first = peer.call(inc(round)).await;
        let retry = frame(&inc(round));
        let (begin, rest) = retry.split_at(if round == 1 { 10 } else { 0 });
        sleep(ms(9_700)).await;
        peer.io.write_all(begin).await.unwrap();
        if round == 2 {
            peer.send(slow_inc(100, 3_000)).await;
        }
        sleep(ms(100)).await;
        // It is woken first, and the sweep as soon as it has ended.
        other
            .send(r#"{"id":1,"method":"stall","params":[900]}"#)
            .await;
        peer.io.write_all(rest).await.unwrap();
        let last = reply_to(&mut peer, &uuid(round)).await;
        assert_eq!(last, first, "round {round}");
    }
    assert_eq!(service.effects(), 3 + 1);
}

/// A task that has used up its turn reads nothing, though the socket is full.
#[tokio::test(start_paused = true)]
async fn a_socket_that_is_not_read_because_it_is_others_turn_is_not_empty() {
    let service = Service::default();
    let server = stalling(&service).build().unwrap();
    let (mut peer, mut stalling) = (pipe_of(&server, 16 << 20), pipe(&server));
    let first = peer.call(inc(1)).await;
    sleep(ms(9_500)).await;
    // More than is read in one turn, which ends between two frames: each is one read.
    let notification = |padding| {
        let params = ["x".repeat(padding)];
        json!({"jsonrpc": "2.0", "method": "get", "params": params}).to_string()
    };
    let rest = 64 * 1024 - frame(&notification(0)).len();
    let many = frame(&notification(rest)).repeat(200);
    peer.io.write_all(&many).await.unwrap();
    peer.send(inc(1)).await;
    stalling
        .send(r#"{"id":1,"method":"stall","params":[900]}"#)
        .await;
    assert_eq!(peer.receive().await, Some(first));
    assert_eq!(service.effects(), 1);
}

/// A peer that leaves its replies is not read from.
#[tokio::test(start_paused = true)]
async fn a_retry_behind_replies_that_are_not_taken_is_replayed() {
    let service = Service::default();
    let server = service.server(Config {
        unsent_pause_bytes: 4_096,
        ttl: ms(2_000),
        ..Config::default()
    });
    let mut peer = pipe_of(&server, 1_024);
    let first = peer.call(inc(1)).await;
    peer.send(r#"{"id":"big","method":"big","params":[100000]}"#)
        .await;
    peer.send(inc(1)).await;
    sleep(ms(5_000)).await;
    others(&server, 0).await;
    assert_eq!(reply_to(&mut peer, &uuid(1)).await, first);
    assert_eq!(service.effects(), 1 + 500);
    sleep(ms(4_000)).await;
    assert_eq!(server.stats().records, 0, "a record lives on");
    assert_ne!(peer.call(inc(1)).await, first);
}

/// A connection is at its limit all the time: what it reads is new still.
#[tokio::test(start_paused = true)]
async fn new_calls_on_a_connection_that_is_always_at_its_limit_are_not_taken_for_old() {
    let service = Service::default();
    let server = service.server(Config {
        max_in_flight: 1,
        max_records: 150,
        ..Config::default()
    });
    let (mut busy, mut other) = (pipe(&server), pipe(&server));
    let mut sent = 0;
    let mut next = || {
        sent += 1;
        slow_inc(sent, 1_000)
    };
    for _ in 0..3 {
        busy.send(next()).await;
    }
    for round in 0..100 {
        for number in 0..10 {
            let reply = other.call_json(inc(1_000 + 10 * round + number)).await;
            assert!(reply["error"].is_null(), "round {round}: {reply}");
        }
        let reply = busy.receive_json().await;
        assert!(reply["error"].is_null(), "round {round}: {reply}");
        busy.send(next()).await;
        let records = server.stats().records;
        assert!(records <= 10 * 15, "{records} records pile up");
    }
    drop(busy);
    sleep(ms(15_000)).await;
    assert_eq!(server.stats().records, 0, "a record lives on");
}

/// A table that is full of what a retry may ask for runs no retry: new calls wait, or what lay there
/// is unknown.
#[tokio::test(start_paused = true)]
async fn a_full_table_runs_no_duplicate_however_often_its_connection_was_held() {
    let service = Service::default();
    let server = service.server(Config {
        ttl: ms(200),
        max_in_flight: 4,
        max_records: 100,
        ..Config::default()
    });
    let (mut peer, mut other) = (pipe(&server), pipe(&server));
    for round in 0..20 {
        let base = 1_000 * (round + 1);
        for number in 0..4 {
            peer.send(slow_inc(base + number, 900)).await;
        }
        let before = service.effects();
        let first = other.call(inc(round)).await;
        assert_eq!(service.effects(), before + 1, "round {round}: {first}");
        peer.send(inc(round)).await;
        for number in 0..90 {
            sleep(ms(9)).await;
            let reply = other.call_json(inc(base + 100 + number)).await;
            if !reply["error"].is_null() {
                assert_eq!((code(&reply), executed(&reply)), (-32001, "no"));
            }
        }
        sleep(ms(200)).await;
        let before = service.effects();
        let late = reply_to(&mut peer, &uuid(round)).await;
        let reply: Value = serde_json::from_str(&late).unwrap();
        let is_unknown = reply["error"]["code"] == -32004;
        assert!(late == first || is_unknown, "round {round}: {late}");
        assert_eq!(service.effects(), before, "round {round}");
        sleep(ms(500)).await;
    }
}
