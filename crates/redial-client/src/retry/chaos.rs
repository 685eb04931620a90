//! Several calls over two connections to a server with sessions that is restarted, and a network
//! that keeps what was lost and delivers it later: whatever happens, no call is executed twice, and
//! each of them ends with the truth.

mod scenarios;
mod server;

use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use redial_protocol::{ErrorCode, FrameDecoder};
use serde_json::value::to_raw_value;

use self::server::{ArrivedRequest, CALLS, ChaosServer, ServeAction, read};
use super::*;
use crate::{
    cause::ConnectError,
    clock,
    config::Config,
    mux::{link::Transmit, pending_call::CallFlags, replies::ServerMessage, sessions::Disposition},
    policy::{
        backoff::{Backoff, Jitter},
        budget::{RetryBudget, TokenBucket},
        classify::ErrorAction,
        hedge::Hedge,
        latency::Latency,
    },
};

const LINKS: usize = 3;

#[derive(Clone, Copy, Debug)]
enum ChaosEvent {
    Begin,
    Drop(usize),
    Advance(u64),
    Connect(usize),
    FailToConnect(usize),
    Write(usize, usize),
    Lose(usize, bool),
    Serve(usize, ServeAction),
    Late(usize),
    Restart,
    Expire,
}

/// One link's connection, and what has arrived at its other end.
#[derive(Default)]
struct Line {
    is_connected: bool,
    transmit: Transmit,
    decoder: Option<FrameDecoder>,
    arrived: Vec<ArrivedRequest>,
}

/// What a caller gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    Value,
    NotExecuted,
    Unknown,
}

struct RunningCall {
    retrier: Retrier,
    heard: Option<Heard>,
}

struct ChaosWorld {
    now: Instant,
    mux: Mux,
    context: RetryContext,
    lines: Vec<Line>,
    calls: Vec<RunningCall>,
    /// What was lost in the network, and may still arrive.
    late: Vec<ArrivedRequest>,
    server: ChaosServer,
}

impl ChaosWorld {
    fn new() -> Self {
        let config = Config {
            connections: LINKS - 1,
            ..Config::default()
        };
        let now = clock::now();
        let rng = || ChaCha8Rng::seed_from_u64(1);
        Self {
            now,
            mux: Mux::new(&config, rng()),
            context: RetryContext {
                bucket: TokenBucket::new(RetryBudget::unlimited()),
                jitter: rng(),
                latency: Latency::new(),
                hedges: 0,
                limits: CallLimits::default(),
            },
            lines: (0..LINKS).map(|_| Line::default()).collect(),
            calls: Vec::new(),
            late: Vec::new(),
            server: ChaosServer::default(),
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
            hedge: Hedge::After(ms(50)),
            ..CallLimits::default()
        };
        let params = to_raw_value(&[self.calls.len()]).unwrap();
        let mut retrier = Retrier::new("inc".into(), (&*params).into());
        retrier.options.get_or_insert_default().limits = Some(limits);
        retrier.begin(&self.context, self.now);
        retrier.resend_window = Some(ms(8000));
        retrier.key = Some(self.mux.open(None, CallFlags::default()).unwrap());
        self.calls.push(RunningCall {
            retrier,
            heard: None,
        });
    }

    fn happen(&mut self, event: ChaosEvent) {
        match event {
            ChaosEvent::Begin => self.begin(),
            ChaosEvent::Drop(call) => self.drop_call(call),
            ChaosEvent::Advance(millis) => {
                self.now += Duration::from_millis(millis);
                for link in 0..LINKS {
                    if self.mux.handle_hello_timeout(link, self.now).is_err() {
                        self.lose(link, true);
                    }
                    self.mux.flush_idle_acks(link, self.now);
                }
            }
            ChaosEvent::Connect(link) if !self.lines[link].is_connected => self.connect(link),
            ChaosEvent::FailToConnect(link) if !self.lines[link].is_connected => {
                let error = ConnectError {
                    peer: "peer".into(),
                    connector: None,
                    reason: std::sync::Arc::new(std::io::ErrorKind::ConnectionRefused.into()),
                };
                self.mux.handle_connect_failed(link, &error, self.now);
            }
            ChaosEvent::Write(link, bytes) if self.lines[link].is_connected => {
                self.write(link, bytes);
            }
            ChaosEvent::Lose(link, is_offset_known) => self.lose(link, is_offset_known),
            ChaosEvent::Serve(link, action) if !self.lines[link].arrived.is_empty() => {
                let request = self.lines[link].arrived.remove(0);
                if let Some(reply) = self.serve(&request, action) {
                    self.arrive(link, reply);
                }
            }
            ChaosEvent::Late(at) if !self.late.is_empty() => {
                let request = self.late.remove(at % self.late.len());
                self.serve(&request, ServeAction::ExecuteSilently);
            }
            ChaosEvent::Restart => {
                (0..LINKS).for_each(|link| self.lose(link, true));
                self.server.forget_sessions();
            }
            ChaosEvent::Expire => self.server.forget_sessions(),
            _ => {}
        }
    }

