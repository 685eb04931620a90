//! Random batches, crashes and acknowledgements, compared with a model that never forgets anything.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, TestRunner},
};
use redial_protocol::CallKey;
use redial_server::store::{
    Acknowledged, Begun, Claimed, Executed, Fenced, Outcome, OutcomeKind, Recovered,
    RecoveredState, StoreError,
};

use crate::{
    Effect, End, Rig,
    client::{Answer, Client, call, key, session, wait},
};

const SESSIONS: u64 = 3;
const NUMBERS: u64 = 12;

#[derive(Clone, Debug)]
enum Step {
    Execute {
        of: u64,
        number: u64,
        fingerprint: u128,
        end: End,
    },
    Begin {
        of: u64,
        number: u64,
        fingerprint: u128,
    },
    Finish {
        of: u64,
        number: u64,
        has_effect: bool,
    },
    Fence {
        of: u64,
        number: u64,
    },
    Acknowledge {
        of: u64,
        below: u64,
        open: BTreeSet<u64>,
    },
    Open {
        of: u64,
    },
    Batch,
    Crash,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let of = || 0..SESSIONS;
    let number = || 0..NUMBERS;
    let fingerprint = || prop_oneof![9 => Just(7_u128), 1 => Just(8)];
    let end = prop_oneof![
        8 => Just(End::Return), 1 => Just(End::Fail), 1 => Just(End::Panic), 1 => Just(End::NoEffect)
    ];
    let open = proptest::collection::btree_set(number(), 0..3);
    let step = prop_oneof![
        8 => (of(), number(), fingerprint(), end)
            .prop_map(|(of, number, fingerprint, end)| Step::Execute { of, number, fingerprint, end }),
        2 => (of(), number(), fingerprint())
            .prop_map(|(of, number, fingerprint)| Step::Begin { of, number, fingerprint }),
        2 => (of(), number(), any::<bool>())
            .prop_map(|(of, number, has_effect)| Step::Finish { of, number, has_effect }),
        1 => (of(), number()).prop_map(|(of, number)| Step::Fence { of, number }),
        2 => (of(), number(), open)
            .prop_map(|(of, below, open)| Step::Acknowledge { of, below, open }),
        1 => of().prop_map(|of| Step::Open { of }),
        3 => Just(Step::Batch),
        1 => Just(Step::Crash),
    ];
    vec(step, 1..80)
}

/// What the model knows of a call, for ever.
#[derive(Clone, Debug, PartialEq)]
enum Known {
    Started { is_running: bool },
    Finished(Vec<u8>),
    Fenced,
}

#[derive(Default)]
struct Model {
    /// What each session has acknowledged.
    sessions: BTreeMap<u64, Acknowledged>,
    calls: BTreeMap<(u64, u64), (u128, Known)>,
    counter: i64,
}

/// What the store said, to be compared in the order in which it was asked.
enum Asked {
    Execute(u64, u64, u128, End, Answer<Executed>),
    Begin(u64, u64, u128, Answer<Begun>),
    Finish(u64, u64, bool, Answer<()>),
    Fence(u64, u64, Answer<Fenced>),
    Acknowledge(u64, Acknowledged),
    Open(u64, Answer<()>),
}

fn is_acknowledged(known: &Acknowledged, number: u64) -> bool {
    number < known.below && !known.open.contains(&number)
}

/// What either says.
fn both(one: &Acknowledged, other: &Acknowledged) -> Acknowledged {
    let below = one.below.max(other.below);
    let is_open = |number: &u64| !is_acknowledged(one, *number) && !is_acknowledged(other, *number);
    Acknowledged {
        below,
        open: (0..below).filter(is_open).collect(),
    }
}

impl Model {
    fn claim(&self, of: u64, number: u64, fingerprint: Option<u128>) -> Option<Claimed> {
        let Some(known) = self.sessions.get(&of) else {
            return Some(Claimed::SessionUnknown);
        };
        if is_acknowledged(known, number) {
            return Some(Claimed::Acknowledged);
        }
        let (known, state) = self.calls.get(&(of, number))?;
        Some(match state {
            Known::Fenced => Claimed::Fenced,
            _ if fingerprint.is_some_and(|asked| asked != *known) => Claimed::IdReused,
            Known::Finished(outcome) => Claimed::Recorded(outcome.clone()),
            Known::Started { .. } => Claimed::Interrupted,
        })
    }

    fn runs(&self, of: u64, number: u64) -> bool {
        let call = self.calls.get(&(of, number));
        matches!(call, Some((_, Known::Started { is_running: true })))
    }

