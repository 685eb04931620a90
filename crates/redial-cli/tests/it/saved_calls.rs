//! Calls whose tokens are saved: asked for, and sent again, by another process.

use redial_server::{Fault, FaultRule};
use serde_json::json;

use crate::world::{CounterServer, Folder, OtherServer, nowhere, redial};

fn lose_replies(server: &CounterServer) {
    let rule = FaultRule::new(Fault::DropReply, 1.0).unwrap();
    server.server.faults().set([rule.for_method("inc")]);
}

/// A call that is executed twice, or lost, because its process has ended.
#[test]
fn a_call_without_a_reply_is_found_by_its_token_and_counts_once() {
    let server = CounterServer::start();
    let folder = Folder::new();
    let token = folder.path("token");
    lose_replies(&server);
    let lost = server.run(&format!(
        "call ADDR inc --save-token {token} --deadline 400ms --attempt-timeout 100ms"
    ));
    assert_eq!((lost.code, server.value("k")), (4, 1), "{lost:?}");
    server.server.faults().clear();
    for flag in ["--resolve", "--resume", "--resolve"] {
        let found = server.run(&format!("call ADDR {flag} {token}"));
        assert_eq!(
            (found.code, &*found.out),
            (0, "{\"key\":\"k\",\"value\":1}\n"),
            "{flag}: {found:?}"
        );
    }
    let replayed = server
        .run(&format!("call ADDR --resume {token} --json"))
        .json();
    assert_eq!(replayed["report"]["replayed"], true, "{replayed}");
    assert_eq!(server.value("k"), 1);
    // Then its record may go.
    let forgotten = server.run(&format!("call ADDR --resolve {token} --forget"));
    assert_eq!(forgotten.code, 0, "{forgotten:?}");
    let gone = server.run(&format!("call ADDR --resolve {token}"));
    assert_eq!(gone.code, 4, "{gone:?}");
    assert_eq!(server.value("k"), 1);
}

/// The outcome of a call that succeeded is kept, too: its caller may have died before it heard.
#[test]
fn a_call_that_was_answered_is_found_by_its_token_too() {
    let server = CounterServer::start();
    let folder = Folder::new();
    let token = folder.path("token");
    assert_eq!(
        server
            .run(&format!("call ADDR inc --save-token {token}"))
            .code,
        0
    );
    let found = server.run(&format!("call ADDR --resolve {token}"));
    assert_eq!(
        (found.code, &*found.out),
        (0, "{\"key\":\"k\",\"value\":1}\n"),
        "{found:?}"
    );
    let failed = folder.path("failed");
    assert_eq!(
        server
            .run(&format!("call ADDR fail --save-token {failed}"))
            .code,
        1
    );
    assert_eq!(server.run(&format!("call ADDR --resolve {failed}")).code, 1);
}

/// A call that was never sent is fenced: it is not executed afterwards.
#[test]
fn a_call_that_never_arrived_never_will() {
    let server = CounterServer::start();
    let folder = Folder::new();
    let token = folder.path("token");
    let rule = FaultRule::new(Fault::DropRequest, 1.0).unwrap();
    server.server.faults().set([rule.for_method("inc")]);
    let lost = server.run(&format!(
        "call ADDR inc --save-token {token} --deadline 300ms"
    ));
    assert_eq!(lost.code, 4, "{lost:?}");
    server.server.faults().clear();
    let never = server.run(&format!("call ADDR --resolve {token} --json"));
    assert_eq!(
        (never.code, &never.json()["outcome"]),
        (3, &json!("not_executed")),
        "{never:?}"
    );
    assert_eq!(server.run(&format!("call ADDR --resume {token}")).code, 3);
    assert_eq!(server.value("k"), 0);
}

/// A token that is written after the call was sent is not there when the program dies in between.
#[test]
fn the_token_is_on_the_disk_before_the_call_is_sent() {
    let folder = Folder::new();
    let token = folder.path("token");
    let seen = token.clone();
    let peer = OtherServer::start(move |request| {
        if request["method"] != "inc" {
            return Some(OtherServer::no_method(request));
        }
        let text = std::fs::read_to_string(&seen).unwrap_or_default();
        let is_there = text.contains(request["id"].as_str()?);
        Some(json!({"jsonrpc": "2.0", "id": request["id"], "result": is_there}))
    });
    let run = redial(&format!("call {} inc --save-token {token}", peer.address));
    assert_eq!((run.code, &*run.out), (0, "true\n"), "{run:?}");
    // What is there may be the only trace of a call: it stays, and nothing is sent.
    let before = std::fs::read(&token).unwrap();
    let again = redial(&format!("call {} inc --save-token {token}", peer.address));
    assert_eq!(again.code, 2, "{again:?}");
    assert!(
        again.err.contains("--save-token") && again.err.contains("nothing was sent"),
        "{again:?}"
    );
    assert_eq!(std::fs::read(&token).unwrap(), before);
}

/// A server that can't be reached says nothing of a saved call.
#[test]
fn a_saved_call_stays_unknown_while_its_server_is_away() {
    let folder = Folder::new();
    let id = "12345678-9abc-8def-8000-000000000007";
    let token = folder.write("token", format!(r#"{{"id":"{id}","method":"inc"}}"#));
    let address = nowhere();
    for flag in ["--resolve", "--resume"] {
        let run = redial(&format!("call {address} {flag} {token}"));
        assert_eq!(run.code, 4, "{run:?}");
        assert!(run.err.contains("is not known"), "{run:?}");
    }
}
