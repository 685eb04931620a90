//! A caller that has not shown who it is gets in, or stays; a token is guessed, waited for, or printed.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use redial_server::{
    Config, Context, Event, Extensions, Observer, Principal, Server, ServerBuilder, Verified,
    Verifier, VerifyError,
};
use serde_json::{Value, json};

use crate::common::{
    Service, code, executed, now, pipe, pipe_with,
    session::{HELLO, PING},
};

/// Knows a token by what stands behind `secret-`.
struct SecretTokens;

impl Verifier for SecretTokens {
    async fn verify(&self, token: &str, _: Option<SocketAddr>) -> Result<Verified, VerifyError> {
        let name = token.strip_prefix("secret-").ok_or(VerifyError::Rejected)?;
        let (name, expires) = match name.split_once('/') {
            Some((name, seconds)) => (name, Some(Duration::from_secs(seconds.parse().unwrap()))),
            None => (name, None),
        };
        match name {
            "slow" => tokio::time::sleep(Duration::from_secs(1)).await,
            "hangs" => std::future::pending().await,
            "panics" => panic!("as it was asked to"),
            "later" => {
                tokio::task::yield_now().await;
                return Err(VerifyError::Unavailable {
                    retry_after: Duration::from_millis(40),
                });
            }
            _ => {}
        }
        Ok(Verified {
            principal: Principal::new(&format!("token:{name}")).unwrap(),
            expires,
        })
    }
}

fn builder(service: &Service) -> ServerBuilder {
    let who = async |(): (), context: Context| {
        Ok(context.principal().map(|principal| principal.to_string()))
    };
    let builder = service
        .builder()
        .query("who", who)
        .authenticate(SecretTokens);
    builder.config(Config::default())
}

fn server(service: &Service) -> Server {
    builder(service).build().unwrap()
}

fn request(method: &str, params: Value) -> String {
    json!({"jsonrpc": "2.0", "id": "r", "method": method, "params": params}).to_string()
}

fn auth(token: &str) -> String {
    request("rpc.auth", json!({ "token": token }))
}

fn inc(id: &str) -> String {
    json!({"id": id, "method": "inc", "params": {"key": "k"}}).to_string()
}

const WHO: &str = r#"{"id":"w","method":"who"}"#;

