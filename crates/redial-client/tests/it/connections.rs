//! When connections are lost every call still ends, no call that may have been executed is reported
//! as not executed, and a request that was not written costs no attempt.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use crate::peer::{Peer, builder, connected, ends, inc, lazy, ms, network, start};
use redial_client::{Cause, Client, Executed};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

#[tokio::test(start_paused = true)]
async fn a_call_continues_on_the_next_connection() {
    let (client, mut peer, mut network) = connected(builder()).await;
    let call = inc(&client);
    let first = peer.next().await;
    drop(peer);
    let mut peer = network.accept().await;
    let second = peer.next().await;
    assert_eq!(first.id, second.id);
    assert_eq!(second.meta.attempt, 2);
    peer.result(&second, json!(1)).await;
    let reply = call.await.unwrap().unwrap();
    assert_eq!(ends(&reply.report), ["connection_lost", "reply"]);
    assert_eq!(reply.report.connects(), 1);
    assert_eq!(client.stats().connects, 2);
}

#[tokio::test(start_paused = true)]
async fn once_written_a_later_failure_to_connect_does_not_make_it_not_executed() {
    let (client, mut peer, network) = connected(builder()).await;
    let call = inc(&client);
    peer.next().await;
    network.refuse(true);
    drop(peer);
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(error.executed(), Executed::Unknown);
    assert!(matches!(error.cause(), Cause::Connect(_)), "{error}");
    assert_eq!(ends(error.report()), ["connection_lost", "connect_failed"]);
    assert_eq!(error.report().attempts(), 1);
}

#[tokio::test]
async fn over_tcp_the_error_names_the_address() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = Client::connect(address).await.unwrap_err().to_string();
    assert!(
        error.contains(&format!("cannot connect to {address} over TCP: ")),
        "{error}"
    );
    let client = builder().connect_lazy(address).unwrap();
    let call = client.request("inc", json!({})).deadline(ms(50)).await;
    let error = call.unwrap_err().to_string();
    assert!(error.contains(&format!("{address} over TCP: ")), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_unwritten_request_costs_no_attempt() {
    let (mut network, connector) = network(400);
    let client = builder().connect_with(connector).await.unwrap();
    let peer = network.accept().await;
    // The pipe takes the first and a part of the second; the third stays in the buffer.
    let long = |method| client.request(method, json!({"text": "x".repeat(100)}));
    let calls: Vec<_> = ["whole", "partly", "untouched"]
        .map(|method| start(long(method)))
        .into();
    tokio::time::sleep(ms(1)).await;
    drop(peer);
    let mut peer = network.accept().await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        let request = peer.next().await;
        peer.result(&request, json!(1)).await;
        seen.push((request.method, request.meta.attempt));
    }
    seen.sort();
    let expected = [("partly", 2), ("untouched", 1), ("whole", 2)];
    assert_eq!(seen, expected.map(|(name, n)| (name.to_owned(), n)));
    let mut ends_of = Vec::new();
    for call in calls {
        ends_of.push(ends(&call.await.unwrap().unwrap().report));
    }
    let lost = vec!["connection_lost", "reply"];
    assert_eq!(ends_of, [lost.clone(), lost, vec!["reply"]]);
}

