//! A handler may serve other connections while it runs, of its own server or of another, on its own
//! thread: the state of its own connection is not touched.

use std::{
    pin::{Pin, pin},
    sync::{Arc, OnceLock},
    task::{Context as TaskContext, Poll, Waker},
};

use crate::common::{
    self, Service, pipe,
    session::{id, inc, open, request_with},
    uuid,
};
use redial_server::{Config, Context, Server};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

fn framed(body: &str) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&length[..], body.as_bytes()].concat()
}

/// Every reply that a server gives to these requests without waiting.
fn answers(server: &Server, requests: &[Value]) -> Vec<Value> {
    let (mut io, transport) = tokio::io::duplex(1 << 20);
    let mut serving = pin!(tokio::task::unconstrained(
        server.serve_connection(transport)
    ));
    let cx = &mut TaskContext::from_waker(Waker::noop());
    let mut answered = Vec::new();
    for request in requests {
        let bytes = framed(&request.to_string());
        let written = Pin::new(&mut io).poll_write(cx, &bytes);
        assert!(matches!(written, Poll::Ready(Ok(count)) if count == bytes.len()));
        // One read for each.
        for _ in 0..3 {
            assert!(serving.as_mut().poll(cx).is_pending());
        }
        let mut space = vec![0; 1 << 16];
        let mut space = ReadBuf::new(&mut space);
        if Pin::new(&mut io).poll_read(cx, &mut space).is_ready() {
            let mut rest = space.filled();
            while let Some((length, after)) = rest.split_first_chunk() {
                let (body, after) = after.split_at(u32::from_be_bytes(*length) as usize);
                answered.push(serde_json::from_slice(body).unwrap());
                rest = after;
            }
        }
    }
    answered
}

type ServerSlot = Arc<OnceLock<Server>>;

fn server(service: &Service, inner: &ServerSlot) -> Server {
    let inner = Arc::clone(inner);
    let nest = move |requests: Vec<Value>, _: Context| {
        let answers = answers(inner.get().unwrap(), &requests);
        async move { Ok(answers) }
    };
    let builder = service.builder().mutation("nest", nest);
    builder.config(Config::default()).build().unwrap()
}

fn plain(number: u32, method: &str, params: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": uuid(number), "method": method, "params": params})
}

#[tokio::test]
async fn a_handler_may_serve_its_own_server_while_it_runs() {
    let (service, slot) = (Service::default(), ServerSlot::default());
    let server = server(&service, &slot);
    slot.set(server.clone()).ok().unwrap();
    let mut peer = pipe(&server);
    let session = open(&mut peer).await;
    let value = |text: String| serde_json::from_str::<Value>(&text).unwrap();
    // Calls that have finished, that are in flight, that come later, and all of them again.
    let deepest = json!([
        value(inc(session, 0)),
        value(inc(session, 4)),
        plain(9, "inc", json!({}))
    ]);
    let inner = json!([
        plain(3, "nest", deepest),
        value(inc(session, 2)),
        plain(7, "panic", json!({})),
        value(inc(session, 0)),
        plain(9, "inc", json!({})),
        value(inc(session, 6)),
        "what is no request",
    ]);
    let nest = |number| request_with("nest", session, number, (inner.clone(), json!({})));
    let requests = [
        inc(session, 0),
        nest(1),
        inc(session, 2),
        inc(session, 3),
        plain(5, "nest", json!([value(inc(session, 3)), value(nest(1))])).to_string(),
        inc(session, 5),
        nest(1),
        inc(session, 6),
        plain(9, "inc", json!({})).to_string(),
    ];
    let bytes: Vec<u8> = requests.iter().flat_map(|body| framed(body)).collect();
    peer.io.write_all(&bytes).await.unwrap();
    let mut replies = Vec::new();
    for _ in &requests {
        replies.push(peer.receive_json().await);
    }
    let result = |at: usize| &replies[at]["result"];
    // In the order in which they ran: 0; within 1: within plain 3: 4, plain 9; then 2, 6; then 3,
    // 5.
    let values =
        [(0, 1), (2, 4), (3, 6), (5, 7), (7, 5), (8, 3)].map(|(at, value)| (at, json!(value)));
    for (at, value) in values {
        assert_eq!(result(at)["value"], value, "{at}: {replies:#?}");
    }
    assert_eq!(result(1), result(6));
    for (at, expected) in [(0, 0), (2, 2), (3, 3), (5, 5), (7, 6)] {
        assert_eq!(replies[at]["id"], json!(id(session, expected)));
    }
    let inner = result(1).as_array().unwrap();
    assert_eq!(inner.len(), 7, "{inner:#?}");
    let deepest = inner[0]["result"].as_array().unwrap();
    assert_eq!(deepest[0]["result"]["value"], json!(1));
    assert_eq!(deepest[2]["result"], inner[4]["result"]);
    assert_eq!(inner[1]["result"]["value"], json!(4));
    assert_eq!(common::code(&inner[2]), -32603);
    assert_eq!(common::code(&inner[6]), -32600);
    // A call that is not recorded before the read ends is joined, and does not run again.
    let beside = result(4).as_array().unwrap();
    assert_eq!(beside.len(), 1, "{beside:#?}");
    assert_eq!(beside[0]["result"], *result(1));
    // 0, 2 to 6, plain 9, and the one that panicked.
    assert_eq!(service.effects(), 8);
    let stats = server.stats();
    assert_eq!((stats.running, stats.started), (0, stats.finished));
}

#[tokio::test]
async fn a_handler_may_serve_another_server_and_drop_its_own() {
    let (service, other_service) = (Service::default(), Service::default());
    let slot = ServerSlot::default();
    slot.set(other_service.server(Config::default()))
        .ok()
        .unwrap();
    let mut peer = pipe(&server(&service, &slot));
    let requests: Vec<String> = (0..50)
        .map(|number| match number % 2 {
            0 => plain(number, "nest", json!([plain(number, "inc", json!({}))])),
            _ => plain(number, "inc", json!({})),
        })
        .map(|request| request.to_string())
        .collect();
    let bytes: Vec<u8> = requests.iter().flat_map(|body| framed(body)).collect();
    peer.io.write_all(&bytes).await.unwrap();
    for number in 0..50 {
        let reply = peer.receive_json().await;
        let value = json!(number / 2 + 1);
        match number % 2 {
            0 => assert_eq!(reply["result"][0]["result"]["value"], value),
            _ => assert_eq!(reply["result"]["value"], value),
        }
    }
    assert_eq!((service.effects(), other_service.effects()), (25, 25));
}
