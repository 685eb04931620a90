//! The program is interrupted in the middle of a call.

use std::{
    io::Read,
    process::{Command, Stdio},
};

use redial_server::{Fault, FaultRule};

use crate::world::{CounterServer, Folder, OtherServer, command};

/// An exit code that says that nothing happened.
#[test]
fn a_call_that_is_interrupted_is_unknown() {
    for signal in ["-INT", "-TERM"] {
        interrupt(signal);
    }
}

fn interrupt(signal: &str) {
    let (started, is_started) = std::sync::mpsc::channel();
    let peer = OtherServer::start(move |request| {
        let _ = (request["method"] == "inc").then(|| started.send(()));
        (request["method"] != "inc").then(|| OtherServer::no_method(request))
    });
    let folder = Folder::new();
    let token = folder.path("token");
    let mut call = command();
    call.args(["call", &peer.address, "inc", "--save-token", &token]);
    let mut child = call
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    is_started.recv().unwrap();
    let pid = child.id().to_string();
    assert!(
        Command::new("kill")
            .args([signal, &pid])
            .status()
            .unwrap()
            .success()
    );
    let mut said = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    let code = child.wait().unwrap().code();
    assert_eq!(code, Some(4), "{signal}: {said}");
    assert!(
        said.contains("interrupted: the call may have been executed"),
        "{said}"
    );
    assert!(std::fs::read_to_string(&token).unwrap().contains("inc"));
}

/// Another user who reads the params of a saved call.
#[test]
fn a_saved_token_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let server = CounterServer::start();
    let folder = Folder::new();
    let token = folder.path("token");
    server
        .server
        .faults()
        .set([FaultRule::new(Fault::Duplicate, 1.0).unwrap()]);
    assert_eq!(
        server
            .run(&format!("call ADDR inc --save-token {token}"))
            .code,
        0
    );
    let mode = std::fs::metadata(&token).unwrap().permissions().mode();
    assert_eq!((mode & 0o777, server.value("k")), (0o600, 1));
}
