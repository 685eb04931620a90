//! One call in a world that does its worst, without a socket or a sleep: what the call reports is
//! compared with what happened.

mod cases;

use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use redial_protocol::{ErrorCode, ErrorObject, FrameDecoder, ReplyMeta, rpc::GoAway};

use super::*;
use crate::{
    cause::ConnectError,
    clock,
    config::Config,
    mux::{
        attempt::Attempt,
        link::Transmit,
        pending_call::{CallFlags, RemovedCall},
        replies::ServerMessage,
        sessions::Disposition,
    },
    policy::{
        backoff::{Backoff, Jitter},
        budget::{RetryBudget, TokenBucket},
        hedge::Hedge,
        latency::Latency,
    },
    report::AttemptEnd,
};

const ID: uuid::Uuid = uuid::Uuid::from_u128(7);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A client's end with one call, and a server that sees exactly what was written.
struct OneCallWorld {
    now: Instant,
    mux: Mux,
    context: RetryContext,
    retrier: Retrier,
    is_connected: bool,
    transmit: Transmit,
    decoder: FrameDecoder,
    /// Whole requests that the server has not looked at yet.
    arrived: Vec<String>,
    /// Requests of connections that are gone: it may still look at them.
    stranded: usize,
    executed: bool,
    /// Something was read from this connection and not answered.
    has_unanswered: bool,
    /// Requests that were thrown away without a word: the client can't know.
    ignored: usize,
    finished: Option<Completion>,
}

/// What the server does about the oldest request that it has not looked at.
#[derive(Clone, Copy, Debug)]
enum OneCallServe {
    Answer,
    ExecuteSilently,
    Ignore,
    Refuse(i32),
}

#[derive(Clone, Copy, Debug)]
enum OneCallEvent {
    Advance(u64),
    Connect,
    FailToConnect,
    Write(usize),
    Lose { is_offset_known: bool },
    GoAway { is_last: bool },
    Serve(OneCallServe),
}

/// Some attempt may have been executed.
fn may_have_executed(closed: &RemovedCall) -> bool {
    closed.attempts.iter().any(Attempt::may_have_executed)
}

impl OneCallWorld {
    fn new(limits: CallLimits, budget: RetryBudget) -> Self {
        let config = Config {
            sessions: false,
            ..Config::default()
        };
        Self::with(&config, limits, budget)
    }

    fn with(config: &Config, limits: CallLimits, budget: RetryBudget) -> Self {
        let now = clock::now();
        let mut mux = Mux::new(config, ChaCha8Rng::seed_from_u64(2));
        // There is no other connection than the one.
        mux.delay_reconnect(1, now + ms(1_000_000_000));
        let key = mux.open(Some(ID), CallFlags::default()).unwrap();
        let context = RetryContext {
            bucket: TokenBucket::new(budget),
            jitter: ChaCha8Rng::seed_from_u64(1),
            latency: Latency::new(),
            hedges: 0,
            limits,
        };
        let mut retrier = Retrier::new("inc".into(), crate::inline_bytes::InlineBytes::EMPTY);
        retrier.begin(&context, now);
        retrier.key = Some(key);
        retrier.resend_window = Some(ms(8000));
        Self {
            now,
            mux,
            context,
            retrier,
            is_connected: false,
            transmit: Transmit::default(),
            decoder: FrameDecoder::new(4096),
            arrived: Vec::new(),
            stranded: 0,
            executed: false,
            has_unanswered: false,
            ignored: 0,
            finished: None,
        }
    }

    /// Lets the call decide. Gives until when it sleeps, or `None` if it has ended.
    fn step(&mut self) -> Option<Instant> {
        if self.finished.is_some() {
            return None;
        }
        match self
            .retrier
            .step(&mut self.mux, &mut self.context, self.now)
        {
            Step::Sleep { until, .. } => {
                assert!(until > self.now, "a sleep that has passed is a busy loop");
                Some(until)
            }
            Step::Complete(completion) => {
                self.finished = Some(completion);
                None
            }
        }
    }

    fn happen(&mut self, event: OneCallEvent) {
        match event {
            OneCallEvent::Advance(millis) => self.now += ms(millis),
            OneCallEvent::Connect => {
                self.is_connected = true;
                self.mux.handle_connected(0, self.now);
            }
            OneCallEvent::FailToConnect if !self.is_connected => {
                let error = ConnectError {
                    peer: "peer".into(),
                    connector: None,
                    reason: std::sync::Arc::new(std::io::ErrorKind::ConnectionRefused.into()),
                };
                self.mux.handle_connect_failed(0, &error, self.now);
            }
            OneCallEvent::Write(bytes) if self.is_connected => self.write(bytes),
            OneCallEvent::Lose { is_offset_known } if self.is_connected => {
                self.lose(is_offset_known)
            }
            OneCallEvent::GoAway { is_last } if self.is_connected => self.go_away(is_last),
            OneCallEvent::Serve(serve) if self.is_connected && !self.arrived.is_empty() => {
                self.arrived.remove(0);
                self.serve(serve);
            }
            _ => {}
        }
    }

    fn write(&mut self, mut bytes: usize) {
        let waker = std::task::Waker::noop();
        while bytes > 0 {
            let ready = self.transmit.ready();
            if ready.is_empty() {
                if !self.mux.poll_transmit(0, &mut self.transmit, waker) {
                    return;
                }
                continue;
            }
            let count = ready.len().min(bytes);
            let mut input = &ready[..count];
            while let Some(frame) = self.decoder.next_frame(&mut input).unwrap() {
                self.arrived
                    .push(String::from_utf8(frame.to_vec()).unwrap());
            }
            self.transmit.advance(count);
            bytes -= count;
        }
        self.mux.handle_written(0, self.transmit.offset());
    }

