//! What was said once about a call stays true, whatever its client sends next: done and replayed,
//! never, or acknowledged.

use std::collections::HashSet;

use crate::common::{
    Peer, executed,
    runs::{Runs, seed},
    session::{ack_request, ask, client, config, request_with},
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use redial_protocol::{SessionCall, SessionId};
use redial_server::{Config, Server};
use serde_json::{Value, json};
use tokio::io::DuplexStream;

/// The largest window; the server accepts numbers up to one more window ahead.
const MAX_WINDOW: usize = 5;

/// One client, and what it has heard about its calls.
struct Client {
    peer: Peer<DuplexStream>,
    session: SessionId,
    done: HashSet<u64>,
    never: HashSet<u64>,
    acknowledged: HashSet<u64>,
}

impl Client {
    async fn new(server: &Server) -> Self {
        let (peer, session) = client(server).await;
        Self {
            peer,
            session,
            done: HashSet::new(),
            never: HashSet::new(),
            acknowledged: HashSet::new(),
        }
    }

    async fn call(&mut self, number: u64, redial: Value, at: &str) {
        let request = request_with("run", self.session, number, (json!([number]), redial));
        let reply = self.peer.call_json(request).await;
        let at = format!("{at} call {number}: {reply}");
        if reply.get("result").is_some() {
            assert!(!self.never.contains(&number), "{at}");
            assert!(!self.acknowledged.contains(&number), "{at}");
            let is_replayed = reply.get("redial").is_some();
            assert_eq!(is_replayed, self.done.contains(&number), "{at}");
            self.done.insert(number);
        } else if reply["error"]["code"] == -32007 {
            self.stale(number, executed(&reply) == "no", &at);
        } else {
            assert!(!self.done.contains(&number), "{at}");
        }
    }

    async fn ask(&mut self, method: &str, number: u64, at: &str) {
        let request = ask(method, self.session, number);
        let reply = self.peer.call_json(request).await;
        let at = format!("{at} {method} {number}: {reply}");
        match reply["result"]["state"].as_str() {
            Some("never") => {
                assert!(!self.acknowledged.contains(&number), "{at}");
                self.stale(number, true, &at);
            }
            Some("done") => {
                assert!(self.done.contains(&number), "{at}");
                assert!(!self.acknowledged.contains(&number), "{at}");
            }
            Some(other) => panic!("{at}: {other}"),
            None if reply["error"]["code"] == -32007 => self.stale(number, false, &at),
            None => assert!(!self.done.contains(&number), "{at}"),
        }
    }

    /// The call was refused as fenced, or as acknowledged.
    fn stale(&mut self, number: u64, is_fenced: bool, at: &str) {
        if is_fenced {
            assert!(!self.done.contains(&number), "{at}");
            self.never.insert(number);
        } else {
            self.acknowledged.insert(number);
        }
    }

    async fn acknowledge(&mut self, below: u64, ranges: &Value) {
        let request = ack_request(self.session, below, ranges);
        self.peer.call(request).await;
    }
}

/// A message about a number near a point that moves on, at times very far.
async fn step(client: &mut Client, rng: &mut ChaCha8Rng, base: &mut u64, at: &str) {
    if rng.random_ratio(1, 8) {
        *base += rng.random_range(0..4);
    }
    if rng.random_ratio(1, 300) {
        *base += 1 << rng.random_range(0..58);
    }
    let base = *base;
    let number = (base + rng.random_range(0..16)).saturating_sub(rng.random_range(0..6));
    let number = number.min(SessionCall::MAX_NUMBER);
    match rng.random_range(0..6) {
        0 | 1 => {
            let mut redial = json!({"attempt": rng.random_range(1..4)});
            if rng.random_ratio(1, 6) {
                redial["ack"] = json!(base.saturating_sub(rng.random_range(0..6)));
            }
            client.call(number, redial, at).await;
        }
        2 => {
            let method = ["rpc.cancel", "rpc.resolve"][rng.random_range(0..2)];
            client.ask(method, number, at).await;
        }
        3 => {
            let reach = if rng.random_ratio(1, 20) { 40 } else { 4 };
            let to = number + rng.random_range(0..reach);
            let next = to + rng.random_range(0..3);
            let ranges = json!([[number, to], [next, next + rng.random_range(1..4)]]);
            let below = base.saturating_sub(rng.random_range(0..10));
            client.acknowledge(below, &ranges).await;
        }
        _ => {
            for number in base.saturating_sub(3)..base + 2 {
                client.call(number, json!({"attempt": 9}), at).await;
            }
        }
    }
}

#[tokio::test]
async fn done_never_and_acknowledged_are_final() {
    let seed = seed();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut said = [0; 3];
    for round in 0..20 {
        let runs = Runs::default();
        let server = runs.server(Config {
            max_in_flight: rng.random_range(1..=MAX_WINDOW),
            ..config()
        });
        let mut client = Client::new(&server).await;
        let mut base = 0;
        for number in 0..500 {
            let at = format!("seed {seed} round {round} step {number}");
            step(&mut client, &mut rng, &mut base, &at).await;
            let records = server.stats().session_records;
            assert!(records <= 2 * MAX_WINDOW, "{at}: {records} records");
        }
        runs.check(&format!("seed {seed} round {round}"));
        let sets = [&client.done, &client.never, &client.acknowledged];
        for (count, set) in said.iter_mut().zip(sets) {
            *count += set.len();
        }
    }
    println!(
        "done {}, never {}, acknowledged {}",
        said[0], said[1], said[2]
    );
    assert!(said.iter().all(|count| *count > 100), "{said:?}");
}
