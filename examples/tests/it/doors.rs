//! The counter's two programs over TLS, with client certificates, and over Unix sockets; and what they
//! say of flags that open no door.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use redial_server::TokenFile;
use redial_test_ca::{TestCa, replace};
use serde_json::Value;

use crate::counter_server::CounterServer;

/// An authority, the certificates that it has signed, and a folder for them that is gone with its test.
pub(crate) struct Files {
    pub(crate) folder: PathBuf,
    pub(crate) ca: TestCa,
}

impl Files {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Relaxed);
        let name = format!("redial-doors-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        let ca = TestCa::new("doors");
        fs::write(folder.join("ca.pem"), ca.pem()).unwrap();
        for (name, san) in [("server", "127.0.0.1"), ("client", "billing.example")] {
            ca.sign(&[san, "localhost"]).write(&folder, name).unwrap();
        }
        Self { folder, ca }
    }

    /// With `TOKEN` in the file `token`, and in the file `tokens` as that of `billing`.
    pub(crate) fn with_token() -> Self {
        let files = Self::new();
        let line = TokenFile::line("billing", TOKEN);
        fs::write(files.folder.join("tokens"), format!("{line}\n")).unwrap();
        fs::write(files.folder.join("token"), format!("{TOKEN}\n")).unwrap();
        files
    }

    /// Flags in which `@` stands for the folder.
    pub(crate) fn flags(&self, flags: &str) -> Vec<String> {
        let folder = format!("{}/", self.folder.display());
        let flags = flags.split_whitespace();
        flags.map(|flag| flag.replace('@', &folder)).collect()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

pub(crate) const TOKEN: &str = "5f0c9e7d6b1a4c3f8e2d7a9b0c1e4f60";
pub(crate) const TLS: &str = "--tls-cert @server.pem --tls-key @server-key.pem";
pub(crate) const MTLS: &str =
    "--tls-cert @server.pem --tls-key @server-key.pem --tls-client-ca @ca.pem";
const SHOWING: &str = "--tls-ca @ca.pem --tls-cert @client.pem --tls-key @client-key.pem";

fn client(address: &str, flags: &[String]) -> Output {
    let mut client = Command::new(env!("CARGO_BIN_EXE_counter-client"));
    client.args([
        "--connect",
        address,
        "--json",
        "--calls",
        "20",
        "--deadline-ms",
        "2000",
    ]);
    client.args(flags).output().unwrap()
}

fn ok(output: &Output) -> u64 {
    let text = String::from_utf8_lossy(&output.stdout);
    let summary: Value = serde_json::from_str(text.trim()).unwrap_or_default();
    summary["ok"].as_u64().unwrap_or(0)
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_programs_meet_over_tls_and_with_client_certificates() {
    let files = Files::new();
    let server = CounterServer::start(files.flags(TLS));
    assert_eq!(
        ok(&client(&server.address, &files.flags("--tls-ca @ca.pem"))),
        20
    );
    let other = files.flags("--tls-ca @ca.pem --tls-name other.example");
    let output = client(&server.address, &other);
    assert!(
        said(&output).contains("not valid for name"),
        "{}",
        said(&output)
    );
    assert_eq!(
        ok(&client(&server.address, &[])),
        0,
        "it is not spoken to in plain"
    );

    let server = CounterServer::start(files.flags(MTLS));
    assert_eq!(ok(&client(&server.address, &files.flags(SHOWING))), 20);
    let output = client(&server.address, &files.flags("--tls-ca @ca.pem"));
    assert_eq!(ok(&output), 0);
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &said(&output);
    assert!(!text.contains("PRIVATE"), "{text}");
}

#[test]
fn a_token_lets_a_client_in_and_is_not_printed() {
    let files = Files::with_token();
    fs::write(files.folder.join("wrong"), "4711\n").unwrap();
    let server = CounterServer::start(files.flags(&format!("{TLS} --tokens @tokens")));
    let known = files.flags("--tls-ca @ca.pem --token-file @token");
    assert_eq!(ok(&client(&server.address, &known)), 20);
    for own in ["", "--token-file @wrong"] {
        let output = client(
            &server.address,
            &files.flags(&format!("--tls-ca @ca.pem {own}")),
        );
        assert_eq!(ok(&output), 0, "{own}");
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &said(&output);
        assert!(!text.contains("4711"), "{text}");
    }
    let output = client(
        &server.address,
        &files.flags("--tls-ca @ca.pem --token-file @none"),
    );
    assert!(
        said(&output).contains("none: No such file"),
        "{}",
        said(&output)
    );
}

#[cfg(target_os = "linux")]
#[test]
fn the_programs_meet_over_unix_sockets() {
    let files = Files::new();
    let path = format!("unix:{}/counter.sock", files.folder.display());
    let name = format!("unix:@redial-doors-{}", std::process::id());
    for address in [path, name] {
        let server = CounterServer::spawn(&mut CounterServer::command(&address));
        assert_eq!(server.address, address);
        assert_eq!(ok(&client(&address, &[])), 20, "{address}");
    }
    // The first one was killed, and left its file behind.
    assert!(files.folder.join("counter.sock").exists());
    let path = format!("unix:{}/counter.sock", files.folder.display());
    let server = CounterServer::spawn(&mut CounterServer::command(&path));
    assert_eq!(ok(&client(&server.address, &[])), 20);
}

#[test]
fn what_other_machines_reach_is_served_with_tls_and_client_certificates() {
    let files = Files::new();
    let listen = |flags: &str| {
        let mut command = CounterServer::command("0.0.0.0:0");
        command.args(files.flags(flags));
        command
    };
    let _serves = CounterServer::spawn(&mut listen(MTLS));
    for (flags, words) in [
        (
            "",
            "to serve it, add --tls-cert and --tls-key, and --tls-client-ca or --tokens",
        ),
        (TLS, "to serve it, add --tls-client-ca"),
    ] {
        let output = listen(flags).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        let text = said(&output);
        assert!(
            text.contains(words) && text.contains("add --insecure"),
            "{text}"
        );
    }
}

#[test]
fn a_file_that_can_not_be_used_is_named_and_nothing_listens() {
    let files = Files::new();
    fs::write(files.folder.join("broken.pem"), "broken").unwrap();
    for flags in [
        "--tls-cert @broken.pem --tls-key @server-key.pem",
        "--tls-cert @server.pem --tls-key @broken.pem",
        "--tls-cert @server.pem --tls-key @server-key.pem --tls-client-ca @broken.pem",
    ] {
        let mut command = CounterServer::command("127.0.0.1:0");
        let output = command.args(files.flags(flags)).output().unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0));
        assert!(
            said(&output).contains("broken.pem can't be used"),
            "{}",
            said(&output)
        );
    }
    let output = client("127.0.0.1:9", &files.flags("--tls-ca @broken.pem"));
    assert!(
        said(&output).contains("broken.pem can't be used"),
        "{}",
        said(&output)
    );
}

