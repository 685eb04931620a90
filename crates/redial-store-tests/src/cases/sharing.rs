//! Cases of stores that several servers share. Any other store passes them.

use redial_protocol::{Principal, SessionId};
use redial_server::store::{Acknowledged, Claimed, StoreError};

use super::{add, open, recorded};
use crate::{
    Rig,
    client::{Client, below, call, key, session},
};

/// What the store says to a server that asks for a session.
fn find(
    client: &Client<'_>,
    session: SessionId,
    owner: Option<&Principal>,
) -> Result<Option<Acknowledged>, StoreError> {
    let (done, answer) = client.reply();
    let shared = client.store.as_shared().expect("it is shared");
    shared.find_session(session, owner, done);
    client.settle(&answer)
}

pub fn a_session_that_is_shared_is_found_by_its_owner_alone(rig: &dyn Rig) {
    let client = open(rig);
    if client.store.as_shared().is_none() {
        return;
    }
    let [one, other] = ["token:one", "token:other"].map(|name| Principal::new(name).unwrap());
    client
        .settle(&client.hand_in_session_of(session(2), Some(&one)))
        .unwrap();
    client.run_new(call(key(1, 0), 7), add());
    client.store.acknowledge(session(1), below(1));
    let client = client.close();
    for (number, owner, found) in [
        (1, None, Some(below(1))),
        (1, Some(&one), None),
        (2, None, None),
        (2, Some(&other), None),
        (2, Some(&one), Some(below(0))),
        (3, None, None),
    ] {
        let answer = find(&client, session(number), owner);
        assert_eq!(answer, Ok(found), "{number} {owner:?}");
    }
    // One that is held no longer is there until its lease has ended.
    let shared = client.store.as_shared().expect("it is shared");
    shared.leave_session(session(1));
    assert_eq!(find(&client, session(1), None), Ok(Some(below(1))));
}

pub fn a_goodbye_costs_no_outcome_of_a_session_that_is_shared(rig: &dyn Rig) {
    let client = open(rig);
    if client.store.as_shared().is_none() {
        return;
    }
    let outcome = client.run_new(call(key(1, 0), 7), add());
    client.store.forget_session(session(1));
    assert_eq!(
        client.run_claimed(call(key(1, 0), 7), add()),
        recorded(outcome.bytes())
    );
    client.store.acknowledge(session(1), below(1));
    client.store.forget_session(session(1));
    assert_eq!(find(&client, session(1), None), Ok(None));
    assert_eq!(
        client.run_claimed(call(key(1, 1), 7), add()),
        Claimed::SessionUnknown
    );
    assert_eq!(client.counter("k"), 1);
}
