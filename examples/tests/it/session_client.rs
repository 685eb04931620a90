//! The client with sessions in plain Python: every call counts once whatever is lost, and after a
//! crash of either end it knows what can be known.

use std::{
    ffi::OsStr,
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{self, Output, Stdio},
    thread,
    time::Duration,
};

use redial_examples::{
    counters::Counters,
    methods::{GetParams, Inc},
};
use redial_protocol::Method;
use redial_server::{EventKind, Fault, FaultRule, Server};
use serde_json::{Value, json};
use tokio::{
    process::{Child, Command},
    sync::mpsc,
    time::timeout,
};

use super::{
    counter_clients::{lossy, start},
    counter_server::CounterServer,
    doors::{Files, MTLS, TLS},
    inc_events::IncEvents,
};

const PATIENCE: Duration = Duration::from_secs(60);

const FAULTS: &str = "--drop-request 0.1 --drop-reply 0.1 --cut 0.1 --duplicate 0.2";

/// The client; none where there is no Python.
fn client(address: &str, flags: &str) -> Option<Command> {
    if process::Command::new("python3")
        .arg("--version")
        .output()
        .is_err()
    {
        println!("skipped: there is no python3");
        return None;
    }
    let mut command = Command::new("python3");
    command
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("session_client.py"))
        .args(["--connect", address, "--attempt-timeout", "0.1"])
        .args(flags.split_whitespace())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    Some(command)
}

async fn ended(child: Child) -> Output {
    let output = child.wait_with_output();
    timeout(PATIENCE, output).await.unwrap().unwrap()
}

fn summary(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("no summary: {text:?}"))
}

/// A file or folder of a test, which isn't there yet.
fn path(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let path = folder.join(format!("session_client_{name}_{}", process::id()));
    let _ = fs::remove_dir_all(&path);
    let _ = fs::remove_file(&path);
    path
}

/// The server, and the file in which each of its effects is a line.
fn start_server(address: &str, ledger: &Path) -> CounterServer {
    let mut command = CounterServer::command(address);
    command.args(["--seed", "7", "--ledger"]).arg(ledger);
    CounterServer::spawn(command.args(FAULTS.split_whitespace()))
}

fn effects(ledger: &Path) -> u64 {
    let text = fs::read_to_string(ledger).unwrap_or_default();
    text.lines().count() as u64
}

#[tokio::test]
async fn every_call_counts_once_whatever_is_lost_cut_or_duplicated() {
    let (ledger, tokens) = (path("faults_ledger"), path("faults_tokens"));
    let server = start_server("127.0.0.1:0", &ledger);
    let flags = format!("--calls 100 --tokens {}", tokens.display());
    let Some(mut client) = client(&server.address, &flags) else {
        return;
    };
    let output = ended(client.spawn().unwrap()).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(
        (summary(&output)["rise"].as_u64(), effects(&ledger)),
        (Some(100), 100)
    );
    let left = fs::read_dir(&tokens).unwrap().count();
    assert_eq!(left, 0, "tokens of calls whose outcome is certain");
    fs::remove_file(ledger).unwrap();
    fs::remove_dir(tokens).unwrap();
}

/// Kind: a client that one end has and another lacks. Over TLS each call counts once whatever is lost, and
/// one that does not show who calls hears so at once.
#[tokio::test]
async fn it_speaks_tls_and_shows_its_certificate_or_its_token() {
    let files = Files::with_token();
    fs::write(files.folder.join("wrong"), "4711").unwrap();
    let tokens = format!("{TLS} --tokens @tokens");
    let certificate = "--tls-ca @ca.pem --tls-cert @client.pem --tls-key @client-key.pem";
    for (server, own, refused) in [
        (MTLS, certificate, None),
        (TLS, "--tls-ca @ca.pem", None),
        (&*tokens, "--tls-ca @ca.pem --token-file @token", None),
        (
            &*tokens,
            "--tls-ca @ca.pem --token-file @wrong",
            Some("token"),
        ),
        (&*tokens, "--tls-ca @ca.pem", Some("token")),
        (
            TLS,
            "--tls-ca @client.pem --timeout 1",
            Some("CERTIFICATE_VERIFY_FAILED"),
        ),
    ] {
        let ledger = files.folder.join("ledger");
        let _ = fs::remove_file(&ledger);
        let mut command = CounterServer::command("127.0.0.1:0");
        command.args(["--seed", "7", "--ledger"]).arg(&ledger);
        command.args(FAULTS.split_whitespace());
        let server = CounterServer::spawn(command.args(files.flags(server)));
        let own = files.flags(own).join(" ");
        let Some(mut client) = client(&server.address, &format!("--calls 40 {own}")) else {
            return;
        };
        let output = ended(client.stderr(Stdio::piped()).spawn().unwrap()).await;
        let said = String::from_utf8_lossy(&output.stderr);
        let Some(reason) = refused else {
            assert_eq!(output.status.code(), Some(0), "{own}: {output:?}");
            assert_eq!(effects(&ledger), 40, "{own}");
            continue;
        };
        let is_clear = said.starts_with("not executed: ") && said.contains(reason);
        assert!(
            is_clear && output.status.code() == Some(1),
            "{own}: {output:?}"
        );
        assert_eq!(effects(&ledger), 0, "{own}");
    }
}

