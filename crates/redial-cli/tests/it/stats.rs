//! `redial stats`, once and again and again.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde_json::{Value, json};

use crate::world::{CounterServer, OtherServer, redial, refuses};

/// A server that has finished a thousand calls more each second, of which each answer is one.
fn busy() -> OtherServer {
    let answers = AtomicU64::new(0);
    OtherServer::start(move |request| {
        let result = match request["method"].as_str()? {
            "rpc.stats" => {
                let seconds = answers.fetch_add(1, Relaxed) + 60;
                json!({
                    "awake_ms": seconds * 1000, "finished": seconds * 1000, "in_flight": 3,
                    "refusals": [{"code": -32001, "count": 4}],
                    "slowest": [{"method": "inc", "count": 9, "mean_us": 1200, "max_us": 1900}],
                })
            }
            "rpc.health" => json!({"live": true, "ready": false, "why": "draining"}),
            _ => return Some(OtherServer::no_method(request)),
        };
        Some(json!({"jsonrpc": "2.0", "id": request["id"], "result": result}))
    })
}

#[test]
fn once_it_shows_what_there_is_and_what_has_been() {
    let run = redial(&format!("stats {}", busy().address));
    assert_eq!((run.code, &*run.err), (0, ""), "{run:?}");
    assert!(
        run.out.lines().all(|line| line.chars().count() <= 80),
        "{}",
        run.out
    );
    for line in [
        "awake for 0:01:00   NOT READY: draining\n",
        "in flight                   3\n",
        "executions             1,000           60,000\n",
        "  -32001 Overloaded                         4\n",
        "  inc",
    ] {
        assert!(run.out.contains(line), "{line}\n\n{}", run.out);
    }
}

#[test]
fn a_redial_server_says_what_it_has_done() {
    let server = CounterServer::start();
    assert_eq!(server.run("load ADDR inc {} -n 50 -c 2").code, 0);
    let run = server.run("stats ADDR --json");
    assert_eq!(
        (run.code, &run.json()["finished"]),
        (0, &50.into()),
        "{run:?}"
    );
    let run = server.run("stats ADDR");
    let head = run.out.lines().next().unwrap();
    assert!(
        head.starts_with("awake for 0:0") && head.ends_with("ready"),
        "{run:?}"
    );
}

#[test]
fn watched_it_shows_what_has_happened_since_the_answer_before() {
    let server = busy();
    let run = redial(&format!(
        "stats {} --watch --every 1ms -n 3",
        server.address
    ));
    assert_eq!(
        (run.code, run.out.matches("awake for").count()),
        (0, 3),
        "{run:?}"
    );
    assert_eq!(
        run.out
            .matches("executions             1,000            1,000\n")
            .count(),
        2
    );
    let run = redial(&format!(
        "stats {} -w --every 1ms -n 2 --json",
        server.address
    ));
    let lines = run
        .out
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let finished: Vec<_> = lines
        .map(|answer| answer["finished"].as_u64().unwrap())
        .collect();
    assert_eq!(finished, [63_000, 64_000], "{run:?}");
}

#[test]
fn a_server_that_refuses_is_explained() {
    for (code, expected) in [
        (-32601, "expected a Redial server"),
        (-32009, "--token-file"),
    ] {
        let server = OtherServer::start(move |request| {
            let mut reply = OtherServer::no_method(request);
            if request["method"] == "rpc.stats" {
                reply["error"]["code"] = code.into();
            }
            Some(reply)
        });
        for flags in ["", "--watch"] {
            let run = redial(&format!("stats {} {flags}", server.address));
            assert_eq!((run.code, &*run.out), (3, ""), "{run:?}");
            assert!(run.err.contains(expected), "{run:?}");
        }
    }
    let run = redial("stats 127.0.0.1:1");
    assert_eq!((run.code, &*run.out), (3, ""), "{run:?}");
    for (flags, named) in [
        ("-n 5", "--watch"),
        ("-w -n 0", "from 1 to"),
        ("-w --every 5", "such as 250ms"),
    ] {
        refuses(&format!("stats a:1 {flags}"), [named, ""]);
    }
}
