//! Several calls over two connections to a server with sessions that is restarted, and a network
//! that keeps what was lost and delivers it later: whatever happens, no call is executed twice,
//! and each is told the truth.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use rand::SeedableRng;
use redial_protocol::{
    ErrorCode, ErrorObject, FrameDecoder, Incoming, Limits, ReplyMeta, SessionCall, SessionId,
};
use serde_json::{Value, value::to_raw_value};
use uuid::Uuid;

use super::{budget::RetryBudget, classify::Verdict, *};
use crate::{
    Backoff, Config, Jitter, clock,
    error::ConnectError,
    mux::{Decoded, End, HELLO_ID, Nature, Outgoing, Welcome},
};

const CALLS: usize = 5;
const LINKS: usize = 2;
const WINDOW: u64 = 3;

/// What the server does with a call that it has not executed.
#[derive(Clone, Copy, Debug)]
enum Serve {
    Answer,
    ExecuteSilently,
    Ignore,
    Refuse,
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Begin,
    Drop(usize),
    Advance(u64),
    Connect(usize),
    FailToConnect(usize),
    Write(usize, usize),
    Lose(usize, bool),
    Serve(usize, Serve),
    Late(usize),
    Restart,
    Expire,
}

/// A request as it arrived.
#[derive(Clone, Debug)]
struct Arrived {
    id: String,
    method: String,
    params: Value,
    ack: Option<u64>,
}

#[derive(Default)]
struct Line {
    is_connected: bool,
    outgoing: Outgoing,
    decoder: Option<FrameDecoder>,
    arrived: Vec<Arrived>,
}

struct Running {
    flight: Flight,
    /// How it ended: whether it has a value, and whether nobody knows.
    over: Option<(bool, bool)>,
}

#[derive(Default)]
struct Table {
    executed: BTreeSet<u64>,
    ack: u64,
    above: BTreeSet<u64>,
}

struct World {
    now: Instant,
    mux: Mux,
    policy: Policy,
    lines: Vec<Line>,
    calls: Vec<Running>,
    /// What is lost in the network, and may still arrive.
    late: Vec<Arrived>,
    sessions: BTreeMap<SessionId, Table>,
    opened: u64,
    /// Which call a number was seen to be of.
    names: BTreeMap<SessionCall, usize>,
    executions: [u32; CALLS],
}

impl World {
    fn new() -> Self {
        let config = Config {
            connections: LINKS,
            ..Config::default()
        };
        let now = clock::now();
        let rng = || ChaCha8Rng::seed_from_u64(1);
        Self {
            now,
            mux: Mux::new(&config, rng()),
            policy: Policy {
                bucket: Bucket::new(RetryBudget::unlimited(), now),
                jitter: rng(),
                latency: Latency::new(),
                hedges: 0,
                limits: CallLimits::default(),
            },
            lines: (0..LINKS).map(|_| Line::default()).collect(),
            calls: Vec::new(),
            late: Vec::new(),
            sessions: BTreeMap::new(),
            opened: 0,
            names: BTreeMap::new(),
            executions: [0; CALLS],
        }
    }