/// `kill -9` on the server: the calls in flight end as unknown, each of them once or not at all.
#[tokio::test]
async fn a_server_that_is_killed_executes_no_call_twice() {
    let (ledger, tokens) = (path("killed_ledger"), path("killed_tokens"));
    let server = start_server("127.0.0.1:0", &ledger);
    let address = server.address.clone();
    let flags = format!("--calls 150 --tokens {}", tokens.display());
    let Some(mut client) = client(&address, &flags) else {
        return;
    };
    let child = client.spawn().unwrap();
    while effects(&ledger) < 50 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(server);
    let _restarted = start_server(&address, &ledger);
    let summary = summary(&ended(child).await);
    let outcomes = |name: &str| summary[name].as_u64().unwrap_or(0);
    let (once, unknown) = (outcomes("once"), outcomes("unknown"));
    assert_eq!(once + unknown, 150, "{summary}");
    assert!(unknown <= 4, "one for each thread: {summary}");
    let effects = effects(&ledger);
    assert!(
        (once..=once + unknown).contains(&effects),
        "{effects}, {summary}"
    );
    let left = fs::read_dir(&tokens).unwrap().count() as u64;
    assert_eq!(left, unknown, "the tokens of the unknown calls are kept");
    fs::remove_file(ledger).unwrap();
    fs::remove_dir_all(tokens).unwrap();
}

/// Serves from now on. Returns the address.
async fn serve(server: &Server) -> String {
    let listener = server.bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let serving = server.clone();
    tokio::spawn(async move { serving.serve(listener).await });
    address
}

/// The client is killed when this has happened to its call. Returns what `--resolve` prints in the
/// next life, the counter, and how many calls the server remembers in the end.
async fn resolved_after(fault: Fault, until: EventKind) -> Option<(String, i64, u64)> {
    let counters = Counters::default();
    let (sender, mut events) = mpsc::unbounded_channel();
    let builder = counters.register(Server::builder());
    let server = builder.observer(IncEvents(sender)).build().unwrap();
    let rule = FaultRule::new(fault, 1.0).unwrap().for_method(Inc::NAME);
    server.faults().set([rule]);
    let address = serve(&server).await;

    let tokens = path(&format!("{until:?}"));
    let folder = tokens.display();
    let flags = format!("--calls 1 --threads 1 --tokens {folder}");
    let mut child = client(&address, &flags)?.spawn().unwrap();
    let seen = async { while events.recv().await.unwrap() != until {} };
    timeout(PATIENCE, seen).await.unwrap();
    child.kill().await.unwrap();
    server.faults().clear();

    let mut next = client(&address, &format!("--resolve {folder}"))?;
    let output = ended(next.spawn().unwrap()).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    fs::remove_dir(&tokens).expect("no token is left");
    let value = counters.get(GetParams { key: "k".into() }).value;
    let text = String::from_utf8(output.stdout).unwrap();
    Some((text, value, server.stats().session_records as u64))
}

#[tokio::test]
async fn a_call_that_was_executed_before_the_crash_has_its_recorded_result() {
    let resolved = resolved_after(Fault::DropReply, EventKind::ReplyDropped).await;
    let Some((text, value, records)) = resolved else {
        return;
    };
    assert!(
        text.ends_with(": executed, {\"key\": \"k\", \"value\": 1}\n"),
        "{text}"
    );
    assert_eq!((value, records), (1, 0), "and it is acknowledged");
}

#[tokio::test]
async fn a_call_that_was_lost_before_the_crash_is_fenced() {
    let resolved = resolved_after(Fault::DropRequest, EventKind::RequestDropped).await;
    let Some((text, value, _)) = resolved else {
        return;
    };
    assert!(
        text.ends_with(": not executed, and never will be\n"),
        "{text}"
    );
    assert_eq!(value, 0);
}

/// A client that needs its session no longer leaves nothing behind.
#[tokio::test]
async fn a_client_that_has_ended_has_no_session() {
    let counters = Counters::default();
    let server = counters.register(Server::builder()).build().unwrap();
    let address = serve(&server).await;
    let Some(mut client) = client(&address, "--calls 20") else {
        return;
    };
    let output = ended(client.spawn().unwrap()).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let gone = async {
        while server.stats().connections > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, gone).await.unwrap();
    let stats = server.stats();
    assert_eq!((stats.sessions, stats.session_records), (0, 0));
}

