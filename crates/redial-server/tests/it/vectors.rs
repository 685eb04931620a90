//! The exchanges among the test vectors of PROTOCOL.md, against a real server over a real socket.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use redial_protocol::{SessionCall, SessionId};
use redial_server::{
    Abort, Context, Principal, Server, ServerBuilder, Verified, Verifier, VerifyError,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::common::{Peer, connect, listen};

#[derive(Deserialize)]
struct Vectors {
    exchanges: Vec<Exchange>,
    guarded: Vec<Exchange>,
}

#[derive(Deserialize)]
struct Exchange {
    name: String,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    send: Option<String>,
    send_hex: Option<String>,
    #[serde(default)]
    finish: bool,
    reply: Option<Value>,
    reply_text: Option<String>,
    #[serde(default)]
    silence: bool,
    #[serde(default)]
    closed: bool,
}

/// What stands for `{session}` and `{table}` in this exchange.
#[derive(Default)]
struct Bound(BTreeMap<&'static str, String>);

fn vectors() -> Vectors {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../redial-protocol/tests/vectors.json"
    );
    let text = std::fs::read_to_string(path).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Whose the tokens of the guarded exchanges are.
struct VectorTokens;

impl Verifier for VectorTokens {
    async fn verify(&self, token: &str, _: Option<SocketAddr>) -> Result<Verified, VerifyError> {
        if !matches!(token, "good" | "shy") {
            return Err(VerifyError::Rejected);
        }
        Ok(Verified {
            principal: Principal::new(&format!("token:{token}")).unwrap(),
            expires: None,
        })
    }
}

/// The service that the exchanges expect.
fn counters() -> ServerBuilder {
    #[derive(Deserialize)]
    struct Inc {
        key: String,
        #[serde(default = "one")]
        delta: i64,
    }
    fn one() -> i64 {
        1
    }
    #[derive(Deserialize)]
    struct Get {
        key: String,
    }
    let counters = Arc::new(Mutex::new(BTreeMap::<String, i64>::new()));
    let read = Arc::clone(&counters);
    Server::builder()
        .mutation("inc", move |Inc { key, delta }: Inc, _: Context| {
            let mut counters = counters.lock().unwrap();
            let counter = counters.entry(key.clone()).or_default();
            let added = counter.checked_add(delta).inspect(|sum| *counter = *sum);
            let result = added.map(|value| json!({"key": key, "value": value}));
            async move { result.ok_or_else(|| Abort::failed("no room in 64 bits")) }
        })
        .query("get", move |Get { key }: Get, _: Context| {
            let value = read.lock().unwrap().get(&key).copied().unwrap_or(0);
            async move { Ok(json!({"key": key, "value": value})) }
        })
}

impl Bound {
    /// The text with every placeholder filled in.
    fn fill(&self, text: &str) -> String {
        let mut filled = text.to_owned();
        for (name, value) in &self.0 {
            filled = filled.replace(&format!("{{{name}}}"), value);
        }
        while let Some((before, (number, after))) = filled
            .split_once("{call ")
            .and_then(|(before, rest)| Some((before, rest.split_once('}')?)))
        {
            let number = number.parse().unwrap();
            filled = format!("{before}{}{after}", self.call(number));
        }
        filled
    }

    fn call(&self, number: u64) -> String {
        let session: SessionId = self.0["session"].parse().unwrap();
        SessionCall { session, number }.uuid().to_string()
    }

    /// Fills in what the vector leaves open, from what was received where it is the first.
    fn complete(&mut self, expected: &mut Value, found: &Value) {
        match expected {
            Value::String(text) => *text = self.complete_text(text, found),
            Value::Array(entries) => {
                for (index, entry) in entries.iter_mut().enumerate() {
                    self.complete(entry, &found[index]);
                }
            }
            Value::Object(members) => {
                for (name, member) in members {
                    self.complete(member, &found[&**name]);
                }
            }
            _ => {}
        }
    }

    fn complete_text(&mut self, text: &str, found: &Value) -> String {
        let found = found.as_str().unwrap_or_default().to_owned();
        match text {
            "{text}" => return found,
            "{session}" => drop(self.0.entry("session").or_insert(found)),
            "{table}" => drop(self.0.entry("table").or_insert(found)),
            _ => {}
        }
        self.fill(text)
    }
}

/// Without what is for people, and how long to wait.
fn bare(mut reply: Value) -> Value {
    match &mut reply {
        Value::Array(replies) => replies
            .iter_mut()
            .for_each(|reply| *reply = bare(reply.take())),
        reply => {
            if let Some(error) = reply.get_mut("error").and_then(Value::as_object_mut) {
                error.remove("message");
                if let Some(data) = error.get_mut("data").and_then(Value::as_object_mut) {
                    data.remove("detail");
                    data.remove("retry_after_ms");
                }
            }
        }
    }
    reply
}

async fn send(peer: &mut Peer<TcpStream>, step: &Step, bound: &Bound) {
    if let Some(text) = &step.send {
        peer.send(bound.fill(text)).await;
    }
    if let Some(hex) = &step.send_hex {
        let digits = hex.as_bytes().chunks(2).map(|pair| {
            let pair = std::str::from_utf8(pair).unwrap();
            u8::from_str_radix(pair, 16).unwrap()
        });
        peer.io
            .write_all(&digits.collect::<Vec<u8>>())
            .await
            .unwrap();
    }
    if step.finish {
        peer.io.shutdown().await.unwrap();
    }
}

async fn run(peer: &mut Peer<TcpStream>, step: Step, bound: &mut Bound) {
    send(peer, &step, bound).await;
    if let Some(expected) = &step.reply_text {
        assert_eq!(peer.receive().await.as_ref(), Some(expected));
    }
    if let Some(mut expected) = step.reply {
        let found = bare(peer.receive_json().await);
        bound.complete(&mut expected, &found);
        assert_eq!(found, expected);
    }
    if step.silence {
        let pong = peer.call(r#"{"id":"silence","method":"rpc.ping"}"#).await;
        assert_eq!(pong, r#"{"id":"silence","result":"pong"}"#);
    }
    if step.closed {
        peer.expect_end().await;
    }
}

async fn run_all(server: Server, exchanges: Vec<Exchange>) {
    let address = listen(&server).await;
    for exchange in exchanges {
        println!("in the exchange: {}", exchange.name);
        let (mut peer, mut bound) = (connect(address).await, Bound::default());
        for (index, step) in exchange.steps.into_iter().enumerate() {
            println!("  step {index}");
            run(&mut peer, step, &mut bound).await;
        }
    }
}

#[tokio::test]
async fn every_exchange_goes_as_the_vectors_say() {
    run_all(counters().build().unwrap(), vectors().exchanges).await;
}

#[tokio::test]
async fn every_guarded_exchange_goes_as_the_vectors_say() {
    let is_shy = |principal: Option<&Principal>| {
        principal.is_some_and(|principal| principal.as_str() == "token:shy")
    };
    let server = counters()
        .authenticate(VectorTokens)
        .policy(move |principal, method| !(is_shy(principal) && method == "get"));
    run_all(server.build().unwrap(), vectors().guarded).await;
}
