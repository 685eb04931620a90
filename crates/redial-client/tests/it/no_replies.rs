//! One message's fate is everybody's: what a server sends besides replies costs a count, and no call
//! anything.

use crate::peer::{
    Peer, SentRequest, builder, builder_with, connected, inc, ms, session::Sessions, start,
    with_sessions,
};
use redial_client::{Client, Dialect, Executed};
use serde_json::{Value, json};

/// The bodies of frames that hold no message.
const GARBAGE: [&[u8]; 9] = [
    b"[]",
    b"\xff",
    b"{",
    b"null",
    b"{\"result\":1}",
    b"{\"id\":1.5,\"result\":1}",
    b"{\"id\":{},\"result\":1}",
    b"[1,[{}],\"x\"]",
    b"{\"id\":1,\"id\":2,\"result\":1}",
];

fn counts(client: &Client) -> (u64, u64, u64) {
    let stats = client.stats();
    (
        stats.peer_requests,
        stats.protocol_errors,
        stats.unmatched_replies,
    )
}

/// A reply to the call, with something else in it as well.
fn reply(request: &SentRequest, value: u64) -> String {
    format!(r#"{{"id":{},"result":{value}}}"#, request.id)
}

async fn requests(peer: &mut Peer, count: usize) -> Vec<SentRequest> {
    let mut requests = Vec::new();
    for _ in 0..count {
        requests.push(peer.next().await);
    }
    requests
}

#[tokio::test(start_paused = true)]
async fn notifications_and_requests_of_the_server_cost_no_call_anything() {
    let (client, mut peer, _network) = connected(builder()).await;
    let calls: Vec<_> = (0..20).map(|_| inc(&client)).collect();
    for (n, request) in requests(&mut peer, 20).await.iter().enumerate() {
        peer.frame(br#"{"jsonrpc":"2.0","method":"log","params":["x"]}"#)
            .await;
        peer.frame(br#"{"id":null,"method":"log","params":[]}"#)
            .await;
        let ask = format!(r#"{{"jsonrpc":"2.0","id":{n},"method":"inc"}}"#);
        peer.frame(ask.as_bytes()).await;
        peer.frame(reply(request, 1).as_bytes()).await;
    }
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap().report.attempts(), 1);
    }
    assert_eq!(counts(&client), (60, 0, 0));
    assert_eq!(client.stats().connects, 1);
}

#[tokio::test(start_paused = true)]
async fn a_request_of_the_server_is_refused_in_its_dialect() {
    let (_client, mut peer, _network) = connected(builder()).await;
    for (request, id, dialect) in [
        (
            r#"{"jsonrpc":"2.0","id":"a\u0062","method":"m"}"#,
            r#""a\u0062""#,
            Some("2.0"),
        ),
        (r#"{"id":7,"method":"m","params":[]}"#, "7", None),
        (
            r#"{"jsonrpc":"2.0","id":"00000000-0000-4000-8000-000000000000","method":"m"}"#,
            r#""00000000-0000-4000-8000-000000000000""#,
            Some("2.0"),
        ),
    ] {
        peer.frame(request.as_bytes()).await;
        let text = peer.text().await;
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(answer["jsonrpc"].as_str(), dialect, "{text}");
        assert_eq!(answer["error"]["code"], -32601, "{text}");
        assert_eq!(answer["error"]["data"]["executed"], "no", "{text}");
        assert!(text.contains(&format!(r#""id":{id},"#)), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_has_a_method_never_ends_the_call_whose_id_it_carries() {
    for member in [
        "",
        r#","result":9"#,
        r#","error":{"code":-32601,"message":"no"}"#,
        r#","params":{}"#,
        r#","method":"twice""#,
    ] {
        let (client, mut peer, _network) = connected(builder()).await;
        let call = inc(&client);
        let request = peer.next().await;
        let body = format!(r#"{{"method":"inc","id":{}{member}}}"#, request.id);
        peer.frame(body.as_bytes()).await;
        assert!(peer.is_quiet_for(ms(50)).await, "it was answered");
        peer.result(&request, json!(1)).await;
        let reply = call.await.unwrap().unwrap();
        assert_eq!((reply.value, reply.report.attempts()), (json!(1), 1));
        assert_eq!(counts(&client), (1, 0, 0));
    }
}

/// An answer that comes back: a peer that sends everything back is asked, and says so in every form in
/// which a request comes.
#[tokio::test(start_paused = true)]
async fn no_answer_goes_out_that_could_be_read_as_a_reply_to_the_client() {
    for dialect in ["", r#""jsonrpc":"2.0","#] {
        let (client, mut peer, _network) = connected(with_sessions()).await;
        let mut sessions = Sessions::new();
        let call = inc(&client);
        let hello = peer.next().await;
        let ask = |id: &str, more: &str| format!(r#"{{{dialect}"id":{id},"method":"m"{more}}}"#);
        let own = [&*hello.id, "\"redial-hello-0\"", "\"redial-ping\"", "null"];
        for id in own {
            peer.frame(ask(id, "").as_bytes()).await;
        }
        assert!(peer.is_quiet_for(ms(50)).await, "it was answered");
        assert!(peer.serve(&mut sessions, &hello).await);
        let request = peer.next_call(&mut sessions).await;
        let id = &*request.id;
        let bodies = [
            ask(id, ""),
            ask(&id.to_uppercase(), ""),
            ask(id, r#","params":NaN"#),
            ask(id, &format!(r#","params":["{}"]"#, "x".repeat(2 << 20))),
            format!("[{}]", ask(id, "")),
        ];
        for body in &bodies {
            let length = u32::try_from(body.len()).unwrap().to_be_bytes();
            peer.raw(&[&length, body.as_bytes()].concat()).await;
        }
        assert!(peer.is_quiet_for(ms(50)).await, "it was answered");
        let count = (own.len() + bodies.len()) as u64;
        assert_eq!(counts(&client), (count, 0, 0));
        peer.execute(&mut sessions, &request, json!(1)).await;
        assert_eq!(call.await.unwrap().unwrap().report.attempts(), 1);
        // It is another's id from now on.
        peer.frame(ask(id, "").as_bytes()).await;
        while !peer.text().await.contains("-32601") {}
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_message_is_ignored_until_the_tenth() {
    let (client, mut peer, mut network) = connected(builder()).await;
    let call = inc(&client);
    let request = peer.next().await;
    for body in GARBAGE {
        peer.frame(body).await;
    }
    peer.frame(br#"{"id":"redial-ping"}"#).await;
    peer.frame(br#"{"id":"x","result":1,"error":1}"#).await;
    peer.result(&request, json!(1)).await;
    assert_eq!(call.await.unwrap().unwrap().report.attempts(), 1);
    assert_eq!(counts(&client), (0, 9, 1));
    let call = start(client.request("inc", json!({})).max_attempts(1));
    peer.next().await;
    peer.frame(b"the last one").await;
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(error.executed(), Executed::Unknown);
    let text = error.to_string();
    let expected = "as the last of 10 protocol errors";
    assert!(
        text.contains(expected) && text.contains("not a JSON object"),
        "{text}"
    );
    assert!(peer.request().await.is_none(), "the connection is closed");
    // The next one has ten of its own.
    let call = inc(&client);
    let mut peer = network.accept().await;
    let request = peer.next().await;
    peer.frame(b"x").await;
    peer.result(&request, json!(1)).await;
    call.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_limit_of_protocol_errors_is_a_field() {
    let (client, mut peer, _network) =
        connected(builder_with(|config| config.max_protocol_errors = 1)).await;
    let call = start(client.request("inc", json!({})).max_attempts(1));
    peer.next().await;
    peer.frame(b"{\"result\":1}").await;
    let error = call.await.unwrap().unwrap_err().to_string();
    assert!(error.contains("no usable id"), "{error}");
    assert!(peer.request().await.is_none(), "the connection is closed");
}

#[tokio::test(start_paused = true)]
async fn the_entries_of_an_array_are_messages_of_their_own() {
    let (client, mut peer, _network) = connected(builder()).await;
    let calls = [(); 3].map(|()| inc(&client));
    let all = requests(&mut peer, 3).await;
    let [first, second, third] = [0, 1, 2].map(|n| reply(&all[n], n as u64));
    let batch = format!(
        r#" [{first}, {{"method":"log"}}, 7, {{"jsonrpc":"2.0","id":1,"method":"m"}}, [], {second}]"#
    );
    peer.frame(batch.as_bytes()).await;
    assert!(peer.text().await.contains("-32601"));
    // One that breaks off: what came before counts.
    peer.frame(format!("[{third},{{").as_bytes()).await;
    for (n, call) in calls.into_iter().enumerate() {
        let reply = call.await.unwrap().unwrap();
        assert_eq!((reply.value, reply.report.attempts()), (json!(n), 1));
    }
    assert_eq!(counts(&client), (2, 2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_server_may_talk_before_it_answers_the_hello() {
    let (client, mut peer, _network) = connected(with_sessions()).await;
    let call = inc(&client);
    for body in GARBAGE {
        peer.frame(body).await;
    }
    peer.frame(br#"{"jsonrpc":"2.0","method":"welcome","params":{"version":1}}"#)
        .await;
    peer.frame(br#"{"id":1,"method":"ping"}"#).await;
    let mut sessions = Sessions::new();
    let hello = peer.next().await;
    assert!(peer.text().await.contains("-32601"));
    assert!(peer.serve(&mut sessions, &hello).await);
    let request = peer.next_call(&mut sessions).await;
    peer.execute(&mut sessions, &request, json!(1)).await;
    assert_eq!(call.await.unwrap().unwrap().report.attempts(), 1);
    assert_eq!(sessions.opened, 1);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_asks_and_does_not_read_still_has_its_replies_read() {
    let (client, mut peer, _network) = connected(builder()).await;
    let call = start(client.request("inc", json!({})).attempt_timeout(ms(3000)));
    let request = peer.next().await;
    for n in 0..20_000 {
        let ask = format!(r#"{{"jsonrpc":"2.0","id":{n},"method":"m"}}"#);
        peer.frame(ask.as_bytes()).await;
    }
    peer.result(&request, json!(1)).await;
    assert_eq!(call.await.unwrap().unwrap().report.attempts(), 1);
    // Behind the answers, of which some were never written.
    let call = inc(&client);
    let mut answers = 0;
    let request = loop {
        let text = peer.text().await;
        if !text.contains("-32601") {
            break text;
        }
        answers += 1;
    };
    assert!((100..2000).contains(&answers), "{answers} answers");
    let request: Value = serde_json::from_str(&request).unwrap();
    peer.frame(format!(r#"{{"id":{},"result":1}}"#, request["id"]).as_bytes())
        .await;
    call.await.unwrap().unwrap();
    assert_eq!(counts(&client), (20_000, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_server_of_the_notebook_dialect_may_talk_too() {
    let (client, mut peer, _network) = connected(builder_with(|config| {
        config.dialect = Dialect::Notebook;
        config.extensions = false;
    }))
    .await;
    let call = inc(&client);
    let request = peer.next().await;
    peer.frame(format!(r#"{{"id":{},"method":"inc","params":{{}}}}"#, request.id).as_bytes())
        .await;
    peer.frame(br#"{"id":1,"method":"inc","params":{}}"#).await;
    let answer = peer.text().await;
    assert!(
        !answer.contains("jsonrpc") && answer.contains(r#""id":1,"#),
        "{answer}"
    );
    peer.result(&request, json!(1)).await;
    call.await.unwrap().unwrap();
}
