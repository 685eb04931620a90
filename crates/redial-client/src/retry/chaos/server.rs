//! An honest server with sessions, which may forget them.

use std::collections::{BTreeMap, BTreeSet};

use redial_protocol::{
    ErrorCode, ErrorObject, Incoming, Limits, ReplyMeta, SessionCall, SessionId,
};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    inline_bytes::InlineBytes,
    mux::{
        control::{HELLO_ID, HelloReply},
        replies::ServerMessage,
    },
};

pub(super) const CALLS: usize = 5;
const WINDOW: u64 = 3;

/// What the server does with a call that it has not executed.
#[derive(Clone, Copy, Debug)]
pub(super) enum ServeAction {
    Answer,
    ExecuteSilently,
    Ignore,
    Refuse,
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(super) struct ArrivedRequest {
    id: String,
    method: String,
    params: Value,
    ack: Option<u64>,
}

/// What the server knows of a session.
#[derive(Default)]
struct SessionRecords {
    executed: BTreeSet<u64>,
    ack: u64,
    above: BTreeSet<u64>,
}

#[derive(Default)]
pub(super) struct ChaosServer {
    sessions: BTreeMap<SessionId, SessionRecords>,
    opened: u64,
    /// Which call a number was seen to be of.
    call_of: BTreeMap<SessionCall, usize>,
    pub(super) executions: [u32; CALLS],
}

impl ChaosServer {
    pub(super) fn forget_sessions(&mut self) {
        self.sessions.clear();
    }

    /// The reply to a request, if there is one. What is acknowledged must have finished.
    pub(super) fn serve(
        &mut self,
        request: &ArrivedRequest,
        action: ServeAction,
        has_finished: &[bool],
    ) -> Option<ServerMessage> {
        let id = request.id.trim_matches('"');
        match request.method.as_str() {
            "rpc.hello" => {
                let serial = id.strip_prefix(HELLO_ID)?.parse().ok()?;
                return Some(ServerMessage::Hello(serial, self.hello(&request.params)));
            }
            "rpc.ack" => {
                let params = &request.params;
                let session: SessionId = params["session"].as_str()?.parse().ok()?;
                let above = params["above"].as_array().cloned().unwrap_or_default();
                let range = |pair: &Value| pair[0].as_u64().unwrap()..pair[1].as_u64().unwrap();
                let above = above.iter().flat_map(range).collect();
                self.acknowledge(session, params["ack"].as_u64()?, above, has_finished);
                return None;
            }
            "rpc.cancel" | "rpc.goodbye" => return None,
            _ => {}
        }
        let id = Uuid::parse_str(id).unwrap();
        let call = SessionCall::from_uuid(id).expect("there is no plain server here");
        let index = request.params[0].as_u64().unwrap() as usize;
        let before = self.call_of.insert(call, index);
        let is_its = before.is_none_or(|before| before == index);
        assert!(is_its, "a number is used twice");
        if let Some(ack) = request.ack {
            self.acknowledge(call.session, ack, BTreeSet::new(), has_finished);
        }
        let outcome = self.execute(call, index, action, has_finished)?;
        Some(ServerMessage::Reply {
            id,
            outcome,
            meta: ReplyMeta::default(),
        })
    }

    fn hello(&mut self, params: &Value) -> HelloReply {
        let id = if let Some(session) = params["session"].as_str() {
            session.parse().unwrap()
        } else {
            self.opened += 1;
            let id = SessionId::from_bits(self.opened);
            self.sessions.insert(id, SessionRecords::default());
            id
        };
        if !self.sessions.contains_key(&id) {
            return HelloReply::Error(ErrorObject::raised(ErrorCode::OUTCOME_UNKNOWN, ""));
        }
        HelloReply::Session {
            id,
            table: "t".into(),
            window: WINDOW,
            max_frame_bytes: 1 << 20,
        }
    }

    fn acknowledge(
        &mut self,
        session: SessionId,
        ack: u64,
        above: BTreeSet<u64>,
        has_finished: &[bool],
    ) {
        for (call, index) in &self.call_of {
            if call.session == session && (call.number < ack || above.contains(&call.number)) {
                assert!(has_finished[*index], "{call:?} has not finished");
            }
        }
        if let Some(records) = self.sessions.get_mut(&session) {
            records.ack = records.ack.max(ack);
            records.above.extend(above);
        }
    }

    fn execute(
        &mut self,
        call: SessionCall,
        index: usize,
        action: ServeAction,
        has_finished: &[bool],
    ) -> Option<Result<InlineBytes, ErrorObject>> {
        let raised = |code| Some(Err(ErrorObject::raised(code, "")));
        let Some(records) = self.sessions.get_mut(&call.session) else {
            let error = ErrorObject::raised(ErrorCode::OUTCOME_UNKNOWN, "");
            return Some(Err(error.with_unknown_session(call.session)));
        };
        if call.number < records.ack || records.above.contains(&call.number) {
            assert!(has_finished[index]);
            return raised(ErrorCode::STALE);
        }
        let done = Some(Ok(InlineBytes::NULL));
        if records.executed.contains(&call.number) {
            return done;
        }
        match action {
            ServeAction::Ignore => return None,
            ServeAction::Refuse => return raised(ErrorCode::OVERLOADED),
            ServeAction::Answer | ServeAction::ExecuteSilently => {}
        }
        records.executed.insert(call.number);
        self.executions[index] += 1;
        assert_eq!(self.executions[index], 1, "call {index} is executed again");
        done.filter(|_| matches!(action, ServeAction::Answer))
    }
}

/// Reads a frame from the client.
pub(super) fn read(frame: &[u8]) -> ArrivedRequest {
    let Ok(Incoming::Request(request)) = Incoming::parse(frame, &Limits::default()) else {
        panic!("not a request: {}", String::from_utf8_lossy(frame));
    };
    ArrivedRequest {
        id: request.id.map_or(String::new(), |id| id.raw().to_owned()),
        method: request.method.to_string(),
        params: request
            .params
            .map_or(Value::Null, |raw| serde_json::from_str(raw).unwrap()),
        ack: request.meta.ack,
    }
}
