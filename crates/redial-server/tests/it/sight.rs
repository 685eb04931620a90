//! A server that is asked how it is doing keeps the one who asks waiting, says it to the wrong ones, or says
//! what is not so.

use std::time::Duration;

use redial_server::{
    Config, Context, ErrorCode, Extensions, MethodLimits, Principal, Readiness, Server,
};
use serde_json::{Value, json};

use crate::common::{
    PATIENCE, Peer, Service, code, held_store::HeldStore, pipe, pipe_from, pipe_with, until, uuid,
};

const HEALTH: &str = r#"{"id":"h","method":"rpc.health"}"#;
const STATS: &str = r#"{"id":"s","method":"rpc.stats"}"#;

/// A handler that never ends.
fn hanging(config: Config) -> Server {
    let builder = Service::default().builder().config(config);
    let hang = async |(): (), _: Context| {
        std::future::pending::<()>().await;
        Ok(())
    };
    builder.query("hang", hang).build().unwrap()
}

async fn stats<S>(peer: &mut Peer<S>) -> Value
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    peer.call_json(STATS).await["result"].take()
}

fn of(principal: &str) -> Extensions {
    let mut extensions = Extensions::new();
    extensions.insert(Principal::new(principal).unwrap());
    // From another machine.
    extensions.insert("192.0.2.7:1".parse::<std::net::SocketAddr>().unwrap());
    extensions
}

/// Kind: a question about the server that waits behind what it asks about. Instance: all run permits
/// and in the queue are taken, and so are those of the connection.
#[tokio::test(start_paused = true)]
async fn health_and_stats_pass_every_queue() {
    let server = hanging(Config {
        max_running: 1,
        max_queued: 1,
        max_in_flight: 2,
        ..Config::default()
    });
    let mut peer = pipe(&server);
    for id in 0..4 {
        peer.send(json!({"id": id, "method": "hang"}).to_string())
            .await;
    }
    let health = peer.call_json(HEALTH).await;
    assert_eq!(health["result"], json!({"live": true, "ready": true}));
    let stats = stats(&mut peer).await;
    assert_eq!(
        (&stats["in_flight"], &stats["queued"]),
        (&json!(1), &json!(1)),
        "{stats}"
    );
}

/// Kind: a server that is given calls which it will refuse. Instance: it drains, or its store records
/// nothing.
#[tokio::test(start_paused = true)]
async fn it_is_not_ready_while_it_drains_or_its_store_fails_and_says_which() {
    let store = HeldStore::default();
    let builder = Service::default().builder().store(store.clone());
    let server = builder.build().unwrap();
    let (mut peer, mut stranger) = (pipe(&server), pipe_from(&server, "192.0.2.1"));
    store.set_problem(Some("/data/calls.db: disk full"));
    let found = peer.call_json(HEALTH).await;
    let expected = json!({
        "live": true,
        "ready": false,
        "why": "store_failing",
        "detail": "the store records nothing: /data/calls.db: disk full",
    });
    assert_eq!(found["result"], expected);
    // Where its file lies is no stranger's business.
    let found = stranger.call_json(HEALTH).await;
    let expected = json!({"live": true, "ready": false, "why": "store_failing"});
    assert_eq!(found["result"], expected);
    store.set_problem(None);
    assert_eq!(server.readiness(), Readiness::Ready);
    let found = peer.call_json(HEALTH).await;
    assert_eq!(found["result"], json!({"live": true, "ready": true}));

    peer.send(json!({"id": uuid(1), "method": "slow_inc", "params": {"ms": 5000}}).to_string())
        .await;
    until("the call runs", || server.stats().running == 1).await;
    let stopping = tokio::spawn({
        let server = server.clone();
        async move { server.shutdown().await }
    });
    until("it drains", || server.readiness() == Readiness::Draining).await;
    let found = peer.call_json(HEALTH).await["result"].take();
    assert_eq!(
        (&found["ready"], &found["why"]),
        (&json!(false), &json!("draining"))
    );
    assert_eq!(peer.receive_json().await["result"]["value"], 1);
    stopping.await.unwrap();
}

