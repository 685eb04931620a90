//! Kind of fault: what one server knows of a session is not what another one knows with which it shares a
//! table, and a call runs at both, or gets two answers, or none.

mod fenced_elsewhere;
mod left_sessions;

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use redial_protocol::SessionId;
use redial_server::{Config, Extensions, Principal, Server, store::StoreError};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncWriteExt, DuplexStream},
    sync::Notify,
};

use crate::common::{
    Peer, Service, code, executed, pipe, pipe_with,
    session::{
        PING, ack, ack_request, ask, attach, attempt, client, config, connections_left, id, inc,
        open, reply_to, request,
    },
    shared_table::SharedTable,
    until,
};

/// Servers on one table, and what their handlers do together.
struct TwoServers {
    table: SharedTable,
    service: Service,
    /// Lets `wait` and `again` go on, which add to a counter then.
    go: Arc<Notify>,
    servers: [Server; 2],
}

impl TwoServers {
    fn new() -> Self {
        Self::with(config())
    }

    fn with(config: Config) -> Self {
        let (table, service, go) = (SharedTable::default(), Service::default(), Arc::default());
        let servers = [0, 1].map(|server| {
            let mut builder = service.builder();
            for method in ["wait", "again"] {
                let (service, go) = (service.clone(), Arc::<Notify>::clone(&go));
                builder = builder.mutation(method, move |_: Value, _| {
                    let (service, go) = (service.clone(), Arc::clone(&go));
                    async move {
                        go.notified().await;
                        Ok(service.effects.fetch_add(1, SeqCst))
                    }
                });
            }
            let builder = builder.resumable("again").store(table.store(server));
            builder.config(config.clone()).build().unwrap()
        });
        Self {
            table,
            service,
            go,
            servers,
        }
    }

    /// A connection to each server, and a session that was opened at the first.
    async fn client(&self) -> ([Peer<DuplexStream>; 2], SessionId) {
        let (one, session) = client(&self.servers[0]).await;
        ([one, pipe(&self.servers[1])], session)
    }

    async fn runs(&self, server: usize) {
        let server = &self.servers[server];
        until("it runs", || server.stats().running == 1).await;
    }
}

/// Nothing was answered so far but the ping.
async fn is_silent(peer: &mut Peer<DuplexStream>) {
    let reply = peer.call_json(PING).await;
    assert_eq!(reply["result"], "pong", "{reply}");
}

