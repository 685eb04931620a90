//! The program is interrupted in the middle of a call.

use std::{
    net::TcpListener,
    process::{Child, Stdio},
};

use redial_server::{Fault, FaultRule};
use rustix::process::{Pid, Signal, kill_process};

use crate::world::{CounterServer, Folder, OtherServer, command, tls_door};

const SIGNALS: [Signal; 2] = [Signal::INT, Signal::TERM];

fn spawn(words: &[&str]) -> Child {
    let mut call = command();
    let call = call.args(words).stdout(Stdio::null());
    call.stderr(Stdio::piped()).spawn().unwrap()
}

/// What it says when it gets the signal, and its exit code.
fn interrupted(child: Child, signal: Signal) -> (String, Option<i32>) {
    kill_process(Pid::from_child(&child), signal).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    (said, output.status.code())
}

/// An exit code that says that nothing happened.
#[test]
fn a_call_that_is_interrupted_is_unknown() {
    let (started, is_started) = std::sync::mpsc::channel();
    let peer = OtherServer::start(move |request| {
        let _ = (request["method"] == "inc").then(|| started.send(()));
        (request["method"] != "inc").then(|| OtherServer::no_method(request))
    });
    for signal in SIGNALS {
        let folder = Folder::new();
        let token = folder.path("token");
        let call = spawn(&["call", &peer.address, "inc", "--save-token", &token]);
        is_started.recv().unwrap();
        let (said, code) = interrupted(call, signal);
        assert_eq!(code, Some(4), "{said}");
        assert!(
            said.contains("interrupted: the call may have been executed"),
            "{said}"
        );
        assert!(std::fs::read_to_string(&token).unwrap().contains("inc"));
    }
}

/// The neighbour: an exit code that no script knows, of a call that was not sent. Its server does not go on with
/// the handshake.
#[test]
fn a_call_that_is_interrupted_before_it_was_sent_is_not_executed() {
    let folder = Folder::new();
    drop(tls_door(&folder));
    let ca = folder.path("ca.pem");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    for signal in SIGNALS {
        let call = spawn(&["call", &address, "inc", "--tls-ca", &ca]);
        let connection = listener.accept().unwrap();
        let (said, code) = interrupted(call, signal);
        assert_eq!(code, Some(3), "{said}");
        assert!(
            said.contains("interrupted") && said.contains("nothing was executed"),
            "{said}"
        );
        drop(connection);
    }
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