#[tokio::test(start_paused = true)]
async fn nothing_is_done_for_a_caller_that_has_not_shown_who_it_is() {
    let service = Service::default();
    let mut peer = pipe(&server(&service));
    assert!(peer.call(PING).await.contains("pong"));
    for asked in [
        inc("1"),
        WHO.into(),
        HELLO.into(),
        request("rpc.hello", json!({"session": "123456789abcdef"})),
        request("rpc.discover", json!({})),
        request("rpc.resolve", json!({"id": "1"})),
        request(
            "rpc.cancel",
            json!({"id": "12345678-9abc-8def-8000-000000000007"}),
        ),
        request("rpc.ack", json!({"session": "123456789abcdef", "ack": 1})),
        request("rpc.goodbye", json!({"session": "123456789abcdef"})),
        request("there_is_no_such_method", json!({})),
    ] {
        let reply = peer.call_json(&asked).await;
        assert_eq!((code(&reply), executed(&reply)), (-32005, "no"), "{asked}");
    }
    // A batch is no way round, not even behind a token in it.
    let batch = format!("[{},{},{}]", auth("secret-a"), inc("2"), WHO);
    let replies = peer.call_json(batch).await;
    let codes = replies.as_array().unwrap().iter();
    let refused = codes.filter(|reply| reply["error"]["code"] == -32005);
    assert_eq!(refused.count(), 2, "{replies}");
    // Nor is a notification.
    let mut other = pipe(&server(&service));
    other
        .send(r#"{"jsonrpc":"2.0","method":"inc","params":{"key":"k"}}"#)
        .await;
    assert!(other.call(PING).await.contains("pong"));
    assert_eq!(service.effects(), 0);
}

/// What was sent behind the token is not refused because the token is still looked at.
#[tokio::test(start_paused = true)]
async fn calls_wait_for_the_token_before_them() {
    let service = Service::default();
    let server = server(&service);
    for (token, name) in [("secret-a", "token:a"), ("secret-slow", "token:slow")] {
        let mut peer = pipe(&server);
        peer.send(request("rpc.hello", json!({ "token": token })))
            .await;
        peer.send(inc("behind")).await;
        peer.send(WHO).await;
        let hello = peer.receive_json().await;
        assert!(hello["result"]["session"].is_string(), "{hello}");
        assert_eq!(hello["result"]["expires_ms"], Value::Null);
        assert!(peer.receive_json().await["result"].is_object());
        assert_eq!(peer.receive_json().await["result"], name);
        let session = hello["result"]["session"].clone();
        let mut again = pipe(&server);
        let attach = json!({"session": session, "token": token});
        let attached = again.call_json(request("rpc.hello", attach)).await;
        assert_eq!(attached["result"]["session"], session);
    }
    let mut plain = pipe(&server);
    let authenticated = plain.call_json(auth("secret-b/60")).await;
    assert_eq!(
        authenticated["result"],
        json!({"principal": "token:b", "expires_ms": 60_000})
    );
    assert_eq!(plain.call_json(WHO).await["result"], "token:b");
    assert_eq!(service.effects(), 2);
}

#[tokio::test(start_paused = true)]
async fn guesses_become_slower_and_the_tenth_ends_the_connection() {
    let service = Service::default();
    let mut peer = pipe(&server(&service));
    for guess in 1..=10_u32 {
        let before = now();
        let token = format!("guess {guess}");
        let asked = if guess % 2 == 0 {
            auth(&token)
        } else {
            request("rpc.hello", json!({ "token": token }))
        };
        peer.send(&asked).await;
        if guess < 10 {
            peer.send(inc("behind")).await;
        }
        let reply = peer.receive_json().await;
        assert_eq!((code(&reply), executed(&reply)), (-32005, "no"));
        assert!(!reply.to_string().contains("guess"), "{reply}");
        let waited = before.elapsed().as_millis();
        assert!(waited.abs_diff(u128::from(100 * guess)) < 10, "{waited}");
        if guess < 10 {
            assert_eq!(code(&peer.receive_json().await), -32005);
        }
    }
    peer.expect_end().await;
    assert_eq!(service.effects(), 0);
}

/// Neither pings nor half a frame nor a verifier that hangs keep a connection.
#[tokio::test(start_paused = true)]
async fn a_connection_that_shows_no_token_is_closed_after_ten_seconds() {
    let service = Service::default();
    let server = server(&service);
    let mut silent = pipe(&server);
    let mut pinging = pipe(&server);
    let mut waiting = pipe(&server);
    waiting.send(auth("secret-hangs")).await;
    for _ in 0..9 {
        tokio::time::sleep(Duration::from_millis(1_090)).await;
        assert!(pinging.call(PING).await.contains("pong"));
        assert!(waiting.call(PING).await.contains("pong"));
    }
    for peer in [&mut silent, &mut pinging] {
        let last = peer.receive_json().await;
        assert_eq!((code(&last), executed(&last)), (-32005, "no"));
        assert!(last["id"].is_null());
        peer.expect_end().await;
    }
    let answer = waiting.receive_json().await;
    assert!(matches!(code(&answer), -32001 | -32005), "{answer}");
    let mut shown = pipe(&server);
    shown.call(auth("secret-a")).await;
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(shown.call_json(WHO).await["result"], "token:a");
}

#[tokio::test(start_paused = true)]
async fn a_connection_has_one_principal_for_its_life() {
    let service = Service::default();
    let server = server(&service);
    let mut extensions = Extensions::new();
    extensions.insert(Principal::new("cert:a").unwrap());
    let mut vouched = pipe_with(&server, extensions);
    assert_eq!(vouched.call_json(WHO).await["result"], "cert:a");
    assert!(vouched.call(HELLO).await.contains("lease_ms"));
    let mut shown = pipe(&server);
    shown.call(auth("secret-a")).await;
    for (peer, name) in [(&mut vouched, "cert:a"), (&mut shown, "token:a")] {
        for asked in [
            auth("secret-b"),
            request("rpc.hello", json!({"token": "secret-b"})),
            auth("nonsense"),
        ] {
            let reply = peer.call_json(asked).await;
            assert_eq!((code(&reply), executed(&reply)), (-32005, "no"));
            assert_eq!(peer.call_json(WHO).await["result"], name);
        }
    }
    let renewed = shown.call_json(auth("secret-a")).await;
    assert_eq!(renewed["result"]["principal"], "token:a");
}

#[tokio::test(start_paused = true)]
async fn an_expired_token_stops_new_calls_until_it_is_renewed_and_no_call_that_runs() {
    let service = Service::default();
    let server = server(&service);
    let mut peer = pipe(&server);
    peer.call(auth("secret-a/60")).await;
    peer.send(r#"{"id":"s","method":"slow_inc","params":{"ms":65000}}"#)
        .await;
    tokio::time::sleep(Duration::from_secs(61)).await;
    for asked in [inc("late"), WHO.into(), HELLO.into()] {
        let reply = peer.call_json(asked).await;
        assert_eq!((code(&reply), executed(&reply)), (-32005, "no"));
    }
    let finished = peer.receive_json().await;
    assert_eq!(
        finished["result"]["value"], 1,
        "it ran when the token expired"
    );
    // Behind the new token.
    peer.send(auth("secret-a/60")).await;
    peer.send(inc("late")).await;
    assert_eq!(peer.receive_json().await["result"]["expires_ms"], 60_000);
    assert!(peer.receive_json().await["result"].is_object());
    tokio::time::sleep(Duration::from_secs(69)).await;
    assert!(peer.call(PING).await.contains("pong"));
    tokio::time::sleep(Duration::from_secs(2)).await;
    peer.expect_end().await;
}

/// The verifier's own trouble is no word about the token.
#[tokio::test(start_paused = true)]
async fn a_token_that_can_not_be_verified_may_be_shown_again() {
    let service = Service::default();
    let server = server(&service);
    for (token, retry_after) in [
        ("secret-later", 40),
        ("secret-panics", 1_000),
        ("secret-hangs", 1_000),
    ] {
        let mut extensions = Extensions::new();
        extensions.insert(Principal::new("token:a").unwrap());
        let mut peer = pipe_with(&server, extensions);
        for _ in 0..12 {
            peer.send(auth(token)).await;
            // The caller is known: its calls don't wait.
            assert_eq!(peer.call_json(WHO).await["result"], "token:a");
            let reply = peer.receive_json().await;
            assert_eq!((code(&reply), executed(&reply)), (-32001, "no"), "{token}");
            assert_eq!(reply["error"]["data"]["retry_after_ms"], retry_after);
        }
    }
}

/// Panics as it goes.
struct PanicsOnDrop;

impl Drop for PanicsOnDrop {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("as it was asked to");
        }
    }
}

