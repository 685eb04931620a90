//! A small correct server with sessions, for the other end of a client: it knows which numbers were
//! executed, which are fenced and which are acknowledged.

use std::collections::{BTreeMap, BTreeSet};

use redial_client::{CallToken, Uuid};
use redial_protocol::{SessionCall, SessionId};
use serde_json::{Value, json};

use super::{Peer, SentRequest};

/// What a server keeps about its sessions.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    pub(crate) known: BTreeMap<String, Table>,
    /// How many were opened.
    pub(crate) opened: u64,
    /// Of those it has opened, the ones that are needed no longer.
    pub(crate) ended: BTreeSet<String>,
    /// The window that it announces.
    pub(crate) window: u64,
    pub(crate) max_frame: u64,
    /// It opens no more than so many.
    pub(crate) max_sessions: u64,
    /// What it says then.
    pub(crate) refusal: i32,
    /// The name of the table that they are in.
    pub(crate) table: &'static str,
}

/// What it keeps about one session.
#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) executed: BTreeMap<u64, Value>,
    pub(crate) fenced: BTreeSet<u64>,
    /// The watermark.
    pub(crate) ack: u64,
    /// Acknowledged above it.
    pub(crate) above: BTreeSet<u64>,
}

/// The number of a call of a session.
pub(crate) fn number(seen: &SentRequest) -> u64 {
    call(seen).expect("a call of a session").number
}

/// The session and number of a request's id, if it has them.
pub(crate) fn call(seen: &SentRequest) -> Option<SessionCall> {
    let id: Uuid = serde_json::from_str(&seen.id).ok()?;
    SessionCall::from_uuid(id)
}

/// A token that was serialised elsewhere.
pub(crate) fn foreign_token(session: &str, number: u64) -> CallToken {
    let session = session.parse().unwrap();
    let id = SessionCall { session, number }.uuid();
    let token = json!({"id": id, "method": "inc", "params": {"key": "k"}});
    serde_json::from_value(token).unwrap()
}

impl Sessions {
    pub(crate) fn new() -> Self {
        Self {
            window: 512,
            max_frame: 1 << 20,
            max_sessions: u64::MAX,
            refusal: -32001,
            table: "t",
            ..Self::default()
        }
    }

    pub(crate) fn with_window(window: u64) -> Self {
        Self {
            window,
            ..Self::new()
        }
    }

    /// A session of another client, or of an earlier life of this one.
    pub(crate) fn foreign(&mut self) -> String {
        self.open()
    }

    /// The one session there is.
    pub(crate) fn only(&self) -> &Table {
        assert_eq!(self.known.len(), 1, "one session");
        self.known.values().next().unwrap()
    }

    fn open(&mut self) -> String {
        self.opened += 1;
        let id = SessionId::from_bits(0xabc_0000 + self.opened).to_string();
        self.known.insert(id.clone(), Table::default());
        id
    }

    fn hello(&self, session: &str) -> Value {
        json!({"session": session, "table": self.table, "lease_ms": 60_000,
            "max_frame": self.max_frame, "max_in_flight": self.window})
    }

    /// Records an acknowledgement.
    fn ack(&mut self, params: &Value) {
        let Some(table) = self.known.get_mut(params["session"].as_str().unwrap()) else {
            return;
        };
        table.ack = table.ack.max(params["ack"].as_u64().unwrap_or(0));
        for range in params["above"].as_array().into_iter().flatten() {
            let (from, to) = (range[0].as_u64().unwrap(), range[1].as_u64().unwrap());
            table.above.extend(from..to);
        }
        let ack = table.ack;
        table.above.retain(|number| *number >= ack);
        table.executed.retain(|number, _| *number >= ack);
    }

    /// The table and the number that an id names, if the session is known.
    fn find(&mut self, id: &str) -> Option<(&mut Table, u64)> {
        let call = SessionCall::from_uuid(Uuid::parse_str(id).ok()?)?;
        let table = self.known.get_mut(&call.session.to_string())?;
        Some((table, call.number))
    }
}

