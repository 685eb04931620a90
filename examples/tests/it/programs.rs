//! The two programs together: whatever is lost, every call counts once.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::counter_server::CounterServer;

fn start(flags: &str) -> CounterServer {
    CounterServer::start(flags.split_whitespace())
}

impl CounterServer {
    fn client(&self, flags: &str) -> Command {
        let mut client = Command::new(env!("CARGO_BIN_EXE_counter-client"));
        client
            .args(["--connect", &self.address, "--json"])
            .args(flags.split_whitespace());
        client
    }

    /// Runs the client to its end: its exit code and its output.
    fn run(&self, flags: &str) -> (i32, Value) {
        outcome(self.client(flags).output().unwrap())
    }
}

fn outcome(output: std::process::Output) -> (i32, Value) {
    let text = String::from_utf8(output.stdout).unwrap();
    let last = text.lines().last().unwrap_or_default();
    let summary = serde_json::from_str(last).unwrap_or_else(|_| panic!("no summary: {text:?}"));
    (output.status.code().expect("it ends by itself"), summary)
}

/// The notebook's demo failed on every call, because every reply came after the attempt's timeout.
/// With its six attempts, a call in a hundred loses all of them in one of 156 runs (0.2^6 for each
/// call): a call has as many as its deadline allows.
#[test]
fn the_notebooks_demo_succeeds_although_every_reply_is_later_than_the_timeout() {
    let server = start("--delay-ms 120 --drop-request 0.2 --seed 1");
    let (code, summary) =
        server.run("--attempt-timeout-ms 100 --max-attempts 1000 --backoff-ms 30 --calls 100");
    assert_eq!(code, 0, "{summary}");
    assert_eq!(
        (&summary["ok"], &summary["value"]),
        (&100.into(), &100.into()),
        "{summary}"
    );
}

#[test]
fn lost_replies_and_cut_connections_count_once_with_one_id_and_more_often_naively() {
    let server = start("--drop-reply 0.3 --cut 0.1 --seed 2");
    // A connection lives for ten requests or so, and the calls of all 32 callers break with it.
    let hasty = "--calls 1000 --concurrency 32 --attempt-timeout-ms 30 --backoff-ms 2 \
                 --max-attempts 100 --deadline-ms 30000";
    let (code, summary) = server.run(&format!("{hasty} --key one"));
    assert_eq!(code, 0, "{summary}");
    assert_eq!(summary["value"], 1000, "{summary}");
    let (_, naive) = server.run(&format!("{hasty} --key many --naive"));
    assert!(naive["value"].as_i64().unwrap() > 1000, "{naive}");
}

#[test]
fn with_a_key_per_call_every_value_is_checked() {
    let server = start("--drop-reply 0.3 --seed 3");
    let hasty = "--calls 400 --concurrency 32 --attempt-timeout-ms 30 --backoff-ms 2 --delta 3 \
                 --max-attempts 1000 --deadline-ms 30000";
    let (code, summary) = server.run(&format!("{hasty} --key-per-call one --connections 2"));
    assert_eq!((code, &summary["violations"]), (0, &0.into()), "{summary}");
    assert_eq!(summary["value"], Value::Null);
    // Where both are silent for an attempt's timeout, one more is made, and no other after it.
    let connects = summary["connects"].as_u64();
    assert!(matches!(connects, Some(2 | 3)), "{summary}");
    let (code, naive) = server.run(&format!("{hasty} --key-per-call many --naive"));
    assert_eq!(code, 1, "{naive}");
    assert!(naive["violations"].as_u64() > Some(10), "{naive}");
}

/// The seed of the delays is fixed; a tenth of the replies waits 200 ms.
#[test]
fn delays_follow_their_distribution() {
    let server = start("--reply-delay-ms 200 --reply-delay-p 0.1 --seed 4");
    let (_, summary) = server.run("--calls 200 --attempt-timeout-ms 5000");
    let latency = |which: &str| summary["latency_us"][which].as_u64().unwrap();
    assert!(
        latency("p50") < 200_000 && latency("p99") >= 200_000,
        "{summary}"
    );
    let server = start("--reply-delay-pareto 20:1.5 --seed 4");
    let (_, summary) = server.run("--calls 200 --concurrency 50 --attempt-timeout-ms 5000");
    let latency = |which: &str| summary["latency_us"][which].as_u64().unwrap();
    assert!(latency("p50") >= 20_000, "{summary}");
    // Half of all waits are below 2^(2/3), 1.6 times the shortest; a hundredth is above 100^(2/3),
    // 21 times.
    assert!(latency("p99") > 5 * latency("p50"), "{summary}");
}

/// A twentieth of the replies waits 300 ms; a copy on the other connection mostly doesn't. If that
/// connection's hello waits, the first calls have no copies: they are few of 3000.
#[test]
fn hedged_calls_overtake_slow_replies_and_count_once() {
    let server = start("--reply-delay-ms 300 --reply-delay-p 0.05 --seed 5");
    let patient = "--attempt-timeout-ms 5000 --connections 2";
    let (_, alone) = server.run(&format!("{patient} --calls 400 --key alone"));
    let (_, hedged) = server.run(&format!(
        "{patient} --calls 3000 --key hedged --hedge-ms 30"
    ));
    assert_eq!(
        (&alone["value"], &hedged["value"]),
        (&400.into(), &3000.into())
    );
    assert_eq!(alone["hedges"], 0, "{alone}");
    assert!(hedged["hedges"].as_u64() > Some(50), "{hedged}");
    let p99 = |summary: &Value| summary["latency_us"]["p99"].as_u64().unwrap();
    assert!(
        p99(&alone) >= 300_000 && p99(&hedged) < 300_000,
        "{alone} {hedged}"
    );
    let (_, learnt) = server.run(&format!("{patient} --calls 400 --key learnt --hedge p95"));
    assert_eq!(learnt["value"], 400, "{learnt}");
}

