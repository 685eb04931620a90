//! A poison reply: one that is larger than the client takes, or no JSON, ends the one call that it
//! answers. Its length is known, so what comes behind it is read.

use crate::peer::{
    Peer, SentRequest, builder, builder_with, connected, inc, ms,
    session::{Sessions, number},
    start, with_sessions_and,
};
use redial_client::{CallError, CallToken, Cause, Client, ClientBuilder, Executed};
use serde_json::json;

/// A client's limit in most of these tests, in bytes.
const LIMIT: usize = 600;

fn small() -> ClientBuilder {
    builder_with(|config| config.max_frame_bytes = LIMIT)
}

/// A frame of this length: what comes before the padding, and behind it.
fn padded(before: &str, behind: &str, len: usize) -> Vec<u8> {
    let pad = len - before.len() - behind.len();
    let header = u32::try_from(len).unwrap().to_be_bytes();
    let parts = [
        &header,
        before.as_bytes(),
        &vec![b'x'; pad],
        behind.as_bytes(),
    ];
    parts.concat()
}

/// As Redial's server spells it.
fn large_result(request: &SentRequest, len: usize) -> Vec<u8> {
    let before = format!(r#"{{"jsonrpc":"2.0","id":{},"result":""#, request.id);
    padded(&before, "\"}", len)
}

async fn is_well(client: &Client, peer: &mut Peer) {
    let call = inc(client);
    let request = peer.next().await;
    peer.result(&request, json!(1)).await;
    assert_eq!(call.await.unwrap().unwrap().report.attempts(), 1);
    assert_eq!(client.stats().connects, 1);
}

#[tokio::test(start_paused = true)]
async fn a_poison_reply_ends_its_own_call_and_no_other() {
    let (client, mut peer, _network) = connected(builder()).await;
    let calls: Vec<_> = (0..22).map(|_| inc(&client)).collect();
    for n in 0..22 {
        let request = peer.next().await;
        if n % 10 == 5 {
            peer.raw(&large_result(&request, 2_000_000)).await;
        } else {
            peer.result(&request, json!(n)).await;
        }
    }
    for (n, call) in calls.into_iter().enumerate() {
        let ended = call.await.unwrap();
        if n % 10 != 5 {
            let reply = ended.unwrap();
            assert_eq!((reply.value, reply.report.attempts()), (json!(n), 1));
            continue;
        }
        let error = ended.unwrap_err();
        assert!(matches!(error, CallError::Failed { .. }), "{error}");
        assert_eq!(
            error.to_string(),
            "inc failed; 1 attempt: the reply is larger than max_frame_bytes of this client: \
             frame of 2000000 bytes; at most 1048576 are allowed"
        );
    }
    assert!(peer.is_quiet_for(ms(5000)).await, "nothing is sent again");
    assert_eq!(client.stats().protocol_errors, 0);
    is_well(&client, &mut peer).await;
}

#[tokio::test(start_paused = true)]
async fn the_id_may_stand_at_the_end() {
    let (client, mut peer, _network) = connected(small()).await;
    for (before, behind) in [
        (r#"{"result": ["#.to_owned() + "\"", r#""], "id": ID}"#),
        (
            r#"{"result":""#.to_owned(),
            r#"","error":null,"id":ID,"jsonrpc":"2.0"}"#,
        ),
    ] {
        for len in [LIMIT + 1, 100_000] {
            let call = inc(&client);
            let request = peer.next().await;
            let behind = behind.replace("ID", &request.id);
            peer.raw(&padded(&before, &behind, len)).await;
            let error = call.await.unwrap().unwrap_err();
            assert!(matches!(error, CallError::Failed { .. }), "{error}");
            assert!(matches!(error.cause(), Cause::ReplyTooLarge(_)), "{error}");
        }
    }
    is_well(&client, &mut peer).await;
}

#[tokio::test(start_paused = true)]
async fn a_reply_at_the_limit_is_a_value_and_one_byte_more_is_too_large() {
    for limit in [300, 512, 513, LIMIT, 70_000] {
        let (client, mut peer, _network) =
            connected(builder_with(|config| config.max_frame_bytes = limit)).await;
        for (len, is_value) in [(limit, true), (limit + 1, false)] {
            let call = inc(&client);
            let request = peer.next().await;
            peer.raw(&large_result(&request, len)).await;
            let ended = call.await.unwrap();
            assert_eq!(ended.is_ok(), is_value, "{len} bytes at a limit of {limit}");
        }
        is_well(&client, &mut peer).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_that_is_too_large_leaves_its_call_unknown() {
    let (client, mut peer, _network) = connected(small()).await;
    let call = inc(&client);
    let request = peer.next().await;
    let before = format!(
        r#"{{"id":{},"error":{{"code":-32001,"message":""#,
        request.id
    );
    peer.raw(&padded(&before, "\"}}", 5000)).await;
    let error = call.await.unwrap().unwrap_err();
    assert!(matches!(error, CallError::Unknown { .. }), "{error}");
    assert_eq!(error.report().attempts(), 1, "not sent again");
    is_well(&client, &mut peer).await;
}

#[tokio::test(start_paused = true)]
async fn a_large_frame_that_drips_is_a_sign_of_life_and_holds_one_call() {
    let builder = builder_with(|config| {
        config.max_frame_bytes = LIMIT;
        config.keepalive = ms(500);
    });
    let (client, mut peer, _network) = connected(builder).await;
    let call = client.request("inc", json!({})).deadline(ms(100_000));
    let call = start(call.attempt_timeout(ms(90_000)));
    let request = peer.next().await;
    let behind = inc(&client);
    let second = peer.next().await;
    for byte in large_result(&request, 1000) {
        tokio::time::sleep(ms(2)).await;
        peer.raw(&[byte]).await;
    }
    peer.result(&second, json!(1)).await;
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(
        (error.executed(), error.report().attempts()),
        (Executed::Yes, 1)
    );
    behind.await.unwrap().unwrap();
    assert_eq!(client.stats().connects, 1);
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_breaks_off_ends_with_its_connection() {
    let (client, mut peer, _network) = connected(small()).await;
    let call = start(client.request("inc", json!({})).max_attempts(1));
    let request = peer.next().await;
    peer.raw(&large_result(&request, 1000)[..900]).await;
    drop(peer);
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(error.executed(), Executed::Unknown);
    assert!(
        error.to_string().contains("in the middle of a reply"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn without_an_id_it_is_a_protocol_error_and_its_call_goes_on() {
    let (client, mut peer, _network) = connected(small()).await;
    let call = inc(&client);
    let request = peer.next().await;
    for (before, behind) in [
        // An array of replies; what is cut off at both ends; what is no reply.
        (format!(r#"[{{"id":{},"result":""#, request.id), "\"}]"),
        (r#"{"result":""#.to_owned(), r#""}"#),
        (format!(r#"{{"id":{},"data":""#, request.id), "\"}"),
        (String::new(), ""),
    ] {
        peer.raw(&padded(&before, behind, 3000)).await;
    }
    let again = peer.next().await;
    assert_eq!((&again.id, again.meta.attempt), (&request.id, 2));
    peer.result(&again, json!(1)).await;
    call.await.unwrap().unwrap();
    assert_eq!(client.stats().protocol_errors, 4);
    is_well(&client, &mut peer).await;
}

#[tokio::test(start_paused = true)]
async fn a_large_message_that_is_no_reply_is_counted_as_what_it_is() {
    let (client, mut peer, _network) = connected(small()).await;
    let call = inc(&client);
    let request = peer.next().await;
    let notification = r#"{"jsonrpc":"2.0","method":"progress","params":[""#;
    peer.raw(&padded(notification, "\"]}", 3000)).await;
    for id in [&*request.id, "8"] {
        let ask = format!(r#"{{"id":{id},"params":[""#);
        peer.raw(&padded(&ask, r#""],"method":"inc"}"#, 3000)).await;
    }
    let answer = peer.text().await;
    assert!(
        answer.contains(r#""id":8,"#) && answer.contains("-32601"),
        "{answer}"
    );
    for id in ["7", "\"00000000-0000-4000-8000-000000000000\"", "null"] {
        let before = format!(r#"{{"id":{id},"result":""#);
        peer.raw(&padded(&before, "\"}", 3000)).await;
    }
    peer.result(&request, json!(1)).await;
    assert_eq!(call.await.unwrap().unwrap().report.attempts(), 1);
    let stats = client.stats();
    assert_eq!((stats.peer_requests, stats.unmatched_replies), (3, 3));
    assert_eq!(stats.protocol_errors, 0);
}

#[tokio::test(start_paused = true)]
async fn a_length_beyond_reason_closes_the_connection() {
    for (skipped, len) in [
        (128 << 20, (128 << 20) + 1),
        (128 << 20, 0x0950_4f49),
        (0, 601),
    ] {
        let builder = builder_with(|config| {
            config.max_frame_bytes = LIMIT;
            config.max_skipped_frame_bytes = skipped;
        });
        let (client, mut peer, _network) = connected(builder).await;
        let call = start(client.request("inc", json!({})).max_attempts(1));
        peer.next().await;
        peer.raw(&u32::to_be_bytes(len)).await;
        let error = call.await.unwrap().unwrap_err().to_string();
        assert!(error.contains(&format!("frame of {len} bytes")), "{error}");
        assert!(peer.request().await.is_none(), "the connection is closed");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hello_answered_at_too_great_a_length_does_not_show_a_plain_server() {
    let (client, mut peer, _network) =
        connected(with_sessions_and(|config| config.max_frame_bytes = LIMIT)).await;
    let call = start(client.request("inc", json!({})).deadline(ms(10_000)));
    let impatient = start(client.request("inc", json!({})).deadline(ms(100)));
    let hello = peer.next().await;
    let before = format!(r#"{{"id":{},"result":{{"table":""#, hello.id);
    peer.raw(&padded(&before, "\"}}", 2000)).await;
    let error = impatient.await.unwrap().unwrap_err();
    assert_eq!(error.executed(), Executed::No);
    let text = error.to_string();
    assert!(
        text.contains("reply to rpc.hello is too large: frame of 2000 bytes"),
        "{text}"
    );
    let mut sessions = Sessions::new();
    let request = peer.next_call(&mut sessions).await;
    assert_eq!(request.method, "inc");
    peer.execute(&mut sessions, &request, json!(1)).await;
    call.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_resolution_that_is_too_large_leaves_the_token() {
    let (client, mut peer, _network) =
        connected(with_sessions_and(|config| config.max_frame_bytes = LIMIT)).await;
    let mut sessions = Sessions::new();
    let call = start(
        client
            .request("inc", json!({}))
            .max_attempts(1)
            .deadline(ms(200)),
    );
    let first = peer.next_call(&mut sessions).await;
    let Err(CallError::Unknown { token, .. }) = call.await.unwrap() else {
        panic!("no reply came");
    };
    let asked = client.clone();
    let resolve = tokio::spawn(async move { asked.resolve(CallToken::clone(&token)).await });
    let seen = peer.next_resolve(&mut sessions).await;
    let before = format!(r#"{{"id":{},"result":{{"state":"done","result":""#, seen.id);
    peer.raw(&padded(&before, "\"}}", 2000)).await;
    let error = resolve.await.unwrap().unwrap_err();
    let CallError::Unknown { token, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(
        json!(token)["id"],
        serde_json::from_str::<serde_json::Value>(&first.id).unwrap()
    );
    assert!(matches!(error.cause(), Cause::ReplyTooLarge(_)), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_result_was_too_large_is_acknowledged_unless_there_is_a_token() {
    for is_kept in [false, true] {
        let (client, mut peer, _network) =
            connected(with_sessions_and(|config| config.max_frame_bytes = LIMIT)).await;
        let mut sessions = Sessions::new();
        let mut call = client.request("inc", json!({}));
        let handle = tokio::spawn(async move {
            let token = if is_kept {
                Some(call.token().await.unwrap())
            } else {
                None
            };
            (call.await, token)
        });
        let request = peer.next_call(&mut sessions).await;
        peer.raw(&large_result(&request, 2000)).await;
        let (ended, token) = handle.await.unwrap();
        assert_eq!(ended.unwrap_err().executed(), Executed::Yes);
        peer.serve_for(&mut sessions, ms(200)).await;
        let table = sessions.only();
        let is_acknowledged = table.ack > number(&request);
        assert_eq!(is_acknowledged, !is_kept);
        drop(token);
    }
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_is_no_json_ends_its_own_call_however_often() {
    let (client, mut peer, _network) = connected(builder()).await;
    for n in 0..24 {
        let call = inc(&client);
        let request = peer.next().await;
        let pad = " ".repeat(if n < 12 { 0 } else { 1000 });
        let body = match n % 3 {
            0 => format!(r#"{{"id":{},"result":[{pad}NaN]}}"#, request.id).into_bytes(),
            1 => format!(r#"{{"result":{pad}Infinity, "id":{}}}"#, request.id).into_bytes(),
            _ => {
                let before = format!(r#"{{"id":{},"result":"{pad}"#, request.id);
                [before.as_bytes(), b"\xe4\"}"].concat()
            }
        };
        peer.frame(&body).await;
        let error = call.await.unwrap().unwrap_err();
        assert_eq!(error.executed(), Executed::Unknown, "{n}");
        assert_eq!(
            error.report().attempts(),
            1,
            "{n}: it would be the same again"
        );
        assert!(error.to_string().contains("not a JSON object"), "{error}");
    }
    assert_eq!(client.stats().protocol_errors, 0);
    is_well(&client, &mut peer).await;
}
