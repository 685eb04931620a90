//! Both counter clients, in Rust and in Python, count every call once against a server that loses
//! messages and knows ids again.

use std::{
    collections::HashMap,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Command, Output},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use redial_protocol::{Dialect, FrameDecoder, Incoming, Limits, Request, write_frame, write_reply};
use serde_json::{Value, json};

/// What goes wrong: every n-th message of a kind, or none for 0.
#[derive(Clone, Copy, Default)]
pub(super) struct Faults {
    drop_request: u64,
    drop_reply: u64,
    cut: u64,
    delay_ms: u64,
}

#[derive(Default)]
pub(super) struct Service {
    faults: Faults,
    seen: u64,
    /// The dialect of the requests.
    dialects: Vec<Dialect>,
    executed: u64,
    counter: i64,
    /// The outcome of each call by its id, which makes a retry safe.
    table: HashMap<String, String>,
}

/// What to do about a request.
enum Response {
    Answer(String),
    Nothing,
    Cut,
}

impl Service {
    pub(super) fn executed(&self) -> u64 {
        self.executed
    }

    fn handle(&mut self, request: &Request<'_>) -> Response {
        self.seen += 1;
        self.dialects.push(request.dialect);
        let hits =
            |every: u64, offset: u64| every > 0 && (self.seen + offset).is_multiple_of(every);
        let (lost, cut) = (hits(self.faults.drop_request, 0), hits(self.faults.cut, 1));
        let unanswered = hits(self.faults.drop_reply, 2);
        if lost {
            return Response::Nothing;
        }
        let outcome = match &*request.method {
            "get" => format!(r#""result":{{"key":"k","value":{}}}"#, self.counter),
            "inc" => self.inc(request),
            _ => r#""error":{"code":-32601,"message":"Method not found"}"#.to_owned(),
        };
        match (unanswered, cut) {
            (true, _) => Response::Nothing,
            (_, true) => Response::Cut,
            _ => Response::Answer(outcome),
        }
    }

    fn inc(&mut self, request: &Request<'_>) -> String {
        let id = request.id.expect("inc is a call").raw().to_owned();
        if let Some(outcome) = self.table.get(&id) {
            return outcome.clone();
        }
        let params: Value = serde_json::from_str(request.params.unwrap()).unwrap();
        self.executed += 1;
        self.counter += params["delta"].as_i64().unwrap();
        let outcome = format!(r#""result":{{"key":"k","value":{}}}"#, self.counter);
        self.table.insert(id, outcome.clone());
        outcome
    }
}

fn serve(mut stream: TcpStream, service: &Mutex<Service>) -> std::io::Result<()> {
    let (mut decoder, mut buffer) = (FrameDecoder::new(1 << 20), vec![0; 65536]);
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        let mut input = &buffer[..count];
        while let Some(frame) = decoder.next_frame(&mut input).unwrap() {
            let Ok(Incoming::Request(request)) = Incoming::parse(frame, &Limits::default()) else {
                panic!("not a request: {}", String::from_utf8_lossy(frame));
            };
            let (response, delay) = {
                let mut service = service.lock().unwrap();
                (service.handle(&request), service.faults.delay_ms)
            };
            let outcome = match response {
                Response::Answer(outcome) => outcome,
                Response::Nothing => continue,
                Response::Cut => return Ok(()),
            };
            let mut out = Vec::new();
            write_frame(&mut out, 1 << 20, |out| {
                let id = request.id.unwrap();
                let meta = redial_protocol::ReplyMeta::default();
                write_reply(out, request.dialect, id.raw(), outcome.as_bytes(), meta);
            })
            .unwrap();
            if delay == 0 {
                stream.write_all(&out)?;
                continue;
            }
            let mut stream = stream.try_clone()?;
            thread::spawn(move || {
                // The slow server that the test is about; nothing waits for this thread.
                thread::sleep(Duration::from_millis(delay));
                stream.write_all(&out)
            });
        }
    }
}

/// A server that lives as long as the test process.
pub(super) fn start(faults: Faults) -> (String, Arc<Mutex<Service>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let service = Arc::new(Mutex::new(Service {
        faults,
        ..Service::default()
    }));
    let shared = service.clone();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let service = shared.clone();
            thread::spawn(move || serve(stream, &service));
        }
    });
    (address, service)
}

fn rust() -> Command {
    Command::new(env!("CARGO_BIN_EXE_counter-client"))
}

fn python() -> Option<Command> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("counter_client.py");
    let mut command = Command::new("python3");
    let is_there = Command::new("python3").arg("--version").output().is_ok();
    if !is_there {
        println!("skipped: there is no python3");
    }
    command.arg(script);
    is_there.then_some(command)
}

