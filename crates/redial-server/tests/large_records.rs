//! What the limits on kept bytes count is what the process takes, within 5 %, however large the
//! outcomes are. Measured on processes of their own: what one has freed, the next would use.
#![cfg(target_os = "linux")]

#[path = "it/common/mod.rs"]
mod common;

use std::{process::Command, sync::Arc, time::Duration};

use common::{Service, pipe, resident_kib, session, uuid};
use redial_server::{Config, Context, Server};
use serde_json::{Value, json, value::RawValue};
use tokio::sync::Barrier;

const MIB: usize = 1024 * 1024;

/// So much that what a process takes beside is little.
const MAX_BYTES: usize = 256 * MIB;

/// Says to a copy of this program which case it is.
const CASE: &str = "REDIAL_LARGE_RECORDS";

/// How many calls end at once, where more than one does.
const AT_ONCE: usize = 32;

/// A server whose `large` has an effect and a result of so many bytes, and ends when as many others have
/// begun.
fn server(bytes: usize, at_once: usize) -> Server {
    let text = RawValue::from_string(format!("\"{}\"", "x".repeat(bytes - 2))).unwrap();
    let barrier = Arc::new(Barrier::new(at_once));
    let large = move |_: Value, _: Context| {
        let (text, barrier) = (text.clone(), Arc::clone(&barrier));
        async move {
            barrier.wait().await;
            Ok(text)
        }
    };
    let config = Config {
        ttl: Duration::from_secs(3_600),
        max_record_bytes: MAX_BYTES,
        max_session_bytes: MAX_BYTES,
        max_all_session_bytes: MAX_BYTES,
        max_in_flight: 65_536,
        ..Config::default()
    };
    let builder = Service::default().builder();
    builder
        .mutation("large", large)
        .config(config)
        .build()
        .unwrap()
}

/// Keeps outcomes of this length until there is no room. Returns what is counted, and what the
/// process has taken, in KiB.
async fn fill(bytes: usize, in_session: bool, at_once: usize) -> (usize, usize) {
    let server = server(bytes, at_once);
    let mut peer = pipe(&server);
    let session = session::open(&mut peer).await;
    // A first one, so that what is allocated once is allocated here.
    let request = |number: u32| {
        if in_session {
            let params = (json!({}), json!({}));
            session::request_with("large", session, number.into(), params)
        } else {
            json!({"id": uuid(number), "method": "large"}).to_string()
        }
    };
    let step = at_once as u32;
    let mut end_all = async |from: u32| {
        for number in from..from + step {
            peer.send(request(number)).await;
        }
        let mut are_kept = true;
        for _ in 0..at_once {
            are_kept &= peer.receive().await.unwrap().contains("\"result\"");
        }
        are_kept
    };
    end_all(0).await;
    let (before, counted_before) = (resident_kib(), counted_kib(&server));
    for round in 1.. {
        // Where some wait for the others, all have to be admitted.
        let is_nearly_full = counted_kib(&server) > MAX_BYTES / 1024 * 3 / 4;
        if at_once > 1 && is_nearly_full || !end_all(round * step).await {
            break;
        }
    }
    let counted = counted_kib(&server) - counted_before;
    (counted, resident_kib() - before)
}

fn counted_kib(server: &Server) -> usize {
    let stats = server.stats();
    (stats.record_bytes + stats.session_bytes) / 1024
}

#[test]
fn what_the_limits_count_is_what_the_process_takes() {
    if let Ok(case) = std::env::var(CASE) {
        let (case, at_once) = case.rsplit_once(' ').unwrap();
        let (bytes, in_session) = case.split_once(' ').unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let filled = fill(
            bytes.parse().unwrap(),
            in_session == "true",
            at_once.parse().unwrap(),
        );
        let (counted, taken) = runtime.block_on(filled);
        println!("counted {counted} taken {taken}");
        return;
    }
    let mut wrong = Vec::new();
    let sizes = [
        (5_000, 1),
        (135_000, 1),
        (1_000_000, 1),
        (1_000_000, AT_ONCE),
    ];
    for in_session in [false, true] {
        for (bytes, at_once) in sizes {
            let case = format!("{bytes} {in_session} {at_once}");
            let copy = Command::new(std::env::current_exe().unwrap())
                .args(["--nocapture", "--test-threads=1"])
                .env(CASE, &case)
                .output()
                .unwrap();
            let output = String::from_utf8(copy.stdout).unwrap();
            let line = output.lines().find_map(|line| line.split_once("counted "));
            let line = line.unwrap_or_else(|| panic!("{output}")).1;
            let (counted, taken) = line.split_once(" taken ").unwrap();
            let [counted, taken] = [counted, taken].map(|kib| kib.parse::<f64>().unwrap());
            let ratio = taken / counted;
            println!(
                "{at_once} x {bytes} bytes, in a session: {in_session}: {taken} of {counted} KiB, {ratio:.3}"
            );
            // What the replies of one round took on their way is used again by the next one: it may count
            // as taken before the records, or after them.
            let on_their_way = if at_once > 1 {
                (at_once * bytes / 1024) as f64
            } else {
                0.0
            };
            let least = counted * 0.95 - on_their_way;
            let most = counted * 1.05 + on_their_way;
            if !(least..=most).contains(&taken) {
                wrong.push((case, ratio));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}
