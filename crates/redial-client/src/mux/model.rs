//! Call ids and acknowledgements, against a list of all calls and a server that records what it
//! hears.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use rand::SeedableRng;
use redial_protocol::{FrameDecoder, Incoming, Limits, SessionCall, SessionId};
use serde_json::Value;

use super::{
    control::{HELLO_ID, HelloReply},
    link::Transmit,
    pending_call::{CallFlags, CallId},
    replies::ServerMessage,
    sessions::Disposition,
    tests::request,
    *,
};
use crate::clock;

#[derive(Clone, Copy, Debug)]
enum ModelStep {
    Open,
    Send(usize),
    Close(usize, Disposition),
    /// The last token goes; others live elsewhere, or not.
    Release(usize, bool),
    Resume(usize),
    /// A call whose token is elsewhere is forgotten.
    Acknowledge(usize),
    /// Nothing has been sent for a while.
    Idle,
    Write,
    Lose,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum ModelState {
    Open,
    Retained,
    Exported,
    Done,
}

#[derive(Debug)]
struct ModelCall {
    key: Key,
    id: Option<SessionCall>,
    /// When it asked for a number and didn't get one, in steps.
    waits_since: Option<usize>,
    state: ModelState,
}

/// What a server knows of a session.
#[derive(Default)]
struct ServerRecords {
    /// The number after the highest that arrived.
    end: u64,
    acknowledged: BTreeSet<u64>,
}

struct ModelWorld {
    mux: Mux,
    now: Instant,
    window: u64,
    calls: Vec<ModelCall>,
    transmit: Transmit,
    decoder: FrameDecoder,
    server: BTreeMap<SessionId, ServerRecords>,
    step: usize,
    /// A connection was lost, with whatever was on its way.
    has_lost: bool,
}

fn steps() -> impl Strategy<Value = Vec<ModelStep>> {
    let call = || 0usize..12;
    let end = prop_oneof![4 => Just(Disposition::Acknowledge), 1 => Just(Disposition::Retain)];
    let step = prop_oneof![
        6 => Just(ModelStep::Open),
        8 => call().prop_map(ModelStep::Send),
        6 => (call(), end).prop_map(|(at, end)| ModelStep::Close(at, end)),
        1 => (call(), any::<bool>()).prop_map(|(at, elsewhere)| ModelStep::Release(at, elsewhere)),
        1 => call().prop_map(ModelStep::Resume),
        1 => call().prop_map(ModelStep::Acknowledge),
        1 => Just(ModelStep::Idle),
        3 => Just(ModelStep::Write),
        1 => Just(ModelStep::Lose),
    ];
    prop::collection::vec(step, 0..80)
}

impl ModelWorld {
    fn new(window: u64) -> Self {
        let mut world = Self {
            mux: Mux::new(&Config::default(), ChaCha8Rng::seed_from_u64(1)),
            now: clock::now(),
            window,
            calls: Vec::new(),
            transmit: Transmit::default(),
            decoder: FrameDecoder::new(1 << 20),
            server: BTreeMap::new(),
            step: 0,
            has_lost: false,
        };
        world.connect();
        world
    }

    fn connect(&mut self) {
        self.transmit = Transmit::with_preamble(self.mux.handle_connected(0, self.now));
        self.decoder = FrameDecoder::new(1 << 20);
        self.write();
    }

    /// Everything arrives, and hellos are answered.
    fn write(&mut self) {
        let mut frames: Vec<Vec<u8>> = Vec::new();
        loop {
            let ready = self.transmit.ready().to_vec();
            if ready.is_empty() && !self.mux.poll_transmit(0, &mut self.transmit, Waker::noop()) {
                break;
            }
            self.transmit.advance(ready.len());
            let mut input = &*ready;
            while let Some(frame) = self.decoder.next_frame(&mut input).unwrap() {
                frames.push(frame.to_vec());
            }
        }
        for frame in frames {
            self.read(&frame);
        }
    }

    fn read(&mut self, frame: &[u8]) {
        let Ok(Incoming::Request(request)) = Incoming::parse(frame, &Limits::default()) else {
            panic!("not a request: {}", String::from_utf8_lossy(frame));
        };
        let id = request.id.and_then(|id| id.as_str()).unwrap_or_default();
        let params = request.params.map(|raw| serde_json::from_str(raw).unwrap());
        let params: Value = params.unwrap_or_default();
        match &*request.method {
            "rpc.hello" => {
                let serial = id.strip_prefix(HELLO_ID).unwrap().parse().unwrap();
                self.hello_reply(serial, params["session"].as_str());
            }
            "rpc.ack" => self.acknowledged(&params),
            "rpc.goodbye" => self.ended(&params),
            _ => self.arrived(&id, request.meta.ack),
        }
    }