/// Never says anything.
struct Bombs;

impl Verifier for Bombs {
    async fn verify(&self, _: &str, _: Option<SocketAddr>) -> Result<Verified, VerifyError> {
        let _bomb = PanicsOnDrop;
        std::future::pending().await
    }
}

/// Kind: what the program leaves behind goes with something of the server's. Instance: a verification that
/// panics as it is dropped, with the connection that it was for or after its time.
#[tokio::test(start_paused = true)]
async fn a_verification_that_panics_as_it_goes_takes_nothing_along() {
    let builder = Service::default().builder().authenticate(Bombs);
    let server = builder.build().unwrap();
    for ends_first in [true, false] {
        let (io, transport) = tokio::io::duplex(1 << 16);
        let serving = server.clone();
        let serving = tokio::spawn(async move { serving.serve_connection(transport).await });
        let mut peer = crate::common::Peer { io };
        peer.send(auth("t")).await;
        assert!(peer.call(PING).await.contains("pong"));
        if ends_first {
            serving.abort();
            let error = serving.await.unwrap_err();
            assert!(error.is_cancelled(), "{error}");
        } else {
            let reply = peer.receive_json().await;
            assert!(matches!(code(&reply), -32001 | -32005), "{reply}");
            drop(peer);
            serving.await.unwrap();
        }
        assert_eq!(server.stats().connections, 0);
    }
}

struct EventTexts(Arc<Mutex<String>>);

impl Observer for EventTexts {
    fn observe(&self, event: &Event<'_>) {
        self.0.lock().unwrap().push_str(&format!("{event:?}"));
    }
}

