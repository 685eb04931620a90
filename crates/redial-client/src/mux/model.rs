//! Names of calls and what is acknowledged of them, against a list of all calls and a server that
//! writes down what it is told.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use rand::SeedableRng;
use redial_protocol::{FrameDecoder, Incoming, Limits, SessionCall, SessionId};
use serde_json::Value;

use super::{tests::request, *};
use crate::{Config, clock};

#[derive(Clone, Copy, Debug)]
enum Step {
    Open,
    Send(usize),
    Close(usize, End),
    /// The last token goes; others live elsewhere, or not.
    Release(usize, bool),
    Resume(usize),
    /// A call that was left to others is over for good.
    Acknowledge(usize),
    /// Nothing has been sent for a while.
    Idle,
    Write,
    Lose,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Open,
    Held,
    Left,
    Done,
}

#[derive(Debug)]
struct Call {
    key: Key,
    name: Option<SessionCall>,
    /// When it asked for a number and there was none, in steps.
    waits_since: Option<usize>,
    state: State,
}

/// What a server knows of a session.
#[derive(Default)]
struct Records {
    /// The number after the highest that arrived.
    end: u64,
    acknowledged: BTreeSet<u64>,
}

struct World {
    mux: Mux,
    now: Instant,
    window: u64,
    calls: Vec<Call>,
    outgoing: Outgoing,
    decoder: FrameDecoder,
    server: BTreeMap<SessionId, Records>,
    step: usize,
    /// A connection was lost, with whatever was on its way.
    has_lost: bool,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let call = || 0usize..12;
    let end = prop_oneof![4 => Just(End::Done), 1 => Just(End::Held)];
    let step = prop_oneof![
        6 => Just(Step::Open),
        8 => call().prop_map(Step::Send),
        6 => (call(), end).prop_map(|(at, end)| Step::Close(at, end)),
        1 => (call(), any::<bool>()).prop_map(|(at, elsewhere)| Step::Release(at, elsewhere)),
        1 => call().prop_map(Step::Resume),
        1 => call().prop_map(Step::Acknowledge),
        1 => Just(Step::Idle),
        3 => Just(Step::Write),
        1 => Just(Step::Lose),
    ];
    prop::collection::vec(step, 0..80)
}

impl World {
    fn new(window: u64) -> Self {
        let mut world = Self {
            mux: Mux::new(&Config::default(), ChaCha8Rng::seed_from_u64(1)),
            now: clock::now(),
            window,
            calls: Vec::new(),
            outgoing: Outgoing::default(),
            decoder: FrameDecoder::new(1 << 20),
            server: BTreeMap::new(),
            step: 0,
            has_lost: false,
        };
        world.connect();
        world
    }

    fn connect(&mut self) {
        self.outgoing = Outgoing::after(self.mux.connected(0, self.now));
        self.decoder = FrameDecoder::new(1 << 20);
        self.write();
    }

