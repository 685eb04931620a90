//! A small server with the rules of GUARANTEES.md and none of the code of the real one: it speaks
//! through `redial-protocol`, and each of its rules can be switched off. With all of them on it
//! passes like the real one, or finding the bugs would prove nothing.

mod table;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redial_protocol::{
    Dialect, ErrorCode, ErrorObject, Executed, FrameDecoder, Incoming, Limits, ReplyMeta, Request,
    SessionCall, SessionId, reply, rpc, write_frame,
};
use serde_json::{json, value::RawValue};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc::{UnboundedSender, unbounded_channel},
    task::AbortHandle,
    time::{Duration, sleep},
};

use self::table::{Arrival, Asked, Key, Table, encoded, raised};
use crate::{
    bug::Bug,
    clock,
    dice::{Dice, Stream},
    journal::Method,
    net::Wire,
    scenario::ServerPlan,
    workshop::{Outcome, Params, Workshop},
};

const MAX_FRAME_BYTES: usize = 1024 * 1024;

/// One life of a model server. All clones are the same one.
#[derive(Clone)]
pub(crate) struct Model(Arc<Inner>);

struct Inner {
    workshop: Workshop,
    bug: Option<Bug>,
    window: usize,
    state: Mutex<State>,
}

struct State {
    table: Table,
    sessions: Dice,
    executions: Vec<AbortHandle>,
}

/// Somebody to whom an answer is owed.
pub(super) struct Waiter {
    to: UnboundedSender<Vec<u8>>,
    dialect: Dialect,
    id: String,
    /// It wants to know what became of the call, and is not an attempt of it.
    asks: bool,
}

/// What a connection knows.
struct Connection {
    to: UnboundedSender<Vec<u8>>,
    attached: Vec<SessionId>,
}

#[derive(serde::Deserialize)]
struct Named {
    id: Box<RawValue>,
}

impl Model {
    pub(crate) fn new(
        plan: &ServerPlan,
        mut workshop: Workshop,
        bug: Option<Bug>,
        seed: u64,
    ) -> Self {
        workshop.answers_old_values = bug == Some(Bug::OldValues);
        workshop.loses_updates = bug == Some(Bug::LostUpdates);
        let config = &plan.config;
        let table = Table::new(bug, config.session_lease, config.max_running);
        Self(Arc::new(Inner {
            workshop,
            bug,
            window: config.max_in_flight,
            state: Mutex::new(State {
                table,
                sessions: Dice::new(seed, Stream::Scenario),
                executions: Vec::new(),
            }),
        }))
    }

    /// Serves one connection to its end.
    pub(crate) async fn serve(self, mut wire: Wire) {
        let (to, mut replies) = unbounded_channel::<Vec<u8>>();
        let mut connection = Connection {
            to,
            attached: Vec::new(),
        };
        let mut decoder = FrameDecoder::new(MAX_FRAME_BYTES);
        let mut buffer = vec![0; 4096];
        loop {
            tokio::select! {
                biased;
                Some(reply) = replies.recv() => {
                    if wire.write_all(&reply).await.is_err() {
                        break;
                    }
                }
                read = wire.read(&mut buffer) => {
                    let Ok(count @ 1..) = read else { break };
                    let mut input = &buffer[..count];
                    while let Ok(Some(frame)) = decoder.next_frame(&mut input) {
                        self.take(&mut connection, frame);
                    }
                }
            }
        }
        let mut state = self.lock();
        for session in connection.attached {
            state.table.detach(session, clock::now());
        }
    }

