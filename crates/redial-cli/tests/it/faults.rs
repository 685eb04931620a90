//! `redial faults`.

use serde_json::json;

use crate::world::{CounterServer, OtherServer, redial};

/// A server that can't be mended any more once its rules drop everything.
#[test]
fn rules_are_added_listed_and_cleared_while_the_server_runs() {
    let server = CounterServer::start();
    assert_eq!(server.run("faults list ADDR").out, "no fault rules\n");
    let added = server.run("faults add ADDR drop-reply -p 0.5 --method inc");
    assert_eq!(added.code, 0, "{added:?}");
    let added = server
        .run("faults add ADDR delay-reply --delay 1ms..5ms --json")
        .json();
    assert_eq!(added["rules"][1]["delay"]["uniform_ms"][1], 5.0, "{added}");
    let cut = server.run("faults add ADDR cut --at mid-reply");
    let words = |line: &str| {
        line.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let lines: Vec<_> = cut.out.lines().map(words).collect();
    assert_eq!(lines[1], ["drop-reply", "0.5", "inc"]);
    assert_eq!(
        lines[2],
        ["delay-reply", "1.0", "*", "1.0", "to", "5.0", "ms"]
    );
    assert_eq!(lines[3], ["cut", "1.0", "*", "mid-reply"]);
    assert_eq!(server.server.faults().rules().len(), 3);
    assert_eq!(server.run("faults add ADDR drop-request").code, 0);
    assert_eq!(server.run("call ADDR inc --deadline 300ms").code, 3);
    let cleared = server.run("faults clear ADDR");
    assert_eq!(
        (cleared.code, &*cleared.out),
        (0, "no fault rules\n"),
        "{cleared:?}"
    );
    assert_eq!(server.run("call ADDR inc").code, 0);
}

/// Servers that don't allow it.
#[test]
fn a_server_without_the_method_says_so() {
    let plain = OtherServer::start(|request| Some(OtherServer::no_method(request)));
    let run = redial(&format!("faults list {}", plain.address));
    assert_eq!((run.code, &*run.out), (3, ""), "{run:?}");
    assert!(run.err.contains("-32601"), "{run:?}");
    assert!(run.err.contains("--fault-control"), "{run:?}");
}

/// Kind: an answer, or none, that is reported as more than it is. Instances: a list that may have been executed,
/// and what another server answers to any method.
#[test]
fn a_list_without_an_answer_has_changed_nothing() {
    let mute = OtherServer::start(|_| None);
    let other = OtherServer::of_method("rpc.faults", |_| json!([1]));
    for (words, code) in [
        (format!("faults list {} --deadline 100ms", mute.address), 3),
        (format!("faults clear {} --deadline 100ms", mute.address), 4),
        (format!("faults list {}", other.address), 3),
        (format!("faults list {} --json", other.address), 3),
        (format!("faults clear {} --json", other.address), 4),
    ] {
        let run = redial(&words);
        assert_eq!((run.code, &*run.out), (code, ""), "{words}: {run:?}");
    }
}