    /// Everything arrives, and hellos are answered.
    fn write(&mut self) {
        let mut frames: Vec<Vec<u8>> = Vec::new();
        loop {
            let ready = self.outgoing.ready().to_vec();
            if ready.is_empty() && !self.mux.exchange(0, &mut self.outgoing, Waker::noop()) {
                break;
            }
            self.outgoing.advance(ready.len());
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
                self.welcome(serial, params["session"].as_str());
            }
            "rpc.ack" => self.acknowledged(&params),
            _ => self.arrived(&id, request.meta.ack),
        }
    }

    fn welcome(&mut self, serial: u64, session: Option<&str>) {
        let id = match session {
            Some(session) => session.parse().unwrap(),
            None => SessionId::from_bits(self.server.len() as u64 + 1),
        };
        self.server.entry(id).or_default();
        let welcome = Welcome::Session {
            id,
            window: self.window,
            max_frame_bytes: 1 << 20,
        };
        let hello = [Decoded::Hello(serial, welcome)];
        self.mux.deliver(0, &mut hello.into(), self.now).unwrap();
    }

    fn acknowledged(&mut self, params: &Value) {
        let session = params["session"].as_str().unwrap().parse().unwrap();
        let ack = params["ack"].as_u64().unwrap();
        let above = params["above"].as_array();
        let range = |pair: &Value| pair[0].as_u64().unwrap()..pair[1].as_u64().unwrap();
        let above = above.into_iter().flatten().flat_map(range);
        self.told(session, (0..ack).chain(above).collect());
    }

    /// Only what is over may be acknowledged.
    fn told(&mut self, session: SessionId, numbers: BTreeSet<u64>) {
        for call in &self.calls {
            let name = call.name.filter(|name| name.session == session);
            let is_told = name.is_some_and(|name| numbers.contains(&name.number));
            assert!(!is_told || call.state == State::Done, "{call:?}");
        }
        let records = self.server.get_mut(&session).expect("it was opened");
        records.acknowledged.extend(numbers);
    }

    /// A server has room for two windows: what is acknowledged may come late, as here when the
    /// request that was to say it is taken back, and those behind it are not.
    fn arrived(&mut self, id: &str, ack: Option<u64>) {
        let id = Uuid::parse_str(id).unwrap();
        let call = SessionCall::from_uuid(id).expect("there is a session");
        self.told(call.session, (0..ack.unwrap_or(0)).collect());
        let records = self.server.get_mut(&call.session).expect("it was opened");
        records.end = records.end.max(call.number + 1);
        let open = records.end - records.acknowledged.range(..records.end).count() as u64;
        let room = 2 * self.window;
        assert!(open <= room, "{open} records of at most {room}");
    }

    fn happen(&mut self, step: Step) {
        self.step += 1;
        match step {
            Step::Open => self.open(None),
            Step::Idle => (0..2).for_each(|_| self.mux.look(0, self.now)),
            Step::Write => self.write(),
            Step::Lose => {
                self.has_lost = true;
                self.mux.lost(0, None, &"peer".into(), "cut", self.now);
                self.connect();
            }
            Step::Send(at)
            | Step::Close(at, _)
            | Step::Release(at, _)
            | Step::Resume(at)
            | Step::Acknowledge(at) => {
                if let Some(index) = self.calls.len().checked_sub(at + 1) {
                    self.happen_to(index, step);
                }
            }
        }
        self.check();
    }

    fn open(&mut self, resumed: Option<usize>) {
        let name = resumed.and_then(|index| self.calls[index].name);
        let nature = Nature {
            is_resumed: name.is_some(),
            is_bound: name.is_some(),
            ..Nature::default()
        };
        let key = self.mux.open(name.map(SessionCall::uuid), nature).unwrap();
        let call = Call {
            key,
            name,
            waits_since: None,
            state: State::Open,
        };
        match resumed {
            Some(index) => self.calls[index] = call,
            None => self.calls.push(call),
        }
    }

    fn happen_to(&mut self, index: usize, step: Step) {
        let call = &mut self.calls[index];
        match (step, call.state, call.name) {
            (Step::Send(_), State::Open, _) => {
                self.mux.send(&request(call.key), self.now);
                if self.mux.call(call.key).name == Name::None {
                    call.waits_since.get_or_insert(self.step);
                }
            }
            (Step::Close(_, end), State::Open, _) => {
                self.mux.withdraw(call.key);
                self.mux.close(call.key, end);
                call.state = match (end, call.name) {
                    (End::Held, Some(_)) => State::Held,
                    _ => State::Done,
                };
            }
            (Step::Release(_, is_elsewhere), State::Held, Some(name)) => {
                self.mux.release_token(name, is_elsewhere);
                call.state = match is_elsewhere {
                    true => State::Left,
                    false => State::Done,
                };
            }
            (Step::Resume(_), State::Held | State::Left, Some(name))
                if self.mux.sessions.get(name.session).is_some() =>
            {
                self.open(Some(index));
            }
            (Step::Acknowledge(_), State::Left, Some(name)) => {
                self.mux.acknowledge(name.uuid());
                call.state = State::Done;
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
            .filter(|call| call.state == State::Open)
        {
            let name = match self.mux.call(call.key).name {
                Name::Number(name) => Some(name),
                Name::None => None,
                Name::Id(id) => panic!("{id} is no number"),
            };
            if call.name.is_none() && name.is_some() {
                named_now.push(call.waits_since.unwrap_or(self.step));
                call.name = name;
            }
            assert_eq!(call.name, name, "it had another");
        }
        let open = || self.calls.iter().filter(|call| call.state == State::Open);
        let nameless = open().filter(|call| call.name.is_none());
        let longest = nameless.filter_map(|call| call.waits_since).min();
        for since in named_now {
            assert!(longest.is_none_or(|longest| since <= longest), "overtaken");
        }
        let names: Vec<_> = self.calls.iter().filter_map(|call| call.name).collect();
        let different: BTreeSet<_> = names.iter().collect();
        assert_eq!(names.len(), different.len());
        for call in &self.calls {
            let found = call.name.and_then(|name| self.mux.find(name.uuid()));
            let is_open = call.state == State::Open && call.name.is_some();
            assert_eq!(found, is_open.then_some(call.key));
        }
        assert_eq!(self.mux.in_flight(), open().count());
    }

    /// Everybody is done: nobody has waited in vain, and the server was told of everything.
    fn finish(&mut self) {
        while let Some(index) = self.calls.iter().position(|call| call.state != State::Done) {
            let at = self.calls.len() - 1 - index;
            self.happen(Step::Send(at));
            self.happen(match self.calls[index].state {
                State::Open => Step::Close(at, End::Done),
                State::Held => Step::Release(at, false),
                _ => Step::Acknowledge(at),
            });
        }
        self.happen(Step::Idle);
        self.happen(Step::Write);
        for call in self.calls.iter().filter_map(|call| call.name) {
            // What was said last of an earlier session may be lost with the connection: its server
            // keeps that until the lease ends.
            if self.has_lost && self.mux.sessions.get(call.session).is_none() {
                continue;
            }
            let records = &self.server[&call.session];
            assert!(records.acknowledged.contains(&call.number), "{call:?}");
        }
        assert_eq!((self.mux.retained_calls(), self.mux.outstanding(0)), (0, 0));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn names_and_acknowledgements_agree_with_a_list(steps in steps(), window in 1u64..8) {
        let mut world = World::new(window);
        for step in steps {
            world.happen(step);
        }
        world.finish();
    }
}
