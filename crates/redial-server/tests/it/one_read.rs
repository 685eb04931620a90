//! What arrives in one read is answered as if it had arrived frame by frame, and leaves nothing
//! behind: calls of one read share work, and nothing else.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{self, Poll},
    time::Duration,
};

use crate::common::{
    self, Peer, Service, pipe,
    runs::seed,
    session::{ack, ack_request, ask, ask_for, open, request_with},
    until, uuid,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use redial_protocol::SessionId;
use redial_server::{
    Abort, Config, Context, Event, EventKind, Fault, FaultRule, Faults, Observer, Server, Stats,
};
use serde_json::{Value, json};
use tokio::io::{AsyncWriteExt, DuplexStream};

/// How many numbers of each session the messages use.
const NUMBERS: u64 = 6;

/// A request, most often of the first session.
fn message(rng: &mut ChaCha8Rng, sessions: &[SessionId]) -> String {
    let session = sessions[rng
        .random_range(0..2usize)
        .min(rng.random_range(0..sessions.len()))];
    let number = rng.random_range(0..NUMBERS);
    let plain = json!(uuid(rng.random_range(0..3)));
    let id = match rng.random_range(0..4) {
        0 => plain.clone(),
        1 => json!(7),
        _ => Value::Null,
    };
    // Mostly the same method as other attempts of the number.
    let method = if rng.random_ratio(1, 6) {
        rng.random_range(0..NUMBERS)
    } else {
        number
    };
    let method = ["inc", "inc", "fail", "no_effect", "panic", "get"][method as usize];
    let mut redial = json!({"attempt": rng.random_range(1..4)});
    if rng.random_ratio(1, 6) {
        redial["ack"] = json!(rng.random_range(0..4));
    }
    if rng.random_ratio(1, 4) {
        redial["timeout_ms"] = json!([0, 60_000][rng.random_range(0..2usize)]);
    }
    let above = json!([[number, number + 1]]);
    match rng.random_range(0..32) {
        0 => ask("rpc.cancel", session, number),
        1 | 2 => ask("rpc.resolve", session, number),
        3 => ask_for("rpc.resolve", &plain),
        4 => ack_request(session, 0, &above),
        5 => ack(session, rng.random_range(0..3), &json!([])),
        6 => common::session::attach(session),
        7 => common::session::PING.to_owned(),
        8 => json!({"jsonrpc": "2.0", "method": method, "params": {}}).to_string(),
        9 => "nothing that could be read".to_owned(),
        10..14 => json!({"jsonrpc": "2.0", "id": id, "method": method, "params": {}}).to_string(),
        14 | 15 => json!({"id": plain, "method": method, "params": {}}).to_string(),
        _ => request_with(method, session, number, (json!({}), redial)),
    }
}

fn frames(rng: &mut ChaCha8Rng, sessions: &[SessionId]) -> Vec<String> {
    let count = rng.random_range(1..40);
    let mut frame = || {
        if rng.random_ratio(1, 12) {
            let entries = rng.random_range(1..5);
            let entries: Vec<String> = (0..entries).map(|_| message(rng, sessions)).collect();
            format!("[{}]", entries.join(","))
        } else {
            message(rng, sessions)
        }
    };
    (0..count).map(|_| frame()).collect()
}

fn bytes(frames: &[String]) -> Vec<u8> {
    let framed = frames.iter().flat_map(|frame| {
        let length = u32::try_from(frame.len()).unwrap().to_be_bytes();
        [&length[..], frame.as_bytes()].concat()
    });
    framed.collect()
}

/// Collects every reply until the server is idle.
async fn listen(peer: &mut Peer<DuplexStream>, replies: &mut Vec<String>) {
    let moment = Duration::from_millis(1);
    while let Ok(Some(reply)) = tokio::time::timeout(moment, peer.receive()).await {
        replies.push(reply);
    }
}

/// How the bytes arrive.
#[derive(Clone, Copy, Debug)]
enum Arrival {
    FrameByFrame,
    AtOnce,
    InPieces,
}

/// The replies, the effects of the handlers, and the server's counters.
async fn serve(seed: u64, arrival: Arrival) -> (Vec<String>, u64, (u64, u64, u64)) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let service = Service::default();
    let config = Config {
        max_running: rng.random_range(1..3),
        max_in_flight: 64,
        max_protocol_errors: 100,
        ..Config::default()
    };
    let server = service.builder().config(config).session_seed(7);
    let server = server.faults(Faults::new(seed)).build().unwrap();
    let (mut other, mut peer) = (pipe(&server), pipe(&server));
    let sessions = [
        open(&mut peer).await,
        open(&mut peer).await,
        open(&mut other).await,
        open(&mut other).await,
    ];
    if rng.random() {
        let rule = |fault| FaultRule::new(fault, 0.04).unwrap();
        let faults = [Fault::Duplicate, Fault::DropRequest, Fault::DropReply];
        server.faults().set(faults.map(rule));
    }
    let frames = frames(&mut rng, &sessions);
    let mut replies = Vec::new();
    match arrival {
        Arrival::FrameByFrame => {
            for frame in &frames {
                let _ = peer.io.write_all(&bytes(std::slice::from_ref(frame))).await;
                listen(&mut peer, &mut replies).await;
            }
        }
        Arrival::AtOnce => peer.io.write_all(&bytes(&frames)).await.unwrap(),
        Arrival::InPieces => {
            let all = bytes(&frames);
            let mut rest = &all[..];
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(rng.random_range(1..=rest.len().min(600)));
                let _ = peer.io.write_all(piece).await;
                listen(&mut peer, &mut replies).await;
                rest = after;
            }
        }
    }
    listen(&mut peer, &mut replies).await;
    let stats = server.stats();
    assert_eq!((stats.running, stats.queued), (0, 0), "{seed}: {stats:?}");
    server.faults().clear();
    for session in sessions {
        other.call(ack_request(session, 1000, &json!([]))).await;
    }
    let left = server.stats();
    assert_eq!((left.session_records, left.session_bytes), (0, 0), "{seed}");
    replies.sort_unstable();
    let Stats {
        started, finished, ..
    } = stats;
    (
        replies,
        service.effects(),
        (started, finished, stats.refused),
    )
}

