//! Handlers that hang: their calls end, their permits go to others, and nothing that they do later
//! counts.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use redial_server::{BuildError, Config, Context, MethodLimits, Server, ServerBuilder};
use serde_json::{Value, json};
use tokio::io::DuplexStream;

use crate::common::{
    Peer, Service, code, executed, now, pipe, pipe_from,
    session::{attempt, client, config, request},
    until, uuid,
};

const TIMEOUT: Duration = Duration::from_secs(2);

fn call(method: &str, number: u32) -> String {
    format!(r#"{{"id":"{}","method":"{method}"}}"#, uuid(number))
}

/// The service, with methods that never end: `hang` and `stall` are mutations, `wait` is a query.
fn hanging(runs: &Arc<AtomicU64>) -> ServerBuilder {
    let builder = Service::default().builder();
    let [hang, stall] = [(); 2].map(|()| {
        let runs = Arc::clone(runs);
        move |_: Value, _: Context| {
            runs.fetch_add(1, SeqCst);
            std::future::pending::<Result<(), redial_server::Abort>>()
        }
    });
    builder
        .mutation("hang", hang)
        .mutation("stall", stall)
        .query("wait", |_: Value, _: Context| {
            std::future::pending::<Result<(), redial_server::Abort>>()
        })
}

fn limited(max_running: usize, execution_timeout: Option<Duration>) -> Config {
    Config {
        max_running,
        execution_timeout,
        ..config()
    }
}

/// Four calls that never end, on a server that runs four at once, take it all.
async fn fill(server: &Server) -> Peer<DuplexStream> {
    let mut peer = pipe_from(server, "192.0.2.1");
    for number in 0..3 {
        peer.send(call("hang", number)).await;
    }
    peer.send(call("stall", 3)).await;
    until("all four run", || server.stats().running == 4).await;
    peer
}

/// Endless calls of two methods hold all run permits: without a timeout others wait for ever.
#[tokio::test(start_paused = true)]
async fn four_endless_calls_starve_no_other_method() {
    let runs = Arc::default();
    let builder = hanging(&runs).config(limited(4, Some(TIMEOUT)));
    let server = builder.build().unwrap();
    let mut hung = fill(&server).await;
    let (mut other, before) = (pipe_from(&server, "192.0.2.2"), now());
    let reply = other.call_json(call("inc", 10)).await;
    assert_eq!(reply["result"]["value"], 1);
    assert!(now() - before <= TIMEOUT + Duration::from_millis(1));
    for reply in hung.receive_all::<4>().await {
        assert_eq!((code(&reply), executed(&reply)), (-32008, "unknown"));
    }
    let stats = server.stats();
    assert_eq!((stats.running, stats.queued, stats.timed_out), (0, 0, 4));
    assert_eq!(runs.load(SeqCst), 4);
}

/// The same with a limit for each method, which needs no time.
#[tokio::test(start_paused = true)]
async fn a_methods_own_limit_leaves_permits_for_others() {
    let (runs, one) = (
        Arc::default(),
        MethodLimits {
            max_running: Some(1),
            ..Default::default()
        },
    );
    let builder = hanging(&runs).config(limited(4, None));
    let builder = ["hang", "stall", "wait"]
        .into_iter()
        .fold(builder, |builder, method| {
            builder.method_limits(method, one)
        });
    let server = builder.build().unwrap();
    let mut peers = ["192.0.2.1", "192.0.2.2"].map(|peer| pipe_from(&server, peer));
    for (peer, from) in peers.iter_mut().zip([0, 100]) {
        for number in from..from + 20 {
            peer.send(call("hang", number)).await;
            peer.send(call("stall", 50 + number)).await;
            peer.send(format!(r#"{{"id":{number},"method":"wait"}}"#))
                .await;
        }
    }
    until("one of each runs", || server.stats().running == 3).await;
    let (mut other, before) = (pipe_from(&server, "192.0.2.1"), now());
    for number in 200..240 {
        let reply = other.call(call("inc", number)).await;
        assert!(reply.contains("result"), "{reply}");
    }
    assert_eq!(
        (now() - before, server.stats().running),
        (Duration::ZERO, 3)
    );
    assert_eq!(runs.load(SeqCst), 2);
}

/// A timed-out call that is asked for again: a plain id, a session's call, one that had joined, one
/// that is resolved.
#[tokio::test(start_paused = true)]
async fn a_call_that_was_stopped_is_on_record_as_interrupted() {
    let runs = Arc::default();
    let builder = hanging(&runs).config(limited(4, Some(TIMEOUT)));
    let server = builder.build().unwrap();
    let mut peer = pipe(&server);
    peer.send(call("hang", 1)).await;
    peer.send(call("hang", 1)).await;
    let first = peer.receive().await.unwrap();
    assert_eq!(
        peer.receive().await.unwrap(),
        first,
        "an attempt that had joined"
    );
    assert_eq!(peer.call(call("hang", 1)).await, first, "a replay");
    assert!(
        first.contains("-32008") && first.contains("2s, its execution_timeout"),
        "{first}"
    );

    let (mut peer, session) = client(&server).await;
    let first = peer.call_json(attempt("hang", session, 0, 1)).await;
    assert_eq!((code(&first), executed(&first)), (-32008, "unknown"));
    let again = peer.call_json(attempt("hang", session, 0, 2)).await;
    assert_eq!(
        (&again["error"], &again["redial"]["replayed"]),
        (&first["error"], &json!(true))
    );
    let id = crate::common::session::id(session, 0);
    let resolve =
        json!({"jsonrpc": "2.0", "id": "r", "method": "rpc.resolve", "params": {"id": id}});
    let resolved = peer.call_json(resolve.to_string()).await;
    assert_eq!(resolved["result"]["error"], first["error"]);
    assert_eq!((runs.load(SeqCst), server.stats().running), (2, 0));
}

/// A handler's thread ends after its call: what it comes to is thrown away.
#[tokio::test(start_paused = true)]
async fn what_a_handler_does_after_its_timeout_changes_no_record() {
    let (start, started) = std::sync::mpsc::channel::<()>();
    let (ended, end) = std::sync::mpsc::channel::<u64>();
    let started = Arc::new(std::sync::Mutex::new(started));
    let builder = Server::builder().mutation("thread", move |_: Value, _: Context| {
        let (started, ended) = (Arc::clone(&started), ended.clone());
        let (result, outcome) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            started.lock().unwrap().recv().unwrap();
            let _ = result.send(7);
            ended.send(7).unwrap();
        });
        async move { Ok(outcome.await.unwrap_or(0)) }
    });
    let server = builder.config(limited(4, Some(TIMEOUT))).build().unwrap();
    let mut peer = pipe(&server);
    let first = peer.call(call("thread", 1)).await;
    assert!(first.contains("-32008"), "{first}");
    start.send(()).unwrap();
    // Waited for without the runtime, whose clock would go on.
    assert_eq!(end.recv(), Ok(7));
    assert_eq!(peer.call(call("thread", 1)).await, first);
    assert_eq!(server.stats().started, 1);
}

/// A future that panics as it is dropped: the call still ends, and its permit is free.
#[tokio::test(start_paused = true)]
async fn a_future_that_panics_when_it_is_stopped_takes_nothing_along() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("as it goes");
        }
    }
    let builder = Server::builder().mutation("bomb", |_: Value, _: Context| async {
        let _bomb = Bomb;
        std::future::pending::<()>().await;
        Ok(())
    });
    let server = builder.config(limited(1, Some(TIMEOUT))).build().unwrap();
    let mut peer = pipe(&server);
    for number in 0..3 {
        assert_eq!(code(&peer.call_json(call("bomb", number)).await), -32008);
        assert_eq!(server.stats().running, 0);
    }
}