    /// Compares one answer, and takes it in.
    fn judge(&mut self, asked: Asked) {
        match asked {
            Asked::Execute(of, number, fingerprint, end, answer) => {
                let claim = self.claim(of, number, Some(fingerprint));
                let answer = wait(&answer);
                match claim {
                    None => self.ran(of, number, fingerprint, end, answer),
                    Some(claim) => self.expect(of, number, claim, answer, |answer| match answer {
                        Executed::Claimed(claimed) => claimed,
                        Executed::New(outcome) => panic!("it ran: {outcome:?}"),
                    }),
                }
            }
            Asked::Begin(of, number, fingerprint, answer) => {
                let claim = self.claim(of, number, Some(fingerprint));
                let answer = wait(&answer);
                match claim {
                    None => {
                        assert_eq!(answer, Ok(Begun::Start));
                        let known = Known::Started { is_running: true };
                        self.calls.insert((of, number), (fingerprint, known));
                    }
                    Some(claim) => self.expect(of, number, claim, answer, |answer| match answer {
                        Begun::Claimed(claimed) => claimed,
                        Begun::Start => panic!("it started"),
                    }),
                }
            }
            Asked::Finish(of, number, has_effect, answer) => {
                wait(&answer).unwrap();
                self.finish(of, number, has_effect);
            }
            Asked::Fence(of, number, answer) => {
                let claim = self.claim(of, number, None);
                let answer = wait(&answer);
                match claim {
                    None | Some(Claimed::Fenced) => {
                        assert_eq!(answer, Ok(Fenced::Never));
                        self.calls.entry((of, number)).or_insert((0, Known::Fenced));
                    }
                    Some(claim) => self.expect(of, number, claim, answer, |answer| match answer {
                        Fenced::Claimed(claimed) => claimed,
                        Fenced::Never | Fenced::Left(_) => panic!("it was fenced, or may run"),
                    }),
                }
            }
            Asked::Acknowledge(of, acknowledged) => {
                let known = self.sessions.get_mut(&of).expect("it was opened");
                *known = both(known, &acknowledged);
            }
            Asked::Open(of, answer) => {
                wait(&answer).unwrap();
                self.sessions.entry(of).or_default();
            }
        }
    }

    fn expect<T>(
        &self,
        of: u64,
        number: u64,
        claim: Claimed,
        answer: Result<T, StoreError>,
        claimed: impl FnOnce(T) -> Claimed,
    ) {
        // The server joins such calls, so that a store need not.
        if claim == Claimed::Interrupted && self.runs(of, number) {
            assert!(answer.is_err() || claimed(answer.ok().unwrap()) == Claimed::Interrupted);
            return;
        }
        assert_eq!(claimed(answer.unwrap()), claim, "{of} {number}");
    }

    fn ran(
        &mut self,
        of: u64,
        number: u64,
        fingerprint: u128,
        end: End,
        answer: Result<Executed, StoreError>,
    ) {
        let outcome = crate::client::new(answer.unwrap());
        let value = self.counter + 1;
        let effect = Effect::add("k", 1).then(end);
        assert_eq!(outcome, Outcome::of(1 << 20, || effect.finish(value)));
        if outcome.kind() == OutcomeKind::Result {
            self.counter = value;
        }
        if outcome.kind() != OutcomeKind::NoEffect {
            let known = Known::Finished(outcome.into_bytes());
            self.calls.insert((of, number), (fingerprint, known));
        }
    }

    fn finish(&mut self, of: u64, number: u64, has_effect: bool) {
        let is_known = self
            .sessions
            .get(&of)
            .is_some_and(|known| !is_acknowledged(known, number));
        if let Some((_, state @ Known::Started { .. })) = self.calls.get_mut(&(of, number))
            && is_known
        {
            if has_effect {
                *state = Known::Finished(b"\"result\":0".to_vec());
            } else {
                self.calls.remove(&(of, number));
            }
        }
    }