    /// The process dies.
    pub(crate) fn kill(&self) {
        let executions = std::mem::take(&mut self.lock().executions);
        executions.iter().for_each(AbortHandle::abort);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, connection: &mut Connection, frame: &[u8]) {
        let Ok(Incoming::Request(request)) = Incoming::parse(frame, &Limits::default()) else {
            return;
        };
        let waiter = |asks| Waiter {
            to: connection.to.clone(),
            dialect: request.dialect,
            id: request
                .id
                .map_or("null".to_owned(), |id| id.raw().to_owned()),
            asks,
        };
        let owed = waiter(false);
        let outcome = match (&*request.method, Method::named(&request.method)) {
            (rpc::HELLO, _) => self.hello(&mut connection.attached, &request),
            (rpc::ACK, _) => return self.ack(&request),
            (rpc::CANCEL, _) => return self.cancel(&request),
            (rpc::RESOLVE, _) => return self.resolve(&request, || waiter(true), &owed),
            (rpc::PING, _) => br#""result":"pong""#.to_vec(),
            (_, Some(method)) => {
                self.stay(&mut connection.attached, &request);
                return self.call(&request, method, owed);
            }
            _ => raised(ErrorCode::METHOD_NOT_FOUND),
        };
        owed.tell(&outcome);
    }

    fn hello(&self, attached: &mut Vec<SessionId>, request: &Request<'_>) -> Vec<u8> {
        let params: rpc::HelloParams = read(request.params).unwrap_or_default();
        let mut state = self.lock();
        let session = match params.session {
            Some(session) if state.table.attach(session, clock::now()) => session,
            Some(_) => return raised(ErrorCode::OUTCOME_UNKNOWN),
            None => {
                let session = SessionId::from_bits(state.sessions.seed());
                state.table.open(session);
                session
            }
        };
        attached.push(session);
        result(&rpc::Hello {
            session,
            table: "model".into(),
            lease_ms: state.table.lease.as_millis() as u64,
            max_frame: MAX_FRAME_BYTES as u64,
            max_in_flight: self.0.window as u64,
        })
    }

    /// A call keeps its session alive for as long as its connection stands.
    fn stay(&self, attached: &mut Vec<SessionId>, request: &Request<'_>) {
        let Some(Key::Numbered(session, _)) = request.id.map(|id| key(id.raw())) else {
            return;
        };
        if !attached.contains(&session) && self.lock().table.attach(session, clock::now()) {
            attached.push(session);
        }
    }

    fn ack(&self, request: &Request<'_>) {
        if let Some(params) = read::<rpc::AckParams>(request.params) {
            let (ack, above) = (params.ack, &params.above);
            let mut state = self.lock();
            state
                .table
                .acknowledge(params.session, ack, above, clock::now());
        }
    }

    fn cancel(&self, request: &Request<'_>) {
        if let Some(named) = read::<Named>(request.params) {
            let key = key(named.id.get());
            self.lock().table.cancel(&key, clock::now());
        }
    }

    fn resolve(&self, request: &Request<'_>, waiter: impl FnOnce() -> Waiter, owed: &Waiter) {
        let Some(named) = read::<Named>(request.params) else {
            return;
        };
        let key = key(named.id.get());
        let asked = self.lock().table.resolve(&key, waiter, clock::now());
        match asked {
            Asked::Joined => {}
            Asked::Done(outcome) => owed.tell(&resolution(&outcome)),
            Asked::Never => owed.tell(NEVER),
            Asked::Refused(error) => owed.tell(&error),
        }
    }

    fn call(&self, request: &Request<'_>, method: Method, owed: Waiter) {
        let Some(params) = read::<Params>(request.params) else {
            return owed.tell(&raised(ErrorCode::INVALID_PARAMS));
        };
        let Some(id) = request.id.filter(|_| method != Method::Get) else {
            return self.execute(None, method, params, owed);
        };
        let key = key(id.raw());
        let raw = request.params.unwrap_or_default();
        let asks_for = format!("{} {raw}", request.method);
        let attempt = request.meta.attempt;
        let joins = || Waiter {
            to: owed.to.clone(),
            dialect: owed.dialect,
            id: owed.id.clone(),
            asks: false,
        };
        let mut state = self.lock();
        if let (Key::Numbered(session, _), Some(ack)) = (&key, request.meta.ack) {
            state.table.acknowledge(*session, ack, &[], clock::now());
        }
        let arrival = state
            .table
            .arrive(&key, &asks_for, attempt, joins, clock::now());
        drop(state);
        match arrival {
            Arrival::Execute => self.execute(Some(key), method, params, owed),
            Arrival::Joined => {}
            Arrival::Answer(outcome) => owed.tell(&self.made_anew(outcome)),
        }
    }