#[tokio::test(start_paused = true)]
async fn a_partly_written_request_was_not_executed() {
    let (mut network, connector) = network(100);
    let client = builder().connect_with(connector).await.unwrap();
    let peer = network.accept().await;
    let call = start(
        client
            .request("inc", json!({"text": "x".repeat(200)}))
            .max_attempts(1),
    );
    tokio::time::sleep(ms(1)).await;
    drop(peer);
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(error.executed(), Executed::No);
    assert_eq!(ends(error.report()), ["connection_lost"]);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_to_be_written_is_not_sent_twice() {
    let (mut network, connector) = network(64);
    let client = builder().connect_with(connector).await.unwrap();
    let mut peer = network.accept().await;
    let slow = client
        .request("slow", json!({"text": "x".repeat(200)}))
        .max_attempts(1);
    let slow = start(slow.attempt_timeout(ms(2000)));
    tokio::time::sleep(ms(1)).await;
    let waiting = start(client.request("waiting", json!({})));
    // Five times its timeout passes while the pipe is full.
    tokio::time::sleep(ms(500)).await;
    let request = peer.next().await;
    assert_eq!(request.method, "slow");
    peer.result(&request, json!(1)).await;
    slow.await.unwrap().unwrap();
    let request = peer.next().await;
    assert_eq!(
        (request.method.as_str(), request.meta.attempt),
        ("waiting", 1)
    );
    peer.result(&request, json!(1)).await;
    let reply = waiting.await.unwrap().unwrap();
    assert_eq!(reply.report.attempts(), 1);
    assert!(peer.is_quiet_for(ms(1000)).await);
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_never_left_is_no_attempt_and_never_leaves() {
    let (mut network, connector) = network(200);
    let client = builder().connect_with(connector).await.unwrap();
    let mut peer = network.accept().await;
    network.refuse(true);
    let call = inc(&client);
    let request = peer.next().await;
    // Another call fills the pipe, so that the second attempt stays in the buffer.
    let large = client.request("large", json!({"text": "x".repeat(500)}));
    let large = start(large.attempt_timeout(ms(2000)));
    tokio::time::sleep(ms(200)).await;
    peer.result(&request, json!(1)).await;
    let reply = call.await.unwrap().unwrap();
    assert_eq!(reply.report.attempts(), 1);
    assert_eq!(ends(&reply.report), ["reply"]);
    let request = peer.next().await;
    assert_eq!(request.method, "large");
    peer.result(&request, json!(1)).await;
    large.await.unwrap().unwrap();
    assert!(peer.is_quiet_for(ms(1000)).await);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_closes_every_connection_is_dialled_with_pauses() {
    let (client, mut network) = lazy(builder());
    let call = inc(&client);
    let mut accepted = 0;
    while let Ok(peer) = tokio::time::timeout(ms(10_000), network.accept()).await {
        accepted += 1;
        drop(peer);
    }
    let error = call.await.unwrap().unwrap_err();
    assert!(accepted <= 20, "{accepted} connections in 3 s");
    assert!(error.report().total() <= ms(3000));
}

#[tokio::test(start_paused = true)]
async fn the_error_names_the_servers_reason_for_closing() {
    let (client, mut peer, network) = connected(builder()).await;
    let call = start(client.request("inc", json!({})).max_attempts(1));
    peer.next().await;
    network.refuse(true);
    let complaint = br#"{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"too many"}}"#;
    peer.frame(complaint).await;
    drop(peer);
    let error = call.await.unwrap().unwrap_err();
    let expected = "was lost: the server closed it, after the server said -32600 too many";
    assert!(error.to_string().ends_with(expected), "{error}");
}

/// A pipe that panics when it is read after something was written.
struct Bomb(DuplexStream, bool);

impl AsyncRead for Bomb {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        assert!(!self.1, "the test's transport panics");
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Bomb {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.1 = true;
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[tokio::test(start_paused = true)]
async fn calls_end_when_the_connections_task_panics() {
    let connector = || {
        let (ours, _theirs) = tokio::io::duplex(1 << 16);
        std::future::ready(Ok(Bomb(ours, false)))
    };
    let client = builder().connect_lazy_with(connector).unwrap();
    let calls: Vec<_> = (0..10).map(|_| inc(&client)).collect();
    for call in calls {
        let error = call.await.unwrap().unwrap_err();
        assert_eq!(
            error.executed(),
            Executed::Unknown,
            "it may have been written"
        );
        assert!(error.to_string().contains("its task ended"), "{error}");
    }
    assert_eq!(client.stats().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn a_connector_that_panics_is_not_called_without_pause() {
    let calls = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let counted = calls.clone();
    let connector = move || {
        counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        if counted.load(std::sync::atomic::Ordering::SeqCst) > 0 {
            panic!("the test's connector panics");
        }
        std::future::ready(Err::<DuplexStream, _>(io::ErrorKind::Other.into()))
    };
    let client = builder().connect_lazy_with(connector).unwrap();
    let error = inc(&client).await.unwrap().unwrap_err();
    assert_eq!(error.executed(), Executed::No);
    let calls = calls.load(std::sync::atomic::Ordering::SeqCst);
    assert!(calls <= 20, "{calls} calls of the connector in 3 s");
}

#[test]
fn a_client_outlives_the_runtime_of_its_connection() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap()
    };
    let (first, second) = (runtime(), runtime());
    let (client, peer, mut network) = first.block_on(connected(builder()));
    drop(first);
    let reply = second.block_on(async {
        let call = inc(&client);
        let mut peer = network.accept().await;
        let request = peer.next().await;
        peer.result(&request, json!(1)).await;
        call.await.unwrap().unwrap()
    });
    assert_eq!(reply.report.attempts(), 1);
    drop(peer);
}

#[tokio::test(start_paused = true)]
async fn the_last_clone_closes_the_connection() {
    let (client, mut peer, _network) = connected(builder()).await;
    let clone = client.clone();
    drop(client);
    assert!(peer.is_quiet_for(ms(1000)).await);
    drop(clone);
    assert!(peer.request().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_notification_completes_when_written_and_is_never_sent_twice() {
    let (client, mut peer, mut network) = connected(builder()).await;
    client.notify("log", json!(["a"])).await.unwrap();
    let seen = peer.next().await;
    assert!(seen.is_notification);
    assert_eq!(
        seen.text,
        r#"{"jsonrpc":"2.0","method":"log","params":["a"]}"#
    );
    drop(peer);
    // Lost before any of it was written: that one is sent again.
    tokio::time::sleep(ms(1)).await;
    client.notify("log", json!(["b"])).await.unwrap();
    let mut peer: Peer = network.accept().await;
    assert_eq!(peer.next().await.params, json!(["b"]));
    network.refuse(true);
    drop(peer);
    tokio::time::sleep(ms(1)).await;
    let hasty = client
        .notify("log", json!([]))
        .deadline(Duration::from_secs(2));
    let error = hasty.await.unwrap_err();
    assert_eq!(error.executed(), Executed::No);
}
