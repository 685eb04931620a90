//! `redial load` against a real server, as a user runs it.

use std::fs;

use serde_json::Value;

use crate::world::{CounterServer, Folder, Run, command, redial, refuses, run};

const INC: &str = r#"{"key":"k"}"#;

/// Runs `redial load` of a method with these params and flags.
fn load(address: &str, method: &str, params: &str, flags: &str) -> Run {
    let mut command = command();
    command
        .args(["load", address, method, params])
        .args(flags.split_whitespace());
    run(&mut command)
}

impl CounterServer {
    fn load(&self, method: &str, params: &str, flags: &str) -> Run {
        load(&self.address, method, params, flags)
    }
}

/// The one object on stdout. There is nothing on stderr where that is no terminal.
fn json(run: &Run) -> Value {
    assert_eq!(run.err, "", "{run:?}");
    run.json()
}

#[test]
fn a_closed_loop_makes_so_many_calls_each_of_which_has_its_effect() {
    let server = CounterServer::start();
    let flags = "-c 8 -n 2000 --connections 2 --verify get --json --seed 5";
    let run = server.load("inc", INC, flags);
    let summary = json(&run);
    assert_eq!(run.code, 0, "{summary}");
    assert_eq!(
        (&summary["ok"], &summary["calls"]),
        (&2000.into(), &2000.into())
    );
    assert_eq!(
        (&summary["mode"], &summary["callers"]),
        (&"closed".into(), &8.into())
    );
    assert_eq!(summary["verify"]["effects"], 2000, "{summary}");
    assert_eq!(
        (&summary["attempts"], &summary["connects"]),
        (&2000.into(), &2.into())
    );
    assert_eq!(server.value("k"), 2000);
}