    fn lose(&mut self, is_offset_known: bool) {
        // What is not known to have been written must be taken for written.
        let written = if is_offset_known {
            Some(self.transmit.offset())
        } else {
            self.stranded += usize::from(!self.transmit.ready().is_empty());
            None
        };
        self.mux
            .handle_disconnect(0, written, &"peer".into(), "cut", self.now);
        self.stranded += self.arrived.len();
        self.arrived.clear();
        self.transmit = Transmit::default();
        self.decoder = FrameDecoder::new(4096);
        self.has_unanswered = false;
        self.is_connected = false;
    }

    /// The server shuts down. What has arrived was not read, and never is. It says so only if it has
    /// answered all that it has read.
    fn go_away(&mut self, is_last: bool) {
        // A call that has ended is pending no more, but here.
        if is_last && (self.has_unanswered || self.finished.is_some()) {
            return;
        }
        if is_last {
            self.arrived.clear();
        }
        let known = Vec::new();
        self.receive(ServerMessage::GoAway(GoAway {
            last: is_last,
            known,
        }));
    }

    fn receive(&mut self, message: ServerMessage) {
        let result = self.mux.handle_replies(0, &mut [message].into(), self.now);
        if result.is_err() {
            self.lose(true);
        }
    }

    fn serve(&mut self, serve: OneCallServe) {
        let outcome = match serve {
            OneCallServe::Ignore => {
                self.ignored += 1;
                self.has_unanswered = true;
                return;
            }
            OneCallServe::ExecuteSilently => {
                self.executed = true;
                self.has_unanswered = true;
                return;
            }
            OneCallServe::Answer => {
                self.executed = true;
                Ok(InlineBytes::NULL)
            }
            OneCallServe::Refuse(code) => Err(ErrorObject::raised(ErrorCode::from(code), "")),
        };
        let meta = ReplyMeta::default();
        self.receive(ServerMessage::Reply {
            id: ID,
            outcome,
            meta,
        });
    }

    /// Lets time pass until the call has ended, and then everything leave that still can.
    fn finish(&mut self) -> (Completion, RemovedCall) {
        while let Some(until) = self.step() {
            self.now = until;
        }
        self.retrier.withdraw(&mut self.mux);
        let pending = self
            .mux
            .remove(self.retrier.key(), Disposition::Acknowledge)
            .expect("it was pending");
        self.is_connected = true;
        self.write(usize::MAX);
        (self.finished.take().expect("it has ended"), pending)
    }

    /// Something was sent whole that was not refused.
    fn may_be_executed(&self) -> bool {
        self.executed || self.ignored + self.stranded + self.arrived.len() > 0
    }
}

fn events() -> impl Strategy<Value = Vec<OneCallEvent>> {
    let serve = prop_oneof![
        Just(OneCallServe::Answer),
        Just(OneCallServe::ExecuteSilently),
        Just(OneCallServe::Ignore),
        prop::sample::select(vec![-32001, -32006, -32600, -32602, -32002])
            .prop_map(OneCallServe::Refuse),
    ];
    let event = prop_oneof![
        4 => (0u64..200).prop_map(OneCallEvent::Advance),
        4 => Just(OneCallEvent::Connect),
        1 => Just(OneCallEvent::FailToConnect),
        4 => prop_oneof![1usize..300, Just(100_000)].prop_map(OneCallEvent::Write),
        2 => any::<bool>().prop_map(|is_offset_known| OneCallEvent::Lose { is_offset_known }),
        1 => any::<bool>().prop_map(|is_last| OneCallEvent::GoAway { is_last }),
        3 => serve.prop_map(OneCallEvent::Serve),
    ];
    prop::collection::vec(event, 0..60)
}

fn limits() -> CallLimits {
    CallLimits {
        attempt_timeout: ms(100),
        max_attempts: 4,
        deadline: ms(2000),
        backoff: Backoff::new(ms(10), 2.0, ms(100), Jitter::Full).unwrap(),
        hedge: Hedge::Off,
        ..CallLimits::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]
    #[test]
    fn what_the_call_reports_is_what_happened(events in events(), is_poor: bool, is_narrow: bool) {
        let budget = if is_poor {
            RetryBudget { burst: 1.0, ..RetryBudget::default() }
        } else {
            RetryBudget::unlimited()
        };
        let config = Config {
            max_in_flight: if is_narrow { 1 } else { 512 },
            sessions: false,
            ..Config::default()
        };
        let mut world = OneCallWorld::with(&config, limits(), budget);
        world.step();
        for event in events {
            world.happen(event);
            world.step();
        }
        let (completion, pending) = world.finish();
        let (is_open, may_be_executed) = (may_have_executed(&pending), world.may_be_executed());
        match &completion {
            Completion::Answer(Answer::Result(..)) => prop_assert!(world.executed),
            _ if is_open => prop_assert!(may_be_executed, "unknown for no reason: {completion:?}"),
            _ => prop_assert!(!may_be_executed, "not executed, it says: {completion:?}"),
        }
        prop_assert!(world.retrier.used <= 4);
        let latest = pending.attempts.last().map_or(0, |attempt| attempt.number);
        prop_assert!(latest <= world.retrier.used + 1, "the next one may bear a free number");
        // Events may jump over the deadline; the call's own sleeps never do.
        prop_assert!(world.now <= world.retrier.started().unwrap() + ms(2000 + 60 * 200));
        prop_assert_eq!(world.mux.in_flight(), 0);
        prop_assert_eq!(world.mux.in_flight_on(0), 0);
    }
}
