//! A connection that is too old: its peer goes on elsewhere, and loses nothing by that.

use std::{
    io,
    pin::Pin,
    task::{self, Poll},
    time::Duration,
};

use redial_server::{Config, CutPoint, Fault, FaultRule, Server};
use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf},
    time::sleep,
};

use crate::common::{
    Peer, Service, code, executed, now, pipe,
    session::{attach, client, inc, request_with},
    uuid,
};

const AGE: Duration = Duration::from_secs(60);

fn limited(service: &Service) -> Server {
    service.server(Config {
        max_connection_age: Some(AGE),
        ..Config::default()
    })
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// An old connection that is cut, with what is on it; or that never ends.
#[tokio::test(start_paused = true)]
async fn a_client_hears_that_it_is_to_go_on_elsewhere_and_what_is_open_is_answered() {
    let service = Service::default();
    let server = limited(&service);
    let began = now();
    let (mut peer, session) = client(&server).await;
    sleep(AGE - AGE / 10 - ms(100)).await;
    let slow = request_with("slow_inc", session, 0, (json!({"ms": 20_000}), json!({})));
    peer.send(slow).await;
    let goaway = json!({"jsonrpc": "2.0", "method": "rpc.goaway", "params": {"last": false}});
    assert_eq!(peer.receive_json().await, goaway);
    let age = now() - began;
    assert!((AGE - AGE / 10..AGE + AGE / 10).contains(&age), "{age:?}");
    // What is on its way is answered, and the session goes on with another connection.
    assert!(peer.call_json(inc(session, 1)).await["error"].is_null());
    let mut next = pipe(&server);
    let hello = next.call_json(attach(session)).await;
    assert_eq!(hello["result"]["session"], session.to_string());
    assert!(next.call_json(inc(session, 2)).await["error"].is_null());
    assert!(peer.receive_json().await["error"].is_null(), "the slow one");
    peer.expect_end().await;
    assert!(now() - began < AGE + AGE / 10 + ms(20_300));
    assert!(next.call_json(inc(session, 3)).await["error"].is_null());
    assert_eq!(service.effects(), 4);
}

/// A peer that makes nothing of `rpc.goaway`, or was never sent it.
#[tokio::test(start_paused = true)]
async fn a_peer_that_goes_on_is_read_until_the_grace_is_over() {
    let service = Service::default();
    let server = limited(&service);
    let mut peer = pipe(&server);
    let grace = Config::default().drain_timeout;
    let (began, mut number) = (now(), 0);
    while now() - began < AGE + AGE / 10 + grace {
        number += 1;
        let request = format!(r#"{{"id":"{}","method":"inc"}}"#, uuid(number));
        peer.send(request).await;
        if peer.receive().await.is_none() {
            break;
        }
        sleep(ms(50)).await;
    }
    let age = now() - began;
    assert!(age >= AGE - AGE / 10 + grace, "{age:?}");
    assert!(age < AGE + AGE / 10 + grace, "{age:?}");
    // The last request was not read, or was answered.
    let effects = service.effects();
    assert_eq!(effects, u64::from(number) - 1);
}

/// Kind: what is not to be done any more is waited for. Instance: a request that came when nothing more is
/// dispatched, on a connection whose last call ends after that.
#[tokio::test(start_paused = true)]
async fn a_request_that_comes_too_late_does_not_keep_an_old_connection_open() {
    let service = Service::default();
    let server = limited(&service);
    let grace = Config::default().drain_timeout;
    let (mut peer, session) = client(&server).await;
    sleep(AGE - AGE / 10 - ms(100)).await;
    let slow = request_with("slow_inc", session, 0, (json!({"ms": 28_000}), json!({})));
    peer.send(slow).await;
    assert_eq!(peer.receive_json().await["method"], "rpc.goaway");
    sleep(grace + ms(100)).await;
    peer.send(inc(session, 1)).await;
    assert!(peer.receive_json().await["error"].is_null(), "the slow one");
    peer.expect_end().await;
    assert_eq!(service.effects(), 1);
    // It did not run, and is free to.
    let mut next = pipe(&server);
    next.call_json(attach(session)).await;
    assert!(next.call_json(inc(session, 1)).await["error"].is_null());
}

/// The neighbour: the peer has said all that it has to say.
#[tokio::test(start_paused = true)]
async fn an_old_connection_whose_peer_sends_no_more_ends_with_its_last_call() {
    let service = Service::default();
    let server = service.server(Config {
        max_connection_age: Some(AGE),
        max_in_flight: 1,
        ..Config::default()
    });
    let grace = Config::default().drain_timeout;
    let (mut peer, session) = client(&server).await;
    sleep(AGE - AGE / 10 - ms(100)).await;
    let slow = request_with("slow_inc", session, 0, (json!({"ms": 28_000}), json!({})));
    peer.send(slow).await;
    assert_eq!(peer.receive_json().await["method"], "rpc.goaway");
    peer.send(inc(session, 1)).await;
    peer.io.shutdown().await.unwrap();
    sleep(grace).await;
    assert!(peer.receive_json().await["error"].is_null(), "the slow one");
    peer.expect_end().await;
    assert_eq!(service.effects(), 1);
}

/// The neighbour: the server ends meanwhile, and answers all that was read, what is too late for the
/// connection, too.
#[tokio::test(start_paused = true)]
async fn a_server_that_ends_answers_what_an_old_connection_has_left() {
    let service = Service::default();
    let server = limited(&service);
    let grace = Config::default().drain_timeout;
    let (mut peer, session) = client(&server).await;
    sleep(AGE - AGE / 10 - ms(100)).await;
    let slow =
        |number, ms| request_with("slow_inc", session, number, (json!({"ms": ms}), json!({})));
    peer.send(slow(0, 13_000)).await;
    assert_eq!(peer.receive_json().await["method"], "rpc.goaway");
    peer.send(slow(1, 12_000)).await;
    sleep(grace + ms(100)).await;
    peer.send(inc(session, 2)).await;
    sleep(ms(100)).await;
    let ending = tokio::spawn(async move { server.shutdown().await });
    let replies: [_; 3] = peer.receive_all().await;
    let (refused, done): (Vec<_>, Vec<_>) = replies.iter().partition(|it| it["result"].is_null());
    assert_eq!((refused.len(), done.len()), (1, 2), "{replies:?}");
    assert_eq!((code(refused[0]), executed(refused[0])), (-32006, "no"));
    assert_eq!(peer.receive_json().await["params"]["last"], true);
    peer.expect_end().await;
    ending.await.unwrap();
}

/// Counts how often the server looks whether there is something to read, and ends a connection that does
/// nothing else.
struct Restless {
    io: DuplexStream,
    reads: u32,
}

impl AsyncRead for Restless {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.reads += 1;
        assert!(self.reads < 1_000, "it looks again and again");
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Restless {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Kind: a timer for what is not done any more fires for ever. Instance: a connection becomes too old while
/// its server ends.
#[tokio::test(start_paused = true)]
async fn a_connection_that_becomes_old_while_its_server_ends_waits_for_that() {
    let service = Service::default();
    let server = service.server(Config {
        max_connection_age: Some(AGE),
        drain_timeout: AGE / 2,
        ..Config::default()
    });
    let (io, transport) = tokio::io::duplex(1024 * 1024);
    let (mut peer, serving) = (Peer { io }, server.clone());
    let io = Restless {
        io: transport,
        reads: 0,
    };
    let served = tokio::spawn(async move { serving.serve_connection(io).await });
    sleep(AGE - AGE / 10 - ms(100)).await;
    let slow = json!({"id": uuid(1), "method": "slow_inc", "params": {"ms": 60_000}});
    peer.send(slow.to_string()).await;
    sleep(ms(50)).await;
    let ending = tokio::spawn(async move { server.shutdown().await });
    sleep(AGE / 4).await;
    let cut_off = peer.receive_json().await;
    assert_eq!(code(&cut_off), -32008);
    peer.expect_end().await;
    ending.await.unwrap();
    served.await.unwrap();
}

/// A connection on which nothing happens.
#[tokio::test(start_paused = true)]
async fn an_idle_connection_ends_at_its_age_and_without_a_limit_it_does_not() {
    let service = Service::default();
    let (limited, unlimited) = (limited(&service), service.server(Config::default()));
    let [mut short, mut long] = [pipe(&limited), pipe(&unlimited)];
    short.call(r#"{"id":1,"method":"rpc.ping"}"#).await;
    long.call(r#"{"id":1,"method":"rpc.ping"}"#).await;
    sleep(AGE - AGE / 10 - ms(10)).await;
    assert_eq!(limited.stats().connections, 1);
    sleep(AGE / 5 + ms(1_500)).await;
    assert_eq!(limited.stats().connections, 0);
    short.expect_end().await;
    sleep(2 * AGE).await;
    assert_eq!(unlimited.stats().connections, 1);
    long.call(r#"{"id":2,"method":"rpc.ping"}"#).await;
}

/// Kind: something is written behind half a frame, which no peer can read. Instance: the announcement of an old
/// connection's end, after a fault rule has cut the connection in the middle of a reply.
#[tokio::test(start_paused = true)]
async fn nothing_follows_the_half_of_a_reply_that_was_cut() {
    let service = Service::default();
    let server = service.server(Config {
        max_connection_age: Some(AGE),
        drain_timeout: 10 * AGE,
        ..Config::default()
    });
    let (mut peer, session) = client(&server).await;
    assert!(peer.call_json(inc(session, 0)).await["error"].is_null());
    let long = (json!({"ms": 300_000}), json!({}));
    peer.send(request_with("slow_inc", session, 1, long)).await;
    sleep(ms(100)).await;
    // The end of the server comes first, and with a call that runs it lasts until the connection is old.
    let ending = server.clone();
    tokio::spawn(async move { ending.shutdown().await });
    let goaway = peer.receive_json().await;
    assert_eq!(goaway["method"], "rpc.goaway");
    sleep(AGE + AGE / 10).await;
    let cut = Fault::Cut(CutPoint::MidReply);
    server.faults().set([FaultRule::new(cut, 1.0).unwrap()]);
    peer.send(inc(session, 0)).await;
    let mut received = Vec::new();
    peer.io.read_to_end(&mut received).await.unwrap();
    let text = String::from_utf8_lossy(&received);
    assert!(
        !received.is_empty() && !text.contains("rpc.goaway"),
        "{text}"
    );
}