    fn connect(&mut self, link: usize) {
        let preamble = self.mux.handle_connected(link, self.now);
        self.lines[link] = Line {
            is_connected: true,
            transmit: Transmit::with_preamble(preamble),
            decoder: Some(FrameDecoder::new(1 << 20)),
            arrived: Vec::new(),
        };
    }

    fn write(&mut self, link: usize, mut bytes: usize) {
        let waker = std::task::Waker::noop();
        while bytes > 0 {
            let line = &mut self.lines[link];
            let ready = line.transmit.ready().len();
            if ready == 0 {
                if !self.mux.poll_transmit(link, &mut line.transmit, waker) {
                    return;
                }
                continue;
            }
            let count = ready.min(bytes);
            line.receive(count);
            line.transmit.advance(count);
            bytes -= count;
        }
        let written = self.lines[link].transmit.offset();
        self.mux.handle_written(link, written);
    }

    fn lose(&mut self, link: usize, is_offset_known: bool) {
        if !self.lines[link].is_connected {
            return;
        }
        if !is_offset_known {
            // All that the driver was given may have been written, and may arrive.
            let left = self.lines[link].transmit.ready().len();
            self.lines[link].receive(left);
        }
        let line = std::mem::take(&mut self.lines[link]);
        let written = is_offset_known.then(|| line.transmit.offset());
        self.late.extend(line.arrived);
        self.mux
            .handle_disconnect(link, written, &"peer".into(), "cut", self.now);
    }

    fn arrive(&mut self, link: usize, reply: ServerMessage) {
        let result = self.mux.handle_replies(link, &mut [reply].into(), self.now);
        if result.is_err() {
            self.lose(link, true);
        }
    }

    fn serve(&mut self, request: &ArrivedRequest, action: ServeAction) -> Option<ServerMessage> {
        let calls = self.calls.iter();
        let has_finished: Vec<bool> = calls.map(|call| call.heard.is_some()).collect();
        self.server.serve(request, action, &has_finished)
    }

    /// Lets every call decide. Gives until when they sleep.
    fn step(&mut self) -> Option<Instant> {
        let mut next = None;
        for call in &mut self.calls {
            if call.heard.is_some() {
                continue;
            }
            let (mux, context) = (&mut self.mux, &mut self.context);
            match call.retrier.step(mux, context, self.now) {
                Step::Sleep { until } => {
                    assert!(until > self.now, "a sleep that has passed is a busy loop");
                    next = Some(next.map_or(until, |next: Instant| next.min(until)));
                }
                Step::Complete(completion) => end(call, &completion, &mut self.mux),
            }
        }
        next
    }

    fn drop_call(&mut self, call: usize) {
        let Some(call) = self.calls.get_mut(call) else {
            return;
        };
        if call.heard.is_none() {
            let key = call.retrier.key.unwrap();
            call.retrier.withdraw(&mut self.mux);
            self.mux.cancel(key);
            self.mux.remove(key, Disposition::Acknowledge);
            call.heard = Some(Heard::Unknown);
        }
    }

    /// Lets time pass until every call has ended, and then everything arrive that still can.
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
            self.serve(&request, ServeAction::ExecuteSilently);
        }
    }
}