    /// Compares what was recovered with what has to be there.
    fn recover(&mut self, recovered: &[Recovered]) {
        let mut sessions = BTreeMap::new();
        let mut calls = BTreeMap::new();
        for one in recovered {
            match one {
                Recovered::Session {
                    session: id,
                    owner: None,
                    acknowledged,
                } => {
                    let of = (0..SESSIONS).find(|of| session(*of) == *id).unwrap();
                    sessions.insert(of, acknowledged.clone());
                }
                Recovered::Record {
                    key: CallKey::Session(call),
                    fingerprint,
                    state,
                } => {
                    let of = (0..SESSIONS)
                        .find(|of| session(*of) == call.session)
                        .unwrap();
                    assert!(
                        sessions.contains_key(&of),
                        "each session before its records"
                    );
                    let known = match state {
                        RecoveredState::Finished(outcome) => Known::Finished(outcome.clone()),
                        RecoveredState::Fenced => Known::Fenced,
                        RecoveredState::Started(_) => Known::Started { is_running: false },
                    };
                    let twice = calls.insert((of, call.number), (*fingerprint, known));
                    assert_eq!(twice, None, "one record for each call");
                }
                other => panic!("{other:?} was never used"),
            }
        }
        for (_, state) in self.calls.values_mut() {
            if let Known::Started { is_running } = state {
                *is_running = false;
            }
        }
        assert!(
            sessions.keys().eq(self.sessions.keys()),
            "sessions survive, and no others"
        );
        for ((of, number), known) in &self.calls {
            // Lost acknowledgements are allowed; then the record is there still.
            if is_acknowledged(&sessions[of], *number) {
                assert!(
                    is_acknowledged(&self.sessions[of], *number),
                    "{of} {number}"
                );
            } else {
                assert_eq!(calls.get(&(*of, *number)), Some(known), "{of} {number}");
            }
        }
        for (call, known) in &calls {
            assert_eq!(self.calls.get(call), Some(known), "{call:?}");
        }
        self.sessions = sessions;
    }
}

/// Of how many runs a test consists, where each is quick.
pub const CASES: u32 = 200;

/// Runs random steps on the stores of rigs that `make` makes, if it makes any.
///
/// # Panics
///
/// If a store and the model disagree.
pub fn check<R: Rig>(cases: u32, make: impl Fn() -> Option<R>) {
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let run = TestRunner::new(config).run(&steps(), |steps| {
        if let Some(rig) = make() {
            check_steps(&rig, steps);
        }
        Ok(())
    });
    if let Err(error) = run {
        panic!("{error}");
    }
}

fn check_steps(rig: &dyn Rig, steps: Vec<Step>) {
    let mut model = Model::default();
    let mut client = Client::open(rig);
    let mut asked = vec![Asked::Open(0, client.hand_in_session(session(0)))];
    let mut opened = BTreeSet::from([0]);
    for step in steps {
        match step {
            Step::Execute {
                of,
                number,
                fingerprint,
                end,
            } => {
                let effect = Effect::add("k", 1).then(end);
                let answer = client.execute(call(key(of, number), fingerprint), effect);
                asked.push(Asked::Execute(of, number, fingerprint, end, answer));
            }
            Step::Begin {
                of,
                number,
                fingerprint,
            } => {
                let answer = client.begin(call(key(of, number), fingerprint), None);
                asked.push(Asked::Begin(of, number, fingerprint, answer));
            }
            Step::Finish {
                of,
                number,
                has_effect,
            } => {
                let outcome = has_effect.then_some(&b"\"result\":0"[..]);
                let answer = client.finish(key(of, number), outcome);
                asked.push(Asked::Finish(of, number, has_effect, answer));
            }
            Step::Fence { of, number } => {
                asked.push(Asked::Fence(of, number, client.fence(key(of, number))));
            }
            // No server acknowledges calls of a session that it has not opened.
            Step::Acknowledge { of, .. } if !opened.contains(&of) => {}
            Step::Acknowledge { of, below, open } => {
                let open = open.into_iter().filter(|number| *number < below).collect();
                let acknowledged = Acknowledged { below, open };
                client.keep_order();
                client.store.acknowledge(session(of), acknowledged.clone());
                asked.push(Asked::Acknowledge(of, acknowledged));
            }
            Step::Open { of } => {
                opened.insert(of);
                asked.push(Asked::Open(of, client.hand_in_session(session(of))));
            }
            Step::Batch => settle(&client, &mut model, &mut asked),
            Step::Crash => {
                settle(&client, &mut model, &mut asked);
                client = client.crash();
                model.recover(&client.recovered);
                assert_eq!(client.counter("k"), model.counter);
            }
        }
    }
    settle(&client, &mut model, &mut asked);
    assert_eq!(client.counter("k"), model.counter);
}

fn settle(client: &Client<'_>, model: &mut Model, asked: &mut Vec<Asked>) {
    client.store.flush();
    asked.drain(..).for_each(|asked| model.judge(asked));
}
