//! Every error that the server raises by itself: its code, what it says of the execution and its
//! words, held against the table of errors in PROTOCOL.md and against what `ErrorCode` says.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use redial_protocol::{ErrorCode, ErrorObject, Executed};
use redial_server::{Config, Principal, Server, Verified, Verifier, VerifyError};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use tokio::io::{AsyncWriteExt, DuplexStream};

use crate::common::{
    Peer, Service, pipe, pipe_from,
    session::{
        HELLO, ack, ack_request, ask, ask_for, attach, attempt, client, config, inc, one_at_a_time,
        open, reply_to, request,
    },
    until, uuid,
};

/// An error as it came, and part of what it should say.
struct Refusal {
    error: ErrorObject,
    words: &'static str,
}

/// All that have come so far.
#[derive(Default)]
struct Refusals(Vec<Refusal>);

impl Refusals {
    /// Checks a reply, and notes it.
    fn expect(&mut self, reply: &Value, code: i32, executed: Executed, words: &'static str) {
        let error = serde_json::from_value::<ErrorObject>(reply["error"].clone());
        let error = error.unwrap_or_else(|_| panic!("{words}: {reply}"));
        assert_eq!(error.code, ErrorCode::from(code), "{words}: {reply}");
        assert_eq!(error.executed(), executed, "{words}: {reply}");
        let data = error
            .redial_data()
            .expect("the data says what was executed");
        assert_eq!(data.executed, executed, "{words}: {reply}");
        let detail = data.detail.unwrap_or_default();
        assert!(detail.contains(words), "{words}: {reply}");
        assert_eq!(
            data.retry_after_ms.is_some(),
            error.code == ErrorCode::OVERLOADED,
            "only what may soon be tried again says when: {reply}"
        );
        self.0.push(Refusal { error, words });
    }
}

use Executed::{No, Unknown, Yes};

/// What is no frame, no JSON or no request.
async fn unreadable(all: &mut Refusals) {
    let server = Service::default().server(Config::default());
    let mut peer = pipe(&server);
    all.expect(&peer.call_json("{").await, -32700, No, "");
    all.expect(&peer.call_json("7").await, -32600, No, "");
    peer.io.write_all(&[0; 4]).await.unwrap();
    let words = "the connection closes";
    all.expect(&peer.receive_json().await, -32600, No, words);

    let mut peer = pipe(&server);
    peer.io.write_all(b"\0\0\0\x0aabc").await.unwrap();
    let words = "passed after 7 of 14 bytes of a frame";
    all.expect(&peer.receive_json().await, -32600, No, words);

    let mut peer = pipe(&server);
    peer.io.write_all(b"\0\0").await.unwrap();
    peer.io.shutdown().await.unwrap();
    let words = "the stream ended after 2 of 4 bytes of a frame's header";
    all.expect(&peer.receive_json().await, -32600, No, words);
}

struct PanicsWhenDecoded;

impl<'de> Deserialize<'de> for PanicsWhenDecoded {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        panic!("not today")
    }
}

/// What asks for something that makes no sense.
async fn senseless(all: &mut Refusals) {
    let builder = Service::default().builder();
    let builder = builder.mutation("undecodable", async |_: PanicsWhenDecoded| Ok(()));
    let server = builder.config(config()).build().unwrap();
    let (mut peer, session) = client(&server).await;
    let mut request_of = async |method: &str, params: Value| {
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        peer.call_json(request.to_string()).await
    };
    let missing = request_of("missing", json!([])).await;
    all.expect(
        &missing,
        -32601,
        No,
        "no method \"missing\"; this server has:",
    );
    let wrong = request_of("big", json!(["x"])).await;
    let words = "params of big: at [0]: found the string \"x\"; expected an integer";
    all.expect(&wrong, -32602, No, words);
    let panicking = request_of("undecodable", json!([])).await;
    let words = "params of undecodable: decoding the params panicked (reference ";
    all.expect(&panicking, -32602, No, words);
    let nothing = request_of("rpc.resolve", json!({})).await;
    all.expect(&nothing, -32602, No, "without the member \"id\"");
    let other = request_of("rpc.ack", json!({"session": 7})).await;
    all.expect(
        &other,
        -32602,
        No,
        "params of rpc.ack: at session: found the number 7",
    );
    let null = request_of("rpc.resolve", json!({"id": null})).await;
    all.expect(&null, -32602, No, "a null id names no call");
    let plain = request_of("rpc.cancel", json!({"id": uuid(1)})).await;
    all.expect(&plain, -32602, No, "does not name a call of a session");

    let many: Vec<_> = (0..2_000).map(|n| [n, n + 1]).collect();
    let many = peer.call_json(ack_request(session, 0, &json!(many))).await;
    all.expect(&many, -32602, No, "2000 ranges; expected at most");
    let falling = ack_request(session, 0, &json!([[4, 5], [2, 3]]));
    let falling = peer.call_json(falling).await;
    all.expect(&falling, -32602, No, "expected ranges that ascend");

    peer.call(inc(session, 0)).await;
    let other = peer.call_json(attempt("fail", session, 0, 1)).await;
    all.expect(&other, -32003, Unknown, "another method or other params");
}

