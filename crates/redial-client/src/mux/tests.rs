//! The bookkeeping of several calls at once.

use rand::SeedableRng;
use redial_protocol::{ErrorObject, ReplyMeta};

use super::{
    control::HelloReply,
    link::Transmit,
    pending_call::{Answer, CallFlags},
    replies::ServerMessage,
    send::{OutboundRequest, SendStatus},
    sessions::Disposition,
    *,
};
use crate::{clock, inline_bytes::InlineBytes};

pub(super) fn id(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

/// A client of servers without sessions, whose calls are known by small numbers.
pub(super) fn mux(config: Config) -> (Mux, Instant) {
    let config = Config {
        sessions: false,
        ..config
    };
    let mut mux = Mux::new(&config, ChaCha8Rng::seed_from_u64(1));
    let now = clock::now();
    for link in 0..config.connections {
        mux.handle_connected(link, now);
    }
    (mux, now)
}

pub(super) fn request(key: Key) -> OutboundRequest<'static> {
    OutboundRequest {
        key,
        method: "inc",
        params: None,
        number: 1,
        is_hedge: false,
        timeout_ms: 1000,
        options: None,
    }
}

pub(super) fn send(mux: &mut Mux, n: u128, now: Instant) -> SendStatus {
    let key = open(mux, n);
    mux.send(&request(key), now)
}

pub(super) fn open(mux: &mut Mux, n: u128) -> Key {
    mux.open(Some(id(n)), CallFlags::default()).unwrap()
}

fn key(mux: &Mux, n: u128) -> Key {
    mux.find(id(n)).unwrap()
}

fn close(mux: &mut Mux, n: u128) {
    let key = key(mux, n);
    mux.withdraw(key);
    mux.remove(key, Disposition::Acknowledge);
}

const WAIT: SendStatus = SendStatus::Blocked;

fn result(n: u128) -> ServerMessage {
    ServerMessage::Reply {
        id: id(n),
        outcome: Ok(InlineBytes::NULL),
        meta: ReplyMeta::default(),
    }
}

/// Gives everything to the driver and says that it was written.
pub(super) fn write_all(mux: &mut Mux, link: usize, out: &mut Transmit) -> Vec<u8> {
    let mut all = Vec::new();
    while mux.poll_transmit(link, out, Waker::noop()) {
        while !out.ready().is_empty() {
            let ready = out.ready().to_vec();
            out.advance(ready.len());
            all.extend(ready);
        }
    }
    all
}

#[test]
fn only_the_first_request_asks_for_a_driver_and_only_a_sleeping_driver_is_woken() {
    let (mut mux, now) = mux(Config::default());
    for (n, needs_driver) in [(1, Some(0)), (2, None)] {
        assert_eq!(send(&mut mux, n, now), SendStatus::Queued);
        assert_eq!(mux.driverless.take(), needs_driver);
    }
    assert!(mux.wakers.is_empty());
    write_all(&mut mux, 0, &mut Transmit::default());
    send(&mut mux, 3, now);
    send(&mut mux, 4, now);
    assert_eq!(mux.wakers.len(), 1, "one wake for both");
}

#[test]
fn a_waker_that_is_replaced_is_woken_rather_than_dropped_under_the_lock() {
    let (mut mux, now) = mux(Config::default());
    send(&mut mux, 1, now);
    let task = |_| Waker::from(std::sync::Arc::new(NoTask));
    let wakers: [Waker; 2] = [(); 2].map(task);
    mux.listen(key(&mux, 1), &wakers[0]);
    mux.listen(key(&mux, 1), &wakers[0]);
    assert!(mux.wakers.is_empty());
    mux.listen(key(&mux, 1), &wakers[1]);
    assert_eq!(mux.wakers.len(), 1);
}

struct NoTask;

impl std::task::Wake for NoTask {
    fn wake(self: std::sync::Arc<Self>) {}
}