    fn begin(&mut self) {
        if self.calls.len() == CALLS {
            return;
        }
        let ms = Duration::from_millis;
        let limits = CallLimits {
            attempt_timeout: ms(100),
            max_attempts: 4,
            deadline: ms(2000),
            backoff: Backoff::new(ms(10), 2.0, ms(100), Jitter::Full).unwrap(),
            hedge: hedge::Hedge::After(ms(50)),
        };
        let params = to_raw_value(&[self.calls.len()]).unwrap();
        let mut flight = Flight::new("inc".into(), (&*params).into());
        flight.own_limits = Some(limits.into());
        flight.begin(&self.policy, self.now);
        flight.resend_window = Some(ms(8000));
        flight.key = Some(self.mux.open(None, Nature::default()).unwrap());
        self.calls.push(Running { flight, over: None });
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Begin => self.begin(),
            Event::Drop(call) => self.drop_call(call),
            Event::Advance(millis) => {
                self.now += Duration::from_millis(millis);
                for link in 0..LINKS {
                    self.mux.ask_again(link, self.now);
                    self.mux.look(link, self.now);
                }
            }
            Event::Connect(link) if !self.lines[link].is_connected => {
                let preamble = self.mux.connected(link, self.now);
                self.lines[link] = Line {
                    is_connected: true,
                    outgoing: Outgoing::after(preamble),
                    decoder: Some(FrameDecoder::new(1 << 20)),
                    arrived: Vec::new(),
                };
            }
            Event::FailToConnect(link) if !self.lines[link].is_connected => {
                let error = ConnectError {
                    peer: "peer".into(),
                    reason: std::sync::Arc::new(std::io::ErrorKind::ConnectionRefused.into()),
                };
                self.mux.connect_failed(link, &error, self.now);
            }
            Event::Write(link, bytes) if self.lines[link].is_connected => self.write(link, bytes),
            Event::Lose(link, knows) => self.lose(link, knows),
            Event::Serve(link, serve) if !self.lines[link].arrived.is_empty() => {
                let request = self.lines[link].arrived.remove(0);
                if let Some(reply) = self.serve(&request, serve) {
                    self.deliver(link, reply);
                }
            }
            Event::Late(at) if !self.late.is_empty() => {
                let request = self.late.remove(at % self.late.len());
                self.serve(&request, Serve::ExecuteSilently);
            }
            Event::Restart => {
                (0..LINKS).for_each(|link| self.lose(link, true));
                self.sessions.clear();
            }
            Event::Expire => self.sessions.clear(),
            _ => {}
        }
    }

    fn write(&mut self, link: usize, mut bytes: usize) {
        let line = &mut self.lines[link];
        let waker = std::task::Waker::noop();
        while bytes > 0 {
            let ready = line.outgoing.ready();
            if ready.is_empty() {
                if !self.mux.exchange(link, &mut line.outgoing, waker) {
                    return;
                }
                continue;
            }
            let count = ready.len().min(bytes);
            let mut input = &ready[..count];
            let decoder = line.decoder.as_mut().expect("it is connected");
            while let Some(frame) = decoder.next_frame(&mut input).unwrap() {
                line.arrived.push(read(frame));
            }
            line.outgoing.advance(count);
            bytes -= count;
        }
        self.mux.wrote(link, line.outgoing.offset());
    }

    fn lose(&mut self, link: usize, knows_how_far: bool) {
        if !self.lines[link].is_connected {
            return;
        }
        if !knows_how_far {
            // All that the driver was given may have been written, and may arrive.
            let left = self.lines[link].outgoing.ready().len();
            self.write_no_more_than_given(link, left);
        }
        let line = std::mem::take(&mut self.lines[link]);
        let written = knows_how_far.then(|| line.outgoing.offset());
        self.late.extend(line.arrived);
        self.mux
            .lost(link, written, &"peer".into(), "cut", self.now);
    }

    fn write_no_more_than_given(&mut self, link: usize, bytes: usize) {
        let line = &mut self.lines[link];
        let mut input = &line.outgoing.ready()[..bytes];
        let decoder = line.decoder.as_mut().expect("it is connected");
        while let Some(frame) = decoder.next_frame(&mut input).unwrap() {
            line.arrived.push(read(frame));
        }
    }

    fn deliver(&mut self, link: usize, reply: Decoded) {
        if self
            .mux
            .deliver(link, &mut [reply].into(), self.now)
            .is_err()
        {
            self.lose(link, true);
        }
    }

    /// An honest server: what it answers, if anything.
    fn serve(&mut self, request: &Arrived, serve: Serve) -> Option<Decoded> {
        let id = request.id.trim_matches('"');
        match request.method.as_str() {
            "rpc.hello" => {
                let serial = id.strip_prefix(HELLO_ID)?.parse().ok()?;
                return Some(Decoded::Hello(serial, self.hello(&request.params)));
            }
            "rpc.ack" => {
                let session: SessionId = request.params["session"].as_str()?.parse().ok()?;
                let above = request.params["above"]
                    .as_array()
                    .cloned()
                    .unwrap_or_default();
                let range = |pair: &Value| pair[0].as_u64().unwrap()..pair[1].as_u64().unwrap();
                self.ack(
                    session,
                    request.params["ack"].as_u64()?,
                    above.iter().flat_map(range),
                );
                return None;
            }
            "rpc.cancel" => return None,
            _ => {}
        }
        let id = Uuid::parse_str(id).unwrap();
        let call = SessionCall::from_uuid(id).expect("there is no plain server here");
        let index = request.params[0].as_u64().unwrap() as usize;
        let before = self.names.insert(call, index);
        assert!(
            before.is_none_or(|before| before == index),
            "a number is used twice"
        );
        if let Some(ack) = request.ack {
            self.ack(call.session, ack, std::iter::empty());
        }
        let outcome = self.execute(call, index, serve)?;
        Some(Decoded::Reply {
            id,
            outcome,
            meta: ReplyMeta::default(),
        })
    }

    fn hello(&mut self, params: &Value) -> Welcome {
        let id = match params["session"].as_str() {
            Some(session) => session.parse().unwrap(),
            None => {
                self.opened += 1;
                let id = SessionId::from_bits(self.opened);
                self.sessions.insert(id, Table::default());
                id
            }
        };
        match self.sessions.contains_key(&id) {
            true => Welcome::Session {
                id,
                window: WINDOW,
                max_frame_bytes: 1 << 20,
            },
            false => Welcome::Error(ErrorObject::raised(ErrorCode::OUTCOME_UNKNOWN, "")),
        }
    }

    /// What is acknowledged must be over.
    fn ack(&mut self, session: SessionId, ack: u64, above: impl Iterator<Item = u64>) {
        let above: BTreeSet<u64> = above.collect();
        for (call, index) in &self.names {
            if call.session == session && (call.number < ack || above.contains(&call.number)) {
                assert!(self.calls[*index].over.is_some(), "{call:?} is not over");
            }
        }
        if let Some(table) = self.sessions.get_mut(&session) {
            table.ack = table.ack.max(ack);
            table.above.extend(above);
        }
    }

    fn execute(
        &mut self,
        call: SessionCall,
        index: usize,
        serve: Serve,
    ) -> Option<Result<Json, ErrorObject>> {
        let raised = |code| Some(Err(ErrorObject::raised(code, "")));
        let Some(table) = self.sessions.get_mut(&call.session) else {
            let error = ErrorObject::raised(ErrorCode::OUTCOME_UNKNOWN, "");
            return Some(Err(error.with_unknown_session(call.session)));
        };
        if call.number < table.ack || table.above.contains(&call.number) {
            assert!(self.calls[index].over.is_some());
            return raised(ErrorCode::STALE);
        }
        let done = Some(Ok(Json::NULL));
        if table.executed.contains(&call.number) {
            return done;
        }
        match serve {
            Serve::Ignore => return None,
            Serve::Refuse => return raised(ErrorCode::OVERLOADED),
            Serve::Answer | Serve::ExecuteSilently => {}
        }
        table.executed.insert(call.number);
        self.executions[index] += 1;
        assert_eq!(self.executions[index], 1, "call {index} is executed again");
        done.filter(|_| matches!(serve, Serve::Answer))
    }

    /// Lets every call decide. Gives until when they sleep.
    fn step(&mut self) -> Option<Instant> {
        let mut next = None;
        for running in &mut self.calls {
            if running.over.is_some() {
                continue;
            }
            match running
                .flight
                .step(&mut self.mux, &mut self.policy, self.now)
            {
                Step::Sleep { until, .. } => {
                    assert!(
                        until > self.now,
                        "a sleep that is over is a loop without pause"
                    );
                    next = Some(next.map_or(until, |next: Instant| next.min(until)));
                }
                Step::Over(ending) => end(running, &ending, &mut self.mux),
            }
        }
        next
    }

    fn drop_call(&mut self, call: usize) {
        let Some(running) = self.calls.get_mut(call) else {
            return;
        };
        if running.over.is_none() {
            let key = running.flight.key.unwrap();
            running.flight.withdraw(&mut self.mux);
            self.mux.cancel(key);
            self.mux.close(key, End::Done);
            // Its caller is told nothing.
            running.over = Some((false, true));
        }
    }

    /// Lets time pass until every call is over, and then everything arrive that still can.
    fn finish(&mut self) {
        while let Some(until) = self.step() {
            self.now = until;
        }
        for link in 0..LINKS {
            if self.lines[link].is_connected {
                self.write(link, usize::MAX);
            }
            let arrived = std::mem::take(&mut self.lines[link].arrived);
            self.late.extend(arrived);
        }
        for request in std::mem::take(&mut self.late) {
            self.serve(&request, Serve::ExecuteSilently);
        }
    }
}

