//! One call in a world that does its worst, without a socket or a sleep: what the call says
//! happened is compared with what did.

use proptest::prelude::*;
use rand::SeedableRng;
use redial_protocol::{ErrorCode, ErrorObject, FrameDecoder, ReplyMeta};

use super::{budget::RetryBudget, hedge::Hedge, *};
use crate::{
    Backoff, Config, Jitter, clock,
    error::ConnectError,
    mux::{Attempt, Closed, Decoded, End, Nature, Outgoing},
    report::AttemptEnd,
};

const ID: uuid::Uuid = uuid::Uuid::from_u128(7);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A client's end with one call, and a server that sees exactly what was written.
struct World {
    now: Instant,
    mux: Mux,
    policy: Policy,
    flight: Flight,
    is_connected: bool,
    outgoing: Outgoing,
    decoder: FrameDecoder,
    /// Whole requests that the server has not looked at yet.
    arrived: Vec<String>,
    /// Requests of connections that are gone: it may still look at them.
    stranded: usize,
    executed: bool,
    /// Requests that were thrown away without a word: the client can't know.
    ignored: usize,
    over: Option<Ending>,
}

/// What the server does about the oldest request that it has not looked at.
#[derive(Clone, Copy, Debug)]
enum Serve {
    Answer,
    ExecuteSilently,
    Ignore,
    Refuse(i32),
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Advance(u64),
    Connect,
    FailToConnect,
    Write(usize),
    Lose { knows_how_far: bool },
    Serve(Serve),
}

/// Some attempt may have been executed.
fn is_open(closed: &Closed) -> bool {
    closed.attempts.iter().any(Attempt::is_open)
}

