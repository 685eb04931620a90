//! Whether the time that an answer takes tells another principal's ids from ids that never were. A
//! measurement, to be run alone on a quiet machine and with optimisation:
//!
//! ```text
//! cargo test --release -p redial-server --test it answering_times -- --ignored --nocapture
//! ```

use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use redial_protocol::SessionId;
use redial_server::{Config, Extensions, Principal, Server};
use serde_json::{Value, json};
use tokio::io::DuplexStream;

use crate::common::{
    Peer, Service, pipe, pipe_with,
    session::{id, inc, open},
};

/// How often each question is asked of either kind.
const TRIES: usize = 100_000;

/// How many sessions and plain ids there are to be asked about.
const VICTIMS: usize = 500;

/// Of so many in a thousand the slowest answers are left out: other tasks had the processor.
const LEFT_OUT: usize = 10;

fn connect(server: &Server, name: &str) -> Peer<DuplexStream> {
    let mut extensions = Extensions::new();
    extensions.insert(Principal::new(name).unwrap());
    pipe_with(server, extensions)
}

#[expect(clippy::disallowed_methods, reason = "real time is what is measured")]
fn clock() -> Instant {
    Instant::now()
}

/// The mean, and its standard error, in nanoseconds.
fn mean(times: &mut [Duration]) -> (f64, f64) {
    times.sort_unstable();
    let kept = &times[..times.len() - times.len() * LEFT_OUT / 1000];
    let count = kept.len() as f64;
    let nanos = || kept.iter().map(|time| time.as_nanos() as f64);
    let mean = nanos().sum::<f64>() / count;
    let variance = nanos().map(|time| (time - mean).powi(2)).sum::<f64>() / (count - 1.0);
    (mean, (variance / count).sqrt())
}

type Question = fn(SessionId, usize) -> Value;

/// What is asked about a session and a plain id.
const QUESTIONS: [(&str, Question); 6] = [
    ("rpc.hello", |session, _| json!({ "session": session })),
    ("rpc.resolve", |session, _| json!({ "id": id(session, 0) })),
    ("rpc.cancel", |session, _| json!({ "id": id(session, 0) })),
    (
        "rpc.ack",
        |session, _| json!({"session": session, "ack": 0}),
    ),
    (
        "rpc.resolve",
        |_, plain| json!({ "id": format!("plain {plain:06}") }),
    ),
    ("inc", |_, _| json!({})),
];

#[tokio::test]
#[ignore = "a measurement, which takes a minute"]
async fn answers_about_anothers_ids_take_as_long_as_those_about_unknown_ones() {
    let seed = 4_711;
    println!("seed {seed}, {TRIES} tries of each kind");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let server = Service::default().server(Config {
        ttl: Duration::from_secs(3_600),
        max_protocol_errors: u32::MAX,
        ..Config::default()
    });
    let mut sessions = Vec::new();
    let mut owners = Vec::new();
    for number in 0..VICTIMS {
        let mut owner = connect(&server, "cert:owner");
        let session = open(&mut owner).await;
        owner.call(inc(session, 0)).await;
        let call = json!({"id": format!("plain {number:06}"), "method": "inc", "params": {}});
        owner.call(call.to_string()).await;
        sessions.push(session);
        owners.push(owner);
    }
    // As many that never were, asked about as often: what is asked about again and again is quicker to read.
    let unknown: Vec<_> = (0..VICTIMS)
        .map(|_| SessionId::from_bits(rng.random()))
        .collect();
    for name in [Some("cert:other"), None] {
        println!(
            "asked by {}",
            name.unwrap_or("a caller without a principal")
        );
        let mut other = name.map_or_else(|| pipe(&server), |name| connect(&server, name));
        open(&mut other).await;
        compare(&mut other, &mut rng, &sessions, &unknown).await;
    }
}

/// Asks about both kinds, in an order that tells nothing, and prints what the answers took.
async fn compare(
    other: &mut Peer<DuplexStream>,
    rng: &mut ChaCha8Rng,
    sessions: &[SessionId],
    unknown: &[SessionId],
) {
    for (method, params) in QUESTIONS {
        let mut times = [const { Vec::new() }; 2];
        for attempt in 0..2 * TRIES {
            let is_unknown = rng.random::<bool>();
            let at = rng.random_range(0..VICTIMS);
            let session = if is_unknown {
                unknown[at]
            } else {
                sessions[at]
            };
            let plain = if is_unknown { VICTIMS + at } else { at };
            let asked = params(session, plain);
            let call_id = match method {
                "inc" => id(session, 0),
                _ => format!("q{attempt}"),
            };
            let asked = json!({"id": call_id, "method": method, "params": asked}).to_string();
            let begun = clock();
            other.send(&asked).await;
            let answer = other.receive().await;
            times[usize::from(is_unknown)].push(clock() - begun);
            assert!(answer.is_some());
        }
        let [(anothers, error), (unknown, other_error)] = times.map(|mut times| mean(&mut times));
        let (difference, noise) = (anothers - unknown, error.hypot(other_error));
        let what = match params(sessions[0], 0).to_string() {
            text if text.contains("plain") => "a plain id",
            text if text == "{}" => "a call",
            _ => "a session",
        };
        println!(
            "{method:11} {what:10}: another's {anothers:7.0} ns, unknown {unknown:7.0} ns, \
             difference {difference:6.1} ns, its standard error {noise:5.1} ns"
        );
    }
}
