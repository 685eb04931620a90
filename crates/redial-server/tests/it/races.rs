//! Whatever arrives at once, in whatever order: a call is executed at most once, every reply about
//! it is true, every request is answered, and nothing is left behind.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::common::{
    PATIENCE, eventually, pipe,
    runs::{Runs, seed},
    session::{HELLO, ack_request, ask, client, config, request_with},
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use redial_protocol::SessionId;
use redial_server::{Config, Delay, Fault, FaultRule, Server};
use serde_json::{Value, json};
use tokio::task::JoinSet;

const CALLS: u64 = 8;

const ATTEMPTS: [&str; 3] = ["attempt 1", "attempt 2", "attempt 3"];

/// What else happens while attempts, cancellations and questions arrive.
#[derive(Clone, Copy, PartialEq)]
enum Meanwhile {
    Nothing,
    Acknowledgements,
    Shutdown,
}

/// One frame, sent on its own connection.
struct Message {
    number: u64,
    what: &'static str,
    frame: String,
    /// The connection closes before the reply.
    is_cut: bool,
}

/// What a reply says about its call.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Claim {
    Done,
    Never,
    NotExecuted,
    Executed,
    Nothing,
}

/// A reply, and what it answers.
#[derive(Debug)]
struct ReceivedReply {
    what: &'static str,
    claim: Claim,
    #[expect(dead_code, reason = "shown when a check fails")]
    reply: Value,
}

/// The replies about each call.
type Replies = BTreeMap<u64, Vec<ReceivedReply>>;

/// A server with few slots, which in half of the rounds delays and duplicates requests.
fn crowded(runs: &Runs, rng: &mut ChaCha8Rng) -> Server {
    let server = runs.server(Config {
        max_running: rng.random_range(1..4),
        max_queued: rng.random_range(0..4),
        max_in_flight: 64,
        drain_timeout: Duration::from_millis(rng.random_range(0..4)),
        ..config()
    });
    if rng.random() {
        let delay = Duration::from_micros(rng.random_range(0..1_500));
        let delay = Fault::DelayExecution(Delay::Fixed(delay));
        let doubled = f64::from(rng.random_range(0u8..2)) / 2.0;
        server.faults().set([
            FaultRule::new(delay, 0.5).unwrap().for_method("wait"),
            FaultRule::new(Fault::Duplicate, doubled)
                .unwrap()
                .for_method("wait"),
        ]);
    }
    server
}

/// Three attempts of each call, some of them copied, some with little time, and other requests.
fn messages(rng: &mut ChaCha8Rng, session: SessionId, meanwhile: Meanwhile) -> Vec<Message> {
    let mut messages = Vec::new();
    for number in 0..CALLS {
        let mut add = |what, frame, is_cut| {
            messages.push(Message {
                number,
                what,
                frame,
                is_cut,
            });
        };
        for (attempt, what) in (1..).zip(ATTEMPTS) {
            for _copy in 0..rng.random_range(1..4) {
                let mut redial = json!({"attempt": attempt});
                if rng.random_ratio(1, 4) {
                    redial["timeout_ms"] = json!(rng.random_range(0..2));
                }
                let frame = request_with("wait", session, number, (json!([number]), redial));
                add(what, frame, rng.random_ratio(1, 8));
            }
        }
        for (method, share) in [("rpc.cancel", 3), ("rpc.resolve", 3), ("rpc.resolve", 4)] {
            if rng.random_ratio(1, share) {
                add(method, ask(method, session, number), false);
            }
        }
        if meanwhile == Meanwhile::Acknowledgements && rng.random_ratio(1, 3) {
            let range = json!([[number, number + 1]]);
            add("rpc.ack", ack_request(session, 0, &range), false);
        }
    }
    messages
}

async fn exchange(server: Server, message: Message) -> (u64, &'static str, Value) {
    let mut peer = pipe(&server);
    peer.send(&message.frame).await;
    let reply = if message.is_cut {
        None
    } else {
        peer.receive().await
    };
    let reply = reply.map_or(Value::Null, |text| serde_json::from_str(&text).unwrap());
    (message.number, message.what, reply)
}

fn claim(reply: &Value) -> Claim {
    let state = reply["result"]["state"].as_str();
    let executed = reply["error"]["data"]["executed"].as_str();
    match (state, executed) {
        (Some("never"), _) => Claim::Never,
        (Some("running"), _) => Claim::Nothing,
        (_, Some("no")) => Claim::NotExecuted,
        (_, Some("yes")) => Claim::Executed,
        _ if reply.get("result").is_some() => Claim::Done,
        _ => Claim::Nothing,
    }
}

/// Sends everything at once, and collects every reply.
async fn send_all(server: &Server, messages: Vec<Message>, turns: Option<u32>) -> Replies {
    let mut tasks = JoinSet::new();
    for message in messages {
        tasks.spawn(exchange(server.clone(), message));
    }
    if let Some(turns) = turns {
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
        server.shutdown().await;
    }
    let mut replies = Replies::new();
    for (number, what, reply) in tasks.join_all().await {
        let claim = claim(&reply);
        let heard = ReceivedReply { what, claim, reply };
        replies.entry(number).or_default().push(heard);
    }
    replies
}

