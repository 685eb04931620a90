//! Kind of fault: a call goes to a server whose table does not know its number, or leaves something behind
//! where there is no server for it.

use std::{sync::Arc, time::Duration};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use redial_protocol::{ErrorCode, ErrorObject, ReplyMeta, SessionId};

use super::*;
use crate::{
    cause::ConnectError,
    clock,
    config::Config,
    inline_bytes::InlineBytes,
    mux::{
        control::HelloReply,
        link::Transmit,
        pending_call::CallFlags,
        replies::ServerMessage,
        send::SendStatus,
        session_loss::UnknownSource,
        tests::{request, write_all},
    },
    policy::budget::RetryBudget,
};

mod answers;

/// Several servers, each with a table and a session of its own.
struct Servers {
    mux: Mux,
    now: Instant,
}

impl Servers {
    fn new(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        change(&mut config);
        let rng = ChaCha8Rng::seed_from_u64(1);
        let mut mux = Mux::balanced(&config, rng.clone(), rng);
        mux.has_discovery = true;
        let now = clock::now();
        Self { mux, now }
    }

    /// One that a connection was made to. Gives its link.
    fn connect(&mut self, name: &str) -> usize {
        let (at, _) = self.mux.add_endpoint(&name.into());
        let link = self.mux.links_of(at).start;
        self.mux.claim_driver(link);
        self.mux.handle_connected(link, self.now);
        link
    }

    /// One that answers the hello, with room for so many calls. Gives its link.
    fn start(&mut self, name: &str, session: u64, window: u64) -> usize {
        let link = self.connect(name);
        let hello = self.mux.links[link].hello.unwrap();
        let reply = HelloReply::Session {
            id: SessionId::from_bits(session),
            table: name.into(),
            window,
            max_frame_bytes: 1_000,
        };
        let mux = &mut self.mux;
        mux.handle_hello_reply(link, hello.first_serial, reply, self.now)
            .unwrap();
        write_all(mux, link, &mut Transmit::default());
        link
    }

    /// One that refuses connections, and whose driver's runtime has ended since. Gives its link.
    fn refuse(&mut self, name: &str) -> usize {
        let (at, _) = self.mux.add_endpoint(&name.into());
        let link = self.mux.links_of(at).start;
        self.mux.claim_driver(link);
        let error = ConnectError {
            peer: name.into(),
            connector: None,
            reason: Arc::new(std::io::ErrorKind::ConnectionRefused.into()),
        };
        self.mux.handle_connect_failed(link, &error, self.now);
        self.mux
            .delay_reconnect(link, self.now + Duration::from_millis(50));
        self.mux.handle_driver_gone(link);
        link
    }

    /// The link's server answers the call after so long.
    fn answer(&mut self, link: usize, key: Key, took: Duration, error: Option<ErrorCode>) {
        self.write(link);
        self.now += took;
        let id = self.mux.call(key).id.uuid().unwrap();
        let outcome = match error {
            Some(code) => Err(ErrorObject::raised(code, "")),
            None => Ok(InlineBytes::NULL),
        };
        let meta = ReplyMeta::default();
        let reply = ServerMessage::Reply { id, outcome, meta };
        let (mux, now) = (&mut self.mux, self.now);
        mux.handle_replies(link, &mut [reply].into(), now).unwrap();
        self.end(key);
    }

    /// It is no longer one of the service's.
    fn stop(&mut self, link: usize) {
        let at = self.mux.endpoint_of(link);
        self.mux.remove_endpoint(at, self.now);
        self.cut(link);
        assert!(self.mux.release_idle_driver(link));
    }

    /// Its connection is lost.
    fn cut(&mut self, link: usize) {
        let peer = self.mux.peer(link);
        self.mux
            .handle_disconnect(link, None, &peer, "it is gone", self.now);
    }

    fn open(&mut self, flags: CallFlags) -> Key {
        self.mux.open(None, flags).unwrap()
    }

    fn call(&mut self) -> Key {
        self.open(CallFlags::default())
    }

    fn send(&mut self, key: Key) -> SendStatus {
        self.mux.send(&request(key), self.now)
    }