#[test]
fn the_summary_says_whether_there_was_a_session() {
    let server = start("");
    for (flags, sessions) in [("", true), ("--no-sessions", false), ("--naive", false)] {
        let (code, summary) = server.run(&format!("--calls 20 {flags}"));
        assert_eq!(
            (code, &summary["sessions"]),
            (0, &sessions.into()),
            "{flags}: {summary}"
        );
    }
}

/// After `kill -9` the ledger still holds the calls that were answered.
#[test]
fn the_ledger_outlives_a_killed_server() {
    let ledger = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("killed.jsonl");
    let _ = std::fs::remove_file(&ledger);
    let flags = format!("--ledger {}", ledger.display());
    for key in ["first", "second"] {
        let mut server = start(&flags);
        let (_, summary) = server.run(&format!("--calls 50 --delta 2 --key {key}"));
        assert_eq!(summary["ok"], 50, "{summary}");
        server.child.kill().unwrap();
        server.child.wait().unwrap();
    }
    let text = std::fs::read_to_string(&ledger).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 100);
    assert_eq!(lines[0], r#"{"key":"first","delta":2,"value":2}"#);
    // The counters themselves start again from 0.
    assert_eq!(lines[50], r#"{"key":"second","delta":2,"value":2}"#);
    assert_eq!(lines[99], r#"{"key":"second","delta":2,"value":100}"#);
}

#[test]
fn duplicated_requests_count_once() {
    let server = start("--duplicate 1 --delay-ms 2");
    let (code, summary) = server.run("--calls 200");
    assert_eq!((code, &summary["value"]), (0, &200.into()), "{summary}");
}

#[test]
fn an_overloaded_server_refuses_and_every_call_still_ends_ok_once() {
    let server = start("--max-running 2 --queue 2 --delay-ms 2");
    let (code, summary) = server.run("--calls 200 --concurrency 32 --max-attempts 1000");
    assert_eq!((code, &summary["value"]), (0, &200.into()), "{summary}");
    assert!(
        summary["attempts_total"].as_u64().unwrap() > 200,
        "{summary}"
    );
}

#[cfg(unix)]
#[test]
fn a_terminated_server_finishes_what_runs_and_exits_with_0() {
    let events = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("terminated.jsonl");
    let mut server = start(&format!("--delay-ms 500 --events {}", events.display()));
    let mut client = server.client("--calls 4 --concurrency 4 --max-attempts 1 --deadline-ms 2000");
    let client = client.stdout(Stdio::piped()).spawn().unwrap();
    let count = |event: &str| {
        std::fs::read_to_string(&events)
            .unwrap()
            .matches(event)
            .count()
    };
    while count("\"accepted\"") < 4 {
        std::thread::yield_now();
    }
    crate::frozen_programs::signal(&server, rustix::process::Signal::TERM);
    let (_, summary) = outcome(client.wait_with_output().unwrap());
    assert_eq!(summary["ok"], 4, "{summary}");
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
    assert_eq!(
        count("\"finished\""),
        4,
        "it did not wait for what was running"
    );
}

#[test]
fn a_wrong_flag_is_named_with_what_would_be_right() {
    for (flags, names, expects) in [
        ("--drop-request 2", "--drop-request", "from 0 to 1"),
        ("--cut nan", "--cut", "from 0 to 1"),
        ("--ttl-ms 0", "--ttl-ms", "number from 1 to 1728000000"),
        (
            "--lease-ms 0",
            "--lease-ms",
            "expected a whole number from 1",
        ),
        (
            "--max-frame 255",
            "--max-frame",
            "number from 256 to 4294967295",
        ),
        (
            "--reply-delay-p 0.5",
            "--reply-delay-p",
            "--reply-delay-ms or",
        ),
        (
            "--drop-request 0.6 --drop-reply 0.6",
            "--drop-request, --drop-reply and --cut",
            "expected at most 1",
        ),
        ("--queue -1", "--queue", "expected a whole number from 0"),
        ("--max-sessions 0", "--max-sessions", "from 1"),
        ("--max-running 0", "--max-running", "from 1"),
        ("--ttl 5", "--ttl", "--ttl-ms"),
        ("--listen 0.0.0.0:0", "--listen", "--insecure"),
        ("--listen nowhere", "--listen", "127.0.0.1:7077"),
        ("--table-records 0", "--table-records", "from 1"),
        ("--reply-delay-pareto 5", "--reply-delay-pareto", "MS:SHAPE"),
        (
            "--reply-delay-pareto 0:2",
            "--reply-delay-pareto",
            "MS from 0.001",
        ),
        (
            "--reply-delay-pareto 2:2 --reply-delay-ms 1",
            "--reply-delay-ms",
            "cannot be used with",
        ),
        ("--reply-delay-p 1.5", "--reply-delay-p", "from 0 to 1"),
        ("--ledger /nowhere/l", "--ledger", "/nowhere/l"),
        ("--delay-ms 600001", "--delay-ms", "number from 0 to 600000"),
        ("--drop-reply -0.5", "--drop-reply", "from 0 to 1"),
    ] {
        let mut server = Command::new(env!("CARGO_BIN_EXE_counter-server"));
        let output = server.args(flags.split_whitespace()).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{flags} was accepted");
        assert!(
            text.contains(names) && text.contains(expects),
            "{flags}: {text}"
        );
    }
}
