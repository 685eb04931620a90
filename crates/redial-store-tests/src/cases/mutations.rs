//! Cases of calls that are recorded twice, and of plain ids.

use redial_protocol::{CallKey, Principal};
use redial_server::store::{Begun, Claimed, Fenced, Recovered, RecoveredState};

use super::{add, open, recorded, resumable, state};
use crate::{
    End, Rig,
    client::{below, call, key, session},
};

pub fn an_interrupted_call_is_recovered_as_started(rig: &dyn Rig) {
    let client = open(rig);
    assert_eq!(
        client.settle(&client.begin(call(key(1, 0), 7), None)),
        Ok(Begun::Start)
    );
    let client = client.crash();
    assert_eq!(
        state(&client, &key(1, 0)),
        Some(&RecoveredState::Started(None))
    );
    let begun = client.settle(&client.begin(call(key(1, 0), 7), None));
    assert_eq!(begun, Ok(Begun::Claimed(Claimed::Interrupted)));
    let begun = client.settle(&client.begin(call(key(1, 0), 8), None));
    assert_eq!(begun, Ok(Begun::Claimed(Claimed::IdReused)));
    let fenced = client.settle(&client.fence(key(1, 0)));
    assert_eq!(fenced, Ok(Fenced::Claimed(Claimed::Interrupted)));
    // The server records that it was interrupted.
    client
        .settle(&client.finish(key(1, 0), Some(b"\"error\":1")))
        .unwrap();
    assert_eq!(
        client.run_claimed(call(key(1, 0), 7), add()),
        recorded(b"\"error\":1")
    );
}

pub fn a_resumable_call_starts_again(rig: &dyn Rig) {
    let client = open(rig);
    let begun = client.settle(&client.begin(call(key(1, 0), 7), resumable()));
    assert_eq!(begun, Ok(Begun::Start));
    let client = client.crash();
    assert_eq!(
        state(&client, &key(1, 0)),
        Some(&RecoveredState::Started(resumable()))
    );
    let begun = client.settle(&client.begin(call(key(1, 0), 7), resumable()));
    assert_eq!(begun, Ok(Begun::Start));
    // Once: it runs now.
    let again = client.settle(&client.begin(call(key(1, 0), 7), resumable()));
    assert!(again.is_err_and(|error| error.is_uncertain));
    let client = client.crash();
    assert_eq!(
        state(&client, &key(1, 0)),
        Some(&RecoveredState::Started(resumable()))
    );
    client
        .settle(&client.finish(key(1, 0), Some(b"\"result\":1")))
        .unwrap();
    let client = client.crash();
    let finished = RecoveredState::Finished(b"\"result\":1".to_vec());
    assert_eq!(state(&client, &key(1, 0)), Some(&finished));
}

pub fn a_finished_mutation_is_replayed(rig: &dyn Rig) {
    let client = open(rig);
    client
        .settle(&client.begin(call(key(1, 0), 7), None))
        .unwrap();
    client
        .settle(&client.finish(key(1, 0), Some(b"\"result\":1")))
        .unwrap();
    let begun = client.settle(&client.begin(call(key(1, 0), 7), None));
    assert_eq!(begun, Ok(Begun::Claimed(recorded(b"\"result\":1"))));
    // To end once more changes nothing.
    client
        .settle(&client.finish(key(1, 0), Some(b"\"result\":2")))
        .unwrap();
    let client = client.crash();
    let begun = client.settle(&client.begin(call(key(1, 0), 7), None));
    assert_eq!(begun, Ok(Begun::Claimed(recorded(b"\"result\":1"))));
}

pub fn a_mutation_without_effect_frees_its_id(rig: &dyn Rig) {
    let client = open(rig);
    client
        .settle(&client.begin(call(key(1, 0), 7), None))
        .unwrap();
    client.settle(&client.finish(key(1, 0), None)).unwrap();
    let client = client.crash();
    assert_eq!(state(&client, &key(1, 0)), None);
    let begun = client.settle(&client.begin(call(key(1, 0), 8), None));
    assert_eq!(begun, Ok(Begun::Start));
}

pub fn a_mutation_whose_session_is_gone_ends_quietly(rig: &dyn Rig) {
    let client = open(rig);
    client
        .settle(&client.begin(call(key(1, 0), 7), None))
        .unwrap();
    client.store.forget_session(session(1));
    client
        .settle(&client.finish(key(1, 0), Some(b"\"result\":1")))
        .unwrap();
    // Nor does it write into what is another call's by now.
    client.open_session(session(2));
    let outcome = client.run_new(call(key(2, 0), 7), add());
    client
        .settle(&client.finish(key(1, 0), Some(b"\"result\":9")))
        .unwrap();
    let client = client.crash();
    assert_eq!(
        client.run_claimed(call(key(2, 0), 7), add()),
        recorded(outcome.bytes())
    );
}

