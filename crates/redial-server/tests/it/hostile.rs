//! Bad input gets a clear error that says nothing was executed, or a closed connection; other
//! connections are unaffected.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use crate::common::{self, Peer, Service, code, connect, executed, listen, now, pipe};
use redial_server::{Config, Limits};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

const PING: &str = r#"{"id":"1","method":"rpc.ping"}"#;

async fn expect_error_and_end<S>(peer: &mut Peer<S>, expected: i64, says: &str)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let reply: Value = serde_json::from_str(&peer.receive().await.unwrap()).unwrap();
    assert_eq!((code(&reply), executed(&reply)), (expected, "no"));
    assert_eq!(reply["id"], Value::Null);
    let detail = reply["error"]["data"]["detail"].as_str().unwrap();
    assert!(detail.contains(says), "{detail}");
    peer.expect_end().await;
}

#[tokio::test]
async fn a_length_of_zero_or_beyond_the_limit_is_answered_and_closes_the_connection() {
    let address = listen(&Service::default().server(Config::default())).await;
    let mut other = connect(address).await;
    other.call(PING).await;
    for (header, says) in [([0; 4], "0 bytes"), ([0xff; 4], "4294967295 bytes")] {
        let mut peer = connect(address).await;
        // What follows the header is never read, and must not cost the peer its reply.
        peer.io
            .write_all(&[&header[..], &[b'x'; 10_000]].concat())
            .await
            .unwrap();
        expect_error_and_end(&mut peer, -32600, says).await;
    }
    other.call(PING).await;
}

#[tokio::test]
async fn a_frame_that_ends_early_is_answered() {
    let mut peer = connect(listen(&Service::default().server(Config::default())).await).await;
    peer.io.write_all(b"\0\0\0\x64{\"id\":").await.unwrap();
    peer.io.shutdown().await.unwrap();
    expect_error_and_end(&mut peer, -32600, "10 of 104 bytes").await;
}

#[tokio::test(start_paused = true)]
async fn a_dripping_frame_has_ten_seconds_in_all() {
    let server = Service::default().server(Config::default());
    let mut peer = pipe(&server);
    peer.io.write_all(&100u32.to_be_bytes()).await.unwrap();
    for _ in 0..9 {
        tokio::time::advance(Duration::from_secs(1)).await;
        peer.io.write_all(b" ").await.unwrap();
        tokio::task::yield_now().await;
    }
    tokio::time::advance(Duration::from_secs(2)).await;
    expect_error_and_end(&mut peer, -32600, "13 of 104 bytes").await;
}

