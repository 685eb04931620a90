//! A request that is sent while its server shuts down: it is answered, or its peer knows that it was
//! never read.

use std::time::Duration;

use redial_protocol::SessionId;
use redial_server::{Config, CutPoint, Fault, FaultRule, Server, Shutdown};
use serde_json::{Value, json};
use tokio::{io::AsyncReadExt, task::JoinHandle, time::sleep};

use crate::common::{
    PATIENCE, Service, code, connect, executed, listen, pipe, pipe_of,
    session::{HELLO, client, inc, request_with},
    until, uuid,
};

fn plain_inc(number: u32) -> String {
    format!(r#"{{"id":"{}","method":"inc"}}"#, uuid(number))
}

fn stop(server: &Server) -> JoinHandle<Shutdown> {
    let server = server.clone();
    tokio::spawn(async move { server.shutdown().await })
}

fn goaway() -> Value {
    json!({"jsonrpc": "2.0", "method": "rpc.goaway", "params": {"last": false}})
}

/// The last frame, to a client of this session, with the calls that the server knows.
fn last_goaway(session: SessionId, calls: &[(u64, u64)]) -> Value {
    let known = json!([{"session": session, "calls": calls}]);
    let params = json!({"last": true, "known": known});
    json!({"jsonrpc": "2.0", "method": "rpc.goaway", "params": params})
}

/// Whatever arrives behind the last frame is not executed, as the last frame says.
#[tokio::test(start_paused = true)]
async fn all_that_was_read_is_answered_before_the_last_frame_and_nothing_is_read_after_it() {
    let service = Service::default();
    let server = service.server(Config::default());
    let (mut peer, session) = client(&server).await;
    let slow = request_with("slow_inc", session, 0, (json!({"ms": 500}), json!({})));
    peer.send(slow).await;
    until("it runs", || server.stats().running == 1).await;
    let stopping = stop(&server);
    assert_eq!(peer.receive_json().await, goaway());
    let refused = peer.call_json(inc(session, 1)).await;
    assert_eq!((code(&refused), executed(&refused)), (-32006, "no"));
    assert!(peer.receive_json().await["error"].is_null());
    assert_eq!(peer.receive_json().await, last_goaway(session, &[(0, 1)]));
    for number in 2..100 {
        peer.send(inc(session, number)).await;
    }
    peer.expect_end().await;
    drop(peer);
    stopping.await.unwrap();
    assert_eq!(service.effects(), 1);
}

/// A connection on which nothing is owed ends at once, while others still wait for their calls.
#[tokio::test(start_paused = true)]
async fn a_connection_ends_when_nothing_is_owed_on_it() {
    let service = Service::default();
    let server = service.server(Config::default());
    let (mut busy, session) = client(&server).await;
    let (mut idle, other) = client(&server).await;
    let slow = request_with("slow_inc", session, 0, (json!({"ms": 5_000}), json!({})));
    busy.send(slow).await;
    until("it runs", || server.stats().running == 1).await;
    let stopping = stop(&server);
    assert_eq!(idle.receive_json().await, last_goaway(other, &[]));
    idle.expect_end().await;
    assert_eq!(server.stats().running, 1);
    assert_eq!(busy.receive_json().await, goaway());
    assert!(busy.receive_json().await["error"].is_null());
    assert_eq!(busy.receive_json().await, last_goaway(session, &[(0, 1)]));
    drop((busy, idle));
    stopping.await.unwrap();
}

/// A copy of a call came on another connection and ran; whatever of the call lies unread here, the last
/// frame says that it is known.
#[tokio::test(start_paused = true)]
async fn the_last_frame_names_the_calls_that_ran_for_another_connection() {
    let service = Service::default();
    let server = service.server(Config::default());
    let (mut peer, session) = client(&server).await;
    let mut other = pipe(&server);
    for number in [1, 2, 4] {
        other.call_json(inc(session, number)).await;
    }
    let slow = request_with("slow_inc", session, 6, (json!({"ms": 500}), json!({})));
    other.send(slow).await;
    until("it runs", || server.stats().running == 1).await;
    let stopping = stop(&server);
    let known = [(1, 3), (4, 5), (6, 7)];
    assert_eq!(peer.receive_json().await, last_goaway(session, &known));
    drop((peer, other));
    stopping.await.unwrap();
}

/// A call that was executed and not answered was read.
#[tokio::test(start_paused = true)]
async fn after_a_reply_that_was_kept_back_there_is_no_last_frame() {
    let service = Service::default();
    let server = service.server(Config::default());
    let (mut peer, session) = client(&server).await;
    let drop_reply = FaultRule::new(Fault::DropReply, 1.0).unwrap();
    server.faults().set([drop_reply.for_method("inc")]);
    peer.send(inc(session, 0)).await;
    until("it ran", || service.effects() == 1).await;
    let stopping = stop(&server);
    peer.expect_end().await;
    drop(peer);
    stopping.await.unwrap();
}

/// No stream ends with a frame that says more than is known: nor one that a fault cuts.
#[tokio::test(start_paused = true)]
async fn after_a_cut_there_is_no_last_frame() {
    let server = Service::default().server(Config::default());
    let (mut peer, session) = client(&server).await;
    let cut = FaultRule::new(Fault::Cut(CutPoint::BeforeReply), 1.0).unwrap();
    server.faults().set([cut.for_method("inc")]);
    peer.send(inc(session, 0)).await;
    let stopping = stop(&server);
    peer.expect_end().await;
    stopping.await.unwrap();
}

/// A reply that a fault cuts off while the server drains is no end that the last frame could follow.
#[tokio::test(start_paused = true)]
async fn after_a_cut_in_a_drain_there_is_no_last_frame() {
    for point in [
        CutPoint::BeforeReply,
        CutPoint::MidReply,
        CutPoint::AfterReply,
    ] {
        let service = Service::default();
        let server = service.server(Config::default());
        let (mut peer, session) = client(&server).await;
        let cut = FaultRule::new(Fault::Cut(point), 1.0).unwrap();
        server.faults().set([cut.for_method("slow_inc")]);
        let slow = request_with("slow_inc", session, 0, (json!({"ms": 500}), json!({})));
        peer.send(slow).await;
        until("it runs", || server.stats().running == 1).await;
        let stopping = stop(&server);
        assert_eq!(peer.receive_json().await, goaway(), "{point:?}");
        let mut rest = Vec::new();
        peer.io.read_to_end(&mut rest).await.unwrap();
        let rest = String::from_utf8_lossy(&rest);
        assert!(!rest.contains("rpc.goaway"), "{point:?}: {rest}");
        assert_eq!(rest.is_empty(), point == CutPoint::BeforeReply, "{rest}");
        stopping.await.unwrap();
        assert_eq!(service.effects(), 1, "{point:?}");
    }
}

/// Clients that never said hello know nothing of notifications.
#[tokio::test(start_paused = true)]
async fn a_plain_peer_is_answered_until_it_falls_silent() {
    let service = Service::default();
    let server = service.server(Config::default());
    let mut peer = pipe(&server);
    peer.call(plain_inc(0)).await;
    let stopping = stop(&server);
    for number in 1..10 {
        sleep(Duration::from_millis(90)).await;
        let refused = peer.call_json(plain_inc(number)).await;
        assert_eq!((code(&refused), executed(&refused)), (-32006, "no"));
        let replayed = peer.call_json(plain_inc(0)).await;
        assert!(replayed["error"].is_null(), "{replayed}");
    }
    peer.expect_end().await;
    drop(peer);
    assert_eq!(stopping.await.unwrap(), Shutdown { interrupted: 0 });
    assert_eq!(service.effects(), 1);
}

/// A peer that goes on and on is answered for a second.
#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_fall_silent_holds_up_no_shutdown() {
    let server = Service::default().server(Config::default());
    let mut peer = pipe(&server);
    peer.call(plain_inc(0)).await;
    let start = crate::common::now();
    let stopping = stop(&server);
    let mut answered = 0;
    loop {
        peer.send(plain_inc(1)).await;
        if peer.receive().await.is_none() {
            break;
        }
        answered += 1;
        sleep(Duration::from_millis(10)).await;
    }
    assert!((95..=101).contains(&answered), "{answered} answers");
    stopping.await.unwrap();
    assert!(start.elapsed() <= Duration::from_secs(3));
}