/// What there is no room for.
async fn beyond_the_limits(all: &mut Refusals) {
    let of = |config: Config| pipe(&Service::default().server(config));
    let call = |method: &str, id: u32| {
        json!({"jsonrpc": "2.0", "id": uuid(id), "method": method, "params": {}}).to_string()
    };

    let mut peer = of(Config {
        max_running: 1,
        max_queued: 0,
        ..Config::default()
    });
    peer.send(call("slow_inc", 1)).await;
    let words = "1 calls are running and 0 are queued";
    all.expect(&peer.call_json(call("inc", 2)).await, -32001, No, words);

    let server = Service::default().server(Config {
        max_running: 1,
        max_queued: 2,
        ..Config::default()
    });
    let mut peer = pipe(&server);
    for number in 1..=3 {
        peer.send(call("slow_inc", number)).await;
    }
    until("the queue is full", || server.stats().queued == 2).await;
    pipe_from(&server, "192.0.2.2").send(call("inc", 4)).await;
    let words = "2 calls are queued, the limit of this server, and this one";
    all.expect(&peer.receive_json().await, -32001, No, words);

    let mut peer = of(Config {
        max_joined: 1,
        ..Config::default()
    });
    peer.send(call("slow_inc", 1)).await;
    peer.send(call("slow_inc", 1)).await;
    let third = peer.call_json(call("slow_inc", 1)).await;
    all.expect(&third, -32001, Unknown, "1 attempts already wait");

    let mut peer = of(Config {
        max_records: 1,
        ..Config::default()
    });
    peer.call(call("inc", 1)).await;
    let words = "the table of calls is full";
    all.expect(&peer.call_json(call("inc", 2)).await, -32001, No, words);

    let mut peer = of(config());
    for _ in 0..16 {
        open(&mut peer).await;
    }
    let words = "session limit of this connection reached (16)";
    all.expect(&peer.call_json(HELLO).await, -32001, No, words);

    let server = Service::default().server(Config {
        max_sessions: 1,
        ..config()
    });
    let _held = client(&server).await;
    let words = "session limit reached (1)";
    all.expect(&pipe(&server).call_json(HELLO).await, -32001, No, words);

    let server = Service::default().server(Config {
        max_connections: 1,
        ..Config::default()
    });
    let mut only = pipe(&server);
    only.call(r#"{"id":"1","method":"rpc.ping"}"#).await;
    let words = "no peer that holds more";
    all.expect(&pipe(&server).receive_json().await, -32001, No, words);
    let server = Service::default().server(Config {
        max_connections: 2,
        ..Config::default()
    });
    let (mut one, mut two) = (pipe(&server), pipe(&server));
    one.call(r#"{"id":"1","method":"rpc.ping"}"#).await;
    two.call(r#"{"id":"1","method":"rpc.ping"}"#).await;
    let _other = pipe_from(&server, "192.0.2.2");
    let words = "closes to make room for another";
    all.expect(&one.receive_json().await, -32001, Unknown, words);

    // Twice the window is let pass.
    let (mut peer, session) = client(&Service::default().server(Config {
        max_in_flight: 4,
        ..config()
    }))
    .await;
    let words = "window of 4 calls";
    let beyond = peer.call_json(inc(session, 8)).await;
    all.expect(&beyond, -32001, No, words);
    for method in ["rpc.resolve", "rpc.cancel"] {
        let question = peer.call_json(ask(method, session, 8)).await;
        all.expect(&question, -32001, Unknown, words);
    }
    peer.send(ack(session, 1, &json!([]))).await;
    let copy = peer.call_json(inc(session, 8)).await;
    all.expect(&copy, -32001, No, "expected \"attempt\" 2 or higher");
}

/// What comes too late, or to a session that isn't there.
async fn out_of_time(all: &mut Refusals) {
    let server = Service::default().server(config());
    let (mut peer, session) = client(&server).await;
    let late = request("get", session, 0, json!({"timeout_ms": 0}));
    let words = "deadline passed before the call started";
    all.expect(&peer.call_json(late).await, -32002, No, words);

    let (_, foreign) = client(&Service::default().server(config())).await;
    for message in [inc(foreign, 0), attach(foreign)] {
        let unknown = peer.call_json(message).await;
        let named = unknown["error"]["data"]["unknown_session"].as_str();
        assert_eq!(named, Some(&*foreign.to_string()));
        all.expect(&unknown, -32004, Unknown, "unknown session");
    }
    let gone = peer
        .call_json(ask_for("rpc.resolve", &json!(uuid(1))))
        .await;
    all.expect(&gone, -32004, Unknown, "no record of the call");
}

/// Acknowledged: it may have been executed. Fenced or cancelled: it was not. Each in its own words.
async fn stale(all: &mut Refusals) {
    let server = Service::default().server(one_at_a_time());
    let (mut peer, session) = client(&server).await;
    let acknowledged = "the caller has acknowledged the call";
    peer.call(inc(session, 0)).await;
    peer.send(ack(session, 1, &json!([]))).await;
    for message in [inc(session, 0), ask("rpc.resolve", session, 0)] {
        let refused = peer.call_json(message).await;
        all.expect(&refused, -32007, Unknown, acknowledged);
    }

    peer.call(ask("rpc.resolve", session, 1)).await;
    let fenced = peer.call_json(inc(session, 1)).await;
    all.expect(&fenced, -32007, No, "fenced the id before the call started");

    // One runs, and two are queued: one is cancelled there, the other acknowledged.
    peer.send(attempt("slow_inc", session, 2, 1)).await;
    peer.send(inc(session, 3)).await;
    peer.send(inc(session, 4)).await;
    peer.send(ask("rpc.cancel", session, 3)).await;
    let replies: [Value; 2] = peer.receive_all().await;
    let words = "cancelled or acknowledged the call before it started";
    let named = crate::common::session::id(session, 3);
    all.expect(reply_to(&replies, &named), -32007, No, words);
    peer.send(ack(session, 1, &json!([[4, 5]]))).await;
    all.expect(&peer.receive_json().await, -32007, No, words);

    // The handler runs: what comes of it is forgotten as soon as there is something.
    peer.send(ack(session, 1, &json!([[2, 3]]))).await;
    peer.receive_json().await;
}

/// What a handler does, or is kept from finishing.
async fn executed(all: &mut Refusals) {
    let builder = Service::default().builder();
    let builder = builder.query("unwritable", async |_: Value| {
        Ok(BTreeMap::from([([1_u8, 2], 3)]))
    });
    let server = builder.config(Config::default()).build().unwrap();
    let mut peer = pipe(&server);
    let call = |method: &str, params: Value| {
        json!({"jsonrpc": "2.0", "id": uuid(1), "method": method, "params": params}).to_string()
    };
    let panicked = peer.call_json(call("panic", json!({}))).await;
    all.expect(&panicked, -32603, Yes, "the handler panicked (reference ");
    let unwritable = peer.call_json(call("unwritable", json!({}))).await;
    all.expect(&unwritable, -32603, Yes, "can't be written as JSON");
    let big = peer.call_json(call("big", json!([2_000_000]))).await;
    all.expect(&big, -32603, Yes, "its outcome has 2,000,011 bytes");
}

/// The next message that is no notification: a server that shuts down says so.
async fn next_reply(peer: &mut Peer<DuplexStream>) -> Value {
    loop {
        let message = peer.receive_json().await;
        if message["method"] != "rpc.goaway" {
            return message;
        }
    }
}

async fn shutting_down(all: &mut Refusals) {
    let service = Service::default();
    let server = service.server(Config {
        max_running: 1,
        drain_timeout: Duration::from_secs(1),
        ..config()
    });
    let (mut peer, session) = client(&server).await;
    peer.send(request("slow_inc", session, 0, json!({}))).await;
    peer.send(inc(session, 1)).await;
    until("one is queued", || server.stats().queued == 1).await;
    let shutdown = tokio::spawn({
        let server: Server = server.clone();
        async move { server.shutdown().await }
    });
    let words = "takes no new calls";
    all.expect(&next_reply(&mut peer).await, -32006, No, words);
    for request in [&*inc(session, 2), HELLO] {
        peer.send(request).await;
        all.expect(&next_reply(&mut peer).await, -32006, No, words);
    }
    drop(peer);
    shutdown.await.unwrap();

    let server = service.server(Config {
        drain_timeout: Duration::from_millis(1),
        ..config()
    });
    let (mut peer, session) = client(&server).await;
    peer.send(attempt("slow_inc", session, 0, 1)).await;
    until("it runs", || server.stats().running == 1).await;
    let (reply, shutdown) = tokio::join!(next_reply(&mut peer), server.shutdown());
    assert_eq!(shutdown.interrupted, 1);
    all.expect(&reply, -32008, Unknown, "while the handler was running");
}

/// A row of the table of errors.
#[derive(Debug, PartialEq)]
struct DocumentedError {
    code: i32,
    executed: Executed,
}

fn documented() -> Vec<DocumentedError> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../redial-protocol/PROTOCOL.md"
    );
    let text = std::fs::read_to_string(path).unwrap();
    let rows = text.lines().filter_map(|line| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let executed = match cells.get(3)?.split_whitespace().next()? {
            "no" => No,
            "yes" => Yes,
            "unknown" => Unknown,
            _ => return None,
        };
        let code = cells[1].parse().ok()?;
        (-32_768..=-32_000)
            .contains(&code)
            .then_some(DocumentedError { code, executed })
    });
    rows.collect()
}

