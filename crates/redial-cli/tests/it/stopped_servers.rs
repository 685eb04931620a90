//! `redial load` against a server that stands still for a while, as a process does that is stopped.

#![cfg(unix)]

use std::{
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{
    child::ChildServer,
    world::{command, run},
};

const INC: &str = r#"{"key":"k"}"#;

impl ChildServer {
    fn load(&self, flags: &str) -> Command {
        let mut command = command();
        command.args(["load", &self.address, "inc", INC, "--json"]);
        command
            .args(flags.split_whitespace())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn value(&self) -> i64 {
        let read = run(command().args(["call", &self.address, "get", INC])).json();
        read["value"].as_i64().unwrap()
    }
}

/// What the program says in the end, and its exit code.
fn end(load: Child) -> (Value, Option<i32>) {
    let output = load.wait_with_output().unwrap();
    let summary = serde_json::from_slice(&output.stdout);
    (
        summary.unwrap_or_else(|_| panic!("{output:?}")),
        output.status.code(),
    )
}

/// How long the server stands still. Longer than what a busy machine does to a single call.
const STALL: Duration = Duration::from_millis(400);

/// Runs the load, and stops the server for a while in the middle of it.
fn stalled(server: &ChildServer, flags: &str) -> Value {
    let before = server.value();
    let mut load = server
        .load(flags)
        .args(["--verify", "get"])
        .spawn()
        .unwrap();
    while server.value() < before + 1000 {
        assert!(is_running(&mut load), "it ended before it was stopped");
    }
    server.stop();
    let start = now();
    std::thread::sleep(STALL);
    server.go_on();
    let stood_still = start.elapsed();
    assert!(is_running(&mut load), "it ended before it went on");
    let (summary, code) = end(load);
    assert_eq!(code, Some(0), "{summary}");
    assert_eq!(
        (&summary["unknown"], &summary["verify"]["is_right"]),
        (&0.into(), &true.into())
    );
    let p = |name: &str| summary["latency_us"][name].as_f64().unwrap() / 1e3;
    assert!(
        p("max") > STALL.as_secs_f64() * 800.0,
        "{stood_still:?}: {summary}"
    );
    summary
}

fn is_running(load: &mut Child) -> bool {
    load.try_wait().unwrap().is_none()
}

#[expect(
    clippy::disallowed_methods,
    reason = "a stopped process is stopped in real time"
)]
fn now() -> Instant {
    Instant::now()
}

fn p999_ms(summary: &Value) -> f64 {
    summary["latency_us"]["p999"].as_f64().unwrap() / 1e3
}

/// Coordinated omission: a closed loop sends nothing while the server stands still, and one slow call
/// stands for all that would have been sent.
#[test]
fn an_open_loop_shows_a_stopped_server_that_a_closed_loop_hides() {
    let server = ChildServer::start();
    let stall_ms = STALL.as_secs_f64() * 1e3;
    // A tenth of these calls are meant to start while it stands still.
    let open = stalled(&server, "--rate 1000 -n 4000");
    assert!(p999_ms(&open) > 0.8 * stall_ms, "{open}");
    let p95 = open["latency_us"]["p95"].as_f64().unwrap() / 1e3;
    assert!(p95 > 0.3 * stall_ms, "{open}");
    // Of these one is in flight then, and a thousandth are twenty.
    let closed = stalled(&server, "-c 1 -n 20000");
    assert!(p999_ms(&closed) < 0.5 * stall_ms, "{closed}");
}

/// Neighbour of it: a run that ends before its time.
#[test]
fn ctrl_c_and_sigterm_end_a_run_with_its_summary() {
    for signal in [Signal::INT, Signal::TERM] {
        let server = ChildServer::start();
        let load = server.load("--rate 500 -z 1h").spawn().unwrap();
        while server.value() < 100 {
            std::thread::yield_now();
        }
        kill_process(Pid::from_child(&load), signal).unwrap();
        let (summary, code) = end(load);
        assert_eq!(
            (code, &summary["stopped"]),
            (Some(0), &true.into()),
            "{summary}"
        );
        assert_eq!(summary["ok"], server.value(), "{summary}");
    }
}
