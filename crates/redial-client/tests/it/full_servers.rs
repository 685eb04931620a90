//! The kind of fault: a server has no session for the client now, as when its disk is full, and calls wait that
//! need none, or the client leaves a server that would take them.

use serde_json::{Value, json};
use tokio::time::timeout;

use crate::peer::{
    Peer, connected, inc, ms,
    session::{Sessions, call},
    start, with_sessions, with_sessions_and,
};
use redial_client::{CallError, Cause, Client, Executed};

/// No room now; ask again.
fn later() -> Value {
    json!({"executed": "no", "retry_after_ms": 100, "detail": "the disk is full"})
}

/// The next request that is no hello; those are refused.
async fn next_but_hellos(peer: &mut Peer, code: i32, data: &Value) -> crate::peer::SentRequest {
    loop {
        let seen = peer.next().await;
        if seen.method != "rpc.hello" {
            return seen;
        }
        peer.error(&seen, code, data.clone()).await;
    }
}

/// Answers two queries, one of which came before the refusal and one after, while a mutation waits.
async fn serve_queries(client: &Client, peer: &mut Peer, code: i32) {
    let query = || start(client.query("get", json!({})));
    let early = query();
    for running in [early, query()] {
        let seen = next_but_hellos(peer, code, &later()).await;
        assert_eq!(seen.method, "get");
        assert!(call(&seen).is_none(), "{}", seen.text);
        peer.result(&seen, json!(7)).await;
        assert_eq!(running.await.unwrap().unwrap().value, json!(7));
    }
}

#[tokio::test(start_paused = true)]
async fn queries_go_without_a_session_and_mutations_wait_for_one() {
    for code in [-32006, -32001] {
        let (client, mut peer, _network) = connected(with_sessions()).await;
        let waiting = inc(&client);
        serve_queries(&client, &mut peer, code).await;
        // There is room again: on the same connection.
        let mut sessions = Sessions::new();
        let seen = peer.next_call(&mut sessions).await;
        assert_eq!(seen.method, "inc");
        assert!(call(&seen).is_some(), "{}", seen.text);
        peer.execute(&mut sessions, &seen, json!(1)).await;
        assert_eq!(waiting.await.unwrap().unwrap().value, json!(1));
        let numbered = start(client.query("get", json!({})));
        let seen = peer.next_call(&mut sessions).await;
        assert!(call(&seen).is_some(), "{}", seen.text);
        peer.result(&seen, json!(8)).await;
        numbered.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_mutation_without_a_session_says_what_the_server_said() {
    let (client, mut peer, _network) = connected(with_sessions()).await;
    let waiting = inc(&client);
    let refusals = async {
        let data = later();
        next_but_hellos(&mut peer, -32006, &data).await
    };
    let error = tokio::select! {
        seen = refusals => panic!("it was sent: {}", seen.text),
        ended = waiting => ended.unwrap().unwrap_err(),
    };
    assert!(matches!(error, CallError::NotExecuted { .. }), "{error}");
    assert!(error.to_string().contains("the disk is full"), "{error}");
    let Cause::Server(refusal) = error.cause() else {
        panic!("{error}");
    };
    assert_eq!(i32::from(refusal.code), -32006);
}

/// The other connections of a pool have the same server, whichever of them asks for the session.
#[tokio::test(start_paused = true)]
async fn queries_go_on_all_connections_of_a_pool() {
    let builder = with_sessions_and(|config| config.connections = 2);
    let (client, mut first, mut network) = connected(builder).await;
    let mut second = network.accept().await;
    let queries: Vec<_> = (0..8)
        .map(|_| start(client.query("get", json!({}))))
        .collect();
    let serve = async {
        let data = later();
        loop {
            let (seen, on) = tokio::select! {
                seen = next_but_hellos(&mut first, -32006, &data) => (seen, 0),
                seen = next_but_hellos(&mut second, -32006, &data) => (seen, 1),
            };
            let peer = [&mut first, &mut second].into_iter().nth(on).unwrap();
            assert_eq!(seen.method, "get");
            peer.result(&seen, json!(7)).await;
        }
    };
    let answered = async {
        for query in queries {
            query.await.unwrap().unwrap();
        }
    };
    tokio::select! {
        () = serve => unreachable!("it never ends"),
        ended = timeout(ms(500), answered) => ended.expect("some query waits for a session"),
    }
}

/// A server that stops asks for no other attempt: nothing more goes to it.
#[tokio::test(start_paused = true)]
async fn nothing_goes_to_a_server_that_refuses_a_hello_because_it_stops() {
    let (client, mut peer, mut network) = connected(with_sessions()).await;
    let query = start(client.query("get", json!({})));
    let hello = peer.next().await;
    peer.error(&hello, -32006, json!({"executed": "no"})).await;
    assert!(peer.request().await.is_none(), "it was sent here");
    let mut next = network.accept().await;
    let seen = next.next_call(&mut Sessions::new()).await;
    next.result(&seen, json!(7)).await;
    query.await.unwrap().unwrap();
}

/// A call that is refused for want of room goes on where it was sent.
#[tokio::test(start_paused = true)]
async fn a_refusal_for_want_of_room_keeps_the_connection() {
    let (client, mut peer, mut network) = connected(with_sessions()).await;
    let mut sessions = Sessions::new();
    let running = inc(&client);
    let first = peer.next_call(&mut sessions).await;
    peer.error(&first, -32006, later()).await;
    let retry = peer.next_call(&mut sessions).await;
    assert_eq!((&retry.id, retry.meta.attempt), (&first.id, 2));
    assert!(retry.at - first.at >= ms(100), "sooner than asked");
    peer.execute(&mut sessions, &retry, json!(1)).await;
    running.await.unwrap().unwrap();
    assert!(network.is_quiet(), "another connection was made");
}

/// What a refused hello says is the server's word about its room; an error that is no such word lets nothing go.
#[tokio::test(start_paused = true)]
async fn a_hello_whose_answer_makes_no_sense_lets_no_query_go() {
    let (client, mut peer, _network) = connected(with_sessions()).await;
    let query = start(client.query("get", json!({})).deadline(ms(1000)));
    let data = json!({"executed": "unknown"});
    let served = next_but_hellos(&mut peer, -32004, &data);
    let error = tokio::select! {
        seen = served => panic!("it was sent: {}", seen.text),
        ended = query => ended.unwrap().unwrap_err(),
    };
    assert_eq!(error.executed(), Executed::No);
}
