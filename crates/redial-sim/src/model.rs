//! A small server that follows the rules of GUARANTEES.md and shares no code with the real one
//! except `redial-protocol`. Each rule can be switched off. With all of them on it must pass like
//! the real server, or finding the bugs would prove nothing.

mod goodbye;
mod table;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redial_protocol::{
    Dialect, ErrorCode, ErrorObject, FrameDecoder, Incoming, Limits, ReplyMeta, Request,
    SessionCall, SessionId, encode_result, rpc, write_frame, write_reply,
};
use serde_json::{json, value::RawValue};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{
        mpsc::{UnboundedSender, unbounded_channel},
        watch,
    },
    task::AbortHandle,
    time::{Duration, Instant, sleep},
};

use self::table::{Arrival, Key, Resolved, Table, encoded, raised};
use crate::{
    bug::Bug,
    clock,
    frost::Frost,
    journal::Method,
    net::Wire,
    rng::{Rng, Stream},
    scenario::ServerPlan,
    service::{HandlerEnd, Params, Service},
};

const MAX_FRAME_BYTES: usize = 1024 * 1024;

/// One life of a model server. All clones share it.
#[derive(Clone)]
pub(crate) struct Model(Arc<ModelShared>);

struct ModelShared {
    service: Service,
    bug: Option<Bug>,
    window: usize,
    frost: Frost,
    /// True once the server shuts down. Every connection and every execution listens to it.
    closing: watch::Sender<bool>,
    state: Mutex<ModelState>,
}

struct ModelState {
    table: Table,
    sessions: Rng,
    executions: Vec<AbortHandle>,
}

/// A request that waits for a reply.
#[derive(Clone)]
pub(super) struct Waiter {
    to: UnboundedSender<Vec<u8>>,
    dialect: Dialect,
    id: String,
    /// It is `rpc.resolve`, and no attempt of the call.
    resolves: bool,
}

/// The state of a connection.
struct Connection {
    to: UnboundedSender<Vec<u8>>,
    attached: Vec<SessionId>,
    /// The dialect of the peer's latest hello.
    said_hello: Option<Dialect>,
}

#[derive(serde::Deserialize)]
struct CallParams {
    id: Box<RawValue>,
}