impl Line {
    /// The next bytes to be written arrive.
    fn receive(&mut self, bytes: usize) {
        let mut input = &self.transmit.ready()[..bytes];
        let decoder = self.decoder.as_mut().expect("it is connected");
        while let Some(frame) = decoder.next_frame(&mut input).unwrap() {
            self.arrived.push(read(frame));
        }
    }
}

fn end(call: &mut RunningCall, completion: &Completion, mux: &mut Mux) {
    let key = call.retrier.key.unwrap();
    call.retrier.withdraw(mux);
    let may_have_executed = mux.call(key).may_have_executed();
    let is_unknown = match completion {
        Completion::Answer(Answer::Result(..)) => false,
        Completion::Answer(Answer::Error(error, action, _)) => {
            let is_stale = error.code == ErrorCode::STALE;
            assert!(!is_stale, "it was acknowledged before it had ended");
            *action == ErrorAction::Unknown || may_have_executed
        }
        _ => may_have_executed,
    };
    // Every other unknown outcome is retained for a token.
    let is_retained = is_unknown && call.retrier.used.is_multiple_of(2);
    let disposition = if is_retained {
        Disposition::Retain
    } else {
        Disposition::Acknowledge
    };
    mux.remove(key, disposition);
    let has_value = matches!(completion, Completion::Answer(Answer::Result(..)));
    call.heard = Some(if has_value {
        Heard::Value
    } else if is_unknown {
        Heard::Unknown
    } else {
        Heard::NotExecuted
    });
}

fn events() -> impl Strategy<Value = Vec<ChaosEvent>> {
    let action = prop_oneof![
        4 => Just(ServeAction::Answer),
        1 => Just(ServeAction::ExecuteSilently),
        1 => Just(ServeAction::Ignore),
        1 => Just(ServeAction::Refuse),
    ];
    let link = || 0..LINKS;
    let event = prop_oneof![
        4 => Just(ChaosEvent::Begin),
        1 => (0..CALLS).prop_map(ChaosEvent::Drop),
        4 => (0u64..150).prop_map(ChaosEvent::Advance),
        5 => link().prop_map(ChaosEvent::Connect),
        1 => link().prop_map(ChaosEvent::FailToConnect),
        8 => (link(), prop_oneof![1usize..300, Just(100_000)])
            .prop_map(|(link, bytes)| ChaosEvent::Write(link, bytes)),
        2 => (link(), any::<bool>()).prop_map(|(link, knows)| ChaosEvent::Lose(link, knows)),
        12 => (link(), action).prop_map(|(link, action)| ChaosEvent::Serve(link, action)),
        2 => any::<usize>().prop_map(ChaosEvent::Late),
        1 => Just(ChaosEvent::Restart),
        1 => Just(ChaosEvent::Expire),
    ];
    prop::collection::vec(event, 0..150)
}

/// Lets it all happen, and gives how often each call was executed and what its caller heard.
fn outcomes(events: impl IntoIterator<Item = ChaosEvent>) -> Vec<(u32, Option<Heard>)> {
    let mut world = ChaosWorld::new();
    // From then on the server is known to have sessions, and never taken for a plain one.
    for event in [
        ChaosEvent::Connect(0),
        ChaosEvent::Write(0, 100_000),
        ChaosEvent::Serve(0, ServeAction::Answer),
    ] {
        world.happen(event);
    }
    for event in events {
        world.happen(event);
        world.step();
    }
    world.finish();
    assert_eq!(world.mux.in_flight(), 0);
    let on_links = [0, 1].map(|link| world.mux.in_flight_on(link));
    assert_eq!(on_links, [0, 0]);
    let calls = world.calls.iter().zip(world.server.executions);
    calls
        .map(|(call, executions)| (executions, call.heard))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn no_call_is_executed_twice_and_each_hears_the_truth(events in events()) {
        for (call, (executions, heard)) in outcomes(events).into_iter().enumerate() {
            match heard {
                Some(Heard::Value) => prop_assert_eq!(executions, 1, "call {}", call),
                Some(Heard::NotExecuted) => prop_assert_eq!(executions, 0, "call {}", call),
                Some(Heard::Unknown) => prop_assert!(executions <= 1),
                None => prop_assert!(false, "call {} hangs", call),
            }
        }
    }
}