    /// Sends a call, and writes it, to this link.
    fn send_to(&mut self, link: usize) -> Key {
        let key = self.call();
        assert_eq!(self.send(key), SendStatus::Queued);
        assert_eq!(self.sent_to(key), link);
        key
    }

    fn write(&mut self, link: usize) {
        write_all(&mut self.mux, link, &mut Transmit::default());
    }

    fn end(&mut self, key: Key) {
        self.mux.remove(key, Disposition::Acknowledge);
    }

    /// Where the call was sent: to a server of the table that its number is of.
    fn sent_to(&mut self, key: Key) -> usize {
        let call = self.mux.call(key);
        let (id, link) = (call.id, call.attempts.last().unwrap().link);
        let CallId::Session(id) = id else {
            panic!("it has no number");
        };
        let session = self.mux.sessions.get(id.session).unwrap();
        assert_eq!(session.home, self.mux.links[link].home);
        link
    }
}

/// A call that waited for room at one server goes on to one of another table, and waits for that server's
/// buffer; then there is room at the first.
#[test]
fn room_at_one_server_is_of_no_use_to_a_call_with_a_number_of_another_table() {
    let mut servers = Servers::new(|config| {
        config.max_in_flight = 2;
        config.max_buffered_bytes = 1;
    });
    let a = servers.start("a", 7, 8);
    let busy = servers.send_to(a);
    servers.write(a);
    servers.send_to(a);
    servers.write(a);
    let waiting = servers.call();
    assert_eq!(servers.send(waiting), SendStatus::Blocked);
    let b = servers.start("b", 8, 8);
    servers.send_to(b);
    assert_eq!(
        servers.send(waiting),
        SendStatus::Blocked,
        "its buffer is full"
    );
    servers.end(busy);
    if servers.send(waiting) == SendStatus::Blocked {
        servers.write(b);
        assert_eq!(servers.send(waiting), SendStatus::Queued);
    }
    servers.sent_to(waiting);
}

/// The same where the other server has no number for it.
#[test]
fn room_at_one_server_is_of_no_use_to_a_call_that_waits_for_a_number_of_another_table() {
    let mut servers = Servers::new(|config| config.max_in_flight = 1);
    let a = servers.start("a", 7, 8);
    let busy = servers.send_to(a);
    servers.write(a);
    let waiting = servers.call();
    assert_eq!(servers.send(waiting), SendStatus::Blocked);
    let b = servers.start("b", 8, 1);
    let reserved = servers.open(CallFlags {
        is_reservation: true,
        ..CallFlags::default()
    });
    assert_eq!(servers.send(reserved), SendStatus::IdReserved);
    let CallId::Session(number) = servers.mux.call(reserved).id else {
        panic!("it has a number");
    };
    servers.mux.remove(reserved, Disposition::Reserve);
    assert_eq!(servers.send(waiting), SendStatus::Blocked);
    servers.end(busy);
    servers.mux.drop_token(number, false);
    servers.write(b);
    assert_eq!(servers.send(waiting), SendStatus::Queued);
    servers.sent_to(waiting);
}

/// The same between servers without sessions: both would execute the call.
#[test]
fn room_at_one_server_is_of_no_use_to_a_call_that_another_may_have_executed() {
    let mut servers = Servers::new(|config| {
        config.sessions = false;
        config.max_in_flight = 1;
    });
    let a = servers.connect("a");
    let busy = servers.call();
    assert_eq!(servers.send(busy), SendStatus::Queued);
    let waiting = servers.call();
    assert_eq!(servers.send(waiting), SendStatus::Blocked);
    let b = servers.connect("b");
    assert_eq!(servers.send(waiting), SendStatus::Queued);
    servers.write(b);
    servers.cut(b);
    servers.connect("b");
    let other = servers.call();
    assert_eq!(servers.send(other), SendStatus::Queued);
    assert_eq!(servers.send(waiting), SendStatus::Blocked, "b is full");
    servers.end(busy);
    assert_eq!(servers.send(waiting), SendStatus::Blocked);
    servers.end(other);
    assert_eq!(servers.send(waiting), SendStatus::Queued);
    let attempts = &servers.mux.call(waiting).attempts;
    assert!(
        attempts.iter().all(|one| one.link == b && b != a),
        "{attempts:?}"
    );
}