fn end(running: &mut Running, ending: &Ending, mux: &mut Mux) {
    let key = running.flight.key.unwrap();
    running.flight.withdraw(mux);
    let is_open = mux.call(key).is_open();
    let (has_value, is_unknown) = match ending {
        Ending::Answer(Answer::Result(..)) => (true, false),
        Ending::Answer(Answer::Error(error, verdict, _)) => {
            assert_ne!(
                error.code,
                ErrorCode::STALE,
                "it was acknowledged before it was over"
            );
            (false, *verdict == Verdict::Unknown || is_open)
        }
        _ => (false, is_open),
    };
    // Every other outcome that nobody knows is kept for a token.
    let is_held = is_unknown && running.flight.used.is_multiple_of(2);
    mux.close(key, if is_held { End::Held } else { End::Done });
    running.over = Some((has_value, is_unknown));
}

fn read(frame: &[u8]) -> Arrived {
    let Ok(Incoming::Request(request)) = Incoming::parse(frame, &Limits::default()) else {
        panic!("not a request: {}", String::from_utf8_lossy(frame));
    };
    Arrived {
        id: request.id.map_or(String::new(), |id| id.raw().to_owned()),
        method: request.method.to_string(),
        params: request
            .params
            .map_or(Value::Null, |raw| serde_json::from_str(raw).unwrap()),
        ack: request.meta.ack,
    }
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let serve = prop_oneof![
        4 => Just(Serve::Answer),
        1 => Just(Serve::ExecuteSilently),
        1 => Just(Serve::Ignore),
        1 => Just(Serve::Refuse),
    ];
    let link = || 0..LINKS;
    let event = prop_oneof![
        4 => Just(Event::Begin),
        1 => (0..CALLS).prop_map(Event::Drop),
        4 => (0u64..150).prop_map(Event::Advance),
        5 => link().prop_map(Event::Connect),
        1 => link().prop_map(Event::FailToConnect),
        8 => (link(), prop_oneof![1usize..300, Just(100_000)])
            .prop_map(|(link, bytes)| Event::Write(link, bytes)),
        2 => (link(), any::<bool>()).prop_map(|(link, knows)| Event::Lose(link, knows)),
        12 => (link(), serve).prop_map(|(link, serve)| Event::Serve(link, serve)),
        2 => any::<usize>().prop_map(Event::Late),
        1 => Just(Event::Restart),
        1 => Just(Event::Expire),
    ];
    prop::collection::vec(event, 0..150)
}