#[tokio::test]
async fn a_frame_that_arrives_byte_by_byte_is_served() {
    let mut peer = connect(listen(&Service::default().server(Config::default())).await).await;
    let frame = [&(PING.len() as u32).to_be_bytes()[..], PING.as_bytes()].concat();
    for byte in frame {
        peer.io.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert!(peer.receive().await.unwrap().contains("pong"));
}

#[tokio::test]
async fn bad_json_is_answered_and_the_connection_goes_on_until_the_tenth() {
    let address = listen(&Service::default().server(Config::default())).await;
    let mut peer = connect(address).await;
    let deep = format!(
        r#"{{"id":1,"method":"get","params":{}"#,
        "[".repeat(100_000)
    );
    let bad: [(&[u8], i64); 9] = [
        (b"{", -32700),
        (b"\xff\xfe", -32700),
        (b"{\"id\":1,\"method\":\"get\",}", -32700),
        (deep.as_bytes(), -32700),
        (b"17", -32600),
        (b"{\"id\":1,\"id\":1,\"method\":\"get\"}", -32600),
        (b"{\"id\":1.5,\"method\":\"get\"}", -32600),
        (b"[]", -32600),
        (b"{\"id\":{},\"method\":\"get\"}", -32600),
    ];
    for (body, expected) in bad {
        let reply = peer.call_json(body).await;
        assert_eq!((code(&reply), executed(&reply)), (expected, "no"));
        assert!(peer.call(PING).await.contains("pong"));
    }
    assert_eq!(code(&peer.call_json("nonsense").await), -32700);
    peer.expect_end().await;
    connect(address).await.call(PING).await;
}

#[tokio::test]
async fn nesting_is_bounded_even_if_it_is_well_formed() {
    let service = Service::default();
    let mut peer = connect(listen(&service.server(Config::default())).await).await;
    let nested = |depth: usize| {
        let (open, close) = ("[".repeat(depth), "]".repeat(depth));
        format!(r#"{{"id":"n{depth}","method":"inc","params":{open}{close}}}"#)
    };
    assert_eq!(code(&peer.call_json(nested(100_000)).await), -32700);
    assert_eq!(code(&peer.call_json(nested(128)).await), -32700);
    assert_eq!(service.effects(), 0);
    assert!(peer.call(nested(120)).await.contains("result"));
}

#[tokio::test]
async fn a_batch_of_100_000_is_refused_as_a_whole() {
    let service = Service::default();
    let mut peer = connect(listen(&service.server(Config::default())).await).await;
    let batch = format!("[{}1]", "1,".repeat(99_999));
    assert_eq!(code(&peer.call_json(batch).await), -32600);
    let entries = vec![r#"{"method":"inc"}"#; 101].join(",");
    assert_eq!(code(&peer.call_json(format!("[{entries}]")).await), -32600);
    assert_eq!(service.effects(), 0);
}

#[tokio::test]
async fn numbers_beyond_64_bits_are_handled() {
    let mut peer = connect(listen(&Service::default().server(Config::default())).await).await;
    let reply = peer
        .call(r#"{"id":123456789012345678901234567890,"method":"get"}"#)
        .await;
    assert_eq!(reply, r#"{"id":123456789012345678901234567890,"result":0}"#);
    let reply = peer
        .call_json(r#"{"id":"1","method":"big","params":[1e400]}"#)
        .await;
    assert_eq!(code(&reply), -32602);
    let reply = peer
        .call_json(r#"{"id":"1","method":"get","redial":{"timeout_ms":18446744073709551615}}"#)
        .await;
    assert_eq!(
        reply["result"], 0,
        "a deadline beyond the clock never passes"
    );
}

#[tokio::test]
async fn errors_do_not_echo_more_than_200_bytes_of_the_input() {
    let mut peer = connect(listen(&Service::default().server(Config::default())).await).await;
    let long = "x".repeat(100_000);
    for request in [
        format!(r#"{{"id":"1","method":"{long}"}}"#),
        format!(r#"{{"id":"1","method":"big","params":["{long}"]}}"#),
        format!(r#"{{"id":"1","method":"get","params":"{long}"}}"#),
        long.clone(),
    ] {
        let reply = peer.call(request).await;
        assert!(!reply.contains(&"x".repeat(201)), "{reply}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_in_time_and_a_waiting_one_is_not() {
    let server = Service::default().server(Config::default());
    let mut silent = pipe(&server);
    silent.call(PING).await;
    let mut waiting = pipe(&server);
    waiting
        .send(r#"{"id":"1","method":"slow_inc","params":{"ms":400000}}"#)
        .await;
    tokio::time::advance(Duration::from_secs(299)).await;
    silent.call(PING).await;
    let start = common::now();
    assert!(
        silent.io.read_u8().await.is_err(),
        "a silent connection is closed without a word"
    );
    assert_eq!(start.elapsed().as_secs(), 300);
    assert!(
        waiting.io.read_u32().await.is_ok(),
        "the waiting connection was closed"
    );
}

#[tokio::test]
async fn a_smaller_frame_limit_is_enforced() {
    let limits = Limits {
        max_frame_bytes: 100,
        ..Limits::default()
    };
    let mut peer = connect(
        listen(&Service::default().server(Config {
            limits,
            ..Config::default()
        }))
        .await,
    )
    .await;
    peer.send(format!("{PING}{}", " ".repeat(100 - PING.len())))
        .await;
    assert!(peer.receive().await.unwrap().contains("pong"));
    peer.send(" ".repeat(101)).await;
    expect_error_and_end(&mut peer, -32600, "101 bytes").await;
}

/// Each frame arrives in time; that one is always incomplete is no fault.
#[tokio::test(start_paused = true)]
async fn a_busy_connection_whose_frames_are_always_split_is_not_closed() {
    let mut peer = pipe(&Service::default().server(Config::default()));
    let frame = [&(PING.len() as u32).to_be_bytes()[..], PING.as_bytes()].concat();
    peer.io.write_all(&frame[..20]).await.unwrap();
    for _ in 0..60 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        peer.io
            .write_all(&[&frame[20..], &frame[..20]].concat())
            .await
            .unwrap();
        assert!(peer.receive().await.unwrap().contains("pong"));
    }
}

#[tokio::test(start_paused = true)]
async fn the_idle_time_begins_when_the_last_reply_has_left() {
    let config = Config {
        idle_timeout: Duration::from_secs(5),
        ..Config::default()
    };
    let mut peer = pipe(&Service::default().server(config));
    peer.call(r#"{"id":"1","method":"slow_inc","params":{"ms":10000}}"#)
        .await;
    let start = common::now();
    assert!(
        peer.io.read_u8().await.is_err(),
        "it is closed without a word"
    );
    assert_eq!(start.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn timeouts_may_exceed_the_clock() {
    let config = Config {
        idle_timeout: Duration::MAX,
        frame_timeout: Duration::MAX,
        write_timeout: Duration::MAX,
        ..Config::default()
    };
    let mut peer = pipe(&Service::default().server(config));
    peer.io.write_all(b"\0\0").await.unwrap();
    tokio::time::sleep(Duration::from_secs(10_000)).await;
    peer.io.write_all(b"\0\x02{}").await.unwrap();
    assert_eq!(
        code(&serde_json::from_str(&peer.receive().await.unwrap()).unwrap()),
        -32600
    );
}

/// A transport with a buffer, such as TLS: it takes what it is given and passes nothing on.
struct Holding(tokio::io::DuplexStream);

impl AsyncRead for Holding {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Holding {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

/// What a transport holds is not taken by the peer, though the server has handed it over.
#[tokio::test(start_paused = true)]
async fn what_a_transport_holds_back_has_the_time_of_what_is_not_read() {
    let server = Service::default().server(Config::default());
    let (near, far) = tokio::io::duplex(1024);
    let serving = async { server.serve_connection(Holding(far)).await };
    let asking = async {
        let mut peer = Peer { io: near };
        peer.send(r#"{"id":"a","method":"inc"}"#).await;
        std::future::pending::<()>().await;
    };
    let start = now();
    tokio::select! {
        () = serving => {}
        () = asking => unreachable!("it waits"),
    }
    let write_timeout = Config::default().write_timeout;
    assert_eq!(start.elapsed().as_secs(), write_timeout.as_secs());
}