/// Nor does one that reads nothing.
#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_nothing_holds_up_no_shutdown() {
    let server = Service::default().server(Config::default());
    let mut peer = pipe_of(&server, 256);
    peer.send(HELLO).await;
    peer.send(r#"{"id":"1","method":"big","params":[100000]}"#)
        .await;
    sleep(Duration::from_millis(10)).await;
    let start = crate::common::now();
    stop(&server).await.unwrap();
    assert!(start.elapsed() <= Duration::from_secs(4));
}

/// What the system has accepted is served, as far as a server that shuts down serves.
#[tokio::test]
async fn connections_that_were_not_accepted_yet_are_answered() {
    let server = Service::default().server(Config::default());
    let address = listen(&server).await;
    connect(address).await.call(plain_inc(0)).await;
    // Nothing is accepted before this task waits for something.
    let peers: Vec<_> = (0..20)
        .map(|_| std::net::TcpStream::connect(address).unwrap())
        .collect();
    let stopping = stop(&server);
    for peer in peers {
        peer.set_nonblocking(true).unwrap();
        let io = tokio::net::TcpStream::from_std(peer).unwrap();
        let mut peer = crate::common::Peer { io };
        let refused = tokio::time::timeout(PATIENCE, peer.call_json(plain_inc(1))).await;
        assert_eq!(code(&refused.unwrap()), -32006);
    }
    stopping.await.unwrap();
}