/// Lets it all happen, and gives what became of each call: how often it was executed, and whether
/// its caller was given a value, and told that nobody knows.
fn outcomes(events: impl IntoIterator<Item = Event>) -> Vec<(u32, Option<(bool, bool)>)> {
    let mut world = World::new();
    // From then on it is known for a server with sessions, and never taken for another.
    for event in [
        Event::Connect(0),
        Event::Write(0, 100_000),
        Event::Serve(0, Serve::Answer),
    ] {
        world.happen(event);
    }
    for event in events {
        world.happen(event);
        world.step();
    }
    world.finish();
    assert_eq!(world.mux.in_flight(), 0);
    assert_eq!((world.mux.outstanding(0), world.mux.outstanding(1)), (0, 0));
    let calls = world.calls.iter().enumerate();
    calls
        .map(|(index, call)| (world.executions[index], call.over))
        .collect()
}

/// A second connection is sent a call of a session that it has not said hello to yet, because it is
/// still busy with the session before. Its server executes the call, and then forgets the session.
#[test]
fn a_session_that_is_unknown_by_now_may_have_been_known() {
    use Event::{Begin, Connect, Expire, Lose, Serve as Served, Write};
    let everything = |link| Write(link, 100_000);
    let answer = |link| Served(link, Serve::Answer);
    // On the one connection the first session is found to be gone, and another one opened.
    let on_the_one = [Connect(1), Expire, Begin, everything(0), answer(0)];
    let a_new_session = [everything(0), answer(0)];
    // On the other one both hellos and the call between them are answered.
    let on_the_other = [Begin, everything(1), answer(1), everything(1)];
    let silently = Served(1, Serve::ExecuteSilently);
    let executed = [silently, Lose(0, true), Expire, answer(1)];
    let at_last = [everything(1), answer(1)];
    let begin = on_the_one.into_iter().chain(a_new_session);
    let all = begin.chain(on_the_other).chain(executed);
    let nobody_knows = Some((false, true));
    let expected = [(0, nobody_knows), (1, nobody_knows)];
    assert_eq!(outcomes(all.chain(at_last).chain(at_last)), expected);
}