/// A saved call of a server without sessions, which is asked about before the server is connected to.
#[test]
fn a_call_that_is_known_at_an_address_waits_for_the_server_there() {
    let mut servers = Servers::new(|config| config.sessions = false);
    let id = uuid::Uuid::from_u128(7);
    let flags = CallFlags {
        is_resumed: true,
        ..CallFlags::default()
    };
    let resumed = servers.mux.open(Some(id), flags).unwrap();
    servers.mux.place(resumed, id, Some("at b"));
    assert_eq!(servers.send(resumed), SendStatus::Blocked);
    servers.connect("a");
    assert_eq!(servers.send(resumed), SendStatus::Blocked);
    let b = servers.connect("b");
    assert_eq!(servers.send(resumed), SendStatus::Queued);
    let attempts = &servers.mux.call(resumed).attempts;
    assert_eq!(attempts.last().unwrap().link, b);
}

/// A connection that was begun before its server was taken away, and stands when it is gone.
#[test]
fn a_connection_to_a_server_that_is_no_longer_named_is_closed() {
    let mut servers = Servers::new(|_| ());
    let (at, _) = servers.mux.add_endpoint(&"a".into());
    let link = servers.mux.links_of(at).start;
    assert!(servers.mux.claim_driver(link));
    servers.mux.remove_endpoint(at, servers.now);
    servers.mux.handle_connected(link, servers.now);
    servers.mux.handle_surplus(link, servers.now).unwrap_err();
}

/// Calls that come and go while there is no server.
#[test]
fn calls_without_a_server_leave_nothing_behind() {
    let mut servers = Servers::new(|_| ());
    for _ in 0..1_000 {
        let key = servers.call();
        assert_eq!(servers.send(key), SendStatus::Blocked);
        servers.end(key);
    }
    assert!(
        servers.mux.homeless.len() <= 1,
        "{}",
        servers.mux.homeless.len()
    );
    let waiting = servers.call();
    assert_eq!(servers.send(waiting), SendStatus::Blocked);
    let a = servers.start("a", 7, 8);
    assert_eq!(servers.send(waiting), SendStatus::Queued);
    assert_eq!(servers.sent_to(waiting), a);
}

/// Kind: what has ended keeps its place in a queue. Instance: calls that come and go behind one that waits, for
/// an endpoint, for room, for a number, and for the answer to a hello.
#[test]
fn calls_that_come_and_go_behind_one_that_waits_leave_nothing_behind() {
    let full = || {
        let mut servers = Servers::new(|config| config.max_in_flight = 1);
        let link = servers.start("a", 7, 4096);
        servers.send_to(link);
        servers
    };
    let numberless = || {
        let mut servers = Servers::new(|_| ());
        let link = servers.start("a", 7, 1);
        servers.send_to(link);
        servers
    };
    let silent = || {
        let mut servers = Servers::new(|_| ());
        servers.connect("a");
        servers
    };
    type Length = fn(&Mux) -> usize;
    let queues: [(Servers, Length); 4] = [
        (Servers::new(|_| ()), |mux| mux.homeless.len()),
        (full(), |mux| mux.links[0].blocked.len()),
        (numberless(), |mux| {
            let home = mux.links[0].home;
            mux.sessions.tables[home].queue.len()
        }),
        (silent(), |mux| mux.links[0].waiting.len()),
    ];
    for (at, (mut servers, length)) in queues.into_iter().enumerate() {
        let first = servers.call();
        for n in 0..1_000 {
            let key = if n == 0 { first } else { servers.call() };
            assert_eq!(servers.send(key), SendStatus::Blocked, "{at}");
            if n > 0 {
                servers.end(key);
            }
        }
        let length = length(&servers.mux);
        assert!((1..40).contains(&length), "{length} in queue {at}");
    }
}

