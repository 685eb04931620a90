//! Sessions that clients leave behind: one whose client has said `rpc.goodbye` ends with its last
//! connection, and no call is executed again or loses its outcome over that.

use std::{
    any::Any,
    sync::{Arc, Mutex},
    time::Duration,
};

use redial_protocol::{CallKey, Principal, SessionId};
use redial_server::store::{
    Acknowledged, Begun, Done, Executed, Fenced, Intent, Recovered, Store, StoreCall, StoreError,
};
use serde_json::json;
use tokio::io::DuplexStream;

use crate::common::{
    Peer, Service, code, executed, pipe,
    session::{ack, attach, attempt, client, config, connections_left, inc, open},
};

fn goodbye(session: SessionId) -> String {
    let params = json!({"session": session});
    json!({"jsonrpc": "2.0", "id": "g", "method": "rpc.goodbye", "params": params}).to_string()
}

async fn say_goodbye(peer: &mut Peer<DuplexStream>, session: SessionId) {
    assert_eq!(peer.call_json(goodbye(session)).await["result"], true);
}

#[tokio::test(start_paused = true)]
async fn a_session_ends_with_its_last_connection_when_its_client_has_said_goodbye() {
    let service = Service::default();
    let server = service.server(config());
    let (mut peer, session) = client(&server).await;
    let mut other = pipe(&server);
    other.call(attach(session)).await;
    peer.call(inc(session, 0)).await;
    peer.send(ack(session, 1, &json!([]))).await;
    say_goodbye(&mut peer, session).await;
    drop(peer);
    connections_left(&server, 1).await;
    let reply = other.call_json(inc(session, 1)).await;
    assert_eq!(reply["result"]["value"], 2, "one connection is left");
    other.send(ack(session, 2, &json!([]))).await;
    drop(other);
    connections_left(&server, 0).await;
    let stats = server.stats();
    assert_eq!((stats.sessions, stats.session_records), (0, 0));
    let reply = pipe(&server).call_json(inc(session, 0)).await;
    assert_eq!((code(&reply), executed(&reply)), (-32004, "unknown"));
    assert_eq!(service.effects(), 2);
}

/// It may be said again, by whatever connection, and of sessions that are unknown.
#[tokio::test(start_paused = true)]
async fn a_goodbye_without_an_attachment_ends_the_session_at_once() {
    let server = Service::default().server(config());
    let (peer, session) = client(&server).await;
    drop(peer);
    connections_left(&server, 0).await;
    let mut peer = pipe(&server);
    assert_eq!(server.stats().sessions, 1);
    for _ in 0..2 {
        say_goodbye(&mut peer, session).await;
        assert_eq!(server.stats().sessions, 0);
    }
}

/// Sessions that are needed no longer don't count among those of a connection.
#[tokio::test(start_paused = true)]
async fn a_connection_may_open_any_number_of_sessions_one_after_the_other() {
    let server = Service::default().server(config());
    let mut peer = pipe(&server);
    for _ in 0..50 {
        let session = open(&mut peer).await;
        peer.call(inc(session, 0)).await;
        peer.send(ack(session, 1, &json!([]))).await;
        say_goodbye(&mut peer, session).await;
    }
    assert_eq!(server.stats().sessions, 0);
}

/// It has overtaken the acknowledgement, or its client is wrong about what it needs.
#[tokio::test(start_paused = true)]
async fn a_goodbye_takes_no_outcome_along_that_is_not_acknowledged() {
    let service = Service::default();
    let server = service.server(config());
    let (mut peer, session) = client(&server).await;
    peer.call(inc(session, 0)).await;
    say_goodbye(&mut peer, session).await;
    drop(peer);
    connections_left(&server, 0).await;
    let mut peer = pipe(&server);
    let reply = peer.call_json(inc(session, 0)).await;
    assert_eq!(reply["redial"]["replayed"], true, "{reply}");
    assert_eq!(service.effects(), 1);
    peer.send(ack(session, 1, &json!([]))).await;
    drop(peer);
    connections_left(&server, 0).await;
    assert_eq!(server.stats().sessions, 0, "once that has come, it counts");
}