/// It may be sent again only if no copy of it can have been executed: not if one was on a connection
/// whose server knew the session, although the server that is asked last does not.
#[test]
fn a_call_with_a_copy_elsewhere_is_not_sent_again_when_a_hello_finds_no_session() {
    use Event::{Advance, Begin, Connect, Expire, Lose, Serve as Served, Write};
    let everything = |link| Write(link, 100_000);
    let answer = |link| Served(link, Serve::Answer);
    let mut told = Vec::new();
    for serve in [Serve::ExecuteSilently, Serve::Ignore] {
        for is_lost in [true, false] {
            // The hedge leaves right behind a hello that has no answer yet.
            let on_one = [Begin, everything(0), Served(0, serve), Connect(1)];
            let on_other = [Advance(60), everything(1)];
            let lost = is_lost.then_some(Lose(0, true));
            let too_late = [Expire, answer(1), answer(1)];
            let at_last = [everything(0), answer(0), everything(1), answer(1)];
            let begin = on_one.into_iter().chain(on_other).chain(lost);
            let all = begin.chain(too_late).chain([Connect(0), Connect(1)]);
            told.extend(outcomes(all.chain(at_last).chain(at_last)));
        }
    }
    let nobody_knows = Some((false, true));
    let expected = [1, 1, 0, 0].map(|executions| (executions, nobody_knows));
    assert_eq!(told, expected);
}

/// The other half: a server that never knew the session has executed nothing.
#[test]
fn a_call_that_only_followed_a_hello_which_found_no_session_is_sent_again() {
    use Event::{Begin, Connect, Expire, Lose, Serve as Served, Write};
    let (everything, answer) = (Write(1, 100_000), Served(1, Serve::Answer));
    let refused = [Lose(0, true), Expire, Connect(1), Begin, everything, answer];
    let a_new_session = [answer, everything, answer];
    let again = [Begin, everything, answer, answer];
    let all = refused.into_iter().chain(a_new_session).chain(again);
    assert_eq!(outcomes(all), [(1, Some((true, false))); 2]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn no_call_is_executed_twice_and_each_is_told_the_truth(events in events()) {
        for (call, (executions, over)) in outcomes(events).into_iter().enumerate() {
            match over {
                Some((true, _)) => prop_assert_eq!(executions, 1, "call {}", call),
                Some((false, false)) => prop_assert_eq!(executions, 0, "call {}", call),
                Some((false, true)) => prop_assert!(executions <= 1),
                None => prop_assert!(false, "call {} hangs", call),
            }
        }
    }
}