/// Calls go on while the certificates are replaced, again and again, some of them by broken ones.
#[test]
fn certificates_are_replaced_while_calls_go_on() {
    let files = Files::new();
    let flags = files.flags(&format!("{MTLS} --cut 0.05 --seed 3"));
    let server = CounterServer::start(flags);
    let mut calling = Command::new(env!("CARGO_BIN_EXE_counter-client"));
    calling
        .args(["--connect", &server.address, "--json", "--calls", "3000"])
        .args([
            "--key-per-call",
            "x",
            "--deadline-ms",
            "20000",
            "--max-attempts",
            "1000",
        ])
        .args(files.flags(SHOWING))
        .stdout(std::process::Stdio::piped());
    let mut calling = calling.spawn().unwrap();
    let mut replaced = 0;
    while calling.try_wait().unwrap().is_none() {
        replaced += 1;
        if replaced % 3 == 0 {
            replace(&files.folder.join("server.pem"), "broken").unwrap();
        } else {
            let pair = files.ca.sign(&["127.0.0.1"]);
            pair.write(&files.folder, "server").unwrap();
        }
        // Not a wait for something: the pace of what is done to the server.
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let output = calling.wait_with_output().unwrap();
    assert_eq!(ok(&output), 3000);
    assert!(replaced > 0);
    assert!(Path::new(&files.folder).exists());
}
