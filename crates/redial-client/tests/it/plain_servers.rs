//! A client that assumes too much: only a server's own reply, or the program, says that it has no
//! sessions. Silence doesn't, nor do closed connections, garbage, or another server at the address.

use crate::peer::{
    self, Peer, Running, connected, inc, lazy, ms,
    session::{Sessions, call, number},
    start, with_sessions, with_sessions_and,
};
use redial_client::{CallError, Cause, Client, Executed, Uuid};
use serde_json::{Value, json};

/// Answers the next request, which must be `inc`.
async fn answer(peer: &mut Peer, sessions: &mut Sessions) -> peer::SentRequest {
    let request = peer.next_call(sessions).await;
    assert_eq!(request.method, "inc");
    peer.execute(sessions, &request, json!(1)).await;
    request
}

fn patient(client: &Client) -> Running {
    start(client.request("inc", json!({})).deadline(ms(60_000)))
}

/// The peer reads hellos and nothing else until the client closes the connection. Gives how many.
async fn hellos(peer: &mut Peer) -> usize {
    let mut count = 0;
    while let Some(seen) = peer.request().await {
        match seen.method.as_str() {
            "rpc.hello" => count += 1,
            other => assert_eq!(other, "rpc.ack", "no call before a session"),
        }
    }
    count
}