#[test]
fn a_link_is_given_back_only_if_nothing_waits_on_it() {
    let (mut mux, now) = mux(Config::default());
    send(&mut mux, 1, now);
    assert!(!mux.release_idle_driver(0));
    mux.driverless = None;
    assert_eq!(send(&mut mux, 2, now), SendStatus::Queued);
    assert_eq!(mux.driverless, None);
    write_all(&mut mux, 0, &mut Transmit::default());
    assert!(mux.release_idle_driver(0));
    assert_eq!(send(&mut mux, 3, now), SendStatus::Queued);
    assert_eq!(mux.driverless, Some(0));
}

#[test]
fn requests_go_round_the_links_that_work() {
    let config = Config {
        connections: 3,
        ..Config::default()
    };
    let (mut mux, now) = mux(config);
    let send_one = |mux: &mut Mux, n| {
        send(mux, n, now);
        (0..3).for_each(|link| drop(write_all(mux, link, &mut Transmit::default())));
    };
    (0..6).for_each(|n| send_one(&mut mux, n));
    let in_flight: Vec<_> = (0..3).map(|link| mux.in_flight_on(link)).collect();
    assert_eq!(in_flight, [2, 2, 2]);
    mux.handle_disconnect(1, Some(0), &"peer".into(), "cut", now);
    assert_eq!(mux.consecutive_failures(1), 1);
    (6..10).for_each(|n| send_one(&mut mux, n));
    let in_flight: Vec<_> = (0..3).map(|link| mux.in_flight_on(link)).collect();
    assert_eq!(in_flight, [4, 0, 4]);
}

#[test]
fn requests_that_are_ready_together_leave_together() {
    let config = Config {
        connections: 2,
        ..Config::default()
    };
    let (mut mux, now) = mux(config);
    let in_flight = |mux: &Mux| [0, 1].map(|link| mux.in_flight_on(link));
    let keys: Vec<_> = (0..8).map(|n| open(&mut mux, n)).collect();
    for (sent, key) in (1..).zip(keys) {
        mux.send(&request(key), now);
        assert_eq!(
            in_flight(&mux),
            [sent.min(4), sent.max(4) - 4],
            "a link's share"
        );
    }
    write_all(&mut mux, 0, &mut Transmit::default());
    write_all(&mut mux, 1, &mut Transmit::default());
    send(&mut mux, 8, now);
    write_all(&mut mux, 0, &mut Transmit::default());
    send(&mut mux, 9, now);
    assert_eq!(in_flight(&mux), [5, 5], "what was taken is not waited for");
}

#[test]
fn a_connection_that_brought_a_reply_is_no_failure() {
    let (mut mux, now) = mux(Config::default());
    for failures in 1..=3 {
        mux.handle_disconnect(0, Some(0), &"peer".into(), "cut", now);
        assert_eq!(mux.consecutive_failures(0), failures);
    }
    mux.delay_reconnect(0, now);
    mux.handle_replies(0, &mut [ServerMessage::Pong].into(), now)
        .unwrap();
    mux.handle_disconnect(0, Some(0), &"peer".into(), "cut", now);
    assert_eq!(
        (mux.consecutive_failures(0), mux.reconnect_at(0)),
        (0, None)
    );
}

#[test]
fn a_full_buffer_takes_no_more_and_wakes_the_waiting_when_there_is_room() {
    let config = Config {
        max_buffered_bytes: 10,
        ..Config::default()
    };
    let (mut mux, now) = mux(config);
    send(&mut mux, 1, now);
    assert_eq!(send(&mut mux, 2, now), WAIT);
    mux.listen(key(&mux, 2), Waker::noop());
    assert!(mux.wakers.is_empty());
    write_all(&mut mux, 0, &mut Transmit::default());
    assert_eq!(mux.wakers.len(), 1);
    assert!(matches!(
        mux.send(&request(key(&mux, 2)), now),
        SendStatus::Queued
    ));
}