/// A method's own timeout in place of the server's, longer, shorter and none; handlers in time.
#[tokio::test(start_paused = true)]
async fn a_methods_own_timeout_takes_the_place_of_the_servers() {
    let slow = |ms: u64| format!(r#"{{"id":"{ms}","method":"slow_inc","params":{{"ms":{ms}}}}}"#);
    for (own, expected) in [
        (None, [true, false, false]),
        (Some(Duration::from_millis(500)), [false, false, false]),
        (Some(Duration::from_secs(10)), [true, true, false]),
        (Some(Duration::MAX), [true, true, true]),
    ] {
        let limits = MethodLimits {
            execution_timeout: own,
            ..Default::default()
        };
        let builder = Service::default()
            .builder()
            .config(limited(4, Some(TIMEOUT)));
        let mut peer = pipe(&builder.method_limits("slow_inc", limits).build().unwrap());
        for (ms, is_done) in [1_500, 2_500, 15_000].into_iter().zip(expected) {
            let reply = peer.call(slow(ms)).await;
            assert_eq!(reply.contains("result"), is_done, "{own:?} {ms}: {reply}");
        }
    }
}

/// Calls that wait in a queue which does not move: those whose callers have given up leave it.
#[tokio::test(start_paused = true)]
async fn callers_that_gave_up_leave_the_queue() {
    let runs = Arc::default();
    let config = Config {
        max_queued: 4,
        ..limited(1, None)
    };
    let server = hanging(&runs).config(config).build().unwrap();
    let (mut peer, session) = client(&server).await;
    peer.send(call("hang", 1)).await;
    let late = |number| request("inc", session, number, json!({"timeout_ms": 3_000}));
    for number in 0..3 {
        peer.send(late(number)).await;
    }
    // One more attempt of the last, which has all the time in the world.
    peer.send(request("inc", session, 2, json!({"attempt": 2})))
        .await;
    let mut gone = pipe(&server);
    gone.send(r#"{"id":7,"method":"get","jsonrpc":"2.0"}"#)
        .await;
    until("all of them are queued", || server.stats().queued == 4).await;
    let refused = pipe(&server).call_json(call("inc", 9)).await;
    assert_eq!(code(&refused), -32001, "the queue is full");
    // Its connection closes, for the reason that it sends no messages.
    for _ in 0..10 {
        gone.send("no message").await;
    }
    let before = now();
    for reply in peer.receive_all::<2>().await {
        assert_eq!((code(&reply), executed(&reply)), (-32002, "no"));
    }
    assert!(now() - before <= Duration::from_secs(4));
    assert_eq!(
        server.stats().queued,
        1,
        "what another attempt waits for stays"
    );
    let again = peer
        .call_json(request("rpc.cancel", session, 9, json!({})))
        .await;
    assert_eq!(code(&again), -32602, "{again}");
    // A refused attempt never runs, and the next one may.
    let copy = peer.call_json(late(0)).await;
    assert_eq!(code(&copy), -32001, "{copy}");
    peer.send(request("inc", session, 0, json!({"attempt": 2})))
        .await;
    until("it is queued again", || server.stats().queued == 2).await;
    assert_eq!(runs.load(SeqCst), 1);
}

/// A full queue of the dead: the next call finds room without waiting for a sweep.
#[tokio::test(start_paused = true)]
async fn a_full_queue_of_calls_that_gave_up_takes_the_next_call() {
    let runs = Arc::default();
    let config = Config {
        max_queued: 2,
        ..limited(1, None)
    };
    let server = hanging(&runs).config(config).build().unwrap();
    let mut peer = pipe(&server);
    peer.send(call("hang", 1)).await;
    for number in 2..4 {
        let id = uuid(number);
        peer.send(format!(
            r#"{{"id":"{id}","method":"inc","redial":{{"timeout_ms":20}}}}"#
        ))
        .await;
    }
    until("both are queued", || server.stats().queued == 2).await;
    tokio::time::advance(Duration::from_millis(21)).await;
    peer.send(call("inc", 5)).await;
    for reply in peer.receive_all::<2>().await {
        assert_eq!(code(&reply), -32002);
    }
    assert_eq!(server.stats().queued, 1);
}

#[test]
fn limits_that_no_method_can_have_are_refused() {
    let refused = |method: &str, limits: MethodLimits| {
        let builder = Service::default().builder().method_limits(method, limits);
        match builder.build() {
            Err(error @ BuildError::MethodLimits { .. }) => error.to_string(),
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("{method}: it was built"),
        }
    };
    let unknown = refused("ink", MethodLimits::default());
    assert!(
        unknown.contains("\"ink\"") && unknown.contains("no such method"),
        "{unknown}"
    );
    let none_runs = MethodLimits {
        max_running: Some(0),
        ..Default::default()
    };
    assert!(refused("inc", none_runs).contains("max_running is 0"));
    let no_time = MethodLimits {
        execution_timeout: Some(Duration::ZERO),
        ..Default::default()
    };
    assert!(refused("inc", no_time).contains("execution_timeout is 0"));
    let no_time = limited(1, Some(Duration::ZERO));
    assert!(Server::builder().config(no_time).build().is_err());
}