#[test]
fn an_open_loop_keeps_its_rate_and_writes_a_report() {
    let (server, folder) = (CounterServer::start(), Folder::new());
    let report = folder.path("open.html");
    let flags = format!("--rate 500 -z 2s --poisson --seed 7 --html {report}");
    let run = server.load("inc", r#"{"key":"k{{n%10}}"}"#, &flags);
    assert_eq!((run.code, &*run.err), (0, ""), "{run:?}");
    let text = run.out;
    assert!(
        text.contains("open loop, 500/s, seed 7") && text.contains("99 %"),
        "{text}"
    );
    assert!(
        text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );
    let page = fs::read_to_string(report).unwrap();
    assert!(page.contains("<h1>inc at 127.0.0.1:") && page.ends_with("</html>\n"));
    let summary = json(&server.load("get", INC, "--ramp 0:400:1s --ramp 400:400:1s --json"));
    // 200 while it rises, 400 while it holds.
    let calls = summary["calls"].as_u64().unwrap();
    assert!(calls.abs_diff(600) <= 2, "{summary}");
    assert!(
        (summary["wanted_per_s"].as_f64().unwrap() - 300.0).abs() < 2.0,
        "{summary}"
    );
}

#[test]
fn what_the_server_refuses_is_counted_by_kind_and_is_the_exit_code() {
    let server = CounterServer::start();
    for (method, code, outcome, kind) in [
        ("fail", 1, "failed", "7 Application error"),
        ("nothing", 3, "not_executed", "-32601 Method not found"),
    ] {
        let run = server.load(method, "null", "-n 30 -c 3 --json");
        let summary = json(&run);
        assert_eq!(run.code, code, "{summary}");
        let error = &summary["errors"][0];
        assert_eq!(
            (&error["outcome"], &error["kind"]),
            (&outcome.into(), &kind.into())
        );
        assert_eq!(
            (&error["count"], &summary[outcome]),
            (&30.into(), &30.into()),
            "{summary}"
        );
    }
}

/// A counter that something else changes meanwhile, or that counts otherwise than it is said.
#[test]
fn a_wrong_number_of_effects_is_said_and_is_exit_code_1() {
    let server = CounterServer::start();
    let flags = "-n 50 --verify get --verify-at /value --effect 2";
    let run = server.load("inc", INC, flags);
    assert_eq!(run.code, 1, "{run:?}");
    assert!(
        run.out.contains("WRONG: get shows 25 effects; expected 50"),
        "{run:?}"
    );
    let flags = format!("-n 50 --verify get --effect 2 --verify-params {INC}");
    let run = server.load("inc", r#"{"key":"k","delta":2}"#, &flags);
    assert!(
        run.code == 0 && run.out.contains("exact: get shows 50 effects"),
        "{run:?}"
    );
    // Before the first call.
    let run = server.load("inc", INC, "-n 50 --verify fail");
    assert_eq!((run.code, server.value("k")), (3, 150), "{run:?}");
}

#[test]
fn params_come_from_lines_of_a_file() {
    let (server, folder) = (CounterServer::start(), Folder::new());
    let lines = "{\"key\":\"k\",\"delta\":10}\n{\"key\":\"k\",\"delta\":{{n}}}\n";
    let from = format!("@{}", folder.write("params.jsonl", lines));
    let run = server.load("inc", &from, "-n 4 -c 1");
    assert_eq!(
        (run.code, server.value("k")),
        (0, 10 + 1 + 10 + 3),
        "{run:?}"
    );
}

#[test]
fn a_wrong_flag_is_named_with_what_would_be_right_before_anything_is_sent() {
    for (flags, names, expected) in [
        (
            "a:1 m -c 0",
            "--callers",
            "expected a whole number from 1 to 1000000",
        ),
        ("a:1 m -c 5 --rate 5", "--callers", "cannot be used with"),
        ("a:1 m --rate 0", "--rate", "expected a rate from 0.001"),
        (
            "a:1 m --meta a=b --plain",
            "--meta",
            "expected none with --plain",
        ),
        ("a:1 m --rate -5", "--rate", "expected a rate from 0.001"),
        (
            "a:1 m --ramp 5:6",
            "--ramp",
            "expected FROM:TO:TIME, such as 1000:50000:30s",
        ),
        ("a:1 m --poisson", "--poisson", "expected --rate or --ramp"),
        (
            "a:1 m --max-in-flight 5",
            "--max-in-flight",
            "expected --rate or --ramp",
        ),
        ("a:1 m -z 5", "--time", "expected a duration with its unit"),
        (
            "a:1 m --effect 0 --verify x",
            "--effect",
            "a whole number other than 0",
        ),
        (
            "a:1 m --verify-at value --verify x",
            "--verify-at",
            "expected a JSON pointer",
        ),
        (
            "a:1 m [{{n}}] --verify x",
            "--verify-params",
            "expected what x takes",
        ),
        ("a:1 m [{{m}}]", "{{m}}", "expected {{n}}"),
        ("a:1 m 5", "PARAMS", "expected an object"),
        ("a:1 m @/nowhere/p", "/nowhere/p", "PARAMS"),
        (
            "a:1 m --html /nowhere/p.html",
            "--html",
            "expected a file in a folder",
        ),
        (
            "a:1",
            "METHOD",
            "expected redial load [ADDR] METHOD [PARAMS]",
        ),
    ] {
        refuses(&format!("load {flags}"), [names, expected]);
    }
    let folder = Folder::new();
    let html = |name| format!("load 127.0.0.1:1 m -n 1 --html {}", folder.path(name));
    refuses(&html(""), ["--html", "expected a file in a folder"]);
    // A run that did not begin leaves nothing behind.
    let run = redial(&html("report.html"));
    assert_eq!(run.code, 3, "{run:?}");
    assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 0);
}

/// Kind: a flag that does nothing. Instance: a copy that goes out where the call itself went.
#[test]
fn with_hedges_there_are_two_connections() {
    let server = CounterServer::start();
    for (flags, connections) in [
        ("", 1),
        ("--hedge 9s", 2),
        ("--hedge 9s --connections 3", 3),
    ] {
        let summary = json(&server.load("inc", INC, &format!("-n 50 --json {flags}")));
        assert_eq!(summary["connections"], connections, "{flags}: {summary}");
        assert_eq!(summary["connects"], connections, "{flags}: {summary}");
    }
}

/// Kind: a figure over another time than that of its calls. Instance: a rate of which one call is meant to start.
#[test]
fn a_slow_rate_is_what_was_asked_for() {
    let server = CounterServer::start();
    let summary = json(&server.load("inc", INC, "--rate 4 -n 3 --json"));
    for name in ["wanted_per_s", "sent_per_s", "calls_per_s"] {
        let rate = summary[name].as_f64().unwrap();
        assert!((3.5..4.5).contains(&rate), "{name}: {summary}");
    }
}