impl Model {
    pub(crate) fn new(
        plan: &ServerPlan,
        mut service: Service,
        bug: Option<Bug>,
        seed: u64,
        frost: &Frost,
    ) -> Self {
        service.answers_old_values = bug == Some(Bug::OldValues);
        service.loses_updates = bug == Some(Bug::LostUpdates);
        let config = &plan.config;
        let table = Table::new(bug, config);
        Self(Arc::new(ModelShared {
            service,
            bug,
            window: config.max_in_flight,
            frost: frost.clone(),
            closing: watch::Sender::new(false),
            state: Mutex::new(ModelState {
                table,
                sessions: Rng::new(seed, Stream::Scenario),
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
            said_hello: None,
        };
        let mut closing = self.0.closing.subscribe();
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
                () = goodbye::is_due(&mut closing) => {
                    drop(connection.to);
                    self.say_goodbye(&mut wire, &mut replies, connection.said_hello).await;
                    break;
                }
                read = wire.read(&mut buffer) => {
                    let Ok(count @ 1..) = read else { break };
                    let mut input = &buffer[..count];
                    while let Ok(Some(frame)) = decoder.next_frame(&mut input) {
                        self.on_frame(&mut connection, frame);
                    }
                }
            }
        }
        let mut state = self.lock();
        for session in connection.attached {
            state.table.detach(session, self.now());
        }
    }

    /// The process dies.
    pub(crate) fn kill(&self) {
        let executions = std::mem::take(&mut self.lock().executions);
        executions.iter().for_each(AbortHandle::abort);
    }

    /// Time in which the process stood still does not count: nothing was read.
    fn now(&self) -> Instant {
        match self.0.bug {
            Some(Bug::WallClockTtl) => clock::now(),
            _ => clock::now() - self.0.frost.total(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, ModelState> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn on_frame(&self, connection: &mut Connection, frame: &[u8]) {
        let Ok(Incoming::Request(request)) = Incoming::parse(frame, &Limits::default()) else {
            return;
        };
        let waiter = |resolves| Waiter {
            to: connection.to.clone(),
            dialect: request.dialect,
            id: request
                .id
                .map_or("null".to_owned(), |id| id.raw().to_owned()),
            resolves,
        };
        let caller = waiter(false);
        let outcome = match (&*request.method, Method::named(&request.method)) {
            (rpc::HELLO, _) => {
                connection.said_hello = Some(request.dialect);
                self.hello(&mut connection.attached, &request)
            }
            (rpc::ACK, _) => return self.ack(&request),
            (rpc::CANCEL, _) => return self.cancel(&request),
            (rpc::RESOLVE, _) => return self.resolve(&request, || waiter(true), &caller),
            // Its sessions end with their lease.
            (rpc::GOODBYE, _) => return,
            (rpc::PING, _) => br#""result":"pong""#.to_vec(),
            (_, Some(method)) => {
                self.keep_session(&mut connection.attached, &request);
                return self.call(&request, method, caller);
            }
            _ => raised(ErrorCode::METHOD_NOT_FOUND),
        };
        caller.reply(&outcome);
    }

    fn hello(&self, attached: &mut Vec<SessionId>, request: &Request<'_>) -> Vec<u8> {
        let params: rpc::HelloParams = read(request.params).unwrap_or_default();
        let mut state = self.lock();
        let session = match params.session {
            Some(session) if state.table.attach(session, self.now()) => session,
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
            expires_ms: None,
        })
    }

    /// A call attaches its connection to its session.
    fn keep_session(&self, attached: &mut Vec<SessionId>, request: &Request<'_>) {
        let Some(Key::Numbered(session, _)) = request.id.map(|id| key(id.raw())) else {
            return;
        };
        if !attached.contains(&session) && self.lock().table.attach(session, self.now()) {
            attached.push(session);
        }
    }

    fn ack(&self, request: &Request<'_>) {
        if let Some(params) = read::<rpc::AckParams>(request.params) {
            let (ack, above) = (params.ack, &params.above);
            let mut state = self.lock();
            state
                .table
                .acknowledge(params.session, ack, above, self.now());
        }
    }

    fn cancel(&self, request: &Request<'_>) {
        if let Some(params) = read::<CallParams>(request.params) {
            let key = key(params.id.get());
            self.lock().table.cancel(&key, self.now());
        }
    }

    fn resolve(&self, request: &Request<'_>, waiter: impl FnOnce() -> Waiter, caller: &Waiter) {
        let Some(params) = read::<CallParams>(request.params) else {
            return;
        };
        let key = key(params.id.get());
        let resolved = self.lock().table.resolve(&key, waiter, self.now());
        match resolved {
            Resolved::Joined => {}
            Resolved::Done(outcome) => caller.reply(&resolution(&outcome)),
            Resolved::Never => caller.reply(NEVER),
            Resolved::Refused(error) => caller.reply(&error),
        }
    }

    fn call(&self, request: &Request<'_>, method: Method, caller: Waiter) {
        let Some(params) = read::<Params>(request.params) else {
            return caller.reply(&raised(ErrorCode::INVALID_PARAMS));
        };
        let Some(id) = request.id.filter(|_| method != Method::Get) else {
            return self.execute(None, method, params, caller);
        };
        let key = key(id.raw());
        let raw = request.params.unwrap_or_default();
        let fingerprint = format!("{} {raw}", request.method);
        let attempt = request.meta.attempt;
        let mut state = self.lock();
        if let (Key::Numbered(session, _), Some(ack)) = (&key, request.meta.ack) {
            state.table.acknowledge(*session, ack, &[], self.now());
        }
        let arrival =
            state
                .table
                .arrive(&key, &fingerprint, attempt, || caller.clone(), self.now());
        drop(state);
        match arrival {
            Arrival::Execute => self.execute(Some(key), method, params, caller),
            Arrival::Joined => {}
            Arrival::Answer(outcome) => caller.reply(&self.with_time(outcome)),
        }
    }

    fn execute(&self, key: Option<Key>, method: Method, params: Params, caller: Waiter) {
        let (model, is_open) = (self.clone(), self.0.closing.subscribe());
        let task = tokio::spawn(async move {
            let _is_open = is_open;
            let outcome = model.0.service.clone().run(method, params).await;
            let has_effect = outcome != HandlerEnd::NoEffect;
            let outcome = model.with_time(encode(outcome, model.0.bug));
            if model.0.bug == Some(Bug::RecordAfterReply) {
                caller.reply(&outcome);
                sleep(Duration::from_millis(20)).await;
            }
            let joined = key.map_or_else(Vec::new, |key| {
                let mut state = model.lock();
                state.table.finish(&key, &outcome, has_effect, model.now())
            });
            if model.0.bug != Some(Bug::RecordAfterReply) {
                caller.reply(&outcome);
            }
            for waiter in joined {
                waiter.reply_outcome(&outcome, has_effect);
            }
        });
        self.lock().executions.push(task.abort_handle());
    }

    fn with_time(&self, outcome: Vec<u8>) -> Vec<u8> {
        if self.0.bug != Some(Bug::ReplyMadeAnew) || !outcome.starts_with(br#""result":{"value""#) {
            return outcome;
        }
        let at = self.0.service.age_micros();
        let mut outcome = String::from_utf8(outcome).expect("it is JSON");
        let end = outcome.find([',', '}']).expect("it is an object");
        outcome.replace_range(end.., &format!(r#","at":{at}}}"#));
        outcome.into_bytes()
    }
}

const NEVER: &[u8] = br#""result":{"state":"never"}"#;

impl Waiter {
    fn reply(&self, outcome: &[u8]) {
        let mut frame = Vec::new();
        let meta = ReplyMeta::default();
        let written = write_frame(&mut frame, MAX_FRAME_BYTES, |out| {
            write_reply(out, self.dialect, &self.id, outcome, meta);
        });
        written.expect("replies here are small");
        // The connection may be gone.
        let _ = self.to.send(frame);
    }

    fn reply_outcome(&self, outcome: &[u8], has_effect: bool) {
        match (self.resolves, has_effect) {
            (false, _) => self.reply(outcome),
            (true, true) => self.reply(&resolution(outcome)),
            (true, false) => self.reply(NEVER),
        }
    }
}

/// The key of a call, from its id as it was written.
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
    encode_result(&mut outcome, value).expect("plain members can't fail");
    outcome
}

fn encode(outcome: HandlerEnd, bug: Option<Bug>) -> Vec<u8> {
    let (failed, text) = (ErrorCode::HANDLER_ERROR, str::to_owned);
    match outcome {
        HandlerEnd::Value(value) => result(&json!({"value": value})),
        HandlerEnd::Failed => encoded(&ErrorObject::by_handler(failed, text("it failed"), None)),
        HandlerEnd::PassedOn(code, data) if bug == Some(Bug::Unmarked) => {
            let error = format!(r#"{{"code":{code},"message":"passed on","data":{data}}}"#);
            format!(r#""error":{error}"#).into_bytes()
        }
        HandlerEnd::PassedOn(code, data) => {
            let data = serde_json::from_str(data).expect("it is JSON");
            let error = ErrorObject::by_handler(code.into(), text("passed on"), Some(data));
            encoded(&error)
        }
        HandlerEnd::NoEffect => encoded(&ErrorObject::without_effect(
            failed,
            text("rolled back"),
            None,
        )),
        HandlerEnd::Panic => encoded(&ErrorObject::raised(
            ErrorCode::INTERNAL_ERROR,
            "it panicked",
        )),
    }
}

/// A recorded outcome, as the result of `rpc.resolve`.
fn resolution(outcome: &[u8]) -> Vec<u8> {
    [br#""result":{"state":"done","#, outcome, b"}"].concat()
}