/// A server that has no session to give until it has answered some queries. Gives the methods and ids of all
/// requests in order, once the client has hung up.
fn without_room_at_first(queries: usize) -> (String, thread::JoinHandle<Vec<(String, String)>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let no_room = json!({"code": -32006, "message": "Store unavailable",
                         "data": {"executed": "no", "retry_after_ms": 20}});
    let session = json!({"session": "123456789abcdef", "table": "t", "max_in_flight": 512,
                         "max_frame": 1 << 20, "lease_ms": 60_000});
    let serving = thread::spawn(move || {
        let (mut seen, mut answered) = (Vec::new(), 0);
        // The client may come back on another connection.
        while answered <= queries {
            let (mut stream, _) = listener.accept().unwrap();
            while let Some(request) = read_frame(&mut stream) {
                let method = request["method"].as_str().unwrap().to_owned();
                let id = request["id"].as_str().unwrap_or_default().to_owned();
                answered += usize::from(method == "get");
                let reply = match &*method {
                    "rpc.hello" if answered < queries => json!({"id": id, "error": no_room}),
                    "rpc.hello" => json!({"id": id, "result": session}),
                    _ => json!({"id": id, "result": {"key": "k", "value": 7}}),
                };
                if request.get("id").is_some() {
                    write_frame(&mut stream, &reply);
                }
                seen.push((method, id));
            }
        }
        seen
    });
    (address, serving)
}

fn read_frame(stream: &mut TcpStream) -> Option<Value> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    let mut body = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut body).ok()?;
    serde_json::from_slice(&body).ok()
}

fn write_frame(stream: &mut TcpStream, message: &Value) {
    let body = message.to_string().into_bytes();
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    stream.write_all(&[&length[..], &body].concat()).unwrap();
}

/// Kind: what one client does, and the other that is to be copied does not. A server whose disk is full has no
/// session to give, and queries need none.
#[test]
fn queries_go_without_a_session_while_the_server_has_none_to_give() {
    let script = "
import sys, session_client as c
client = c.Client(sys.argv[1], attempt_timeout=5.0)
for _ in range(3):
    assert client.query('get', {'key': 'k'})['value'] == 7
assert client.call('inc', {'key': 'k'})['value'] == 7
assert client.query('get', {'key': 'k'})['value'] == 7
client.close()
";
    let (address, serving) = without_room_at_first(3);
    let Some(output) = python(script, &address) else {
        return;
    };
    assert!(output.status.success(), "{output:?}");
    let seen = serving.join().unwrap();
    let calls = seen
        .iter()
        .filter(|(method, _)| !method.starts_with("rpc."));
    let calls: Vec<_> = calls.map(|(method, id)| (&**method, &id[14..15])).collect();
    let (plain, numbered) = ("4", "8");
    let expected = [
        ("get", plain),
        ("get", plain),
        ("get", plain),
        ("inc", numbered),
        ("get", numbered),
    ];
    assert_eq!(calls, expected, "{seen:?}");
}

/// Runs a script that may import the client. `None` where there is no Python.
fn python(script: &str, argument: impl AsRef<OsStr>) -> Option<Output> {
    let mut python = process::Command::new("python3");
    python
        .args(["-B", "-c", script])
        .arg(argument)
        .env("PYTHONPATH", env!("CARGO_MANIFEST_DIR"));
    let output = python.output();
    if output.is_err() {
        println!("skipped: there is no python3");
    }
    output.ok()
}

/// A server that knows ids again, and no `rpc.hello`.
#[tokio::test]
async fn a_server_without_sessions_gets_plain_ids() {
    let (address, service) = start(lossy());
    let Some(mut client) = client(&address, "--calls 50") else {
        return;
    };
    let output = ended(client.spawn().unwrap()).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(service.lock().unwrap().executed(), 50);
}

/// The parts of the client that need no server, against the vectors.
#[test]
fn it_reads_and_writes_what_the_test_vectors_say() {
    let script = "
import json, sys, session_client as c
vectors = json.load(open(sys.argv[1]))
for one in vectors['session_ids']:
    assert c.call_id(one['session'], one['number']) == one['id'], one
    assert c.split_id(one['id']) == (one['session'], one['number']), one
for id in vectors['not_session_ids']:
    assert c.split_id(id) is None, id
for one in vectors['requests']:
    if one['dialect'] == '2.0':
        id = json.loads(one.get('id', 'null'))
        text = c.request(id, one['method'], one.get('params', 'null'), one.get('redial'))
        assert json.loads(text) == {'params': None, **json.loads(one['text'])}, (text, one)
for one in vectors['replies']:
    if 'code' in one:
        assert c.executed_of(json.loads(one['text'])['error']) == one['executed'], one
";
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let vectors = here.join("../crates/redial-protocol/tests/vectors.json");
    if let Some(output) = python(script, vectors) {
        assert!(output.status.success(), "{output:?}");
    }
}
