//! A server whose socket is its supervisor's, and one that takes over from another.

use std::{
    fs,
    os::unix::net::UnixDatagram,
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::Value;

use crate::{counter_server::CounterServer, doors::Files};

/// Listens, becomes the server, and leaves it the socket as its third descriptor.
const SUPERVISOR: &str = r#"
import os, socket, sys
kind, where, program = sys.argv[1], sys.argv[2], sys.argv[3:]
if kind == "tcp":
    listener = socket.create_server(("127.0.0.1", 0))
else:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(where)
    listener.listen()
if listener.fileno() != 3:
    os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(program[0], program)
"#;

fn ok(address: &str) -> u64 {
    let mut client = Command::new(env!("CARGO_BIN_EXE_counter-client"));
    client.args(["--connect", address, "--json", "--calls", "20"]);
    let text = client.output().unwrap().stdout;
    let summary: Value = serde_json::from_slice(&text).unwrap_or_default();
    summary["ok"].as_u64().unwrap_or(0)
}

#[test]
fn a_socket_that_was_handed_over_is_served_and_the_supervisor_hears_of_it() {
    let files = Files::new();
    let path = files.folder.join("handed.sock").display().to_string();
    let notified = files.folder.join("notify");
    let notify = UnixDatagram::bind(&notified).unwrap();
    notify
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let heard = || {
        let mut text = [0; 100];
        let count = notify.recv(&mut text).unwrap();
        String::from_utf8_lossy(&text[..count]).trim().to_owned()
    };
    for kind in ["tcp", "unix"] {
        let mut command = Command::new("python3");
        command
            .args([
                "-c",
                SUPERVISOR,
                kind,
                &path,
                env!("CARGO_BIN_EXE_counter-server"),
            ])
            .env("NOTIFY_SOCKET", &notified);
        let mut server = CounterServer::spawn(&mut command);
        assert_eq!(heard(), "READY=1");
        assert!(kind == "tcp" || server.address == format!("unix:{path}"));
        assert_eq!(ok(&server.address), 20);
        server.signal("TERM");
        assert_eq!(heard(), "STOPPING=1");
        assert!(server.child.wait().unwrap().success());
        // The file is the supervisor's, as is the socket.
        assert_eq!(kind == "unix", fs::exists(&path).unwrap());
    }
}

#[test]
fn a_new_server_takes_over_while_calls_go_on() {
    let files = Files::new();
    let ledger = files.folder.join("ledger");
    let flags = format!("--reuse-port --delay-ms 1 --ledger {}", ledger.display());
    let mut old = CounterServer::start(flags.split_whitespace());
    let address = old.address.clone();
    let mut calling = Command::new(env!("CARGO_BIN_EXE_counter-client"));
    calling
        .args([
            "--connect",
            &address,
            "--json",
            "--calls",
            "4000",
            "--key-per-call",
            "x",
        ])
        .args(["--max-attempts", "1000"])
        .stdout(Stdio::piped());
    let calling = calling.spawn().unwrap();
    let effects = || {
        fs::read_to_string(&ledger)
            .unwrap_or_default()
            .lines()
            .count()
    };
    while effects() < 100 {
        std::thread::yield_now();
    }
    let mut command = CounterServer::command(&address);
    let _new = CounterServer::spawn(command.arg("--reuse-port"));
    old.signal("TERM");
    assert!(old.child.wait().unwrap().success());
    assert!(effects() < 4000, "some are left to the new one");
    let output = calling.wait_with_output().unwrap();
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&summary["ok"], &summary["violations"]),
        (&4000.into(), &0.into()),
        "{summary}"
    );
}

impl CounterServer {
    fn signal(&mut self, name: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status();
        assert!(sent.unwrap().success());
    }
}