/// Runs a client; returns its exit code and its last line as JSON.
fn run(mut client: Command, address: &str, flags: &str) -> (i32, Value) {
    let output = client
        .args(["--connect", address, "--json", "--seed", "7"])
        .args(flags.split_whitespace())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or_default();
    let errors = String::from_utf8_lossy(&output.stderr);
    let json = serde_json::from_str(last).unwrap_or_else(|_| panic!("{text}{errors}"));
    (output.status.code().unwrap(), json)
}

/// Attempts that time out soon, and as many of them as it takes: on a busy machine, any number of
/// attempts in a row may be late.
const FAST: &str =
    "--attempt-timeout-ms 50 --backoff-ms 5 --max-attempts 10000 --deadline-ms 60000";

pub(super) fn lossy() -> Faults {
    Faults {
        drop_request: 7,
        drop_reply: 5,
        cut: 11,
        ..Faults::default()
    }
}

fn check_lossy(client: Command, dialect: Dialect) {
    let (address, service) = start(lossy());
    let (code, json) = run(client, &address, &format!("--calls 200 --delta 3 {FAST}"));
    assert_eq!(
        (code, &json["ok"], &json["value"]),
        (0, &json!(200), &json!(600)),
        "{json}"
    );
    assert_eq!(service.lock().unwrap().executed, 200, "each call once");
    let dialects = &service.lock().unwrap().dialects;
    assert!(dialects.iter().all(|seen| *seen == dialect), "{dialect:?}");
    assert_ne!(json["sessions"], true, "that server has none");
    assert!(json["attempts_total"].as_u64() > Some(220), "{json}");
    let histogram = json["attempts_histogram"].as_object().unwrap();
    let calls: u64 = histogram.values().map(|n| n.as_u64().unwrap()).sum();
    assert_eq!(calls, 200);
    assert!(json["latency_us"]["p50"].as_u64() <= json["latency_us"]["max"].as_u64());
    assert!(json["connects"].as_u64() > Some(1));
}

#[test]
fn every_call_counts_once_whatever_is_lost() {
    check_lossy(rust(), Dialect::JsonRpc2);
}

#[test]
fn in_python_every_call_counts_once_too() {
    if let Some(client) = python() {
        check_lossy(client, Dialect::JsonRpc2);
    }
}

#[test]
fn in_python_and_the_notebooks_dialect_every_call_counts_once_too() {
    if let Some(mut client) = python() {
        client.args(["--dialect", "notebook"]);
        check_lossy(client, Dialect::Notebook);
    }
}

#[test]
fn the_naive_loop_counts_more_than_once() {
    let (address, service) = start(lossy());
    let (_, json) = run(rust(), &address, &format!("--naive --calls 200 {FAST}"));
    assert_eq!(json["naive"], true);
    let executed = service.lock().unwrap().executed;
    assert!(executed > json["ok"].as_u64().unwrap(), "{json}");
}

/// The notebook's own demo: a delay longer than the timeout.
fn check_slow(client: Command) {
    let faults = Faults {
        drop_request: 5,
        delay_ms: 120,
        ..Faults::default()
    };
    let (address, service) = start(faults);
    let flags = "--calls 24 --attempt-timeout-ms 100 --backoff-ms 30";
    let patient = "--max-attempts 10000 --deadline-ms 60000";
    let (code, json) = run(client, &address, &format!("{flags} {patient}"));
    assert_eq!(
        (code, &json["ok"], &json["value"]),
        (0, &json!(24), &json!(24)),
        "{json}"
    );
    assert_eq!(service.lock().unwrap().executed, 24);
}

#[test]
fn late_replies_count_as_successes() {
    check_slow(rust());
}

#[test]
fn late_replies_count_as_successes_in_python_too() {
    if let Some(client) = python() {
        check_slow(client);
    }
}

/// An address at which no server listens any more.
fn no_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

fn check_without_a_server(client: Command) {
    let address = no_server();
    let flags = "--calls 3 --deadline-ms 500 --backoff-ms 5";
    let (code, json) = run(client, &address, flags);
    assert_eq!((code, &json["not_executed"]), (1, &json!(3)), "{json}");
    assert_eq!(json["attempts_histogram"], json!({"0": 3}), "none was sent");
    assert_eq!(
        (&json["value"], &json["latency_us"]["p50"]),
        (&Value::Null, &Value::Null)
    );
}

#[test]
fn without_a_server_the_client_fails_at_once() {
    let (code, text) = refused(&["--connect", &no_server()]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("Connection refused"), "{text}");
}