#[tokio::test(start_paused = true)]
async fn one_read_is_answered_as_frame_by_frame() {
    let first = seed();
    for seed in first..first + 150 {
        let expected = serve(seed, Arrival::FrameByFrame).await;
        for arrival in [Arrival::AtOnce, Arrival::InPieces] {
            assert_eq!(serve(seed, arrival).await, expected, "{seed} {arrival:?}");
        }
    }
}

/// Two connections send the same calls at the same time: a call that one of them has not recorded
/// yet is joined by the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_call_that_is_not_recorded_yet_is_joined() {
    for round in 0..100u64 {
        let service = Service::default();
        let server = service.server(Config::default());
        let (mut one, mut other) = (pipe(&server), pipe(&server));
        let session = open(&mut one).await;
        other.call(common::session::attach(session)).await;
        let calls = 1 + round % 60;
        let frames: Vec<String> = (0..calls)
            .map(|number| common::session::inc(session, number))
            .collect();
        let all = bytes(&frames);
        let (a, b) = tokio::join!(one.io.write_all(&all), other.io.write_all(&all));
        a.and(b).unwrap();
        let mut values = [vec![], vec![]];
        for (peer, values) in [&mut one, &mut other].into_iter().zip(&mut values) {
            for _ in 0..calls {
                let reply = peer.receive_json().await;
                let value = reply["result"]["value"].as_i64();
                values.push((reply["id"].to_string(), value.unwrap()));
            }
            values.sort_unstable();
        }
        assert_eq!(values[0], values[1]);
        assert_eq!(service.effects(), calls);
        until("all permits are free", || server.stats().running == 0).await;
    }
}

/// Panics at the first event of one kind.
struct Panicking {
    at: EventKind,
    is_done: AtomicBool,
}

impl Observer for Panicking {
    fn observe(&self, event: &Event<'_>) {
        if event.kind == self.at && !self.is_done.swap(true, SeqCst) {
            panic!("an observer should not do this");
        }
    }
}

/// An observer must not panic, but if it does no call suffers.
#[tokio::test(start_paused = true)]
async fn an_observer_that_panics_costs_no_permit_and_no_outcome() {
    for at in [
        EventKind::Accepted,
        EventKind::Started,
        EventKind::Finished,
        EventKind::Replied,
    ] {
        for method in ["inc", "slow_inc"] {
            let service = Service::default();
            let observer = Panicking {
                at,
                is_done: AtomicBool::new(false),
            };
            let config = Config {
                max_running: 1,
                ..Config::default()
            };
            let server = service.builder().config(config).observer(observer);
            let server = server.build().unwrap();
            let mut peer = pipe(&server);
            let session = open(&mut peer).await;
            let mut peer = pipe(&server);
            let call = request_with(method, session, 0, (json!({}), json!({})));
            peer.send(&call).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            let reply = peer.call_json(&call).await;
            assert_eq!(reply["result"]["value"], 1, "{at:?} {method}: {reply}");
            assert_eq!(service.effects(), 1, "{at:?} {method}");
            assert_eq!(server.stats().running, 0, "{at:?} {method}");
        }
    }
}

/// A handler that blocks its thread, as one that waits for a disk.
fn blocks(time: Duration) -> impl Future<Output = ()> {
    std::future::poll_fn(move |context| {
        // The clock moves on in its first poll.
        let _ = pin!(tokio::time::advance(time)).poll(context);
        Poll::Ready(())
    })
}

