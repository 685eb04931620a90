//! A server that shuts down: what it says that it has not read is sent elsewhere, and what may have
//! been executed is not.

use redial_client::{CallError, Cause, Client, Executed};
use serde_json::json;

use crate::peer::{
    Network, Peer, Running, SentRequest, builder, builder_with, connected, ends, inc, ms, network,
    session::{Sessions, call, number},
    start, with_sessions, with_sessions_and,
};

async fn goaway(peer: &mut Peer, params: &str) {
    let text = format!(r#"{{"jsonrpc":"2.0","method":"rpc.goaway","params":{params}}}"#);
    peer.frame(text.as_bytes()).await;
}

async fn answer(peer: &mut Peer, sessions: &mut Sessions) -> SentRequest {
    let request = peer.next_call(sessions).await;
    peer.execute(sessions, &request, json!(1)).await;
    request
}

/// Requests that lay in the socket of a server without its table are calls of the next session.
#[tokio::test(start_paused = true)]
async fn what_has_no_reply_at_the_last_frame_is_sent_to_the_next_server() {
    let (client, mut peer, mut network) = connected(with_sessions()).await;
    let mut sessions = Sessions::new();
    let first = inc(&client);
    answer(&mut peer, &mut sessions).await;
    first.await.unwrap().unwrap();
    let calls: Vec<_> = (0..20).map(|_| inc(&client)).collect();
    let mut session = None;
    for _ in 0..20 {
        session = call(&peer.next().await).map(|call| call.session);
    }
    let known = json!([{"session": session, "calls": [[0, 1]]}]);
    let last = json!({"last": true, "known": known});
    goaway(&mut peer, &last.to_string()).await;
    let (mut peer, mut sessions) = (network.accept().await, Sessions::new());
    for _ in 0..20 {
        // Behind the hello, which says that the session is unknown here.
        answer(&mut peer, &mut sessions).await;
    }
    let mut numbers = Vec::new();
    for _ in 0..20 {
        numbers.push(number(&answer(&mut peer, &mut sessions).await));
    }
    numbers.sort_unstable();
    assert_eq!(numbers, Vec::from_iter(0..20), "numbers of a new session");
    for call in calls {
        let reply = call.await.unwrap().unwrap();
        assert_eq!(ends(&reply.report), ["refused", "refused", "reply"]);
    }
}

/// A stream that ends says nothing of what was read.
#[tokio::test(start_paused = true)]
async fn without_the_last_frame_what_has_no_reply_is_unknown() {
    for params in [r#"{"last":false}"#, "[true]", r#"{"last":1}"#, "{}"] {
        let (client, mut peer, mut network) = connected(with_sessions()).await;
        let mut sessions = Sessions::new();
        let first = inc(&client);
        answer(&mut peer, &mut sessions).await;
        first.await.unwrap().unwrap();
        let call = inc(&client);
        peer.next().await;
        goaway(&mut peer, params).await;
        assert!(peer.is_quiet_for(ms(50)).await);
        drop(peer);
        let (mut peer, mut sessions) = (network.accept().await, Sessions::new());
        let hello = peer.next().await;
        peer.serve(&mut sessions, &hello).await;
        let error = call.await.unwrap().unwrap_err();
        assert_eq!(error.executed(), Executed::Unknown, "{params}: {error}");
    }
}

/// A copy of a request, which came on another connection, may have been executed before this one lay
/// unread: the server names the calls that it knows, of each session that it can speak of.
#[tokio::test(start_paused = true)]
async fn what_a_server_that_shuts_down_knows_or_does_not_speak_of_is_unknown() {
    for is_named in [true, false] {
        let (client, mut peer, mut network) = connected(with_sessions()).await;
        let mut sessions = Sessions::new();
        let first = inc(&client);
        answer(&mut peer, &mut sessions).await;
        first.await.unwrap().unwrap();
        let copied = inc(&client);
        let session = call(&peer.next().await).map(|call| call.session);
        let calls = json!({"session": session, "calls": [[0, 2]]});
        let known = if is_named { json!([calls]) } else { json!([]) };
        let last = json!({"last": true, "known": known});
        goaway(&mut peer, &last.to_string()).await;
        let (mut peer, mut sessions) = (network.accept().await, Sessions::new());
        let hello = peer.next().await;
        peer.serve(&mut sessions, &hello).await;
        let error = copied.await.unwrap().unwrap_err();
        assert_eq!(error.executed(), Executed::Unknown, "{is_named}: {error}");
    }
}

/// An attempt that an earlier connection has not answered stays in doubt.
#[tokio::test(start_paused = true)]
async fn the_last_frame_speaks_for_its_own_connection() {
    let (client, mut peer, mut network) = connected(builder()).await;
    let call = inc(&client);
    peer.next().await;
    drop(peer);
    let mut peer = network.accept().await;
    peer.next().await;
    network.refuse(true);
    goaway(&mut peer, r#"{"last":true}"#).await;
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(error.executed(), Executed::Unknown, "{error}");
}

/// Alone, it is as certain as a refusal.
#[tokio::test(start_paused = true)]
async fn what_was_not_read_and_finds_no_other_server_is_not_executed() {
    let (client, mut peer, network) = connected(builder()).await;
    let call = inc(&client);
    peer.next().await;
    network.refuse(true);
    goaway(&mut peer, r#"{"last":true}"#).await;
    let error = call.await.unwrap().unwrap_err();
    assert!(matches!(error, CallError::NotExecuted { .. }), "{error}");
    assert!(matches!(error.cause(), Cause::Connect(_)), "{error}");
}

/// Kind: new calls wait for old ones. Instance: a slow call is open on the only connection, to a server
/// that shuts down; a second connection takes new calls at once, and the slow one is finished.
#[tokio::test(start_paused = true)]
async fn new_calls_go_elsewhere_at_once_and_open_ones_are_finished() {
    for connections in [1, 2] {
        let (mut network, connector) = network(1 << 16);
        let client = builder_with(|config| config.connections = connections);
        let client = client.connect_with(connector).await.unwrap();
        let mut peers = Vec::new();
        for _ in 0..connections {
            peers.push(network.accept().await);
        }
        let calls: Vec<_> = (0..connections).map(|_| slow(&client, 2_900)).collect();
        let mut open = Vec::new();
        for peer in &mut peers {
            open.push(peer.next().await);
            goaway(peer, r#"{"last":false}"#).await;
        }
        tokio::time::sleep(ms(1)).await;
        let new: Vec<_> = (0..20).map(|_| inc(&client)).collect();
        let mut next = network.accept().await;
        for _ in 0..20 {
            let request = next.next().await;
            next.result(&request, json!(2)).await;
        }
        for call in new {
            let report = call.await.unwrap().unwrap().report;
            assert_eq!((ends(&report), report.total()), (vec!["reply"], ms(0)));
        }
        assert_eq!(client.stats().connects, connections as u64 + 1);
        for (peer, request) in peers.iter_mut().zip(&open) {
            assert!(peer.is_quiet_for(ms(600)).await, "a request was sent");
            peer.result(request, json!(1)).await;
            assert!(peer.request().await.is_none(), "the connection goes on");
        }
        for call in calls {
            assert_eq!(ends(&call.await.unwrap().unwrap().report), ["reply"]);
        }
    }
}

fn slow(client: &Client, attempt_timeout: u64) -> Running {
    let call = client.request("inc", json!({}));
    start(call.attempt_timeout(ms(attempt_timeout)))
}

/// A client whose server shuts down while it runs a call.
struct Leaving {
    client: Client,
    open: Running,
    /// That server, and the call's request.
    old: Peer,
    request: SentRequest,
    sessions: Sessions,
    network: Network,
}

impl Leaving {
    async fn new(attempt_timeout: u64) -> Self {
        let (client, mut old, network) = connected(with_sessions()).await;
        let mut sessions = Sessions::new();
        let open = slow(&client, attempt_timeout);
        let request = old.next_call(&mut sessions).await;
        goaway(&mut old, r#"{"last":false}"#).await;
        tokio::time::sleep(ms(1)).await;
        Self {
            client,
            open,
            old,
            request,
            sessions,
            network,
        }
    }

    /// The same, where new calls have been answered by another server, which knows nothing of the first
    /// session. Gives that server, and its sessions.
    async fn moved(attempt_timeout: u64) -> (Self, Peer, Sessions) {
        let mut leaving = Self::new(attempt_timeout).await;
        let mut elsewhere = Sessions::new();
        elsewhere.foreign();
        elsewhere.known.clear();
        let new: Vec<_> = (0..3).map(|_| inc(&leaving.client)).collect();
        let mut next = leaving.network.accept().await;
        let mut numbers = Vec::new();
        while numbers.len() < 3 {
            // The first are behind the hello for the old session.
            let request = answer(&mut next, &mut elsewhere).await;
            let session = call(&request).unwrap().session.to_string();
            let is_known = elsewhere.known.contains_key(&session);
            numbers.extend(is_known.then(|| number(&request)));
        }
        for call in new {
            call.await.unwrap().unwrap();
        }
        numbers.sort_unstable();
        assert_eq!(numbers, [0, 1, 2], "of a new session");
        let is_quiet = leaving.old.is_quiet_for(ms(100)).await;
        assert!(is_quiet, "something was sent to the old server");
        (leaving, next, elsewhere)
    }
}

/// The next server has the same table, and with it the session.
#[tokio::test(start_paused = true)]
async fn the_connection_beside_one_to_a_server_that_shuts_down_joins_its_session() {
    let mut leaving = Leaving::new(2_900).await;
    let new = inc(&leaving.client);
    let mut next = leaving.network.accept().await;
    let sessions = &mut leaving.sessions;
    assert_eq!(number(&answer(&mut next, sessions).await), 1);
    new.await.unwrap().unwrap();
    leaving
        .old
        .execute(sessions, &leaving.request, json!(1))
        .await;
    leaving.open.await.unwrap().unwrap();
    let stats = leaving.client.stats();
    assert_eq!((stats.sessions_opened, stats.sessions_lost), (1, 0));
}

/// The next server knows nothing of the session, and the one that shuts down still owes a reply in it.
#[tokio::test(start_paused = true)]
async fn a_session_is_left_at_once_and_what_is_open_in_it_is_finished() {
    let (mut leaving, ..) = Leaving::moved(2_900).await;
    let Leaving {
        old,
        request,
        sessions,
        ..
    } = &mut leaving;
    old.execute(sessions, request, json!(1)).await;
    let report = leaving.open.await.unwrap().unwrap().report;
    assert_eq!(ends(&report), ["reply"]);
    assert!(leaving.old.request().await.is_none(), "it goes on");
    assert_eq!(leaving.client.stats().connects, 2);
}

/// What it was asked last and has not read is a call of the next session; what it may have read is
/// unknown.
#[tokio::test(start_paused = true)]
async fn what_is_open_in_a_session_that_was_left_ends_as_its_connection_does() {
    for is_unread in [true, false] {
        let (mut leaving, mut next, mut elsewhere) = Leaving::moved(2_900).await;
        let session = call(&leaving.request).map(|call| call.session);
        if is_unread {
            let known = json!([{"session": session, "calls": []}]);
            let last = json!({"last": true, "known": known});
            goaway(&mut leaving.old, &last.to_string()).await;
            assert!(leaving.old.request().await.is_none());
            let again = answer(&mut next, &mut elsewhere).await;
            assert_ne!(call(&again).map(|call| call.session), session);
            let report = leaving.open.await.unwrap().unwrap().report;
            assert_eq!(ends(&report), ["refused", "reply"]);
        } else {
            drop(leaving.old);
            let error = leaving.open.await.unwrap().unwrap_err();
            assert_eq!(error.executed(), Executed::Unknown, "{error}");
        }
    }
}

/// Its retry would be taken for the loss of a session by the next server.
#[tokio::test(start_paused = true)]
async fn an_attempt_that_is_waited_for_no_longer_is_not_repeated_where_its_session_is_unknown() {
    let (mut leaving, mut next, mut elsewhere) = Leaving::moved(150).await;
    next.serve_for(&mut elsewhere, ms(250)).await;
    let sessions = &mut leaving.sessions;
    leaving
        .old
        .execute(sessions, &leaving.request, json!(1))
        .await;
    leaving.open.await.unwrap().unwrap();
}

/// With a plain id it would be executed there once more.
#[tokio::test(start_paused = true)]
async fn a_call_with_a_plain_id_is_not_repeated_elsewhere_while_it_may_be_answered() {
    let (client, mut peer, mut network) = connected(builder()).await;
    let open = slow(&client, 150);
    let request = peer.next().await;
    goaway(&mut peer, r#"{"last":false}"#).await;
    tokio::time::sleep(ms(1)).await;
    let new = inc(&client);
    let mut next = network.accept().await;
    let other = next.next().await;
    assert_ne!(other.id, request.id);
    next.result(&other, json!(2)).await;
    new.await.unwrap().unwrap();
    assert!(next.is_quiet_for(ms(500)).await, "it was repeated");
    peer.result(&request, json!(1)).await;
    assert_eq!(open.await.unwrap().unwrap().value, json!(1));
}

/// A server that knows no notification says it with its refusals.
#[tokio::test(start_paused = true)]
async fn a_refusal_because_of_a_shutdown_ends_the_connection_once_all_is_answered() {
    let (client, mut peer, mut network) = connected(builder()).await;
    let (one, other) = (inc(&client), inc(&client));
    let (first, second) = (peer.next().await, peer.next().await);
    peer.error(&first, -32006, json!({"executed": "no"})).await;
    assert!(peer.is_quiet_for(ms(60)).await, "a retry was sent here");
    peer.result(&second, json!(1)).await;
    other.await.unwrap().unwrap();
    assert!(peer.request().await.is_none(), "the connection goes on");
    let mut peer = network.accept().await;
    let retry = peer.next().await;
    assert_eq!((&retry.id, retry.meta.attempt), (&first.id, 2));
    peer.result(&retry, json!(2)).await;
    one.await.unwrap().unwrap();
}

/// What could not be read may have been the reply.
#[tokio::test(start_paused = true)]
async fn the_last_frame_says_nothing_after_one_that_was_no_message() {
    let (client, mut peer, network) = connected(builder()).await;
    let call = inc(&client);
    peer.next().await;
    network.refuse(true);
    peer.frame(b"{}").await;
    goaway(&mut peer, r#"{"last":true}"#).await;
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(error.executed(), Executed::Unknown, "{error}");
}

/// Answers what comes until nothing has come for a moment.
async fn answer_all(peer: &mut Peer, sessions: &mut Sessions) {
    while let Ok(Some(seen)) = tokio::time::timeout(ms(20), peer.request()).await {
        if !peer.serve(sessions, &seen).await {
            peer.execute(sessions, &seen, json!(1)).await;
        }
    }
}

/// Kind: one connection's news taken for all. Instance: two connections to a new server, one with calls behind
/// its hello for a session that is unknown there; the answer to the other's hello ends none of them.
#[tokio::test(start_paused = true)]
async fn calls_behind_another_hello_for_a_lost_session_wait_for_its_answer() {
    let (mut network, connector) = network(1 << 16);
    let builder = with_sessions_and(|config| config.connections = 2);
    let client = builder.connect_with(connector).await.unwrap();
    let mut peers = [network.accept().await, network.accept().await];
    let mut sessions = Sessions::new();
    let first = inc(&client);
    for _ in 0..2 {
        for peer in &mut peers {
            answer_all(peer, &mut sessions).await;
        }
    }
    first.await.unwrap().unwrap();
    drop(peers);
    tokio::time::sleep(ms(1)).await;
    let calls: Vec<_> = (0..20).map(|_| inc(&client)).collect();
    let mut peers = [network.accept().await, network.accept().await];
    let mut elsewhere = Sessions::new();
    elsewhere.foreign();
    elsewhere.known.clear();
    for _ in 0..2 {
        // All calls are on the first connection.
        for peer in peers.iter_mut().rev() {
            answer_all(peer, &mut elsewhere).await;
        }
    }
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(client.stats().sessions_opened, 2);
}

/// The kind of fault: a call that may be run any number of times ends as unknown with its server.
#[tokio::test(start_paused = true)]
async fn a_query_that_a_shutdown_has_cut_off_is_asked_again_elsewhere() {
    for builder in [builder(), with_sessions()] {
        let (client, mut peer, mut network) = connected(builder).await;
        let mut sessions = Sessions::new();
        let query = start(client.query("get", json!({})));
        let first = peer.next_call(&mut sessions).await;
        goaway(&mut peer, r#"{"last":false}"#).await;
        peer.error(&first, -32008, json!({"executed": "unknown"}))
            .await;
        let mut peer = network.accept().await;
        let retry = peer.next_call(&mut sessions).await;
        assert_eq!((&*retry.method, retry.meta.attempt), ("get", 2));
        peer.result(&retry, json!(7)).await;
        assert_eq!(query.await.unwrap().unwrap().value, json!(7));
    }
}

/// The kind of fault: a call that may be run any number of times ends as unknown with its server. Instance: one whose
/// server has not said, or not yet, that it shuts down; until its attempts are used up, and then it may have run.
#[tokio::test(start_paused = true)]
async fn a_query_that_was_interrupted_is_asked_again_before_its_server_has_said_goodbye() {
    let unknown = || json!({"executed": "unknown"});
    for builder in [builder(), with_sessions()] {
        let (client, mut peer, _network) = connected(builder).await;
        let mut sessions = Sessions::new();
        let query = start(client.query("get", json!({})));
        let first = peer.next_call(&mut sessions).await;
        peer.error(&first, -32008, unknown()).await;
        let retry = peer.next_call(&mut sessions).await;
        assert_eq!((&*retry.method, retry.meta.attempt), ("get", 2));
        peer.result(&retry, json!(7)).await;
        assert_eq!(query.await.unwrap().unwrap().value, json!(7));

        let query = start(client.query("get", json!({})).max_attempts(2));
        for _ in 0..2 {
            let attempt = peer.next_call(&mut sessions).await;
            peer.error(&attempt, -32008, unknown()).await;
        }
        let error = query.await.unwrap().unwrap_err();
        assert!(matches!(error, CallError::Unknown { .. }), "{error:?}");

        let mutation = inc(&client);
        let first = peer.next_call(&mut sessions).await;
        peer.error(&first, -32008, unknown()).await;
        let error = mutation.await.unwrap().unwrap_err();
        assert!(matches!(error, CallError::Unknown { .. }), "{error:?}");
    }
}