impl World {
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
        let key = mux.open(Some(ID), Nature::default()).unwrap();
        let policy = Policy {
            bucket: Bucket::new(budget, now),
            jitter: ChaCha8Rng::seed_from_u64(1),
            latency: Latency::new(),
            hedges: 0,
            limits,
        };
        let mut flight = Flight::new("inc".into(), crate::json::Json::EMPTY);
        flight.begin(&policy, now);
        flight.key = Some(key);
        flight.resend_window = Some(ms(8000));
        Self {
            now,
            mux,
            policy,
            flight,
            is_connected: false,
            outgoing: Outgoing::default(),
            decoder: FrameDecoder::new(4096),
            arrived: Vec::new(),
            stranded: 0,
            executed: false,
            ignored: 0,
            over: None,
        }
    }

    /// Lets the call decide. Gives until when it sleeps, or `None` if it is over.
    fn step(&mut self) -> Option<Instant> {
        if self.over.is_some() {
            return None;
        }
        match self.flight.step(&mut self.mux, &mut self.policy, self.now) {
            Step::Sleep { until, .. } => {
                assert!(
                    until > self.now,
                    "a sleep that is over is a loop without pause"
                );
                Some(until)
            }
            Step::Over(ending) => {
                self.over = Some(ending);
                None
            }
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Advance(millis) => self.now += ms(millis),
            Event::Connect => {
                self.is_connected = true;
                self.mux.connected(0, self.now);
            }
            Event::FailToConnect if !self.is_connected => {
                let error = ConnectError {
                    peer: "peer".into(),
                    reason: std::sync::Arc::new(std::io::ErrorKind::ConnectionRefused.into()),
                };
                self.mux.connect_failed(0, &error, self.now);
            }
            Event::Write(bytes) if self.is_connected => self.write(bytes),
            Event::Lose { knows_how_far } if self.is_connected => self.lose(knows_how_far),
            Event::Serve(serve) if self.is_connected && !self.arrived.is_empty() => {
                self.arrived.remove(0);
                self.serve(serve);
            }
            _ => {}
        }
    }

    fn write(&mut self, mut bytes: usize) {
        let waker = std::task::Waker::noop();
        while bytes > 0 {
            let ready = self.outgoing.ready();
            if ready.is_empty() {
                if !self.mux.exchange(0, &mut self.outgoing, waker) {
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
            self.outgoing.advance(count);
            bytes -= count;
        }
        self.mux.wrote(0, self.outgoing.offset());
    }

    fn lose(&mut self, knows_how_far: bool) {
        // What is not known to have been written must be taken for written.
        let written = match knows_how_far {
            true => Some(self.outgoing.offset()),
            false => {
                self.stranded += usize::from(!self.outgoing.ready().is_empty());
                None
            }
        };
        self.mux.lost(0, written, &"peer".into(), "cut", self.now);
        self.stranded += self.arrived.len();
        self.arrived.clear();
        self.outgoing = Outgoing::default();
        self.decoder = FrameDecoder::new(4096);
        self.is_connected = false;
    }

    fn serve(&mut self, serve: Serve) {
        let outcome = match serve {
            Serve::Ignore => {
                self.ignored += 1;
                return;
            }
            Serve::ExecuteSilently => {
                self.executed = true;
                return;
            }
            Serve::Answer => {
                self.executed = true;
                Ok(Json::NULL)
            }
            Serve::Refuse(code) => Err(ErrorObject::raised(ErrorCode::from(code), "")),
        };
        let meta = ReplyMeta::default();
        let reply = Decoded::Reply {
            id: ID,
            outcome,
            meta,
        };
        self.mux.deliver(0, &mut [reply].into(), self.now).unwrap();
    }

    /// Lets time pass until the call is over, and then everything leave that still can.
    fn finish(&mut self) -> (Ending, Closed) {
        while let Some(until) = self.step() {
            self.now = until;
        }
        self.flight.withdraw(&mut self.mux);
        let pending = self
            .mux
            .close(self.flight.key(), End::Done)
            .expect("it was pending");
        self.is_connected = true;
        self.write(usize::MAX);
        (self.over.take().expect("it is over"), pending)
    }

    /// Something was sent whole that was not refused.
    fn may_be_executed(&self) -> bool {
        self.executed || self.ignored + self.stranded + self.arrived.len() > 0
    }
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let serve = prop_oneof![
        Just(Serve::Answer),
        Just(Serve::ExecuteSilently),
        Just(Serve::Ignore),
        prop::sample::select(vec![-32001, -32006, -32600, -32602, -32003]).prop_map(Serve::Refuse),
    ];
    let event = prop_oneof![
        4 => (0u64..200).prop_map(Event::Advance),
        4 => Just(Event::Connect),
        1 => Just(Event::FailToConnect),
        4 => prop_oneof![1usize..300, Just(100_000)].prop_map(Event::Write),
        2 => any::<bool>().prop_map(|knows_how_far| Event::Lose { knows_how_far }),
        3 => serve.prop_map(Event::Serve),
    ];
    prop::collection::vec(event, 0..60)
}

fn limits() -> CallLimits {
    CallLimits {
        attempt_timeout: ms(100),
        max_attempts: 4,
        deadline: ms(2000),
        backoff: Backoff::new(ms(10), 2.0, ms(100), Jitter::Full).unwrap(),
        hedge: hedge::Hedge::Off,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]
    #[test]
    fn what_the_call_says_is_what_happened(events in events(), is_poor: bool, is_narrow: bool) {
        let budget = match is_poor {
            true => RetryBudget { burst: 1.0, ..RetryBudget::default() },
            false => RetryBudget::unlimited(),
        };
        let config = Config {
            max_in_flight: if is_narrow { 1 } else { 512 },
            sessions: false,
            ..Config::default()
        };
        let mut world = World::with(&config, limits(), budget);
        world.step();
        for event in events {
            world.happen(event);
            world.step();
        }
        let (ending, pending) = world.finish();
        let (is_open, may_be_executed) = (is_open(&pending), world.may_be_executed());
        match &ending {
            Ending::Answer(Answer::Result(..)) => prop_assert!(world.executed),
            _ if is_open => prop_assert!(may_be_executed, "unknown for no reason: {ending:?}"),
            _ => prop_assert!(!may_be_executed, "not executed, it says: {ending:?}"),
        }
        prop_assert!(world.flight.used <= 4);
        let latest = pending.attempts.last().map_or(0, |attempt| attempt.number);
        prop_assert!(latest <= world.flight.used + 1, "the next one may bear a free number");
        // Events may jump over the deadline; the call's own sleeps never do.
        prop_assert!(world.now <= world.flight.started().unwrap() + ms(2000 + 60 * 200));
        prop_assert_eq!(world.mux.in_flight(), 0);
        prop_assert_eq!(world.mux.outstanding(0), 0);
    }
}

/// A world in which everything is written at once.
fn written() -> World {
    let mut world = World::new(limits(), RetryBudget::unlimited());
    world.policy.limits.backoff = Backoff::new(ms(10), 2.0, ms(100), Jitter::None).unwrap();
    world.happen(Event::Connect);
    world.step();
    world.write(usize::MAX);
    world
}

#[test]
fn an_attempt_that_is_not_written_is_waited_for_without_another() {
    let mut world = World::new(limits(), RetryBudget::unlimited());
    for _ in 0..10 {
        world.step();
        world.now += ms(100);
    }
    world.happen(Event::Connect);
    world.write(usize::MAX);
    assert_eq!(world.arrived.len(), 1);
}

#[test]
fn an_attempt_that_times_out_is_followed_by_one_with_its_number_and_what_is_left_of_the_time() {
    let mut world = written();
    assert!(world.arrived[0].ends_with(r#""redial":{"timeout_ms":2000}}"#));
    assert_eq!(world.step(), Some(world.now + ms(100)));
    world.now += ms(100);
    assert_eq!(world.step(), Some(world.now + ms(10)), "the backoff");
    world.now += ms(10);
    assert_eq!(world.step(), Some(world.now + ms(100)));
    world.write(usize::MAX);
    assert!(world.arrived[1].ends_with(r#""redial":{"attempt":2,"timeout_ms":1890}}"#));
}

#[test]
fn a_refusal_of_an_older_attempt_leaves_the_younger_one_alone() {
    let mut world = written();
    world.now += ms(100);
    world.step();
    world.serve(Serve::Refuse(-32001));
    world.now += ms(10);
    world.step();
    world.write(usize::MAX);
    let patience = world.step().unwrap();
    assert_eq!(patience, world.now + ms(100));
    let (ending, pending) = world.finish();
    assert!(matches!(ending, Ending::GiveUp { .. }), "{ending:?}");
    assert!(is_open(&pending));
    let ends: Vec<_> = pending
        .attempts
        .iter()
        .map(|attempt| attempt.ended.unwrap().1)
        .collect();
    assert_eq!(ends[..2], [AttemptEnd::Refused, AttemptEnd::Timeout]);
}

#[test]
fn a_refusal_is_not_put_to_an_attempt_that_was_not_written() {
    let mut world = written();
    world.now += ms(100);
    world.step();
    world.now += ms(10);
    world.step();
    // The second lies in the buffer while the first is refused.
    world.serve(Serve::Refuse(-32001));
    let (_, pending) = world.finish();
    let ends: Vec<_> = pending
        .attempts
        .iter()
        .map(|attempt| attempt.ended.map(|end| end.1))
        .collect();
    assert_eq!(
        ends,
        [Some(AttemptEnd::Refused)],
        "and the second was withdrawn"
    );
}

#[test]
fn a_wish_for_peace_counts_during_the_backoff_too() {
    let mut world = written();
    world.now += ms(100);
    world.step();
    let busy = ErrorObject::raised(ErrorCode::OVERLOADED, "").with_retry_after_ms(500);
    let reply = Decoded::Reply {
        id: ID,
        outcome: Err(busy),
        meta: ReplyMeta::default(),
    };
    world
        .mux
        .deliver(0, &mut [reply].into(), world.now)
        .unwrap();
    assert_eq!(world.step(), Some(world.now + ms(500)));
}

#[test]
fn a_copy_that_lies_in_the_buffer_for_too_long_is_taken_back() {
    let mut world = written();
    world.flight.resend_window = Some(ms(300));
    let first_sent = world.now;
    world.now += ms(100);
    world.step();
    world.now += ms(10);
    world.step();
    // The second is never written; meanwhile the server forgets the first.
    while world.now < first_sent + ms(300) {
        world.now = world.step().unwrap();
    }
    assert_eq!(
        world.step(),
        Some(world.flight.deadline()),
        "only listening"
    );
    world.write(usize::MAX);
    assert_eq!((world.arrived.len(), world.flight.used), (1, 1));
    world.serve(Serve::Answer);
    let (ending, _) = world.finish();
    assert!(matches!(ending, Ending::Answer(Answer::Result(..))));
}

/// Or it would be looked after only when its timeout has passed, and leave with the connection that
/// comes before that.
#[test]
fn a_copy_is_looked_after_when_it_gets_too_late_for_it() {
    let mut world = written();
    world.flight.resend_window = Some(ms(150));
    let first_sent = world.now;
    world.now += ms(100);
    world.step();
    world.now += ms(10);
    assert_eq!(world.step(), Some(first_sent + ms(150)), "now it is queued");
    world.now = first_sent + ms(150);
    world.step();
    world.write(usize::MAX);
    assert_eq!((world.arrived.len(), world.flight.used), (1, 1));
}

#[test]
fn a_hedge_is_taken_back_when_it_gets_too_late_for_it() {
    let mut world = World::new(limits(), RetryBudget::unlimited());
    world.policy.limits.hedge = Hedge::After(ms(50));
    world.flight.resend_window = Some(ms(80));
    world.happen(Event::Connect);
    world.step();
    world.write(usize::MAX);
    let (first_sent, too_late) = (world.now, world.now + ms(80));
    world.now = first_sent + ms(50);
    assert_eq!(world.step(), Some(too_late), "now it is queued");
    assert_eq!((world.step(), world.flight.used), (Some(too_late), 2));
    world.now = too_late;
    world.step();
    world.write(usize::MAX);
    assert_eq!((world.arrived.len(), world.flight.used), (1, 1));
}

#[test]
fn a_first_attempt_may_lie_in_the_buffer_for_as_long_as_the_deadline_allows() {
    let mut world = World::new(limits(), RetryBudget::unlimited());
    world.flight.resend_window = Some(ms(300));
    while world.now < world.flight.started().unwrap() + ms(1500) {
        world.now = world.step().unwrap();
    }
    world.happen(Event::Connect);
    world.write(usize::MAX);
    assert_eq!(world.arrived.len(), 1);
}

#[test]
fn a_token_that_was_reserved_for_a_retry_goes_back_if_there_is_none() {
    let budget = RetryBudget {
        percent_of_calls: 0.0,
        min_per_second: 0.0,
        burst: 1.0,
    };
    let mut world = World::new(limits(), budget);
    world.happen(Event::Connect);
    world.step();
    world.write(usize::MAX);
    world.now += ms(100);
    world.step();
    world.serve(Serve::Answer);
    assert_eq!(world.step(), None);
    let later = world.now + ms(1000);
    assert_eq!(world.policy.bucket.reserve(world.now, later), None);
    world.flight.refund(&mut world.policy);
    assert_eq!(
        world.policy.bucket.reserve(world.now, later),
        Some(world.now)
    );
}