/// Knows one token.
struct OneToken;

impl Verifier for OneToken {
    async fn verify(&self, token: &str, _: Option<SocketAddr>) -> Result<Verified, VerifyError> {
        match token {
            "known" => Ok(Verified {
                principal: Principal::new("token:known").unwrap(),
                expires: Some(Duration::from_secs(60)),
            }),
            "other" => Ok(Verified {
                principal: Principal::new("token:other").unwrap(),
                expires: None,
            }),
            "later" => Err(VerifyError::Unavailable {
                retry_after: Duration::from_millis(7),
            }),
            "hangs" => std::future::pending().await,
            _ => Err(VerifyError::Rejected),
        }
    }
}

/// What is refused because of who calls.
async fn unknown_callers(all: &mut Refusals) {
    let server = Service::default()
        .builder()
        .authenticate(OneToken)
        .policy(|_, method| method != "get")
        .build()
        .unwrap();
    let auth = |token: &str| {
        json!({"id": "a", "method": "rpc.auth", "params": {"token": token}}).to_string()
    };
    let get = r#"{"id":"g","method":"get"}"#;
    let mut peer = pipe(&server);
    let reply = peer.call_json(get).await;
    all.expect(&reply, -32005, No, "has not shown who it is");
    all.expect(&peer.call_json(auth("x")).await, -32005, No, "not valid");
    let later = peer.call_json(auth("later")).await;
    all.expect(&later, -32001, No, "can't be verified now");
    let nothing = peer.call_json(r#"{"id":1,"method":"rpc.auth"}"#).await;
    all.expect(&nothing, -32602, No, "expected an object with \"token\"");
    peer.call_json(auth("known")).await;
    all.expect(&peer.call_json(get).await, -32009, No, "may not call get");
    let other = peer.call_json(auth("other")).await;
    all.expect(&other, -32005, No, "another principal than the token");
    peer.send(auth("hangs")).await;
    let busy = peer.call_json(auth("known")).await;
    all.expect(&busy, -32001, No, "another token of this connection");
    let mut silent = pipe(&server);
    let last = silent.receive_json().await;
    all.expect(&last, -32005, No, "has not shown who it is within 10s");
    tokio::time::sleep(Duration::from_secs(51)).await;
    peer.receive_json().await;
    all.expect(&peer.call_json(get).await, -32005, No, "token has expired");
}

#[tokio::test(start_paused = true)]
async fn every_refusal_is_documented_and_says_what_its_code_says() {
    let mut all = Refusals::default();
    unreadable(&mut all).await;
    senseless(&mut all).await;
    beyond_the_limits(&mut all).await;
    out_of_time(&mut all).await;
    stale(&mut all).await;
    executed(&mut all).await;
    unknown_callers(&mut all).await;
    shutting_down(&mut all).await;

    let documented = documented();
    for Refusal { error, words } in &all.0 {
        let row = DocumentedError {
            code: error.code.into(),
            executed: error.executed(),
        };
        assert!(documented.contains(&row), "{words}: {row:?}");
        // A code may know less than its data, or as much; it says nothing else.
        let alone = error.code.executed();
        let is_running = row
            == (DocumentedError {
                code: -32001,
                executed: Unknown,
            });
        assert!(
            alone == row.executed || alone == Unknown || is_running,
            "{words}: {row:?}, {alone:?} by its code"
        );
    }
    // The server does not raise -32000 by itself: a handler returns it.
    for row in documented.iter().filter(|row| row.code != -32000) {
        let is_raised = all.0.iter().any(|refusal| {
            i32::from(refusal.error.code) == row.code && refusal.error.executed() == row.executed
        });
        assert!(is_raised, "{row:?} was not raised");
    }
}