/// Kind: numbers about all callers that any of them gets. Instance: another machine without a
/// name, and a policy that has not heard of `rpc.stats`.
#[tokio::test(start_paused = true)]
async fn stats_are_for_this_machine_and_for_those_who_have_shown_who_they_are() {
    let service = Service::default();
    let server = service.server(Config::default());
    for mut peer in [pipe(&server), pipe_from(&server, "127.0.0.1")] {
        assert_eq!(stats(&mut peer).await["started"], 0);
    }
    for remote in ["192.0.2.1", "10.0.0.1"] {
        let refused = pipe_from(&server, remote).call_json(STATS).await;
        assert_eq!(code(&refused), -32009, "{refused}");
    }
    let mut known = pipe_with(&server, of("token:ops"));
    assert_eq!(
        stats(&mut known).await["refusals"],
        json!([{"code": -32009, "count": 2}])
    );

    let policy = |principal: Option<&Principal>, method: &str| {
        let is_ops = principal.is_some_and(|principal| principal.as_str() == "token:ops");
        method != "rpc.stats" || is_ops
    };
    let server = service.builder().policy(policy).build().unwrap();
    assert_eq!(
        stats(&mut pipe_with(&server, of("token:ops"))).await["started"],
        0
    );
    for mut peer in [pipe_with(&server, of("token:other")), pipe(&server)] {
        let refused = peer.call_json(STATS).await;
        assert_eq!(code(&refused), -32009, "{refused}");
        assert!(peer.call_json(HEALTH).await["result"]["ready"] == true);
    }
    // A policy that allows everything makes no stranger known.
    let server = service.builder().policy(|_, _| true).build().unwrap();
    assert_eq!(
        code(&pipe_from(&server, "192.0.2.1").call_json(STATS).await),
        -32009
    );
}

/// Kind: a count that is not of what it says. Instance: one call that joins, is replayed, waits in the
/// queue and is refused, each of which counts once.
#[tokio::test(start_paused = true)]
async fn stats_are_what_has_happened() {
    let limits = MethodLimits {
        max_running: Some(1),
        ..MethodLimits::default()
    };
    let config = Config {
        max_queued: 1,
        ..Config::default()
    };
    let builder = Service::default().builder().config(config);
    let server = builder.method_limits("slow_inc", limits).build().unwrap();
    let mut peer = pipe(&server);
    let slow =
        |id| json!({"id": uuid(id), "method": "slow_inc", "params": {"ms": 100}}).to_string();
    // The second joins the first, the third waits for it, the fourth finds no room.
    for id in [1, 1, 2, 3] {
        peer.send(slow(id)).await;
    }
    let [refused, ..] = peer.receive_all::<4>().await;
    assert_eq!(code(&refused), -32001, "{refused}");
    peer.call(slow(1)).await;
    let found = stats(&mut peer).await;
    for (member, expected) in [
        ("started", 2),
        ("finished", 2),
        ("joined", 1),
        ("replayed", 1),
        ("refused", 1),
        ("dequeued", 1),
        ("queue_full", 1),
        ("shed", 0),
        ("running_limit", 256),
        ("in_flight", 0),
        ("queued", 0),
        ("connections", 1),
        ("records", 2),
    ] {
        assert_eq!(found[member], expected, "{member} of {found}");
    }
    assert_eq!(found["refusals"], json!([{"code": -32001, "count": 1}]));
    let waited = found["queue_delay_us"].as_u64().unwrap();
    assert!((90_000..120_000).contains(&waited), "{found}");
    let slowest = &found["slowest"][0];
    assert_eq!(
        (&slowest["method"], &slowest["count"]),
        (&json!("slow_inc"), &json!(2))
    );
    let mean = slowest["mean_us"].as_u64().unwrap();
    assert!((90_000..130_000).contains(&mean), "{found}");
    let stats = server.stats();
    assert_eq!(stats.refusals.of(ErrorCode::OVERLOADED), 1);
    assert_eq!(stats.refusals.of(ErrorCode::from(7)), 0);
    assert!(stats.queue_delay < PATIENCE && stats.queue_delay > Duration::ZERO);
}
