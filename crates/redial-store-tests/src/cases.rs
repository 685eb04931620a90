//! The cases, each with a store of its own. Their names are what they say.

#![expect(missing_docs, reason = "the names of the cases say what they are")]

use redial_protocol::CallKey;
use redial_server::store::{
    Begun, Claimed, Fenced, OutcomeKind, Recovered, RecoveredState, Resumable, Store, StoreCall,
};

mod mutations;
mod sharing;

pub use mutations::*;
pub use sharing::*;

use crate::{
    Effect, End, Rig,
    client::{Client, below, call, key, new, session, wait},
};

/// A store with one session, number 1.
fn open(rig: &dyn Rig) -> Client<'_> {
    let client = Client::open(rig);
    client.open_session(session(1));
    client
}

fn add() -> Effect {
    Effect::add("k", 1)
}

fn recorded(bytes: &[u8]) -> Claimed {
    Claimed::Recorded(bytes.to_vec())
}

fn resumable() -> Option<Resumable> {
    Some(Resumable {
        method: "m".to_owned(),
        params: Some("[1]".to_owned()),
    })
}

/// What was recovered of a call.
fn state<'a>(client: &'a Client<'_>, of: &CallKey) -> Option<&'a RecoveredState> {
    client.recovered.iter().find_map(|one| match one {
        Recovered::Record { key, state, .. } if key == of => Some(state),
        _ => None,
    })
}

