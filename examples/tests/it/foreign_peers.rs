//! Peers that know nothing of Redial come in by every door: `openssl s_client`, and Python's `ssl` with
//! the notebook's framing.

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Command, Stdio},
};

use crate::{
    counter_server::CounterServer,
    doors::{Files, MTLS, TLS, TOKEN},
};

/// A request in its frame.
fn frame(body: &str) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&length, body.as_bytes()].concat()
}

fn has(program: &str) -> bool {
    let found = Command::new(program).arg("--help").output().is_ok();
    if !found {
        println!("skipped: no {program} here");
    }
    found
}

#[test]
fn openssl_speaks_to_the_server() {
    if !has("openssl") {
        return;
    }
    let files = Files::new();
    for (flags, own) in [
        (TLS, "-CAfile @ca.pem -tls1_3"),
        (TLS, "-CAfile @ca.pem -tls1_2 -alpn redial/1"),
        (
            MTLS,
            "-CAfile @ca.pem -cert @client.pem -key @client-key.pem",
        ),
    ] {
        let server = CounterServer::start(files.flags(flags));
        let mut client = Command::new("openssl");
        client
            .args([
                "s_client",
                "-quiet",
                "-verify_return_error",
                "-verify_ip",
                "127.0.0.1",
            ])
            .args(["-connect", &server.address])
            .args(files.flags(own))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut client = client.spawn().unwrap();
        let mut stdin = client.stdin.take().unwrap();
        stdin
            .write_all(&frame(r#"{"id":"a","method":"inc","params":{"key":"k"}}"#))
            .unwrap();
        let expected = frame(r#"{"id":"a","result":{"key":"k","value":1}}"#);
        let mut reply = vec![0; expected.len()];
        client
            .stdout
            .take()
            .unwrap()
            .read_exact(&mut reply)
            .unwrap();
        assert_eq!(
            String::from_utf8_lossy(&reply),
            String::from_utf8_lossy(&expected)
        );
        client.kill().unwrap();
        client.wait().unwrap();
    }
}

/// TLS 1.2 lets a client ask for another handshake within a connection, each at the cost of a
/// signature.
#[test]
fn a_client_that_renegotiates_is_refused_and_others_are_served() {
    if !has("openssl") {
        return;
    }
    let files = Files::new();
    let server = CounterServer::start(files.flags(TLS));
    let mut client = Command::new("openssl");
    client
        .args(["s_client", "-tls1_2", "-connect", &server.address])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut client = client.spawn().unwrap();
    let mut stdin = client.stdin.take().unwrap();
    // `R` at the begin of a line renegotiates.
    stdin.write_all(&b"R\n".repeat(20)).unwrap();
    let lines = BufReader::new(client.stderr.take().unwrap()).lines();
    let mut lines = lines.map_while(Result::ok);
    assert!(lines.any(|line| line == "RENEGOTIATING"));
    let mut other = Command::new(env!("CARGO_BIN_EXE_counter-client"));
    other.args(["--connect", &server.address, "--calls", "5"]);
    let output = other
        .args(files.flags("--tls-ca @ca.pem"))
        .output()
        .unwrap();
    assert!(output.status.success());
    client.kill().unwrap();
    client.wait().unwrap();
}

const PYTHON: &str = r#"
import json, socket, ssl, struct, sys

host, port, folder, token = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
context = ssl.create_default_context(cafile=folder + "/ca.pem")
wire = context.wrap_socket(socket.create_connection((host, port)), server_hostname=host)

def receive(count):
    data = b""
    while len(data) < count:
        part = wire.recv(count - len(data))
        if not part:
            raise OSError("closed")
        data += part
    return data

def ask(body):
    body = json.dumps(body).encode()
    wire.sendall(struct.pack(">I", len(body)) + body)
    (length,) = struct.unpack(">I", receive(4))
    return json.loads(receive(length))

call = {"id": "a", "method": "inc", "params": {"key": "k"}}
print(ask(call)["error"]["code"])
print(ask({"id": "b", "method": "rpc.auth", "params": {"token": "wrong"}})["error"]["code"])
print(ask({"id": "c", "method": "rpc.auth", "params": {"token": token}})["result"]["principal"])
print(ask(call)["result"]["value"], ask(call)["result"]["value"])
"#;

#[test]
fn pythons_ssl_with_the_notebooks_framing_and_a_token() {
    if !has("python3") {
        return;
    }
    let files = Files::with_token();
    let server = CounterServer::start(files.flags(&format!("{TLS} --tokens @tokens")));
    let (host, port) = server.address.rsplit_once(':').unwrap();
    let folder = files.folder.display().to_string();
    let mut python = Command::new("python3");
    let output = python
        .args(["-c", PYTHON, host, port, &folder, TOKEN])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(text, "-32005\n-32005\ntoken:billing\n1 1\n", "{errors}");
}

#[test]
fn the_client_in_plain_python_shows_its_certificate_or_its_token() {
    if !has("python3") {
        return;
    }
    let files = Files::with_token();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/counter_client.py");
    let tokens = format!("{TLS} --tokens @tokens --drop-reply 0.1 --seed 5");
    for (flags, own, code) in [
        (MTLS, "--tls-cert @client.pem --tls-key @client-key.pem", 0),
        (&*tokens, "--token-file @token", 0),
        (&*tokens, "", 1),
    ] {
        let server = CounterServer::start(files.flags(flags));
        let mut python = Command::new("python3");
        python.args([script, "--connect", &server.address, "--calls", "20"]);
        python
            .args(["--tls-ca"])
            .args(files.flags("@ca.pem"))
            .args(files.flags(own));
        let output = python.output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{own}: {text}");
    }
}