fn plain() -> [CallKey; 3] {
    [
        CallKey::Uuid([9; 16]),
        CallKey::Text("ä\0".into()),
        CallKey::Integer("-7".into()),
    ]
}

/// The same ids of two principals, and of none.
pub fn the_same_plain_id_of_another_principal_is_another_call(rig: &dyn Rig) {
    let mut client = open(rig);
    let mut known = Vec::new();
    for key in plain() {
        let owned = ["token:one", "token:two"].map(principal);
        let owned = owned.map(|principal| key.clone().owned_by(&principal));
        for key in [key].into_iter().chain(owned) {
            let fingerprint = known.len() as u128;
            let outcome = client.run_new(call(key.clone(), fingerprint), add());
            let begun = RecoveredState::Finished(outcome.into_bytes());
            known.push((key, fingerprint, begun));
        }
    }
    client = client.crash();
    for (key, fingerprint, state) in known {
        let record = Recovered::Record {
            key,
            fingerprint,
            state,
        };
        assert!(client.recovered.contains(&record), "{record:?}");
    }
    assert_eq!(client.counter("k"), 9);
}

/// Whatever is written about a session later.
pub fn a_session_stays_its_principals(rig: &dyn Rig) {
    let client = open(rig);
    let owner = principal("cert:billing.example");
    client
        .settle(&client.hand_in_session_of(session(2), Some(&owner)))
        .unwrap();
    let mut client = client.crash();
    for number in 0..300 {
        let mut call = call(key(2, number), 7);
        call.acknowledged = below(number);
        client.run_new(call, add());
        if number % 100 == 99 {
            client.store.acknowledge(session(2), below(number + 1));
            client = client.close();
        }
        let owners = client.recovered.iter().filter_map(|one| match one {
            Recovered::Session { session, owner, .. } => Some((*session, owner.clone())),
            Recovered::Record { .. } => None,
        });
        let mut owners: Vec<_> = owners.collect();
        owners.sort();
        let expected = [(session(1), None), (session(2), Some(owner.clone()))];
        assert_eq!(owners, expected, "{number}");
    }
}

fn principal(name: &str) -> Principal {
    Principal::new(name).expect("a short name")
}

pub fn plain_ids_are_recovered(rig: &dyn Rig) {
    let mut client = open(rig);
    let mut known = Vec::new();
    for (at, key) in plain().into_iter().enumerate() {
        let end = if at == 1 { End::Fail } else { End::Return };
        let outcome = client.run_new(call(key.clone(), at as u128), add().then(end));
        if client.claims_plain_ids() {
            let claimed = client.run_claimed(call(key.clone(), at as u128), add());
            assert_eq!(claimed, recorded(outcome.bytes()));
        }
        known.push((key, at as u128, outcome));
        client = client.crash();
        for (key, fingerprint, outcome) in &known {
            let record = Recovered::Record {
                key: key.clone(),
                fingerprint: *fingerprint,
                state: RecoveredState::Finished(outcome.bytes().to_vec()),
            };
            assert!(client.recovered.contains(&record), "{record:?}");
        }
    }
    assert_eq!(client.counter("k"), 2);
}

pub fn a_mutation_with_a_plain_id_is_recovered(rig: &dyn Rig) {
    let mut client = open(rig);
    for key in plain() {
        let begun = client.settle(&client.begin(call(key.clone(), 7), resumable()));
        assert_eq!(begun, Ok(Begun::Start));
        client = client.crash();
        assert_eq!(
            state(&client, &key),
            Some(&RecoveredState::Started(resumable()))
        );
        let begun = client.settle(&client.begin(call(key.clone(), 7), resumable()));
        assert_eq!(begun, Ok(Begun::Start));
        client
            .settle(&client.finish(key.clone(), Some(b"\"result\":1")))
            .unwrap();
        client = client.crash();
        let finished = RecoveredState::Finished(b"\"result\":1".to_vec());
        assert_eq!(state(&client, &key), Some(&finished));
    }
    let [_, key, _] = plain().map(|key| match key {
        CallKey::Text(_) => CallKey::Text("other".into()),
        key => key,
    });
    client
        .settle(&client.begin(call(key.clone(), 7), None))
        .unwrap();
    client.settle(&client.finish(key.clone(), None)).unwrap();
    assert_eq!(state(&client.crash(), &key), None);
}
