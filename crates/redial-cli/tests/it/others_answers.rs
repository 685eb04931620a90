//! Servers that answer to the questions of Redial's protocol what they would answer to any other.

use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::world::{CounterServer, Folder, OtherServer, command, nowhere, redial, tls_door};

/// Kind: a success without what was asked for. Instances: `rpc.stats` of a server of another make, and a run that is
/// interrupted before there was an answer.
#[test]
fn stats_without_an_answer_are_no_success() {
    let other = OtherServer::of_method("rpc.stats", |_| json!([1, "x"]));
    for words in ["stats ADDR", "stats ADDR --json", "stats ADDR -w -n 2"] {
        let run = redial(&words.replace("ADDR", &other.address));
        assert_eq!((run.code, &*run.out), (3, ""), "{words}: {run:?}");
        assert!(
            run.err.contains("expected an object with awake_ms"),
            "{run:?}"
        );
    }
    let (asked, is_asked) = std::sync::mpsc::channel();
    let mute = OtherServer::start(move |_| {
        let _ = asked.send(());
        None
    });
    let mut stats = command();
    let stats = stats.args(["stats", &mute.address, "--plain"]);
    let child = stats.stderr(Stdio::piped()).spawn().unwrap();
    is_asked.recv().unwrap();
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
}

/// Kind: an error that leaves a user without the next step. Instances: a server that is not there, a server that has
/// no description, and one that asks for a token.
#[test]
fn errors_of_servers_say_what_would_be_right() {
    let nowhere = nowhere();
    for command in [
        "call ADDR inc",
        "load ADDR inc -n 1",
        "ping ADDR",
        "stats ADDR",
        "faults list ADDR",
    ] {
        let run = redial(&command.replace("ADDR", &nowhere));
        assert_eq!((run.code, &*run.out), (3, ""), "{command}: {run:?}");
        let said = run.err.matches("nothing was executed").count();
        assert_eq!(said, 1, "{command}: {run:?}");
    }
    let plain = OtherServer::start(|request| Some(OtherServer::no_method(request)));
    let run = redial(&format!("discover {}", plain.address));
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.err.contains("expected a Redial server"), "{run:?}");
    let run = redial(&format!("load {} inc --verify get -n 1", plain.address));
    assert_eq!(run.code, 3, "{run:?}");
    assert!(run.err.contains("no call was made"), "{run:?}");
    let folder = Folder::new();
    let server = CounterServer::start_at(tls_door(&folder));
    let ca = folder.path("ca.pem");
    let run = server.run(&format!("call ADDR inc --deadline 300ms --tls-ca {ca}"));
    assert_eq!(run.code, 3, "{run:?}");
    assert!(
        run.err.contains("expected --token-file or --tls-cert"),
        "{run:?}"
    );
}

/// Kind: advice that can't be followed. Instances: the token of a query, of which no server keeps a record, and a
/// saved call that the server will not know again.
#[test]
fn what_no_server_keeps_is_not_said_to_be_kept() {
    let mute = OtherServer::start(|_| None);
    let run = redial(&format!(
        "call {} get --query --plain --deadline 100ms",
        mute.address
    ));
    assert_eq!((run.code, &*run.out), (4, ""), "{run:?}");
    assert!(
        run.err.contains("may be called again") && !run.err.contains("--resolve"),
        "{run:?}"
    );
    let words = format!(
        "call {} get --query --plain --deadline 100ms --json",
        mute.address
    );
    assert_eq!(redial(&words).json().get("token"), None);
    let folder = Folder::new();
    let plain = OtherServer::of_method("inc", |_| json!(1));
    let saved = |name| format!("inc --save-token {}", folder.path(name));
    let run = redial(&format!("call {} {}", plain.address, saved("plain")));
    assert_eq!((run.code, &*run.out), (0, "1\n"), "{run:?}");
    assert!(run.err.contains("--resume executes it again"), "{run:?}");
    let server = CounterServer::start();
    let run = server.run(&format!("call ADDR {}", saved("session")));
    assert_eq!((run.code, &*run.err), (0, ""), "{run:?}");
}

/// Kind: why is not said. Instance: pings of which none was answered, as JSON.
#[test]
fn pings_without_an_answer_say_why_beside_the_object() {
    let mute = OtherServer::start(|_| None);
    let run = redial(&format!(
        "ping {} -c 1 --deadline 100ms --json",
        mute.address
    ));
    assert_eq!(run.code, 3, "{run:?}");
    assert_eq!(run.json(), json!({"sent": 1, "answered": 0}));
    assert!(run.err.contains("no answer: "), "{run:?}");
}

/// Kind: a success of which nothing was read. Instances: what the help, the version and a page print.
#[cfg(target_os = "linux")]
#[test]
fn what_stdout_does_not_take_is_a_failure() {
    for words in ["--help", "--version", "call --help", "man"] {
        let full = std::fs::File::create("/dev/full").unwrap();
        let mut program = command();
        let program = program.args(words.split_whitespace()).stdout(full);
        let output = program.stderr(Stdio::piped()).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{words}: {output:?}");
    }
}