impl Peer {
    /// The next request that is not `rpc.*`; those are answered as a server does.
    pub(crate) async fn next_call(&mut self, sessions: &mut Sessions) -> SentRequest {
        loop {
            let seen = self.next().await;
            if !self.serve(sessions, &seen).await {
                return seen;
            }
        }
    }

    /// The next `rpc.resolve`, unanswered; every other `rpc.*` request is answered.
    pub(crate) async fn next_resolve(&mut self, sessions: &mut Sessions) -> SentRequest {
        loop {
            let seen = self.next().await;
            if seen.method == "rpc.resolve" {
                return seen;
            }
            assert!(self.serve(sessions, &seen).await, "{seen:?}");
        }
    }

    /// Answers `rpc.*` requests until none has arrived for that long.
    pub(crate) async fn serve_for(&mut self, sessions: &mut Sessions, time: std::time::Duration) {
        while let Ok(Some(seen)) = tokio::time::timeout(time, self.request()).await {
            assert!(self.serve(sessions, &seen).await, "unexpected: {seen:?}");
        }
    }

    /// Answers a request if it is `rpc.*`.
    pub(crate) async fn serve(&mut self, sessions: &mut Sessions, seen: &SentRequest) -> bool {
        if let (Some(ack), Some(call)) = (seen.meta.ack, call(seen)) {
            let session = call.session.to_string();
            sessions.ack(&json!({"session": session, "ack": ack}));
        }
        let unknown = json!({"executed": "unknown"});
        match seen.method.as_str() {
            "rpc.hello" => {
                let session = match seen.params["session"].as_str() {
                    None if sessions.opened >= sessions.max_sessions => {
                        let busy = json!({"executed": "no", "retry_after_ms": 1000});
                        self.error(seen, sessions.refusal, busy).await;
                        return true;
                    }
                    None => sessions.open(),
                    Some(known) if sessions.known.contains_key(known) => known.to_owned(),
                    Some(_) => {
                        self.error(seen, -32004, unknown).await;
                        return true;
                    }
                };
                let hello = sessions.hello(&session);
                self.result(seen, hello).await;
            }
            "rpc.ack" => {
                assert!(seen.is_notification);
                sessions.ack(&seen.params);
            }
            "rpc.goodbye" => {
                assert!(seen.is_notification);
                let session = seen.params["session"].as_str().unwrap();
                sessions.ended.insert(session.to_owned());
            }
            "rpc.cancel" => {
                assert!(seen.is_notification);
                if let Some((table, number)) = sessions.find(seen.params["id"].as_str().unwrap())
                    && !table.executed.contains_key(&number)
                {
                    table.fenced.insert(number);
                }
            }
            "rpc.resolve" => match sessions.find(seen.params["id"].as_str().unwrap()) {
                None => self.error(seen, -32004, unknown).await,
                Some((table, number)) if number < table.ack || table.above.contains(&number) => {
                    self.error(seen, -32007, unknown).await;
                }
                Some((table, number)) => {
                    let answer = match table.executed.get(&number) {
                        Some(value) => json!({"state": "done", "result": value}),
                        None => json!({"state": "never"}),
                    };
                    if answer["state"] == "never" {
                        table.fenced.insert(number);
                    }
                    self.result(seen, answer).await;
                }
            },
            "rpc.ping" => self.result(seen, json!("pong")).await,
            _ => return false,
        }
        true
    }

    /// Executes a call of a session, or says that its session is unknown.
    pub(crate) async fn execute(
        &mut self,
        sessions: &mut Sessions,
        seen: &SentRequest,
        value: Value,
    ) {
        let id: String = serde_json::from_str(&seen.id).unwrap();
        match sessions.find(&id) {
            Some((table, number)) => {
                assert!(number >= table.ack, "{number} was acknowledged");
                table.executed.insert(number, value.clone());
                self.result(seen, value).await;
            }
            None => {
                let session = call(seen).map(|call| call.session.to_string());
                let data = json!({"executed": "unknown", "unknown_session": session});
                self.error(seen, -32004, data).await;
            }
        }
    }
}