/// Whatever shape the params have that hold it.
#[tokio::test(start_paused = true)]
async fn a_token_stands_in_no_reply_and_no_event() {
    let seen = Arc::new(Mutex::new(String::new()));
    let events = Arc::clone(&seen);
    let server = builder(&Service::default())
        .observer(EventTexts(events))
        .build()
        .unwrap();
    let secret = "0123456789-a-secret";
    let shapes = [
        json!({ "token": secret }),
        json!({"token": [secret]}),
        json!({"token": {"value": secret}}),
        json!({"token": secret, "more": secret}),
        json!({"session": secret, "token": secret}),
        json!({"tokens": secret}),
        json!([secret]),
        json!(secret),
    ];
    for method in ["rpc.auth", "rpc.hello"] {
        for shape in &shapes {
            let mut peer = pipe(&server);
            let reply = peer.call(request(method, shape.clone())).await;
            assert!(reply.contains("error"), "{reply}");
            assert!(!reply.contains("a-secret"), "{reply}");
        }
        let mut peer = pipe(&server);
        let escaped = format!(
            r#"{{"id":"r","method":"{method}","params":{{"t\u006fken":"{secret}","x":1}}}}"#
        );
        let reply = peer.call(escaped).await;
        assert!(!reply.contains("a-secret"), "{reply}");
    }
    let mut peer = pipe(&server);
    peer.call(auth("secret-0123456789")).await;
    peer.call(inc("1")).await;
    let seen = seen.lock().unwrap();
    // Whose it is may be said: that is the name behind the `secret-` of this verifier.
    let has_secret = seen.contains("a-secret") || seen.contains("secret-0123456789");
    assert!(seen.contains("rpc.auth") && !has_secret, "{seen}");
}

#[tokio::test]
async fn a_server_that_asks_for_no_token_takes_one_and_looks_away() {
    let server = Service::default().server(Config::default());
    let mut peer = pipe(&server);
    assert_eq!(code(&peer.call_json(auth("secret-a")).await), -32601);
    let hello = request("rpc.hello", json!({"token": "secret-a"}));
    assert!(peer.call(hello).await.contains("lease_ms"));
}

/// A policy that is asked too late, or about what is on record, or that panics.
#[tokio::test]
async fn what_the_policy_forbids_is_neither_run_nor_recorded() {
    let service = Service::default();
    let allowed = Arc::new(Mutex::new(false));
    let is_allowed = Arc::clone(&allowed);
    let server = builder(&service)
        .policy(
            move |principal, method| match (principal.map(Principal::as_str), method) {
                (Some("token:a"), "inc") => *is_allowed.lock().unwrap(),
                (_, "get") => panic!("as it was asked to"),
                (Some("token:a"), _) => true,
                _ => false,
            },
        )
        .build()
        .unwrap();
    let mut peer = pipe(&server);
    let hello = peer
        .call_json(request("rpc.hello", json!({"token": "secret-a"})))
        .await;
    let session = hello["result"]["session"].as_str().unwrap().to_owned();
    let in_session = |attempt: u32| {
        let id = format!(
            "{}-{}-8{}-8000-000000000000",
            &session[..8],
            &session[8..12],
            &session[12..]
        );
        let redial = json!({ "attempt": attempt });
        json!({"jsonrpc": "2.0", "id": id, "method": "inc", "params": {}, "redial": redial})
            .to_string()
    };
    for asked in [
        inc("1"),
        in_session(1),
        r#"{"id":"g","method":"get"}"#.into(),
    ] {
        let reply = peer.call_json(&asked).await;
        assert_eq!((code(&reply), executed(&reply)), (-32009, "no"), "{asked}");
        let method = if asked.contains("get") { "get" } else { "inc" };
        let detail = reply["error"]["data"]["detail"].as_str().unwrap();
        assert!(
            detail.contains(&format!("may not call {method}")),
            "{detail}"
        );
    }
    assert!(peer.call(WHO).await.contains("token:a"));
    assert_eq!((service.effects(), server.stats().records), (0, 0));
    *allowed.lock().unwrap() = true;
    // "Not executed" was certain: a copy of the attempt that was refused does not run.
    assert_eq!(code(&peer.call_json(in_session(1)).await), -32001);
    assert_eq!(service.effects(), 0);
    let first = peer.call(in_session(2)).await;
    assert!(first.contains("result"), "{first}");
    assert!(peer.call(inc("1")).await.contains("result"));
    *allowed.lock().unwrap() = false;
    // What is on record is its caller's.
    assert!(peer.call(inc("1")).await.contains("result"));
    assert_eq!(code(&peer.call_json(inc("2")).await), -32009);
    let mut other = pipe(&server);
    other.call(auth("secret-b")).await;
    assert_eq!(code(&other.call_json(WHO).await), -32009);
    assert_eq!(service.effects(), 2);
}