/// Panics unless what was said of a call agrees with how often it ran.
fn check(runs: u64, replies: &[ReceivedReply], meanwhile: Meanwhile, at: &str) {
    assert!(runs <= 1, "{at}: executed {runs} times: {replies:#?}");
    let of_call = replies.iter().filter(|heard| heard.what != "rpc.ack");
    for heard in of_call {
        match heard.claim {
            Claim::Done => assert_eq!(runs, 1, "{at}: done: {replies:#?}"),
            Claim::Never => assert_eq!(runs, 0, "{at}: never: {replies:#?}"),
            // It is true of every acknowledged call, whether it ever arrived or not.
            Claim::Executed if meanwhile != Meanwhile::Acknowledgements => {
                assert_eq!(runs, 1, "{at}: executed: {replies:#?}");
            }
            _ => {}
        }
    }
    // A client that sent each attempt once takes the first reply to any of its copies.
    let is_refused = |attempt: &&str| {
        let mut replies = replies.iter();
        replies.any(|heard| heard.what == *attempt && heard.claim == Claim::NotExecuted)
    };
    if ATTEMPTS.iter().all(is_refused) {
        assert_eq!(runs, 0, "{at}: not executed: {replies:#?}");
    }
}

async fn round(rng: &mut ChaCha8Rng, meanwhile: Meanwhile, at: &str) {
    let runs = Runs::default();
    let server = crowded(&runs, rng);
    let (peer, session) = client(&server).await;
    drop(peer);
    let messages = messages(rng, session, meanwhile);
    let turns = (meanwhile == Meanwhile::Shutdown).then(|| rng.random_range(0..50));
    let replies = tokio::time::timeout(PATIENCE, send_all(&server, messages, turns)).await;
    let replies = replies
        .unwrap_or_else(|_| panic!("{at}: a request was not answered: {:?}", server.stats()));
    // Calls whose connections closed early finish, too.
    eventually(at, || {
        let stats = server.stats();
        stats.running + stats.queued + stats.connections == 0
    })
    .await;
    for (number, replies) in &replies {
        check(
            runs.of(*number),
            replies,
            meanwhile,
            &format!("{at} call {number}"),
        );
    }
    if meanwhile != Meanwhile::Shutdown {
        let stats = server.stats();
        assert_eq!(stats.started, stats.finished, "{at}: {stats:?}");
        pipe(&server)
            .call(ack_request(session, CALLS, &json!([])))
            .await;
        let stats = server.stats();
        assert_eq!((stats.session_records, stats.session_bytes), (0, 0), "{at}");
    }
}

async fn storm(rounds: u32, meanwhile: Meanwhile) {
    let seed = seed() ^ meanwhile as u64;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    for number in 0..rounds {
        round(&mut rng, meanwhile, &format!("seed {seed} round {number}")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn attempts_copies_cancellations_and_questions_race() {
    storm(250, Meanwhile::Nothing).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn acknowledgements_race_with_all_of_them() {
    storm(250, Meanwhile::Acknowledgements).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_shutdown_races_with_all_of_them() {
    storm(100, Meanwhile::Shutdown).await;
}

/// The sessions that were opened last, by any connection.
#[derive(Clone, Default)]
struct Known(Arc<Mutex<Vec<SessionId>>>);

impl Known {
    fn last(&self) -> Option<SessionId> {
        self.0.lock().unwrap().last().copied()
    }

    fn add(&self, hello: &Value) -> Option<SessionId> {
        let session = hello["result"]["session"].as_str()?.parse().unwrap();
        self.0.lock().unwrap().push(session);
        Some(session)
    }
}

/// Calls, questions and acknowledgements of sessions that may be gone before they arrive.
async fn wander(server: Server, known: Known, mut rng: ChaCha8Rng) {
    let mut peer = pipe(&server);
    for _ in 0..800 {
        let session = match known.last().filter(|_| rng.random_ratio(19, 20)) {
            Some(session) => session,
            None => match known.add(&peer.call_json(HELLO).await) {
                Some(session) => session,
                None => {
                    // There is no room, or this connection has opened as many as it may.
                    peer = pipe(&server);
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    continue;
                }
            },
        };
        let number = rng.random_range(0..20);
        let message = match rng.random_range(0..7) {
            0 => ask("rpc.cancel", session, number),
            1 => ask("rpc.resolve", session, number),
            2 => {
                let above = json!([[10, rng.random_range(11..17)]]);
                ack_request(session, rng.random_range(0..8), &above)
            }
            3 => {
                peer = pipe(&server);
                continue;
            }
            _ => {
                // One attempt number for each call of each session.
                let call = (session.bits() << 5) | number;
                let redial =
                    json!({"attempt": rng.random_range(1..4), "ack": rng.random_range(0..3)});
                request_with("wait", session, number, (json!([call]), redial))
            }
        };
        peer.call(message).await;
        assert!(server.stats().sessions <= 6);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn leases_that_end_race_with_calls_questions_and_hellos() {
    let seed = seed();
    let runs = Runs::default();
    let server = runs.server(Config {
        max_running: 3,
        max_queued: 3,
        max_in_flight: 16,
        max_sessions: 6,
        session_lease: Duration::from_millis(3),
        ..config()
    });
    let delay = Fault::DelayExecution(Delay::Fixed(Duration::from_millis(4)));
    server.faults().set([FaultRule::new(delay, 0.3).unwrap()]);
    let known = Known::default();
    let actors = (0..12).map(|actor| {
        let rng = ChaCha8Rng::seed_from_u64(seed.wrapping_add(actor));
        wander(server.clone(), known.clone(), rng)
    });
    let actors: JoinSet<()> = actors.collect();
    let ended = tokio::time::timeout(PATIENCE * 3, actors.join_all()).await;
    assert!(
        ended.is_ok(),
        "seed {seed}: a request was not answered: {:?}",
        server.stats()
    );
    let opened = known.0.lock().unwrap().len();
    println!("{opened} sessions, {:?}", server.stats());
    assert!(opened > 12, "no session came to its end");
    eventually("nothing is left", || {
        let stats = server.stats();
        let held = stats.sessions + stats.session_records + stats.session_bytes;
        held + stats.running + stats.queued + stats.connections == 0
    })
    .await;
    runs.check(&format!("seed {seed}"));
}