#[test]
fn without_a_server_nothing_is_executed_in_python_either() {
    if let Some(client) = python() {
        check_without_a_server(client);
    }
}

#[test]
fn events_record_every_attempt() {
    let (address, _service) = start(lossy());
    let path = std::env::temp_dir().join(format!("counter-client-{}.jsonl", std::process::id()));
    let flags = format!("--calls 50 {FAST} --events {}", path.display());
    let (_, json) = run(rust(), &address, &flags);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let events: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(events.len(), 50);
    let mut total = 0;
    for event in &events {
        let attempts = event["attempts"].as_array().unwrap();
        total += attempts.len() as u64;
        assert_eq!(event["outcome"], "ok");
        assert!(
            attempts
                .iter()
                .all(|attempt| attempt["id"] == attempts[0]["id"])
        );
        for attempt in attempts {
            assert!(attempt["sent_us"].as_u64() >= event["start_us"].as_u64());
            assert!(attempt["end_us"].as_u64() >= attempt["sent_us"].as_u64());
        }
        assert_eq!(attempts.last().unwrap()["end"], "reply");
    }
    assert_eq!(json["attempts_total"], total);
}

fn refused(flags: &[&str]) -> (Option<i32>, String) {
    refused_by(rust(), flags)
}

fn refused_by(mut client: Command, flags: &[&str]) -> (Option<i32>, String) {
    let output = client.args(flags).output().unwrap();
    let Output { status, stderr, .. } = output;
    (status.code(), String::from_utf8(stderr).unwrap())
}

#[test]
fn wrong_flags_are_refused_with_what_would_be_right() {
    for (flags, expected) in [
        (
            &["--jitter", "some"][..],
            "expected full, equal, decorrelated, none or proportional:P",
        ),
        (
            &["--jitter", "proportional:2"],
            "expected a number from 0 to 1",
        ),
        (&["--factor", "0.5"], "expected a number from 1"),
        (
            &["--backoff-ms", "9000", "--backoff-cap-ms", "2000"],
            "--backoff-ms: the backoff",
        ),
        (&["--concurrency", "0"], "expected a whole number from 1"),
        (&["--calls", "-1"], "expected a whole number from 0"),
        (&["--connections", "0"], "from 1 to 1024"),
        (
            &["--key-per-call", "p", "--key", "k"],
            "cannot be used with",
        ),
        (&["--hedge", "p50"], "p95"),
        (&["--hedge-ms", "0"], "expected a whole number from 1"),
        (&["--hedge-ms", "5", "--naive"], "cannot be used with"),
        (&["--retry-budget", "-1"], "retry-budget"),
        (&["--retry-budget", "many"], "a percentage from 0 to 10000"),
    ] {
        let (code, text) = refused(flags);
        assert_eq!(code, Some(2), "{flags:?}: {text}");
        assert!(text.contains(expected), "{flags:?}: {text}");
    }
}

#[test]
fn wrong_flags_are_refused_with_what_would_be_right_in_python_too() {
    for (flag, value, expected) in [
        ("--deadline-ms", "0", "from 1 to 86400000"),
        ("--attempt-timeout-ms", "-1", "from 1 to 86400000"),
        ("--concurrency", "0", "from 1 to 1024"),
        ("--max-attempts", "0", "expected a whole number from 1"),
        ("--calls", "many", "expected a whole number from 0"),
        ("--backoff-cap-ms", "-5", "from 1 to 86400000"),
        ("--factor", "nan", "expected a number from 1"),
        ("--connect", "127.0.0.1:65536", "expected HOST:PORT"),
        ("--dialect", "xml", "notebook"),
    ] {
        let Some(client) = python() else { return };
        let (code, text) = refused_by(client, &[flag, value]);
        assert_eq!(code, Some(2), "{flag}: {text}");
        let is_named = text.contains(&format!("argument {flag}: "));
        assert!(is_named && text.contains(expected), "{flag}: {text}");
    }
}

/// Accepts one connection, closes it at its first request, and then is gone: connecting again in
/// vain is no attempt.
#[test]
fn in_python_a_server_that_is_away_costs_no_attempt() {
    let Some(client) = python() else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        drop(listener);
        stream.read_exact(&mut [0; 4]).unwrap();
    });
    let flags = "--calls 1 --concurrency 1 --deadline-ms 700 --backoff-ms 5 --max-attempts 3";
    let (code, json) = run(client, &address, flags);
    server.join().unwrap();
    assert_eq!((code, &json["unknown"]), (1, &json!(1)), "{json}");
    assert_eq!(json["attempts_histogram"], json!({"1": 1}), "{json}");
}