    fn hello_reply(&mut self, serial: u64, session: Option<&str>) {
        let id = match session {
            Some(session) => session.parse().unwrap(),
            None => SessionId::from_bits(self.server.len() as u64 + 1),
        };
        self.server.entry(id).or_default();
        let reply = HelloReply::Session {
            id,
            table: "t".into(),
            window: self.window,
            max_frame_bytes: 1 << 20,
        };
        let hello = [ServerMessage::Hello(serial, reply)];
        self.mux
            .handle_replies(0, &mut hello.into(), self.now)
            .unwrap();
    }

    fn acknowledged(&mut self, params: &Value) {
        let session = params["session"].as_str().unwrap().parse().unwrap();
        let ack = params["ack"].as_u64().unwrap();
        let above = params["above"].as_array();
        let range = |pair: &Value| pair[0].as_u64().unwrap()..pair[1].as_u64().unwrap();
        let above = above.into_iter().flatten().flat_map(range);
        self.record_acks(session, (0..ack).chain(above).collect());
    }

    /// Only a session whose calls have all been acknowledged is needed no longer.
    fn ended(&mut self, params: &Value) {
        let session = params["session"].as_str().unwrap().parse().unwrap();
        let records = self.server.get(&session).expect("it was opened");
        let mut open = (0..records.end).filter(|number| !records.acknowledged.contains(number));
        assert_eq!(open.next(), None, "{session} is not over");
        let mut names = self.calls.iter().filter(|call| {
            let is_of_it = call.id.is_some_and(|name| name.session == session);
            is_of_it && call.state != ModelState::Done
        });
        assert!(names.next().is_none(), "a call of {session} is open");
    }

    /// Only what has ended may be acknowledged.
    fn record_acks(&mut self, session: SessionId, numbers: BTreeSet<u64>) {
        for call in &self.calls {
            let name = call.id.filter(|name| name.session == session);
            let is_acked = name.is_some_and(|name| numbers.contains(&name.number));
            assert!(!is_acked || call.state == ModelState::Done, "{call:?}");
        }
        let records = self.server.get_mut(&session).expect("it was opened");
        records.acknowledged.extend(numbers);
    }

    /// A server has room for two windows: what is acknowledged may come late, as here when the
    /// request that carries it is withdrawn, and those behind it are not.
    fn arrived(&mut self, id: &str, ack: Option<u64>) {
        let id = Uuid::parse_str(id).unwrap();
        let call = SessionCall::from_uuid(id).expect("there is a session");
        self.record_acks(call.session, (0..ack.unwrap_or(0)).collect());
        let records = self.server.get_mut(&call.session).expect("it was opened");
        records.end = records.end.max(call.number + 1);
        let open = records.end - records.acknowledged.range(..records.end).count() as u64;
        let room = 2 * self.window;
        assert!(open <= room, "{open} records of at most {room}");
    }

    fn happen(&mut self, step: ModelStep) {
        self.step += 1;
        match step {
            ModelStep::Open => self.open(None),
            ModelStep::Idle => (0..2).for_each(|_| self.mux.flush_idle_acks(0, self.now)),
            ModelStep::Write => self.write(),
            ModelStep::Lose => {
                self.has_lost = true;
                self.mux
                    .handle_disconnect(0, None, &"peer".into(), "cut", self.now);
                self.connect();
            }
            ModelStep::Send(at)
            | ModelStep::Close(at, _)
            | ModelStep::Release(at, _)
            | ModelStep::Resume(at)
            | ModelStep::Acknowledge(at) => {
                if let Some(index) = self.calls.len().checked_sub(at + 1) {
                    self.happen_to(index, step);
                }
            }
        }
        self.check();
    }

    fn open(&mut self, resumed: Option<usize>) {
        let id = resumed.and_then(|index| self.calls[index].id);
        let flags = CallFlags {
            is_resumed: id.is_some(),
            is_bound: id.is_some(),
            ..CallFlags::default()
        };
        let key = self.mux.open(id.map(SessionCall::uuid), flags).unwrap();
        let call = ModelCall {
            key,
            id,
            waits_since: None,
            state: ModelState::Open,
        };
        match resumed {
            Some(index) => self.calls[index] = call,
            None => self.calls.push(call),
        }
    }

