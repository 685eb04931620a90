//! With a store nothing that says *never* leaves before the fence that makes it true is durable.

use std::{sync::Arc, time::Duration};

use redial_server::{Abort, Config, Context, Delay, Fault, FaultRule, Server};
use serde_json::{Value, json};
use tokio::{io::DuplexStream, sync::Notify};

use crate::common::{
    Peer, executed,
    held_store::HeldStore,
    pipe,
    session::{PING, ack_request, ask, attempt, client, one_at_a_time, reply_to, request},
    until,
};

/// A server with room for one running call, which a query takes.
struct FullServer {
    server: Server,
    store: HeldStore,
    /// Lets handlers go on.
    go: Arc<Notify>,
    /// Who made the query.
    other: Peer<DuplexStream>,
}

impl FullServer {
    async fn full() -> Self {
        let mut world = Self::new(one_at_a_time());
        let block = r#"{"id":"block","method":"block"}"#;
        world.other.send(block).await;
        let server = &world.server;
        until("the query runs", || server.stats().running == 1).await;
        world
    }

    fn new(config: Config) -> Self {
        let (store, go) = (HeldStore::default(), Arc::new(Notify::new()));
        let [blocked, rolled_back] = [(); 2].map(|()| Arc::clone(&go));
        let server = Server::builder()
            .config(config)
            .store(store.clone())
            .mutation("inc", async |_: Value| Ok("done"))
            .mutation("roll_back", move |_: Value, _: Context| {
                let go = Arc::clone(&rolled_back);
                async move {
                    go.notified().await;
                    Err::<(), _>(Abort::no_effect("rolled back"))
                }
            })
            .query("block", move |_: Value, _: Context| {
                let go = Arc::clone(&blocked);
                async move {
                    go.notified().await;
                    Ok(())
                }
            })
            .build()
            .unwrap();
        let other = pipe(&server);
        Self {
            server,
            store,
            go,
            other,
        }
    }

    async fn queued(&self, calls: usize) {
        until("they are queued", || self.server.stats().queued == calls).await;
    }
}

/// Nothing was answered so far.
async fn is_silent(peer: &mut Peer<DuplexStream>, when: &str) {
    peer.send(PING).await;
    let reply = reply(peer).await;
    assert_eq!(reply["result"], "pong", "answered {when}: {reply}");
}

/// The next frame that is no notification.
async fn reply(peer: &mut Peer<DuplexStream>) -> Value {
    loop {
        let frame = peer.receive_json().await;
        if frame["method"].is_null() {
            return frame;
        }
    }
}

/// Of a call that waits for room: its attempts, and those who ask about it, hear *never* after the commit.
#[tokio::test(start_paused = true)]
async fn a_call_that_is_cancelled_in_the_queue() {
    let world = FullServer::full().await;
    let (mut peer, session) = client(&world.server).await;
    peer.send(attempt("inc", session, 0, 1)).await;
    world.queued(1).await;
    peer.send(attempt("inc", session, 0, 2)).await;
    peer.send(ask("rpc.resolve", session, 0)).await;
    world.store.hold();
    peer.send(ask("rpc.cancel", session, 0)).await;
    is_silent(&mut peer, "before the fence").await;
    peer.send(attempt("inc", session, 0, 3)).await;
    is_silent(&mut peer, "a later attempt").await;
    world.store.commit();
    let replies = peer.receive_all::<5>().await;
    for method in ["rpc.cancel", "rpc.resolve"] {
        let never = reply_to(&replies, method);
        assert_eq!(never["result"]["state"], "never", "{never}");
    }
    let refused = replies
        .iter()
        .filter(|reply| reply["error"]["code"] == -32007 && executed(reply) == "no");
    assert_eq!(refused.count(), 3, "{replies:?}");
}

/// The store can't fence it: the answers say nothing of *never*, and the attempts may come again.
#[tokio::test(start_paused = true)]
async fn a_fence_that_fails_says_nothing() {
    let world = FullServer::full().await;
    let (mut peer, session) = client(&world.server).await;
    peer.send(attempt("inc", session, 0, 1)).await;
    world.queued(1).await;
    world.store.hold();
    world.store.set_problem(Some("the disk is full"));
    peer.send(ask("rpc.cancel", session, 0)).await;
    is_silent(&mut peer, "before the fence").await;
    world.store.commit();
    for reply in peer.receive_all::<2>().await {
        assert_eq!(reply["error"]["code"], -32006, "{reply}");
    }
}

