//! What is another principal's can be distinguished from what never was: by an answer, or by what the question
//! does.

use redial_protocol::{SessionCall, SessionId};
use redial_server::{Config, Extensions, Principal, Server};
use serde_json::{Value, json};
use tokio::io::DuplexStream;

use crate::common::{
    Peer, Service, pipe_with,
    session::{HELLO, attach, id, inc, open, request},
    uuid,
};

fn connect(server: &Server, name: Option<&str>) -> Peer<DuplexStream> {
    let mut extensions = Extensions::new();
    if let Some(name) = name {
        extensions.insert(Principal::new(name).unwrap());
    }
    pipe_with(server, extensions)
}

/// Every request that names a session or a call of one.
fn questions(session: SessionId, number: u64) -> Vec<Value> {
    let call = json!({ "id": id(session, number) });
    let ack = |above: Value| json!({"session": session, "ack": 1, "above": above});
    [
        ("rpc.hello", json!({ "session": session })),
        ("rpc.resolve", call.clone()),
        ("rpc.cancel", call),
        ("rpc.ack", ack(json!([]))),
        ("rpc.ack", ack(json!([[5, 6]]))),
        ("rpc.ack", ack(json!([[9, 6]]))),
        ("rpc.goodbye", json!({ "session": session })),
    ]
    .into_iter()
    .flat_map(|(method, params)| {
        let plain = json!({"id": "q", "method": method, "params": params});
        let mut standard = plain.clone();
        standard["jsonrpc"] = json!("2.0");
        [plain, standard]
    })
    .chain(["inc", "get", "slow_inc"].map(|method| {
        let text = request(method, session, number, json!({"attempt": 2, "ack": 1}));
        serde_json::from_str(&text).unwrap()
    }))
    .collect()
}

/// The answer with the name of what was asked about taken out.
async fn answer(peer: &mut Peer<DuplexStream>, question: &Value, session: SessionId) -> String {
    let reply = peer.call(question.to_string()).await;
    let call = SessionCall { session, number: 0 }.uuid().to_string();
    let prefix = &call[..19];
    reply
        .replace(&session.to_string(), "SESSION")
        .replace(prefix, "CALL")
}

/// A session that never was, of the same length.
const NEVER: SessionId = SessionId::from_bits(0x0fed_cba9_8765_4321);

#[tokio::test]
async fn anothers_session_is_answered_like_one_that_never_was_and_stays_as_it_is() {
    let service = Service::default();
    let server = service.server(Config::default());
    for (owner, other) in [
        (Some("cert:one"), Some("cert:two")),
        (Some("cert:one"), None),
        (None, Some("cert:two")),
    ] {
        let mut owner = connect(&server, owner);
        let session = open(&mut owner).await;
        let before = service.effects();
        let first = owner.call(inc(session, 0)).await;
        let mut other = connect(&server, other);
        for number in [0, 7] {
            let pairs = questions(session, number).into_iter();
            for (question, unknown) in pairs.zip(questions(NEVER, number)) {
                let of_another = answer(&mut other, &question, session).await;
                let of_unknown = answer(&mut other, &unknown, NEVER).await;
                assert_eq!(of_another, of_unknown, "{question}");
            }
        }
        // Neither ended nor fenced, acknowledged or run: the outcome is there, and the next call runs.
        let again = owner.call(inc(session, 0)).await;
        assert_eq!(
            again.replace(r#","redial":{"replayed":true}"#, ""),
            first,
            "the owner's call is still on record"
        );
        let next = owner.call(inc(session, 7)).await;
        assert!(next.contains("result"), "{next}");
        assert_eq!(service.effects(), before + 2);
        let mut second = connect(&server, Some("cert:one"));
        let attached = second.call(attach(session)).await;
        let is_owner = attached.contains("lease_ms");
        assert!(is_owner || attached.contains("-32004"), "{attached}");
    }
}

/// A plain id is short and easily guessed, and so two who use the same one are no accident.
#[tokio::test]
async fn a_plain_id_of_another_principal_is_another_call() {
    let service = Service::default();
    let server = service.server(Config::default());
    let callers = [Some("cert:one"), Some("cert:two"), None];
    let ids = [json!("order 7"), json!(7), json!(uuid(7)), json!("ä")];
    let mut effects = 0;
    for call_id in &ids {
        let request = json!({"id": call_id, "method": "inc", "params": {"key": "k"}});
        let other_params = json!({"id": call_id, "method": "inc", "params": {"key": "other"}});
        let resolve = json!({"id": "r", "method": "rpc.resolve", "params": {"id": call_id}});
        for (at, name) in callers.iter().enumerate() {
            let mut peer = connect(&server, *name);
            let unknown = peer.call(resolve.to_string()).await;
            assert!(unknown.contains("-32004"), "{unknown}");
            // With other params than the others' call: nothing is compared with that.
            let mine = if at == 1 { &other_params } else { &request };
            let first = peer.call(mine.to_string()).await;
            effects += 1;
            assert_eq!(service.effects(), effects, "{name:?} {call_id}");
            assert_eq!(peer.call(mine.to_string()).await, first);
            let mut again = connect(&server, *name);
            assert_eq!(again.call(mine.to_string()).await, first);
            let resolved = again.call(resolve.to_string()).await;
            assert!(resolved.contains(r#""state":"done""#), "{resolved}");
            assert_eq!(service.effects(), effects);
        }
    }
}

/// A call that runs is not joined by another principal's of the same id, nor waited for.
#[tokio::test(start_paused = true)]
async fn a_running_call_is_joined_by_its_principal_alone() {
    let service = Service::default();
    let server = service.server(Config::default());
    let slow =
        |ms: u32| json!({"id": "slow", "method": "slow_inc", "params": {"ms": ms}}).to_string();
    let mut one = connect(&server, Some("cert:one"));
    one.send(slow(1000)).await;
    let mut two = connect(&server, Some("cert:two"));
    let resolve = json!({"id": "r", "method": "rpc.resolve", "params": {"id": "slow"}});
    let unknown = two.call(resolve.to_string()).await;
    assert!(unknown.contains("-32004"), "{unknown}");
    assert!(two.call(slow(10)).await.contains("result"));
    let mut joined = connect(&server, Some("cert:one"));
    joined.send(slow(1000)).await;
    assert_eq!(one.receive().await, joined.receive().await);
    assert_eq!(service.effects(), 2);
}

/// Principals that differ by what a careless comparison takes for equal.
#[tokio::test]
async fn names_are_compared_whole_and_byte_by_byte() {
    let service = Service::default();
    let server = service.server(Config::default());
    let names = [
        "a", "A", "a ", "a\u{a0}", "ab", "token:a", "cert:a", "á", "a\u{301}",
    ];
    // The id goes on where the name ends.
    let mut calls = 0;
    for name in names {
        for call_id in ["b", "bb", "\u{0}"] {
            let mut peer = connect(&server, Some(name));
            let request = json!({"id": call_id, "method": "inc", "params": {"key": "k"}});
            peer.call(request.to_string()).await;
            calls += 1;
            assert_eq!(service.effects(), calls, "{name:?} {call_id:?}");
        }
        let mut peer = connect(&server, Some(name));
        assert!(peer.call(HELLO).await.contains("lease_ms"));
    }
}