    fn execute(&self, key: Option<Key>, method: Method, params: Params, owed: Waiter) {
        let model = self.clone();
        let task = tokio::spawn(async move {
            let outcome = model.0.workshop.clone().run(method, params).await;
            let has_effect = outcome != Outcome::NoEffect;
            let outcome = model.made_anew(encode(outcome));
            if model.0.bug == Some(Bug::RecordAfterReply) {
                owed.tell(&outcome);
                sleep(Duration::from_millis(20)).await;
            }
            let joined = key.map_or_else(Vec::new, |key| {
                let mut state = model.lock();
                state.table.finish(&key, &outcome, has_effect, clock::now())
            });
            if model.0.bug != Some(Bug::RecordAfterReply) {
                owed.tell(&outcome);
            }
            for waiter in joined {
                waiter.tell_end(&outcome, has_effect);
            }
        });
        self.lock().executions.push(task.abort_handle());
    }

    fn made_anew(&self, outcome: Vec<u8>) -> Vec<u8> {
        if self.0.bug != Some(Bug::ReplyMadeAnew) || !outcome.starts_with(br#""result":{"value""#) {
            return outcome;
        }
        let at = self.0.workshop.moment();
        let mut outcome = String::from_utf8(outcome).expect("it is JSON");
        let end = outcome.find([',', '}']).expect("it is an object");
        outcome.replace_range(end.., &format!(r#","at":{at}}}"#));
        outcome.into_bytes()
    }
}

const NEVER: &[u8] = br#""result":{"state":"never"}"#;

impl Waiter {
    fn tell(&self, outcome: &[u8]) {
        let mut frame = Vec::new();
        let meta = ReplyMeta::default();
        let written = write_frame(&mut frame, MAX_FRAME_BYTES, |out| {
            reply::write(out, self.dialect, &self.id, outcome, meta);
        });
        written.expect("replies here are small");
        // Nobody is there any more if the connection has gone.
        let _ = self.to.send(frame);
    }

    fn tell_end(&self, outcome: &[u8], has_effect: bool) {
        match (self.asks, has_effect) {
            (false, _) => self.tell(outcome),
            (true, true) => self.tell(&resolution(outcome)),
            (true, false) => self.tell(NEVER),
        }
    }
}

/// The name of a call, from its id as it was written.
fn key(id: &str) -> Key {
    let text = id.trim_matches('"');
    let call = redial_client::Uuid::parse_str(text)
        .ok()
        .and_then(SessionCall::from_uuid);
    match call {
        Some(call) => Key::Numbered(call.session, call.number),
        None => Key::Plain(text.to_owned()),
    }
}

fn read<'a, P: serde::Deserialize<'a>>(params: Option<&'a str>) -> Option<P> {
    serde_json::from_str(params?).ok()
}

fn result(value: &impl serde::Serialize) -> Vec<u8> {
    let mut outcome = Vec::new();
    reply::encode_result(&mut outcome, value).expect("plain members can't fail");
    outcome
}

fn encode(outcome: Outcome) -> Vec<u8> {
    let error =
        |code, text, executed| encoded(&ErrorObject::raised(code, text).with_executed(executed));
    match outcome {
        Outcome::Value(value) => result(&json!({"value": value})),
        Outcome::Failed => error(ErrorCode::HANDLER_ERROR, "it failed", Executed::Yes),
        Outcome::NoEffect => error(ErrorCode::HANDLER_ERROR, "taken back", Executed::No),
        Outcome::Panic => error(ErrorCode::INTERNAL_ERROR, "it panicked", Executed::Yes),
    }
}

/// A recorded outcome, for somebody who asks for it.
fn resolution(outcome: &[u8]) -> Vec<u8> {
    [br#""result":{"state":"done","#, outcome, b"}"].concat()
}