/// An acknowledgement becomes durable when it may, so that it is no proof.
#[tokio::test(start_paused = true)]
async fn a_call_that_is_acknowledged_in_the_queue() {
    let world = FullServer::full().await;
    let (mut peer, session) = client(&world.server).await;
    peer.send(attempt("inc", session, 0, 1)).await;
    world.queued(1).await;
    peer.send(attempt("inc", session, 0, 2)).await;
    world.store.hold();
    peer.send(ack_request(session, 1, &json!([]))).await;
    let replies = peer.receive_all::<3>().await;
    assert_eq!(reply_to(&replies, "rpc.ack")["result"], true);
    for reply in replies.iter().filter(|reply| reply["id"] != "rpc.ack") {
        assert_eq!(reply["error"]["code"], -32007, "{reply}");
        assert_eq!(executed(reply), "unknown", "{reply}");
    }
}

/// A question that has joined a call fences it when the call is not run after all.
#[tokio::test(start_paused = true)]
async fn a_call_that_was_asked_about_and_expires() {
    let mut world = FullServer::full().await;
    let (mut peer, session) = client(&world.server).await;
    let call = request("inc", session, 0, json!({"attempt": 1, "timeout_ms": 10}));
    peer.send(call).await;
    world.queued(1).await;
    peer.send(ask("rpc.resolve", session, 0)).await;
    is_silent(&mut peer, "while it is queued").await;
    tokio::time::advance(Duration::from_millis(20)).await;
    world.store.hold();
    world.go.notify_one();
    world.other.receive().await.unwrap();
    assert_eq!(peer.receive_json().await["error"]["code"], -32002);
    is_silent(&mut peer, "the question, before the fence").await;
    world.store.commit();
    assert_eq!(peer.receive_json().await["result"]["state"], "never");
}

/// The same when its handler reports that it had no effect.
#[tokio::test(start_paused = true)]
async fn a_call_that_was_asked_about_and_has_no_effect() {
    let world = FullServer::new(Config::default());
    let (mut peer, session) = client(&world.server).await;
    peer.send(attempt("roll_back", session, 0, 1)).await;
    peer.send(ask("rpc.resolve", session, 0)).await;
    is_silent(&mut peer, "while it runs").await;
    world.store.hold();
    world.go.notify_one();
    until("its end is to be recorded", || world.store.waiting() == 1).await;
    world.store.commit();
    assert_eq!(peer.receive_json().await["error"]["code"], -32000);
    is_silent(&mut peer, "the question, before the fence").await;
    world.store.commit();
    assert_eq!(peer.receive_json().await["result"]["state"], "never");
}

/// The same when the server stops.
#[tokio::test(start_paused = true)]
async fn a_call_that_was_asked_about_and_is_queued_at_the_end() {
    let world = FullServer::full().await;
    let (mut peer, session) = client(&world.server).await;
    peer.send(attempt("inc", session, 0, 1)).await;
    world.queued(1).await;
    peer.send(ask("rpc.resolve", session, 0)).await;
    is_silent(&mut peer, "while it is queued").await;
    world.store.hold();
    let server = world.server.clone();
    let shutdown = tokio::spawn(async move { server.shutdown().await });
    assert_eq!(reply(&mut peer).await["error"]["code"], -32006);
    world.go.notify_one();
    is_silent(&mut peer, "the question, before the fence").await;
    world.store.commit();
    assert_eq!(reply(&mut peer).await["result"]["state"], "never");
    drop(peer);
    drop(world.other);
    shutdown.await.unwrap();
}

/// A callback comes from a thread without a runtime, and a fault delays what it answers.
#[tokio::test(start_paused = true)]
async fn an_answer_of_the_store_is_delayed_by_a_fault() {
    let world = FullServer::new(Config::default());
    let delay = Fault::DelayReply(Delay::Fixed(Duration::from_millis(5)));
    world
        .server
        .faults()
        .set([FaultRule::new(delay, 1.0).unwrap()]);
    let (mut peer, session) = client(&world.server).await;
    let never = peer.call_json(ask("rpc.resolve", session, 0)).await;
    assert_eq!(never["result"]["state"], "never");
}