    fn happen_to(&mut self, index: usize, step: ModelStep) {
        let call = &mut self.calls[index];
        match (step, call.state, call.id) {
            (ModelStep::Send(_), ModelState::Open, _) => {
                self.mux.send(&request(call.key), self.now);
                if self.mux.call(call.key).id == CallId::Unassigned {
                    call.waits_since.get_or_insert(self.step);
                }
            }
            (ModelStep::Close(_, end), ModelState::Open, _) => {
                self.mux.withdraw(call.key);
                self.mux.remove(call.key, end);
                call.state = match (end, call.id) {
                    (Disposition::Retain, Some(_)) => ModelState::Retained,
                    _ => ModelState::Done,
                };
            }
            (ModelStep::Release(_, is_exported), ModelState::Retained, Some(name)) => {
                self.mux.drop_token(name, is_exported);
                call.state = if is_exported {
                    ModelState::Exported
                } else {
                    ModelState::Done
                };
            }
            (ModelStep::Resume(_), ModelState::Retained | ModelState::Exported, Some(name))
                if self.mux.sessions.get(name.session).is_some() =>
            {
                self.open(Some(index));
            }
            (ModelStep::Acknowledge(_), ModelState::Exported, Some(name)) => {
                self.mux.acknowledge(name.uuid(), None);
                call.state = ModelState::Done;
            }
            _ => {}
        }
    }

    /// A name is for life and for one call, and numbers go to who has waited longest.
    fn check(&mut self) {
        let mut named_now = Vec::new();
        for call in self
            .calls
            .iter_mut()
            .filter(|call| call.state == ModelState::Open)
        {
            let name = match self.mux.call(call.key).id {
                CallId::Session(name) => Some(name),
                CallId::Unassigned => None,
                CallId::Plain(id) => panic!("{id} is no number"),
            };
            if call.id.is_none() && name.is_some() {
                named_now.push(call.waits_since.unwrap_or(self.step));
                call.id = name;
            }
            assert_eq!(call.id, name, "it had another");
        }
        let open = || {
            self.calls
                .iter()
                .filter(|call| call.state == ModelState::Open)
        };
        let nameless = open().filter(|call| call.id.is_none());
        let longest = nameless.filter_map(|call| call.waits_since).min();
        for since in named_now {
            assert!(longest.is_none_or(|longest| since <= longest), "overtaken");
        }
        let names: Vec<_> = self.calls.iter().filter_map(|call| call.id).collect();
        let different: BTreeSet<_> = names.iter().collect();
        assert_eq!(names.len(), different.len());
        for call in &self.calls {
            let found = call.id.and_then(|name| self.mux.find(name.uuid()));
            let is_open = call.state == ModelState::Open && call.id.is_some();
            assert_eq!(found, is_open.then_some(call.key));
        }
        assert_eq!(self.mux.in_flight(), open().count());
    }

    /// Every call ends: none has waited in vain, and all of them are acknowledged.
    fn finish(&mut self) {
        while let Some(index) = self
            .calls
            .iter()
            .position(|call| call.state != ModelState::Done)
        {
            let at = self.calls.len() - 1 - index;
            self.happen(ModelStep::Send(at));
            self.happen(match self.calls[index].state {
                ModelState::Open => ModelStep::Close(at, Disposition::Acknowledge),
                ModelState::Retained => ModelStep::Release(at, false),
                _ => ModelStep::Acknowledge(at),
            });
        }
        self.happen(ModelStep::Idle);
        self.happen(ModelStep::Write);
        for call in self.calls.iter().filter_map(|call| call.id) {
            // What was said last of an earlier session may be lost with the connection: its server
            // keeps that until the lease ends.
            if self.has_lost && self.mux.sessions.get(call.session).is_none() {
                continue;
            }
            let records = &self.server[&call.session];
            assert!(records.acknowledged.contains(&call.number), "{call:?}");
        }
        assert_eq!(
            (self.mux.retained_calls(), self.mux.in_flight_on(0)),
            (0, 0)
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn names_and_acknowledgements_agree_with_a_list(steps in steps(), window in 1u64..8) {
        let mut world = ModelWorld::new(window);
        for step in steps {
            world.happen(step);
        }
        world.finish();
    }
}
