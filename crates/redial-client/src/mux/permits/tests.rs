//! Kind of fault: calls hold what others wait for, and wait for what those hold.

use std::time::Instant;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use redial_protocol::{ErrorCode, ErrorObject, SessionId};

use super::*;
use crate::{
    clock,
    config::Config,
    mux::{
        control::HelloReply,
        link::Transmit,
        pending_call::CallFlags,
        send::SendStatus,
        sessions::Disposition,
        tests::{request, write_all},
    },
};

/// A server that answers the hello with a new session, with numbers for three calls.
fn open_session(mux: &mut Mux, id: u64, now: Instant) {
    let reply = HelloReply::Session {
        id: SessionId::from_bits(id),
        table: format!("of {id}").into(),
        window: 3,
        max_frame_bytes: 1_000,
    };
    answer(mux, reply, now);
}

fn answer(mux: &mut Mux, reply: HelloReply, now: Instant) {
    let hello = mux.links[0].hello.unwrap();
    mux.handle_hello_reply(0, hello.first_serial, reply, now)
        .unwrap();
}

/// Instance: the server comes back without its table. Calls with numbers of the session that is gone have
/// room reserved, and need new numbers, which those get that had waited for one.
#[test]
fn a_call_that_waits_for_a_number_leaves_its_room_to_those_that_have_one() {
    let config = Config {
        max_in_flight: 1,
        ..Config::default()
    };
    let (mut mux, now) = (
        Mux::new(&config, ChaCha8Rng::seed_from_u64(1)),
        clock::now(),
    );
    mux.handle_connected(0, now);
    open_session(&mut mux, 7, now);
    let mut calls: Vec<_> = (0..6)
        .map(|_| mux.open(None, CallFlags::default()).unwrap())
        .collect();
    // One is sent, two have numbers and wait for room, and the others wait for numbers.
    for key in &calls {
        mux.send(&request(*key), now);
    }
    write_all(&mut mux, 0, &mut Transmit::default());
    mux.handle_disconnect(0, None, &"peer".into(), "it was restarted", now);
    for key in &calls[1..] {
        mux.send(&request(*key), now);
    }
    mux.handle_connected(0, now);
    let unknown = ErrorObject::raised(ErrorCode::OUTCOME_UNKNOWN, "no such session");
    answer(&mut mux, HelloReply::Error(unknown), now);
    assert!(
        mux.call(calls[0]).answer.is_some(),
        "it may have been executed"
    );
    mux.remove(calls.remove(0), Disposition::Acknowledge);
    open_session(&mut mux, 8, now);
    for _ in 0..20 {
        calls.retain(|key| {
            let is_sent = mux.send(&request(*key), now) == SendStatus::Queued;
            write_all(&mut mux, 0, &mut Transmit::default());
            if is_sent {
                mux.remove(*key, Disposition::Acknowledge);
            }
            !is_sent
        });
    }
    assert_eq!(calls, [], "they wait for each other");
}