/// Ends a connection that is owed replies.
async fn cut(mut peer: Peer<DuplexStream>) {
    peer.io.write_all(&[0; 4]).await.unwrap();
    let refused = peer.receive_json().await;
    assert_eq!(code(&refused), -32600, "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_session_serves_every_server_on_its_table() {
    let world = TwoServers::new();
    let ([mut one, mut other], session) = world.client().await;
    let first = one.call_json(inc(session, 0)).await;
    assert_eq!(first["result"]["value"], 1);
    let again = other.call_json(attempt("inc", session, 0, 2)).await;
    assert_eq!(again["result"], first["result"]);
    let hellos = [
        one.call_json(attach(session)).await,
        other.call_json(attach(session)).await,
    ];
    assert_eq!(hellos[0]["result"], hellos[1]["result"]);
    assert_eq!(hellos[0]["result"]["table"], "shared");
    for number in 1..10 {
        let peer = if number % 2 == 0 {
            &mut one
        } else {
            &mut other
        };
        let reply = peer.call_json(inc(session, number)).await;
        assert_eq!(reply["result"]["value"], number + 1, "{reply}");
    }
    assert_eq!(world.service.effects(), 10);
}

/// Kind of fault: what is pipelined behind a session that is looked for runs before it is known whose it is,
/// is refused, overtakes, or keeps other connections waiting.
#[tokio::test(start_paused = true)]
async fn what_comes_behind_a_session_that_is_looked_for_waits_for_it() {
    let world = TwoServers::new();
    let ([_one, mut other], session) = world.client().await;
    world.table.hold_finds();
    other.send(attach(session)).await;
    for number in 0..3 {
        other.send(inc(session, number)).await;
    }
    is_silent(&mut other).await;
    let (mut third, own) = client(&world.servers[1]).await;
    let reply = third.call_json(inc(own, 0)).await;
    assert_eq!(reply["result"]["value"], 1, "others go on: {reply}");
    is_silent(&mut other).await;
    world.table.release_finds();
    assert_eq!(
        other.receive_json().await["result"]["session"],
        json!(session)
    );
    let replies = other.receive_all::<3>().await;
    for number in 0..3 {
        let reply = reply_to(&replies, &id(session, number));
        assert!(reply["result"]["value"].is_i64(), "{reply}");
    }
    assert_eq!(world.table.finds(), 1);
    assert_eq!(world.service.effects(), 4);
}

/// Its peer may have said all that it has to say by then.
#[tokio::test(start_paused = true)]
async fn a_peer_that_has_closed_its_side_is_answered_when_its_session_is_found() {
    let world = TwoServers::new();
    let ([_one, mut other], session) = world.client().await;
    world.table.hold_finds();
    other.send(inc(session, 0)).await;
    until("it is looked for", || world.table.finds() == 1).await;
    other.io.shutdown().await.unwrap();
    world.table.release_finds();
    let reply = other.receive_json().await;
    assert_eq!(reply["result"]["value"], 1, "{reply}");
    other.expect_end().await;
}

#[tokio::test(start_paused = true)]
async fn a_batch_waits_for_every_session_that_it_names() {
    let world = TwoServers::new();
    let ([mut one, mut other], session) = world.client().await;
    let second = open(&mut one).await;
    let unknown = SessionId::from_bits(7);
    let requests = [session, unknown, second, session].map(|session| inc(session, 0));
    let [calls @ .., again] = &requests;
    let batch = format!("[{},{again}]", calls.join(","));
    let answer = other.call_json(batch).await;
    let answer = answer.as_array().unwrap();
    for session in [session, second] {
        let reply = reply_to(answer, &id(session, 0));
        assert!(reply["result"]["value"].is_i64(), "{reply}");
    }
    assert_eq!(code(reply_to(answer, &id(unknown, 0))), -32004);
    assert_eq!(world.service.effects(), 2);
}

/// Kind of fault: a session that no server knows costs a question for each of its calls, or is taken for one
/// of another principal.
#[tokio::test(start_paused = true)]
async fn a_session_that_is_unknown_to_the_table_or_anothers_is_unknown() {
    let world = TwoServers::new();
    let connect = |server: usize, name: &str| {
        let mut extensions = Extensions::new();
        extensions.insert(Principal::new(name).unwrap());
        pipe_with(&world.servers[server], extensions)
    };
    let mut owner = connect(0, "one");
    let session = open(&mut owner).await;
    let unknown = SessionId::from_bits(session.bits() ^ 1);
    for server in [0, 1] {
        let mut other = connect(server, "other");
        let finds = world.table.finds();
        for question in [
            |session| inc(session, 0),
            |session| attach(session),
            |session| ask("rpc.resolve", session, 0),
            |session| ask("rpc.cancel", session, 0),
            |session| ack_request(session, 1, &json!([])),
        ] {
            let [anothers, none] = [session, unknown];
            let anothers = other.call(question(anothers)).await;
            let none = other.call(question(none)).await;
            let names = [session, unknown].map(|session| (session.to_string(), id(session, 0)));
            let [anothers, none] = [(anothers, &names[0]), (none, &names[1])]
                .map(|(text, (session, id))| text.replace(session, "S").replace(id, "I"));
            assert_eq!(anothers, none);
            assert!(none.contains("-32004"), "{none}");
        }
        assert_eq!(world.table.finds(), finds + 2, "each is asked for once");
    }
    let own = connect(1, "one").call_json(inc(session, 0)).await;
    assert_eq!(own["result"]["value"], 1, "{own}");
}

/// Kind of fault: a table that can't be asked is taken for one that doesn't know the session.
#[tokio::test(start_paused = true)]
async fn a_session_is_not_unknown_while_the_store_can_not_say() {
    let world = TwoServers::new();
    let ([mut one, mut other], session) = world.client().await;
    world
        .table
        .set_problem(Some(StoreError::nothing_done("the database is away")));
    let hello = other.call_json(attach(session)).await;
    assert_eq!(code(&hello), -32006, "{hello}");
    let refused = other.call_json(inc(session, 0)).await;
    assert_eq!((code(&refused), executed(&refused)), (-32001, "unknown"));
    assert!(
        refused.to_string().contains("the database is away"),
        "{refused}"
    );
    assert!(
        refused["error"]["data"]["unknown_session"].is_null(),
        "{refused}"
    );
    world.table.set_problem(None);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let ran = other.call_json(attempt("inc", session, 0, 2)).await;
    assert_eq!(ran["result"]["value"], 1, "{ran}");
    let again = one.call_json(attempt("inc", session, 0, 3)).await;
    assert_eq!(again["result"], ran["result"]);
}

/// Kind of fault: a duplicate at another server runs, or is answered before the first has ended.
#[tokio::test(start_paused = true)]
async fn a_duplicate_at_another_server_waits_and_gets_the_same_bytes() {
    let world = TwoServers::new();
    let ([mut one, mut other], session) = world.client().await;
    one.send(attempt("wait", session, 0, 1)).await;
    world.runs(0).await;
    other.send(attempt("wait", session, 0, 2)).await;
    other.send(ask("rpc.resolve", session, 0)).await;
    world.runs(1).await;
    is_silent(&mut other).await;
    world.go.notify_waiters();
    let first = one.receive_json().await;
    let replies = other.receive_all::<2>().await;
    let again = reply_to(&replies, &id(session, 0));
    assert_eq!(again["result"], first["result"]);
    let resolved = reply_to(&replies, "rpc.resolve");
    assert_eq!(resolved["result"]["state"], "done", "{resolved}");
    assert_eq!(world.service.effects(), 1);
}

/// Kind of fault: a fence of one server does not hold at another, or is set over a call that runs there.
#[tokio::test(start_paused = true)]
async fn what_is_fenced_at_one_server_never_runs_at_another() {
    let world = TwoServers::new();
    let ([mut one, mut other], session) = world.client().await;
    let never = other.call_json(ask("rpc.resolve", session, 0)).await;
    assert_eq!(never["result"]["state"], "never", "{never}");
    let refused = one.call_json(inc(session, 0)).await;
    assert_eq!((code(&refused), executed(&refused)), (-32007, "no"));
    // One that runs elsewhere is not fenced, though nothing is known of it here.
    one.send(attempt("wait", session, 1, 1)).await;
    world.runs(0).await;
    other.send(ask("rpc.resolve", session, 1)).await;
    is_silent(&mut other).await;
    other.send(attempt("wait", session, 1, 2)).await;
    is_silent(&mut other).await;
    world.go.notify_waiters();
    let first = one.receive_json().await;
    let replies = other.receive_all::<2>().await;
    let resolved = reply_to(&replies, "rpc.resolve");
    assert_eq!(resolved["result"]["state"], "done", "{resolved}");
    // Nothing has compared it with the call that ran; the next one is.
    let waited = reply_to(&replies, &id(session, 1));
    assert_eq!((code(waited), executed(waited)), (-32001, "unknown"));
    let again = other.call_json(attempt("wait", session, 1, 3)).await;
    assert_eq!(again["result"], first["result"]);
    assert_eq!(world.service.effects(), 1);
}

/// Kind of fault: what a server could not record stays in its memory, and contradicts what another one has.
#[tokio::test(start_paused = true)]
async fn a_server_that_has_lost_its_lease_answers_what_another_has_recorded() {
    let world = TwoServers::new();
    let ([mut one, mut other], session) = world.client().await;
    one.send(attempt("again", session, 0, 1)).await;
    world.runs(0).await;
    world.table.end_lease(0);
    other.send(attempt("again", session, 0, 2)).await;
    world.runs(1).await;
    world.go.notify_waiters();
    let lost = one.receive_json().await;
    assert_eq!(
        (code(&lost), executed(&lost)),
        (-32001, "unknown"),
        "{lost}"
    );
    let recorded = other.receive_json().await;
    let again = one.call_json(attempt("again", session, 0, 3)).await;
    assert_eq!(again["result"], recorded["result"], "{again}");
}

/// Kind of fault: who asks for the outcome of a call that may run again hears that it was interrupted, and the
/// next attempt runs it.
#[tokio::test(start_paused = true)]
async fn who_asks_for_a_call_whose_server_is_gone_has_it_run() {
    let world = TwoServers::new();
    let ([mut one, mut other], session) = world.client().await;
    one.send(attempt("again", session, 0, 1)).await;
    world.runs(0).await;
    world.table.end_lease(0);
    for _ in 0..2 {
        other.send(ask("rpc.resolve", session, 0)).await;
    }
    other.send(attempt("again", session, 0, 2)).await;
    world.runs(1).await;
    is_silent(&mut other).await;
    world.go.notify_waiters();
    let replies = other.receive_all::<3>().await;
    let ran = reply_to(&replies, &id(session, 0))["result"].clone();
    assert!(ran.is_i64(), "{replies:?}");
    let resolved = replies.iter().filter(|reply| reply["id"] == "rpc.resolve");
    for resolved in resolved {
        assert_eq!(resolved["result"], json!({"state": "done", "result": ran}));
    }
    // Once at each server; what the first one did is not its outcome.
    assert_eq!(world.service.effects(), 2);
}

/// Kind of fault: what is said of a call that can't run again depends on where its attempt arrives.
#[tokio::test(start_paused = true)]
async fn a_call_whose_server_is_gone_is_interrupted_at_every_other() {
    let world = TwoServers::new();
    let ([mut one, mut other], session) = world.client().await;
    one.send(attempt("wait", session, 0, 1)).await;
    world.runs(0).await;
    world.table.end_lease(0);
    for attempt_number in [2, 3] {
        let reply = other
            .call_json(attempt("wait", session, 0, attempt_number))
            .await;
        assert_eq!((code(&reply), executed(&reply)), (-32008, "unknown"));
    }
    let resolved = other.call_json(ask("rpc.resolve", session, 0)).await;
    assert_eq!(resolved["result"]["error"]["code"], -32008, "{resolved}");
}

/// Kind of fault: what a client has acknowledged at one server fills its window at another.
#[tokio::test(start_paused = true)]
async fn acknowledgements_at_one_server_make_room_at_another() {
    let world = TwoServers::with(Config {
        max_in_flight: 4,
        ..config()
    });
    let ([mut one, mut other], session) = world.client().await;
    // Number 0 is open for as long as the test takes.
    let mut number = 1;
    for _ in 0..20 {
        for _ in 0..2 {
            let reply = one
                .call_json(request("inc", session, number, json!({"ack": 0})))
                .await;
            assert!(reply["result"]["value"].is_i64(), "{reply}");
            number += 1;
            one.call(ack_request(session, 0, &json!([[1, number]])))
                .await;
        }
        let mut tried = 1;
        loop {
            let text = request("inc", session, number, json!({"ack": 0, "attempt": tried}));
            let reply = other.call_json(text).await;
            if reply["result"]["value"].is_i64() {
                break;
            }
            assert_eq!((code(&reply), executed(&reply)), (-32001, "no"));
            assert!(tried < 4, "{reply}");
            tried += 1;
        }
        number += 1;
        one.call(ack_request(session, 0, &json!([[1, number]])))
            .await;
    }
    assert_eq!(world.service.effects(), 60);
    let late = other.call_json(inc(session, 0)).await;
    assert_eq!(late["result"]["value"], 61, "{late}");
}

/// Kind of fault: a session that was ended at one server goes on at another.
#[tokio::test(start_paused = true)]
async fn a_session_that_has_ended_at_one_server_is_unknown_at_all() {
    let world = TwoServers::new();
    let ([mut one, mut other], session) = world.client().await;
    other.call(inc(session, 0)).await;
    one.call(inc(session, 1)).await;
    one.send(ack(session, 2, &json!([]))).await;
    let goodbye = json!({"id": "g", "method": "rpc.goodbye", "params": {"session": session}});
    one.call(goodbye.to_string()).await;
    for peer in [&mut one, &mut other] {
        let reply = peer.call_json(inc(session, 2)).await;
        assert_eq!(code(&reply), -32004, "{reply}");
        assert_eq!(reply["error"]["data"]["unknown_session"], json!(session));
    }
    assert_eq!(world.service.effects(), 2);
}

/// Kind of fault: a server holds what its client has left, or lets go of a session whose call runs.
#[tokio::test(start_paused = true)]
async fn a_session_is_left_soon_after_its_last_connection_and_not_while_a_call_runs() {
    let world = TwoServers::new();
    let ([one, mut other], session) = world.client().await;
    other.send(attempt("wait", session, 0, 1)).await;
    world.runs(1).await;
    drop(one);
    cut(other).await;
    for server in &world.servers {
        connections_left(server, 0).await;
    }
    tokio::time::sleep(Duration::from_secs(15)).await;
    let held = [0, 1].map(|server| world.table.is_held(server, session));
    assert_eq!(held, [false, true]);
    world.go.notify_waiters();
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert!(!world.table.is_held(1, session));
    assert_eq!(world.servers[1].stats().sessions, 0);
    // It is found again, with what it has come to.
    let again = pipe(&world.servers[0])
        .call_json(attempt("wait", session, 0, 2))
        .await;
    assert_eq!(again["result"], 0, "{again}");
}