/// The call goes on without a session.
async fn goes_on_plain(mut peer: Peer, call: Running) {
    let request = peer.next().await;
    assert_eq!(request.method, "inc");
    let id: Uuid = serde_json::from_str(&request.id).unwrap();
    assert_eq!(id.get_version_num(), 4);
    assert!(!request.text.contains("redial\""), "{}", request.text);
    peer.result(&request, json!(1)).await;
    call.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_balancer_that_closes_until_its_backend_is_up_is_asked_again() {
    let (client, mut network) = lazy(with_sessions());
    let call = patient(&client);
    for attempt in 0..12 {
        let mut peer = network.accept().await;
        // It may be closed before or after the hello is read.
        if attempt % 2 == 0 {
            assert_eq!(peer.next().await.method, "rpc.hello");
        }
    }
    let mut peer = network.accept().await;
    let request = answer(&mut peer, &mut Sessions::new()).await;
    assert_eq!((number(&request), request.meta.attempt), (0, 1));
    call.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_balancer_that_accepts_and_hangs_is_left_for_a_new_connection() {
    let (client, mut network) = lazy(with_sessions());
    let call = patient(&client);
    for _ in 0..3 {
        let mut peer = network.accept().await;
        assert_eq!(hellos(&mut peer).await, 3);
    }
    let mut peer = network.accept().await;
    let request = answer(&mut peer, &mut Sessions::new()).await;
    assert_eq!(number(&request), 0);
    call.await.unwrap().unwrap();
}

/// As a server that is stopped (SIGSTOP) when the client starts, and killed later.
#[tokio::test(start_paused = true)]
async fn a_backend_that_comes_late_is_waited_for() {
    let (client, mut network) = lazy(with_sessions());
    let calls = [(); 3].map(|()| patient(&client));
    let (mut hanging, mut sessions) = (network.accept().await, Sessions::new());
    assert_eq!(hellos(&mut hanging).await, 3);
    network.refuse(true);
    tokio::time::sleep(ms(1600)).await;
    network.refuse(false);
    drop(network.accept().await);
    let mut peer = network.accept().await;
    for expected in 0..3 {
        let request = answer(&mut peer, &mut sessions).await;
        assert_eq!(number(&request), expected);
    }
    for call in calls {
        call.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_has_no_such_method_gets_plain_ids_and_no_member() {
    let (client, mut peer, mut network) = connected(with_sessions()).await;
    for code in [-32601, -32600, -32602, -32000, -32603, 404] {
        let calls = [inc(&client), inc(&client)];
        let hello = peer.next().await;
        assert_eq!(hello.method, "rpc.hello", "each connection is asked");
        peer.error(&hello, code, Value::Null).await;
        for _ in &calls {
            let request = peer.next().await;
            let id: Uuid = serde_json::from_str(&request.id).unwrap();
            assert_eq!(id.get_version_num(), 4);
            assert!(!request.text.contains("redial\""), "{}", request.text);
            peer.result(&request, json!(1)).await;
        }
        for call in calls {
            assert_eq!(call.await.unwrap().unwrap().report.replayed(), None);
        }
        let again = inc(&client);
        let request = peer.next().await;
        assert_eq!(request.method, "inc", "and only once");
        peer.result(&request, json!(1)).await;
        again.await.unwrap().unwrap();
        assert!(peer.is_quiet_for(ms(5000)).await, "nothing to acknowledge");
        drop(peer);
        tokio::time::sleep(ms(1)).await;
        let dropped = inc(&client);
        peer = network.accept().await;
        dropped.abort();
        assert!(dropped.await.is_err());
    }
    assert_eq!(client.stats().sessions_opened, 0);
}

#[tokio::test(start_paused = true)]
async fn a_hello_reply_without_a_session_means_a_plain_server() {
    for reply in [
        r#""result":true"#,
        r#""result":{"session":"nonsense"}"#,
        r#""result":null"#,
        // No reply of JSON-RPC, but to this and nothing else.
        r#""error":"unknown method""#,
        r#""error":null"#,
    ] {
        let (client, mut peer, _network) = connected(with_sessions()).await;
        let call = inc(&client);
        let hello = peer.next().await;
        let body = format!(r#"{{"id":{},{reply}}}"#, hello.id);
        peer.frame(body.as_bytes()).await;
        goes_on_plain(peer, call).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_can_not_read_the_hello_is_a_plain_one() {
    for code in [-32700, -32600, -32601, -32602] {
        let (client, mut peer, _network) = connected(with_sessions()).await;
        let call = inc(&client);
        peer.next().await;
        let body = format!(r#"{{"id":null,"error":{{"code":{code},"message":"what?"}}}}"#);
        peer.frame(body.as_bytes()).await;
        goes_on_plain(peer, call).await;
    }
}

/// Another service, a proxy's page, noise.
#[tokio::test(start_paused = true)]
async fn what_is_no_reply_to_the_hello_says_nothing() {
    let (client, mut network) = lazy(with_sessions());
    let call = patient(&client);
    let garbage: [&[u8]; 4] = [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\0\0\0\x04null",
        b"\0\0\0\x02[]",
        b"\0\0\0\0",
    ];
    for bytes in garbage {
        let mut peer = network.accept().await;
        assert_eq!(peer.next().await.method, "rpc.hello");
        peer.raw(bytes).await;
        drop(peer);
    }
    let mut peer = network.accept().await;
    let overloaded = r#"{"id":null,"error":{"code":-32001,"message":"too many connections"}}"#;
    peer.frame(overloaded.as_bytes()).await;
    drop(peer);
    let mut peer = network.accept().await;
    let request = answer(&mut peer, &mut Sessions::new()).await;
    assert_eq!(number(&request), 0);
    call.await.unwrap().unwrap();
}

/// These codes are Redial's own, so the server has sessions.
#[tokio::test(start_paused = true)]
async fn a_server_that_refuses_the_hello_by_a_code_of_redial_has_sessions() {
    for code in [-32002, -32004, -32005, -32008, -32009] {
        let (client, mut peer, _network) = connected(with_sessions()).await;
        let call = patient(&client);
        let hasty = start(client.request("inc", json!({})).deadline(ms(20)));
        let hello = peer.next().await;
        peer.error(&hello, code, Value::Null).await;
        let error = hasty.await.unwrap().unwrap_err();
        assert_eq!(error.executed(), Executed::No);
        assert!(error.to_string().contains(&code.to_string()), "{error}");
        let request = answer(&mut peer, &mut Sessions::new()).await;
        assert_eq!(number(&request), 0);
        call.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_never_gets_a_session_was_not_executed_and_says_why() {
    let (client, mut peer, _network) = connected(with_sessions()).await;
    let call = start(client.request("inc", json!({})).deadline(ms(700)));
    let silence = async { hellos(&mut peer).await };
    let (error, _) = tokio::join!(call, silence);
    let error = error.unwrap().unwrap_err();
    assert!(matches!(error, CallError::NotExecuted { .. }), "{error}");
    assert!(matches!(error.cause(), Cause::NoSession(_)), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("no reply to rpc.hello") && text.contains("assume_plain"),
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_program_may_say_that_the_server_is_plain() {
    let (client, peer, _network) =
        connected(with_sessions_and(|config| config.assume_plain = true)).await;
    let call = inc(&client);
    goes_on_plain(peer, call).await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_had_sessions_is_not_taken_for_plain_because_it_closes() {
    let (client, mut peer, mut network) = connected(with_sessions()).await;
    let mut sessions = Sessions::new();
    let call = inc(&client);
    answer(&mut peer, &mut sessions).await;
    call.await.unwrap().unwrap();
    // The server restarts, and has forgotten the session; then it closes every connection for a
    // while.
    drop(peer);
    sessions.known.clear();
    tokio::time::sleep(ms(1)).await;
    let call = patient(&client);
    for _ in 0..6 {
        let mut peer = network.accept().await;
        let hello = peer.next().await;
        assert_eq!(hello.method, "rpc.hello");
        if hello.params["session"].is_string() {
            peer.serve(&mut sessions, &hello).await;
            let request = peer.next().await;
            assert_eq!(request.method, "inc");
            assert_eq!(peer.next().await.method, "rpc.hello");
        }
    }
    let mut peer = network.accept().await;
    let request = answer(&mut peer, &mut sessions).await;
    assert_eq!(number(&request), 0);
    call.await.unwrap().unwrap();
}

/// A client with a session, whose server is replaced by one that answers hellos with this code.
async fn replaced(code: i32) -> (Client, peer::Network, Sessions, Running, peer::SentRequest) {
    let (client, mut peer, mut network) = connected(with_sessions()).await;
    let mut sessions = Sessions::new();
    let call = inc(&client);
    answer(&mut peer, &mut sessions).await;
    call.await.unwrap().unwrap();
    drop(peer);
    tokio::time::sleep(ms(1)).await;
    let pipelined = patient(&client);
    let mut peer = network.accept().await;
    let hello = peer.next().await;
    // It follows the hello at once, since the session is known.
    let request = peer.next().await;
    assert_eq!(
        (hello.method.as_str(), request.method.as_str()),
        ("rpc.hello", "inc")
    );
    peer.error(&hello, code, Value::Null).await;
    assert_eq!(hellos(&mut peer).await, 0, "it is left");
    (client, network, sessions, pipelined, request)
}

#[tokio::test(start_paused = true)]
async fn an_address_that_had_sessions_is_never_taken_for_plain() {
    for code in [-32601, -32600, -32000] {
        let (client, mut network, mut sessions, pipelined, _) = replaced(code).await;
        // This one may have been executed there, where nothing is known of its session.
        let error = pipelined.await.unwrap().unwrap_err();
        assert!(matches!(error, CallError::Unknown { .. }), "{error}");
        assert!(
            error
                .to_string()
                .contains("sessions at this address before"),
            "{error}"
        );
        // Nothing more is sent there, however often it says so.
        let hasty = start(client.request("inc", json!({})).deadline(ms(500)));
        let mut wait = std::pin::pin!(hasty);
        let error = loop {
            tokio::select! {
                ended = &mut wait => break ended.unwrap().unwrap_err(),
                mut peer = network.accept() => {
                    let hello = peer.next().await;
                    assert_eq!(hello.method, "rpc.hello");
                    peer.error(&hello, code, Value::Null).await;
                    assert_eq!(hellos(&mut peer).await, 0);
                }
            }
        };
        assert!(matches!(error, CallError::NotExecuted { .. }), "{error}");
        assert!(error.to_string().contains(&code.to_string()), "{error}");
        // The right one is back, and the session goes on.
        let call = patient(&client);
        let mut peer = network.accept().await;
        let request = loop {
            let seen = peer.request().await;
            match seen {
                Some(seen) if peer.serve(&mut sessions, &seen).await => {}
                Some(seen) => break seen,
                None => peer = network.accept().await,
            }
        };
        assert_eq!(call_number(&request), (1, true));
        peer.execute(&mut sessions, &request, json!(2)).await;
        call.await.unwrap().unwrap();
        assert_eq!(
            (client.stats().sessions_opened, client.stats().sessions_lost),
            (1, 0)
        );
    }
}

/// Whether the session is the first one, and the call's number at least 2: 1 was lost.
fn call_number(seen: &peer::SentRequest) -> (u64, bool) {
    let call = call(seen).expect("a call of a session");
    (
        call.session.to_string().ends_with('1') as u64,
        call.number >= 2,
    )
}

/// The servers of a pool are one address.
#[tokio::test(start_paused = true)]
async fn a_pool_that_finds_a_session_leaves_no_connection_plain() {
    let (mut network, connector) = peer::network(1 << 16);
    let client = with_sessions_and(|config| config.connections = 2);
    let client = client.connect_with(connector).await.unwrap();
    let calls = [patient(&client), patient(&client)];
    let (mut first, mut second) = (network.accept().await, network.accept().await);
    let mut sessions = Sessions::new();
    let hello = first.next().await;
    peer::Peer::error(&mut first, &hello, -32601, Value::Null).await;
    // The call there goes on under a plain id; the other connection finds the session.
    let plain = first.next().await;
    assert_eq!((plain.method.as_str(), call(&plain)), ("inc", None));
    first.result(&plain, json!(1)).await;
    let request = answer(&mut second, &mut sessions).await;
    assert_eq!(number(&request), 0);
    for call in calls {
        call.await.unwrap().unwrap();
    }
    let again = first.next().await;
    assert_eq!(again.method, "rpc.hello", "it is asked again");
    let calls = [(); 8].map(|()| patient(&client));
    for _ in &calls {
        answer(&mut second, &mut sessions).await;
    }
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert!(
        first.is_quiet_for(ms(50)).await,
        "no call to a server that may be plain"
    );
}