#[tokio::test(start_paused = true)]
async fn a_goodbye_ends_no_call_that_runs() {
    let service = Service::default();
    let server = service.server(config());
    let (mut peer, session) = client(&server).await;
    peer.send(attempt("slow_inc", session, 0, 1)).await;
    say_goodbye(&mut peer, session).await;
    drop(peer);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let mut peer = pipe(&server);
    let joined = peer.call_json(attempt("slow_inc", session, 0, 2)).await;
    assert_eq!(joined["result"]["value"], 1, "{joined}");
    drop(peer);
    connections_left(&server, 0).await;
    let mut peer = pipe(&server);
    let replayed = peer.call_json(attempt("slow_inc", session, 0, 3)).await;
    assert_eq!(replayed["result"]["value"], 1, "{replayed}");
    assert_eq!(service.effects(), 1);
}

/// Copies that are late: of a request, which belongs to no session any more, and of the goodbye.
#[tokio::test(start_paused = true)]
async fn what_arrives_after_the_end_of_a_session_is_not_executed() {
    let service = Service::default();
    let server = service.server(config());
    let (mut peer, session) = client(&server).await;
    peer.call(inc(session, 0)).await;
    peer.send(ack(session, 1, &json!([]))).await;
    say_goodbye(&mut peer, session).await;
    let other = open(&mut peer).await;
    for number in [0, 1] {
        let reply = peer.call_json(inc(session, number)).await;
        assert_eq!((code(&reply), executed(&reply)), (-32004, "unknown"));
    }
    say_goodbye(&mut peer, session).await;
    let reply = peer.call_json(inc(other, 0)).await;
    assert_eq!(reply["result"]["value"], 2, "another session goes on");
}

/// A session that has ended is forgotten where it would survive the server, and no other one is.
#[tokio::test(start_paused = true)]
async fn a_store_forgets_a_session_with_its_goodbye() {
    let store = Forgetful::default();
    let forgotten = || store.0.lock().unwrap().clone();
    let builder = Service::default().builder().store(store.clone());
    let server = builder.config(config()).build().unwrap();
    let (mut peer, session) = client(&server).await;
    let (other, _) = client(&server).await;
    peer.call(inc(session, 0)).await;
    say_goodbye(&mut peer, session).await;
    assert_eq!(forgotten(), [], "its call may be asked for");
    peer.send(ack(session, 1, &json!([]))).await;
    drop((peer, other));
    connections_left(&server, 0).await;
    assert_eq!(forgotten(), [session]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(forgotten(), [session], "once");
}

/// A store that keeps nothing, and remembers which sessions it was to forget.
#[derive(Clone, Default)]
struct Forgetful(Arc<Mutex<Vec<SessionId>>>);

/// Calls back on another thread, as stores do.
fn call_back<T: Send + 'static>(done: Done<T>, value: T) {
    tokio::spawn(async move { done(Ok(value)) });
}

impl Store for Forgetful {
    fn table(&self) -> String {
        "forgetful".to_owned()
    }

    fn recover(&self, _: &mut dyn FnMut(Recovered)) -> Result<(), StoreError> {
        Ok(())
    }

    fn execute(&self, _: StoreCall, _: Box<dyn Any + Send>, _: Done<Executed>) {
        unreachable!("there is no transaction")
    }

    fn begin(&self, _: StoreCall, _: Intent, done: Done<Begun>) {
        call_back(done, Begun::Start);
    }

    fn finish(&self, _: CallKey, _: Option<Vec<u8>>, done: Done<()>) {
        call_back(done, ());
    }

    fn fence(&self, _: CallKey, done: Done<Fenced>) {
        call_back(done, Fenced::Never);
    }

    fn open_session(&self, _: SessionId, _: Option<&Principal>, done: Done<()>) {
        call_back(done, ());
    }

    fn forget_session(&self, session: SessionId) {
        self.0.lock().unwrap().push(session);
    }

    fn flush(&self) {}

    fn acknowledge(&self, _: SessionId, _: Acknowledged) {}

    fn tick(&self, _: Duration) {}

    fn problem(&self) -> Option<StoreError> {
        None
    }

    fn close(&self) {}
}