pub fn an_id_is_claimed_once(rig: &dyn Rig) {
    let client = open(rig);
    let outcome = client.run_new(call(key(1, 0), 7), add());
    assert_eq!(outcome.bytes(), br#""result":1"#);
    assert_eq!(
        client.run_claimed(call(key(1, 0), 7), add()),
        recorded(outcome.bytes())
    );
    assert_eq!(
        client.run_new(call(key(1, 1), 7), add()).bytes(),
        br#""result":2"#
    );
    let begun = client.settle(&client.begin(call(key(1, 0), 7), None));
    assert_eq!(begun, Ok(Begun::Claimed(recorded(outcome.bytes()))));
    assert_eq!(client.counter("k"), 2);
}

pub fn a_duplicate_in_the_same_batch_gets_the_outcome(rig: &dyn Rig) {
    let client = open(rig);
    let answers: Vec<_> = (0..3)
        .map(|_| client.execute(call(key(1, 0), 7), add()))
        .collect();
    client.store.flush();
    let mut answers = answers.iter().map(|answer| wait(answer).unwrap());
    let outcome = new(answers.next().unwrap());
    for duplicate in answers {
        let redial_server::store::Executed::Claimed(claimed) = duplicate else {
            panic!("it ran twice")
        };
        assert_eq!(claimed, recorded(outcome.bytes()));
    }
    assert_eq!(client.counter("k"), 1);
}

pub fn another_fingerprint_is_refused(rig: &dyn Rig) {
    let client = open(rig);
    client.run_new(call(key(1, 0), 7), add());
    assert_eq!(
        client.run_claimed(call(key(1, 0), 8), add()),
        Claimed::IdReused
    );
    let client = client.crash();
    assert_eq!(
        client.run_claimed(call(key(1, 0), 8), add()),
        Claimed::IdReused
    );
    assert_eq!(client.counter("k"), 1);
}

pub fn what_is_acknowledged_is_refused(rig: &dyn Rig) {
    let client = open(rig);
    for number in 0..3 {
        client.run_new(call(key(1, number), 7), add());
    }
    client.store.acknowledge(session(1), below(2));
    assert_eq!(
        client.run_claimed(call(key(1, 1), 7), add()),
        Claimed::Acknowledged
    );
    assert!(matches!(
        client.run_claimed(call(key(1, 2), 7), add()),
        Claimed::Recorded(_)
    ));
    // With a call, and but for one that is open.
    let mut later = call(key(1, 9), 7);
    later.acknowledged = redial_server::store::Acknowledged {
        below: 5,
        open: vec![3],
    };
    client.run_new(later, add());
    assert_eq!(
        client.run_claimed(call(key(1, 4), 7), add()),
        Claimed::Acknowledged
    );
    client.run_new(call(key(1, 3), 7), add());
    let fenced = client.settle(&client.fence(key(1, 4)));
    assert_eq!(fenced, Ok(Fenced::Claimed(Claimed::Acknowledged)));
}

pub fn an_acknowledgement_that_is_lost_does_no_harm(rig: &dyn Rig) {
    let client = open(rig);
    let outcome = client.run_new(call(key(1, 0), 7), add());
    client.store.acknowledge(session(1), below(1));
    let client = client.crash();
    let claimed = client.run_claimed(call(key(1, 0), 7), add());
    assert!(
        [recorded(outcome.bytes()), Claimed::Acknowledged].contains(&claimed),
        "{claimed:?}"
    );
    assert_eq!(client.counter("k"), 1);
}

pub fn an_unknown_session_is_refused(rig: &dyn Rig) {
    let client = open(rig);
    assert_eq!(
        client.run_claimed(call(key(2, 0), 7), add()),
        Claimed::SessionUnknown
    );
    let begun = client.settle(&client.begin(call(key(2, 0), 7), None));
    assert_eq!(begun, Ok(Begun::Claimed(Claimed::SessionUnknown)));
    let fenced = client.settle(&client.fence(key(2, 0)));
    assert_eq!(fenced, Ok(Fenced::Claimed(Claimed::SessionUnknown)));
    assert_eq!(client.counter("k"), 0);
}

pub fn a_forgotten_session_is_unknown(rig: &dyn Rig) {
    let client = open(rig);
    client.run_new(call(key(1, 0), 7), add());
    if client.store.as_shared().is_some() {
        // A goodbye costs no outcome, and a lease is the store's.
        client.store.acknowledge(session(1), below(1));
    }
    client.store.forget_session(session(1));
    assert_eq!(
        client.run_claimed(call(key(1, 0), 7), add()),
        Claimed::SessionUnknown
    );
    let client = client.crash();
    assert_eq!(client.recovered, []);
    assert_eq!(client.counter("k"), 1);
}

pub fn a_fenced_call_never_runs(rig: &dyn Rig) {
    let client = open(rig);
    // Before and after in one batch.
    let fenced = client.fence(key(1, 0));
    let executed = client.execute(call(key(1, 0), 7), add());
    assert_eq!(client.settle(&fenced), Ok(Fenced::Never));
    let executed = wait(&executed).unwrap();
    assert!(matches!(
        executed,
        redial_server::store::Executed::Claimed(Claimed::Fenced)
    ));
    let client = client.crash();
    assert_eq!(state(&client, &key(1, 0)), Some(&RecoveredState::Fenced));
    assert_eq!(
        client.run_claimed(call(key(1, 0), 7), add()),
        Claimed::Fenced
    );
    assert_eq!(client.settle(&client.fence(key(1, 0))), Ok(Fenced::Never));
    let begun = client.settle(&client.begin(call(key(1, 0), 7), None));
    assert_eq!(begun, Ok(Begun::Claimed(Claimed::Fenced)));
    assert_eq!(client.counter("k"), 0);
}

pub fn a_call_on_record_is_not_fenced(rig: &dyn Rig) {
    let client = open(rig);
    let executed = client.execute(call(key(1, 0), 7), add());
    let fenced = client.fence(key(1, 0));
    let outcome = new(client.settle(&executed).unwrap());
    assert_eq!(
        wait(&fenced),
        Ok(Fenced::Claimed(recorded(outcome.bytes())))
    );
}

fn is_recorded_and_undone(rig: &dyn Rig, end: End, says: &str) {
    let client = open(rig);
    let outcome = client.run_new(call(key(1, 0), 7), add().then(end));
    assert_eq!(outcome.kind(), OutcomeKind::Failed);
    assert!(
        String::from_utf8_lossy(outcome.bytes()).contains(says),
        "{outcome:?}"
    );
    assert_eq!(
        client.run_claimed(call(key(1, 0), 7), add()),
        recorded(outcome.bytes())
    );
    let client = client.crash();
    assert_eq!(
        client.run_claimed(call(key(1, 0), 7), add()),
        recorded(outcome.bytes())
    );
    assert_eq!(client.counter("k"), 0);
}

pub fn a_failure_is_recorded_and_its_writes_are_undone(rig: &dyn Rig) {
    is_recorded_and_undone(rig, End::Fail, r#""code":7"#);
}

pub fn a_panic_is_recorded_and_its_writes_are_undone(rig: &dyn Rig) {
    is_recorded_and_undone(rig, End::Panic, r#""code":-32603"#);
}

pub fn no_effect_frees_the_id(rig: &dyn Rig) {
    let client = open(rig);
    let outcome = client.run_new(call(key(1, 0), 7), add().then(End::NoEffect));
    assert_eq!(outcome.kind(), OutcomeKind::NoEffect);
    assert_eq!(client.counter("k"), 0);
    let client = client.crash();
    assert_eq!(state(&client, &key(1, 0)), None);
    assert_eq!(
        client.run_new(call(key(1, 0), 8), add()).bytes(),
        br#""result":1"#
    );
}

/// In every order, so that the first, the last and those in between are undone.
pub fn a_failure_in_a_batch_undoes_nothing_of_the_others(rig: &dyn Rig) {
    let client = open(rig);
    let ends = [End::Return, End::Fail, End::Panic, End::NoEffect];
    let mut number = 0;
    let mut sum = 0;
    for first in 0..ends.len() {
        let mut answers = Vec::new();
        for end in ends.iter().cycle().skip(first).take(ends.len()) {
            for delta in [1, 10] {
                let effect = Effect::add("k", delta).then(*end);
                answers.push((*end, delta, client.execute(call(key(1, number), 7), effect)));
                number += 1;
            }
        }
        client.store.flush();
        for (end, delta, answer) in answers {
            let outcome = new(wait(&answer).unwrap());
            if end == End::Return {
                sum += delta;
                assert_eq!(outcome.bytes(), format!("\"result\":{sum}").as_bytes());
            }
        }
        assert_eq!(client.counter("k"), sum);
    }
    let client = client.crash();
    assert_eq!(client.counter("k"), sum);
}

pub fn a_call_without_a_name_leaves_no_record(rig: &dyn Rig) {
    let client = open(rig);
    let nameless = || StoreCall {
        key: None,
        ..call(key(1, 0), 7)
    };
    client.run_new(nameless(), add());
    assert_eq!(client.run_new(nameless(), add()).bytes(), br#""result":2"#);
    let failed = client.run_new(nameless(), add().then(End::Fail));
    assert_eq!(failed.kind(), OutcomeKind::Failed);
    let client = client.crash();
    let records = client
        .recovered
        .iter()
        .filter(|one| matches!(one, Recovered::Record { .. }));
    assert_eq!(records.count(), 0);
    assert_eq!(client.counter("k"), 2);
}

pub fn sessions_and_outcomes_survive_a_close(rig: &dyn Rig) {
    let client = open(rig);
    let table = client.store.table();
    client.run_new(call(key(1, 0), 7), add());
    let outcome = client.run_new(call(key(1, 1), 7), add());
    client.store.acknowledge(session(1), below(1));
    let client = client.close();
    assert_eq!(client.store.table(), table);
    assert_eq!(client.recovered.len(), 2, "{:?}", client.recovered);
    let known = Recovered::Session {
        session: session(1),
        owner: None,
        acknowledged: below(1),
    };
    assert_eq!(client.recovered[0], known);
    assert_eq!(
        client.run_claimed(call(key(1, 0), 7), add()),
        Claimed::Acknowledged
    );
    assert_eq!(
        client.run_claimed(call(key(1, 1), 7), add()),
        recorded(outcome.bytes())
    );
}

pub fn outcomes_are_the_same_bytes_after_a_crash(rig: &dyn Rig) {
    let client = open(rig);
    let ends = [End::Return, End::Fail, End::Panic];
    let outcomes: Vec<_> = (0..30)
        .map(|number| {
            let effect = add().then(ends[number as usize % 3]);
            client.run_new(call(key(1, number), 7), effect)
        })
        .collect();
    let client = client.crash();
    for (number, outcome) in outcomes.iter().enumerate() {
        let claimed = client.run_claimed(call(key(1, number as u64), 7), add());
        assert_eq!(claimed, recorded(outcome.bytes()));
    }
    assert_eq!(client.counter("k"), 10);
}

pub fn what_was_not_flushed_ends_when_the_store_is_dropped(rig: &dyn Rig) {
    let client = open(rig);
    let answer = client.execute(call(key(1, 0), 7), add());
    let client = client.crash();
    match wait(&answer) {
        Err(error) => assert!(!error.is_uncertain),
        Ok(executed) => drop(new(executed)),
    }
    assert!((0..=1).contains(&client.counter("k")));
}

pub fn a_large_outcome_says_so(rig: &dyn Rig) {
    let client = open(rig);
    let mut small = call(key(1, 0), 7);
    small.max_outcome_bytes = 3;
    let outcome = client.run_new(small, add());
    assert!(outcome.bytes().starts_with(br#""error":{"code":-32603"#));
    assert_eq!(
        client.run_claimed(call(key(1, 0), 7), add()),
        recorded(outcome.bytes())
    );
}

/// Far more calls than a window holds, each acknowledged a while later.
pub fn slots_are_used_again_and_mean_one_call_each(rig: &dyn Rig) {
    let mut client = open(rig);
    client.open_session(session(2));
    for round in 0..4_u64 {
        for batch in 0..30 {
            let first = round * 300 + batch * 10;
            let answers: Vec<_> = (first..first + 10)
                .flat_map(|number| [(1, number), (2, number)])
                .map(|(of, number)| {
                    let mut call = call(key(of, number), 7);
                    call.acknowledged = below(first.saturating_sub(15));
                    client.execute(call, Effect::add(&format!("{of}"), 1))
                })
                .collect();
            client.store.flush();
            answers
                .iter()
                .for_each(|answer| drop(new(wait(answer).unwrap())));
        }
        client = client.crash();
        let end = (round + 1) * 300;
        for of in [1, 2] {
            for number in end.saturating_sub(400)..end {
                let claimed = client.run_claimed(call(key(of, number), 7), add());
                let outcome = format!("\"result\":{}", number + 1);
                let is_known = claimed == recorded(outcome.as_bytes());
                let may_be_gone = number + 25 < end;
                assert!(
                    is_known || may_be_gone && claimed == Claimed::Acknowledged,
                    "{of} {number}: {claimed:?}"
                );
            }
            assert_eq!(client.counter(&format!("{of}")), end as i64);
        }
    }
    let _: &dyn Store = &*client.store;
}