#[test]
fn a_permit_goes_to_the_next_that_waits_whatever_happens_to_the_one_before() {
    let config = Config {
        max_in_flight: 1,
        ..Config::default()
    };
    let (mut mux, now) = mux(config);
    send(&mut mux, 1, now);
    for n in 2..=5 {
        assert_eq!(send(&mut mux, n, now), WAIT);
        mux.listen(key(&mux, n), Waker::noop());
    }
    // One is cancelled while it waits, one when the permit is reserved for it already.
    close(&mut mux, 2);
    close(&mut mux, 1);
    assert_eq!(mux.wakers.len(), 1, "there is a permit for one");
    assert_eq!(send(&mut mux, 6, now), WAIT, "and it is not for all");
    close(&mut mux, 3);
    let again = |mux: &mut Mux, n| mux.send(&request(key(mux, n)), now);
    assert_eq!(again(&mut mux, 5), WAIT);
    assert_eq!(again(&mut mux, 4), SendStatus::Queued);
    assert_eq!(mux.in_flight_on(0), 1);
    mux.handle_disconnect(0, None, &"peer".into(), "cut", now);
    assert_eq!(
        mux.in_flight_on(0),
        1,
        "a reserved permit outlives the connection"
    );
    mux.handle_disconnect(0, None, &"peer".into(), "cut", now);
    assert_eq!(
        again(&mut mux, 5),
        SendStatus::Queued,
        "and no more than one"
    );
    for n in [4, 5, 6] {
        close(&mut mux, n);
    }
    assert_eq!((mux.in_flight_on(0), mux.in_flight()), (0, 0));
}

/// If lost requests could fill the window, their retries would wait for each other.
#[test]
fn a_retry_needs_no_permit() {
    let config = Config {
        max_in_flight: 1,
        ..Config::default()
    };
    let (mut mux, now) = mux(config);
    // There is no other connection.
    mux.delay_reconnect(1, now + Duration::from_secs(1_000));
    send(&mut mux, 1, now);
    write_all(&mut mux, 0, &mut Transmit::default());
    mux.time_out(key(&mux, 1), now);
    assert_eq!(send(&mut mux, 2, now), WAIT);
    assert_eq!(mux.send(&request(key(&mux, 1)), now), SendStatus::Queued);
    close(&mut mux, 1);
    assert_eq!(mux.send(&request(key(&mux, 2)), now), SendStatus::Queued);
    close(&mut mux, 2);
    assert_eq!(mux.in_flight_on(0), 0);
}

#[test]
fn a_frame_that_is_too_large_leaves_the_buffer_as_it_was() {
    let config = Config {
        max_frame_bytes: 110,
        ..Config::default()
    };
    let (mut mux, now) = mux(config);
    let key = open(&mut mux, 1);
    let long = OutboundRequest {
        method: "a method with a very long name indeed",
        ..request(key)
    };
    assert!(matches!(mux.send(&long, now), SendStatus::TooLarge(_)));
    assert!(matches!(send(&mut mux, 2, now), SendStatus::Queued));
    let sent = write_all(&mut mux, 0, &mut Transmit::default());
    assert!(!String::from_utf8(sent).unwrap().contains("very long"));
}

#[test]
fn the_first_answer_stands() {
    let (mut mux, now) = mux(Config::default());
    send(&mut mux, 1, now);
    write_all(&mut mux, 0, &mut Transmit::default());
    let refused = ServerMessage::Reply {
        id: id(1),
        outcome: Err(ErrorObject::raised(
            redial_protocol::ErrorCode::INVALID_PARAMS,
            "",
        )),
        meta: ReplyMeta::default(),
    };
    mux.handle_replies(0, &mut [result(1), refused].into(), now)
        .unwrap();
    assert!(matches!(
        mux.call(key(&mux, 1)).answer,
        Some(Answer::Result(..))
    ));
    close(&mut mux, 1);
    mux.handle_replies(0, &mut [result(1)].into(), now).unwrap();
    assert_eq!(mux.unmatched_replies, 1);
}

#[test]
fn a_refusal_on_a_connection_without_an_attempt_says_nothing() {
    let config = Config {
        connections: 2,
        ..Config::default()
    };
    let (mut mux, now) = mux(config);
    send(&mut mux, 1, now);
    write_all(&mut mux, 0, &mut Transmit::default());
    let refused = ServerMessage::Reply {
        id: id(1),
        outcome: Err(ErrorObject::raised(
            redial_protocol::ErrorCode::OVERLOADED,
            "",
        )),
        meta: ReplyMeta::default(),
    };
    mux.handle_replies(1, &mut [refused].into(), now).unwrap();
    assert!(mux.call(key(&mux, 1)).may_have_executed());
    assert_eq!(mux.unmatched_replies, 1);
}