/// However quick the calls before were.
#[tokio::test(start_paused = true)]
async fn a_plain_record_lives_from_the_end_of_its_call() {
    let runs = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counted = Arc::clone(&runs);
    let server = Server::builder()
        .mutation("run", move |(ms,): (u64,), _: Context| {
            let runs = Arc::clone(&counted);
            async move {
                blocks(Duration::from_millis(ms)).await;
                Ok(runs.fetch_add(1, SeqCst))
            }
        })
        .build()
        .unwrap();
    let run = |number, ms: u64| json!({"id": uuid(number), "method": "run", "params": [ms]});
    let mut peer = pipe(&server);
    for number in 0..1_000 {
        peer.call(run(number, 0).to_string()).await;
    }
    let slow = run(1_000, 10_001).to_string();
    let first = peer.call(&slow).await;
    assert_eq!(pipe(&server).call(&slow).await, first);
    assert_eq!(runs.load(SeqCst), 1_001, "nothing ran twice");
}

/// Panics when it is polled, and again when it is dropped, if it is live.
struct Mine {
    is_live: bool,
}

impl Future for Mine {
    type Output = Result<(), Abort>;

    fn poll(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<Self::Output> {
        assert!(!self.is_live, "trodden on");
        Poll::Ready(Ok(()))
    }
}

impl Drop for Mine {
    fn drop(&mut self) {
        assert!(!self.is_live, "cleared away");
    }
}

/// The futures of one method are polled in one slot, one after the other.
#[tokio::test]
async fn a_future_that_panics_when_dropped_does_not_affect_the_next_call() {
    let lay = |(is_live,): (bool,), _: Context| Mine { is_live };
    let server = Server::builder().mutation("lay", lay).build().unwrap();
    let mut peer = pipe(&server);
    for (number, is_live) in [(1, true), (2, false), (3, true), (4, true), (5, false)] {
        let id = uuid(number);
        let request = format!(r#"{{"id":"{id}","method":"lay","params":[{is_live}]}}"#);
        let reply = peer.call_json(&request).await;
        assert_eq!(reply.get("result").is_none(), is_live, "{number}: {reply}");
        assert_eq!(
            reply
                .to_string()
                .contains("the handler panicked (reference "),
            is_live,
            "{reply}"
        );
        assert_eq!(peer.call_json(&request).await, reply);
    }
    assert_eq!(server.stats().running, 0);
}

/// Bursts on several connections and sessions, with everything that may come in between.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn bursts_answer_every_request_and_leave_nothing_behind() {
    let first = seed();
    for seed in first..first + ROUNDS {
        burst(seed).await;
    }
}

const ROUNDS: u64 = 10;

async fn burst(seed: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let runs = common::runs::Runs::default();
    let server = runs.server(Config {
        max_running: rng.random_range(1..4),
        max_queued: rng.random_range(0..64),
        drain_timeout: Duration::from_millis(rng.random_range(0..4)),
        ..Config::default()
    });
    let mut opener = pipe(&server);
    let sessions = [open(&mut opener).await, open(&mut opener).await];
    let rule = |fault, p| FaultRule::new(fault, p).unwrap();
    if rng.random() {
        let delay = redial_server::Delay::Fixed(Duration::from_micros(300));
        server.faults().set([
            rule(Fault::Duplicate, 0.1),
            rule(Fault::DelayExecution(delay), 0.1),
            rule(Fault::DelayReply(delay), 0.1),
            rule(
                Fault::Cut(redial_server::CutPoint::MidReply),
                f64::from(rng.random_range(0u8..2)) / 100.0,
            ),
        ]);
    }
    let is_shut = rng.random_ratio(1, 3);
    let mut tasks = Vec::new();
    for _ in 0..4 {
        let mut frames = Vec::new();
        for _ in 0..rng.random_range(1..200) {
            let which = rng.random_range(0..2usize);
            let number = rng.random_range(0..60u64);
            let method = ["run", "wait"][usize::from(number % 3 == 0)];
            let params = json!([number + 1000 * which as u64]);
            let redial = json!({"attempt": rng.random_range(1..4)});
            frames.push(match rng.random_range(0..12) {
                0 => ask("rpc.resolve", sessions[which], number),
                1 => ask("rpc.cancel", sessions[which], number),
                2 => common::session::PING.to_owned(),
                _ => request_with(method, sessions[which], number, (params, redial)),
            });
        }
        let mut peer = pipe(&server);
        tasks.push(tokio::spawn(async move {
            let mut values = Vec::new();
            if peer.io.write_all(&bytes(&frames)).await.is_err() {
                return values;
            }
            for _ in 0..frames.len() {
                let Some(reply) = peer.receive().await else {
                    return values;
                };
                values.push(reply);
            }
            values
        }));
    }
    if is_shut {
        tokio::time::sleep(Duration::from_micros(rng.random_range(0..2000))).await;
        server.shutdown().await;
    }
    for task in tasks {
        for reply in task.await.unwrap() {
            let reply: Value = serde_json::from_str(&reply).unwrap();
            if let (Some(id), Some(value)) = (reply["id"].as_str(), reply["result"].as_u64()) {
                let session = usize::from(value >= 1000);
                assert_eq!(common::session::id(sessions[session], value % 1000), id);
            }
        }
    }
    common::eventually("all permits are free", || {
        let stats = server.stats();
        stats.running + stats.queued == 0 && stats.started == stats.finished
    })
    .await;
    runs.check(&format!("SEED={seed}"));
    drop(opener);
}
