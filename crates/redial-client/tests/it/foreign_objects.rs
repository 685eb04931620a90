//! Foreign objects read by position: whatever a server sends for an object is one, or is nothing.

use crate::peer::{
    SentRequest, builder, connected, inc, ms,
    session::{Sessions, foreign_token},
    start, with_sessions,
};
use redial_client::{CallError, Cause, Executed, Uuid};
use serde_json::{Value, json};

fn reply(request: &SentRequest, members: &str) -> Vec<u8> {
    format!(r#"{{"jsonrpc":"2.0","id":{},{members}}}"#, request.id).into_bytes()
}

#[tokio::test(start_paused = true)]
async fn an_error_that_is_no_object_is_no_usable_reply() {
    let (client, mut peer, _network) = connected(builder()).await;
    for error in [
        r#"[-32601,"x"]"#,
        r#"[-32001,"busy",{"executed":"no"}]"#,
        r#"[-32007,"gone",{"executed":"no"}]"#,
        r#""executed: no""#,
    ] {
        let call = inc(&client);
        let request = peer.next().await;
        let members = format!(r#""error":{error}"#);
        peer.frame(&reply(&request, &members)).await;
        let error = call.await.unwrap().unwrap_err();
        assert_eq!(error.executed(), Executed::Unknown, "{members}");
        assert!(
            matches!(error.cause(), Cause::MalformedReply(_)),
            "{members}: {error}"
        );
        assert_eq!(error.report().attempts(), 1, "{members}");
    }
    assert_eq!(client.stats().connects, 1);
}

#[tokio::test(start_paused = true)]
async fn the_data_of_an_error_says_nothing_if_it_is_no_object() {
    let (client, mut peer, _network) = connected(builder()).await;
    for (code, data, expected) in [
        (-32000, json!(["no"]), Executed::Yes),
        (7, json!(["no", 5, null, null]), Executed::Yes),
        (7, json!({"executed": {"no": null}}), Executed::Yes),
        (-32001, json!(["no", 5]), Executed::Unknown),
        (-32007, json!([{"executed": "no"}]), Executed::Unknown),
    ] {
        let call = inc(&client);
        let request = peer.next().await;
        peer.error(&request, code, data.clone()).await;
        let error = call.await.unwrap().unwrap_err();
        assert_eq!(error.executed(), expected, "{code} {data}");
        assert_eq!(error.report().attempts(), 1, "{code} {data}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_named_by_position_is_none() {
    let session = r#"["123456789abcdef","t",60000,1048576,512]"#;
    for answer in [
        format!(r#""result":{session}"#),
        r#""error":[-32001,"busy",{"executed":"no"}]"#.to_owned(),
    ] {
        let (client, mut peer, _network) = connected(with_sessions()).await;
        let call = inc(&client);
        let hello = peer.next().await;
        assert_eq!(hello.method, "rpc.hello");
        peer.frame(&reply(&hello, &answer)).await;
        // As after any other reply that is no hello's.
        let request = peer.next().await;
        let id: Uuid = serde_json::from_str(&request.id).unwrap();
        assert_eq!(id.get_version_num(), 4);
        peer.result(&request, json!(1)).await;
        call.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_resolution_is_an_object() {
    let (client, mut peer, _network) = connected(with_sessions()).await;
    let mut sessions = Sessions::new();
    let session = sessions.foreign();
    for answer in [
        r#"["never"]"#,
        r#"["done",1,null]"#,
        r#"{"state":{"never":null}}"#,
        r#"{"state":"done","error":[-32000,"x"]}"#,
    ] {
        let resolve = client.resolve(foreign_token(&session, 7));
        let resolve = tokio::spawn(async move { resolve.await });
        let request = peer.next_resolve(&mut sessions).await;
        let members = format!(r#""result":{answer}"#);
        peer.frame(&reply(&request, &members)).await;
        let error = resolve.await.unwrap().unwrap_err();
        assert!(matches!(error, CallError::Unknown { .. }), "{answer}");
        assert!(
            matches!(error.cause(), Cause::MalformedReply(_)),
            "{answer}: {error}"
        );
    }
}

/// By position it would say that it refuses the second attempt, which is not in flight.
#[tokio::test(start_paused = true)]
async fn a_member_that_is_no_object_names_no_attempt() {
    let (client, mut peer, _network) = connected(builder()).await;
    let call = start(client.request("inc", json!({})).deadline(ms(3000)));
    let request = peer.next().await;
    let busy = r#""error":{"code":-32001,"message":"","data":{"executed":"no"}}"#;
    let members = format!(r#"{busy},"redial":[null,2]"#);
    peer.frame(&reply(&request, &members)).await;
    let again = peer.next().await;
    assert_eq!(again.meta.attempt, 2);
    assert!(
        again.at - request.at < ms(100),
        "the first is not waited for"
    );
    peer.result(&again, Value::Null).await;
    call.await.unwrap().unwrap();
}