/// A server that doesn't know the session, because it has none, would execute it again.
#[test]
fn a_call_that_may_have_been_executed_goes_only_where_its_session_is_known() {
    // The next connection is another one of the pool, or all that there is.
    for (is_plain, next) in [(false, 1), (false, 0), (true, 0)] {
        let config = Config {
            connections: next + 1,
            ..Config::default()
        };
        let mut mux = Mux::new(&config, ChaCha8Rng::seed_from_u64(1));
        let now = clock::now();
        mux.handle_connected(0, now);
        let session = HelloReply::Session {
            id: redial_protocol::SessionId::from_bits(7),
            table: "t".into(),
            window: 9,
            max_frame_bytes: 1 << 20,
        };
        mux.handle_replies(0, &mut [ServerMessage::Hello(0, session)].into(), now)
            .unwrap();
        let [written, fresh] = [(); 2].map(|()| mux.open(None, CallFlags::default()).unwrap());
        let sent = mux.send(&request(written), now);
        assert_eq!((sent, mux.driverless), (SendStatus::Queued, Some(0)));
        write_all(&mut mux, 0, &mut Transmit::default());
        mux.handle_disconnect(0, None, &"peer".into(), "cut", now);
        mux.handle_connected(next, now);
        mux.links[next].is_plain = is_plain;
        let sent = mux.send(&request(written), now);
        assert!(matches!(sent, SendStatus::Blocked), "{sent:?}");
        let answer = &mux.call(written).answer;
        let is_lost = matches!(answer, Some(Answer::SessionLost));
        assert_eq!(is_lost, is_plain, "else its hello is not answered yet");
        assert_eq!(mux.in_flight_on(next), 0);
        // What can't have been executed goes there at once.
        let sent = mux.send(&request(fresh), now);
        assert!(matches!(sent, SendStatus::Queued), "{sent:?}");
    }
}

/// Two links, of which one has found a session and the other a server without any: a call that waits
/// for a number of the first is sent to the second instead.
#[test]
fn a_call_that_got_another_name_while_it_waited_for_a_number_keeps_it() {
    let config = Config {
        connections: 2,
        ..Config::default()
    };
    let mut mux = Mux::new(&config, ChaCha8Rng::seed_from_u64(1));
    let now = clock::now();
    mux.handle_connected(0, now);
    mux.handle_connected(1, now);
    let session = HelloReply::Session {
        id: redial_protocol::SessionId::from_bits(7),
        table: "t".into(),
        window: 1,
        max_frame_bytes: 1 << 20,
    };
    mux.handle_replies(0, &mut [ServerMessage::Hello(0, session)].into(), now)
        .unwrap();
    mux.links[1].is_plain = true;
    let [first, second] = [(); 2].map(|()| mux.open(None, CallFlags::default()).unwrap());
    assert!(mux.ensure_call_id(first, 0, now));
    assert!(!mux.ensure_call_id(second, 0, now), "the window is 1");
    assert!(mux.ensure_call_id(second, 1, now));
    let name = mux.call(second).id;
    mux.remove(first, Disposition::Acknowledge);
    mux.assign_queued_numbers(0);
    assert_eq!(mux.call(second).id, name);
    let id = name.uuid().unwrap();
    mux.remove(second, Disposition::Acknowledge);
    assert_eq!(mux.find(id), None);
}

#[test]
fn ids_that_differ_only_in_their_last_bytes_spread() {
    use std::hash::BuildHasher;
    let hasher = BuildHasherDefault::<IdHasher>::default();
    let low: std::collections::HashSet<u64> =
        (0..1000).map(|n| hasher.hash_one(id(n)) % 1024).collect();
    assert!(
        low.len() > 500,
        "{} of 1024 buckets for 1000 ids",
        low.len()
    );
}