/// Kind: a call keeps to a table that turns out to be no server's. Instance: one that was sent to a server
/// without sessions before there was a connection, and whose table was known by its address already.
#[test]
fn a_call_stays_with_its_server_when_that_turns_out_to_be_known() {
    let mut servers = Servers::new(|config| config.sessions = false);
    let id = uuid::Uuid::from_u128(7);
    let flags = CallFlags {
        is_resumed: true,
        ..CallFlags::default()
    };
    let resumed = servers.mux.open(Some(id), flags).unwrap();
    servers.mux.place(resumed, id, Some("at b"));
    let (at, _) = servers.mux.add_endpoint(&"b".into());
    let b = servers.mux.links_of(at).start;
    let early = servers.call();
    assert_eq!(servers.send(early), SendStatus::Queued);
    servers.connect("b");
    servers.write(b);
    servers.mux.time_out(early, servers.now);
    for key in [early, resumed] {
        assert_eq!(servers.send(key), SendStatus::Queued);
        let link = servers.mux.call(key).attempts.last().unwrap().link;
        assert_eq!(servers.mux.endpoint_of(link), at);
    }
}

/// Servers that come and go, each at an address of its own and with a table in its memory.
#[test]
fn servers_that_are_gone_leave_no_session_behind() {
    let mut servers = Servers::new(|_| ());
    for n in 0..100 {
        let link = servers.start(&format!("s{n}"), 7 + n, 8);
        let key = servers.send_to(link);
        servers.write(link);
        servers.end(key);
        servers.stop(link);
    }
    let sessions = &servers.mux.sessions;
    assert!(sessions.iter().count() <= 2, "{}", sessions.iter().count());
    assert!(sessions.tables.len() <= 3, "{}", sessions.tables.len());
    // One whose calls are not over is kept.
    let link = servers.start("last", 1_000, 8);
    let key = servers.send_to(link);
    servers.write(link);
    servers.stop(link);
    servers.start("next", 1_001, 8);
    assert!(servers.mux.call(key).answer.is_none());
    let CallId::Session(id) = servers.mux.call(key).id else {
        panic!("it has a number");
    };
    assert!(servers.mux.sessions.get(id.session).is_some());
}

/// An address that leads to another server than before: the hello shows it, and the refusal of a call right behind
/// the hello takes the session down that another address has.
#[test]
fn a_call_that_follows_a_hello_to_another_server_costs_no_session() {
    let mut servers = Servers::new(|_| ());
    let a = servers.start("a", 7, 8);
    let b = servers.connect("b");
    let session = SessionId::from_bits(7);
    // It shows the same table, and is attached to the session.
    let attached = |id| HelloReply::Session {
        id: SessionId::from_bits(id),
        table: "a".into(),
        window: 8,
        max_frame_bytes: 1_000,
    };
    for id in [8, 7] {
        let (mux, now) = (&mut servers.mux, servers.now);
        let hello = mux.links[b].hello.unwrap();
        mux.handle_hello_reply(b, hello.first_serial, attached(id), now)
            .unwrap();
        servers.write(b);
    }
    assert_eq!(servers.mux.links[b].attached, Some(session));
    let key = loop {
        let key = servers.call();
        assert_eq!(servers.send(key), SendStatus::Queued);
        if servers.sent_to(key) == b {
            break key;
        }
    };
    servers.write(b);
    let (mux, now) = (&mut servers.mux, servers.now);
    mux.send_hello(b, Some(session), now);
    let hello = mux.links[b].hello.unwrap();
    let error = ErrorObject::raised(ErrorCode::OUTCOME_UNKNOWN, "");
    let reply = HelloReply::Error(error);
    mux.handle_hello_reply(b, hello.first_serial, reply, now)
        .unwrap();
    let refused = mux.handle_unknown_session(b, session, UnknownSource::Call, now);
    assert!(refused.is_err(), "the connection is closed");
    servers.cut(b);
    assert!(servers.mux.sessions.get(session).is_some());
    assert!(servers.mux.call(key).answer.is_none(), "it is sent again");
    assert_eq!(servers.send(key), SendStatus::Queued);
    assert_eq!(servers.sent_to(key), a);
}
