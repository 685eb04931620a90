//! What the limits on kept bytes count is what the process takes, within 5 %, however large the
//! outcomes are. Measured on processes of their own: what one has freed, the next would use.
#![cfg(target_os = "linux")]

#[path = "it/common/mod.rs"]
mod common;

use std::{process::Command, time::Duration};

use common::{Service, pipe, resident_kib, session, uuid};
use redial_server::{Config, Context, Server};
use serde_json::{Value, json, value::RawValue};

const MIB: usize = 1024 * 1024;

/// So much that what a process takes beside is little.
const MAX_BYTES: usize = 256 * MIB;

/// Says to a copy of this program which case it is.
const CASE: &str = "REDIAL_LARGE_RECORDS";

/// A server whose `large` has an effect and a result of so many bytes.
fn server(bytes: usize) -> Server {
    let text = RawValue::from_string(format!("\"{}\"", "x".repeat(bytes - 2))).unwrap();
    let large = move |_: Value, _: Context| {
        let text = text.clone();
        async move { Ok(text) }
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
async fn fill(bytes: usize, in_session: bool) -> (usize, usize) {
    let server = server(bytes);
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
    peer.call(request(0)).await;
    let (before, counted_before) = (resident_kib(), counted_kib(&server));
    for number in 1.. {
        if !peer.call(request(number)).await.contains("\"result\"") {
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
        let (bytes, in_session) = case.split_once(' ').unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let filled = fill(bytes.parse().unwrap(), in_session == "true");
        let (counted, taken) = runtime.block_on(filled);
        println!("counted {counted} taken {taken}");
        return;
    }
    let mut wrong = Vec::new();
    for in_session in [false, true] {
        for bytes in [5_000, 135_000, 1_000_000] {
            let case = format!("{bytes} {in_session}");
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
                "{bytes} bytes, in a session: {in_session}: {taken} of {counted} KiB, {ratio:.3}"
            );
            if !(0.95..=1.05).contains(&ratio) {
                wrong.push((case, ratio));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}
