//! A trace that falls apart on its way to a collector: each process alone, parents that are not there.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver, Sender},
    time::Duration,
};

use serde_json::Value;

/// A span as the collector got it.
#[derive(Clone, Debug)]
struct Span {
    service: String,
    json: Value,
}

impl Span {
    fn says(&self, member: &str) -> &str {
        self.json[member].as_str().unwrap_or_default()
    }

    /// An attribute, as text.
    fn attribute(&self, key: &str) -> String {
        let attributes = self.json["attributes"].as_array();
        let found = attributes.and_then(|all| all.iter().find(|one| one["key"] == key));
        let values = found.and_then(|one| one["value"].as_object());
        let value = values.and_then(|values| values.values().next());
        value.map_or_else(String::new, |value| {
            value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned)
        })
    }
}

/// Ends the process with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A collector in this process, and the spans that it gets.
fn collector() -> (String, Receiver<Span>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (sender, spans) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let sender = sender.clone();
            std::thread::spawn(move || take_requests(stream.unwrap(), &sender));
        }
    });
    (address, spans)
}

/// Reads requests until the exporter closes the connection.
fn take_requests(stream: TcpStream, spans: &Sender<Span>) {
    let mut reader = BufReader::new(&stream);
    loop {
        let (mut first, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if first.is_empty() {
                first.clone_from(&line);
            }
            let line = line.trim().to_ascii_lowercase();
            if let Some(bytes) = line.strip_prefix("content-length:") {
                length = bytes.trim().parse().unwrap();
            }
            if line.is_empty() {
                break;
            }
        }
        assert!(first.starts_with("POST /v1/traces "), "{first}");
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        for span in spans_of(&serde_json::from_slice(&body).unwrap()) {
            let _ = spans.send(span);
        }
        let answer =
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
        let _ = (&stream).write_all(answer.as_bytes());
    }
}

fn spans_of(request: &Value) -> Vec<Span> {
    let array = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut spans = Vec::new();
    for of_resource in array(&request["resourceSpans"]) {
        let resource = Span {
            service: String::new(),
            json: of_resource["resource"].clone(),
        };
        let service = resource.attribute("service.name");
        for of_scope in array(&of_resource["scopeSpans"]) {
            spans.extend(array(&of_scope["spans"]).into_iter().map(|json| Span {
                service: service.clone(),
                json,
            }));
        }
    }
    spans
}

fn run(collector: &str, args: &[&str]) -> Process {
    let child = Command::new(env!("CARGO_BIN_EXE_redial-otlp-example"))
        .args(args)
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector)
        .env("OTEL_BSP_SCHEDULE_DELAY", "50")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    Process(child)
}

fn first_line(process: &mut Process) -> String {
    let mut line = String::new();
    let stdout = process.0.stdout.take().unwrap();
    BufReader::new(stdout).read_line(&mut line).unwrap();
    line.trim().to_owned()
}

/// Kind: a trace that falls apart. Instance: two processes and a collector, and a call whose first reply is
/// lost.
#[test]
fn client_attempts_server_and_execution_are_one_trace_at_the_collector() {
    let (endpoint, received) = collector();
    let mut server = run(&endpoint, &["server", "127.0.0.1:0"]);
    let line = first_line(&mut server);
    let address = line.strip_prefix("listening on ").unwrap();
    let mut client = run(&endpoint, &["client", address]);
    assert_eq!(first_line(&mut client), "1 after 2 attempts");
    assert!(client.0.wait().unwrap().success());

    // Call, two attempts; two attempts, an execution, and what its handler did.
    let mut spans = Vec::new();
    while spans.len() < 7 {
        match received.recv_timeout(Duration::from_secs(30)) {
            Ok(span) => spans.push(span),
            Err(_) => panic!("only {spans:#?}"),
        }
    }
    let of = |service: &str, name: &str| -> Vec<Span> {
        let is_it = |span: &&Span| span.service == service && span.says("name") == name;
        let mut found: Vec<_> = spans.iter().filter(is_it).cloned().collect();
        found.sort_by_key(|span| span.attribute("redial.attempt"));
        found
    };
    let [call] = &of("counter-client", "inc")[..] else {
        panic!("{spans:#?}");
    };
    assert_eq!(call.says("parentSpanId"), "");
    assert_eq!(call.attribute("redial.executed"), "yes");
    let trace = call.says("traceId");
    assert_eq!(trace.len(), 32, "{call:?}");
    assert!(
        spans.iter().all(|span| span.says("traceId") == trace),
        "{spans:#?}"
    );

    let attempts = of("counter-client", "rpc.client.attempt");
    let served = of("counter-server", "inc");
    assert_eq!((attempts.len(), served.len()), (2, 2), "{spans:#?}");
    for (sent, served) in attempts.iter().zip(&served) {
        assert_eq!(sent.says("parentSpanId"), call.says("spanId"));
        assert_eq!(served.says("parentSpanId"), sent.says("spanId"));
        assert_eq!(
            served.attribute("redial.attempt"),
            sent.attribute("redial.attempt")
        );
    }
    let ends = attempts.iter().map(|it| it.attribute("redial.attempt.end"));
    assert_eq!(ends.collect::<Vec<_>>(), ["timeout", "reply"]);
    let outcomes = served.iter().map(|it| it.attribute("redial.outcome"));
    assert_eq!(outcomes.collect::<Vec<_>>(), ["executed", "replayed"]);

    let [execution] = &of("counter-server", "rpc.server.execution")[..] else {
        panic!("{spans:#?}");
    };
    assert_eq!(execution.says("parentSpanId"), served[0].says("spanId"));
    let [add] = &of("counter-server", "add")[..] else {
        panic!("{spans:#?}");
    };
    assert_eq!(add.says("parentSpanId"), execution.says("spanId"));
    let link = &served[1].json["links"][0];
    assert_eq!(link["spanId"], execution.json["spanId"], "{served:#?}");
}
