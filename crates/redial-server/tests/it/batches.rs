//! The outcome of one message: a batch is answered by one array, whatever its results take, or refused
//! before anything of it runs.

use crate::common::{Service, code, executed, pipe, uuid};
use redial_protocol::Limits;
use redial_server::{Config, Server};
use serde_json::{Value, json};

/// A service with a mutation whose result is as large as it is asked to be.
fn server(service: &Service, max_frame_bytes: usize) -> Server {
    let counted = service.clone();
    let builder = service
        .builder()
        .mutation("grow", move |(bytes,): (usize,)| {
            counted
                .effects
                .fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            async move { Ok("x".repeat(bytes)) }
        });
    let limits = Limits {
        max_frame_bytes,
        ..Limits::default()
    };
    let config = Config {
        limits,
        ..Config::default()
    };
    builder.config(config).build().unwrap()
}

fn grow(id: u32, bytes: usize) -> Value {
    json!({"jsonrpc": "2.0", "id": uuid(id), "method": "grow", "params": [bytes]})
}

#[tokio::test(start_paused = true)]
async fn a_hundred_large_results_come_in_one_array_and_what_gives_way_is_on_record() {
    let service = Service::default();
    let max = 1024 * 1024;
    let mut peer = pipe(&server(&service, max));
    let requests: Vec<_> = (0..100).map(|id| grow(id, 1_000 * id as usize)).collect();
    peer.send(json!(requests).to_string()).await;
    let text = peer.receive().await.unwrap();
    assert!(text.len() <= max, "{}", text.len());
    let answers: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(answers.len(), 100);
    let mut shortened = Vec::new();
    for (answer, request) in answers.iter().zip(&requests) {
        assert_eq!(answer["id"], request["id"], "in the order of the requests");
        if answer["error"].is_object() {
            assert_eq!((code(answer), executed(answer)), (-32603, "yes"));
            shortened.push(request);
        }
    }
    assert!(
        !shortened.is_empty() && shortened.len() < 90,
        "{}",
        shortened.len()
    );
    for request in shortened {
        let alone = peer.call_json(request.to_string()).await;
        let bytes = request["params"][0].as_u64().unwrap();
        assert_eq!(alone["result"].as_str().unwrap().len() as u64, bytes);
    }
    assert_eq!(service.effects(), 100);
}

/// What is as large as a frame alone has no room beside anything.
#[tokio::test(start_paused = true)]
async fn the_largest_result_gives_way_to_the_others() {
    let service = Service::default();
    let mut peer = pipe(&server(&service, 4096));
    let requests = json!([grow(1, 3_000), {"id": 7, "method": "nope"}, grow(2, 1_000)]);
    let answers = peer.call_json(requests.to_string()).await;
    assert_eq!((code(&answers[0]), executed(&answers[0])), (-32603, "yes"));
    assert_eq!(code(&answers[1]), -32601);
    assert_eq!(answers[2]["result"].as_str().unwrap().len(), 1_000);
    let words = answers[0]["error"]["data"]["detail"].as_str().unwrap();
    assert!(
        words.contains("3,002 bytes") && words.contains("4,096"),
        "{words}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_batch_whose_answers_might_not_fit_is_refused_before_anything_runs() {
    let service = Service::default();
    let mut peer = pipe(&server(&service, 4096));
    let requests: Vec<_> = (0..9).map(|id| grow(id, 1)).collect();
    let refused = peer.call_json(json!(requests).to_string()).await;
    assert_eq!((code(&refused), executed(&refused)), (-32600, "no"));
    let words = refused["error"]["data"]["detail"].as_str().unwrap();
    assert!(words.contains("max_frame is 4,096"), "{words}");
    assert_eq!(service.effects(), 0);
    let fewer = peer.call_json(json!(requests[..7]).to_string()).await;
    assert_eq!(fewer.as_array().unwrap().len(), 7);
    // Notifications have no answer, and need no room.
    let silent = json!({"jsonrpc": "2.0", "method": "grow", "params": [1]});
    peer.send(json!(vec![silent; 20]).to_string()).await;
    let alone = peer.call_json(grow(9, 1).to_string()).await;
    assert_eq!(alone["result"], "x");
    assert_eq!(service.effects(), 28);
}

/// Alone, too: what an execution gave and no frame takes is said, with its size, and on record.
#[tokio::test(start_paused = true)]
async fn a_result_beyond_a_frame_is_on_record_as_an_error_that_says_how_large_it_was() {
    let service = Service::default();
    let mut peer = pipe(&server(&service, 4096));
    for _ in 0..2 {
        let reply = peer.call_json(grow(1, 5_000).to_string()).await;
        assert_eq!((code(&reply), executed(&reply)), (-32603, "yes"));
        let words = reply["error"]["data"]["detail"].as_str().unwrap();
        assert!(words.contains("its outcome has 5,011 bytes"), "{words}");
    }
    let resolve = crate::common::session::ask_for("rpc.resolve", &json!(uuid(1)));
    let resolved = peer.call_json(resolve).await;
    assert_eq!(resolved["result"]["state"], "done");
    assert_eq!(resolved["result"]["error"]["code"], -32603);
    assert_eq!(service.effects(), 1);
}

/// A number that JSON has not is the handler's fault, and an outcome like any other.
#[tokio::test(start_paused = true)]
async fn a_result_that_json_has_no_number_for_is_an_error_on_record() {
    let service = Service::default();
    let counted = service.clone();
    let builder = service
        .builder()
        .mutation("divide", move |(x, y): (f64, f64)| {
            counted
                .effects
                .fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            async move { Ok(quotients(x / y)) }
        });
    let server = builder.config(Config::default()).build().unwrap();
    let mut peer = pipe(&server);
    for (id, params) in [(1, [0, 0]), (2, [1, 0]), (3, [-1, 0])] {
        let request = json!({"id": uuid(id), "method": "divide", "params": params}).to_string();
        let first = peer.call(&request).await;
        let reply: Value = serde_json::from_str(&first).unwrap();
        assert_eq!((code(&reply), executed(&reply)), (-32603, "yes"));
        let words = reply["error"]["data"]["detail"].as_str().unwrap();
        assert!(words.contains("JSON has no number"), "{words}");
        assert_eq!(peer.call(&request).await, first);
    }
    assert_eq!(service.effects(), 3);
    let halves = peer
        .call_json(r#"{"id":4,"method":"divide","params":[1,2]}"#)
        .await;
    assert_eq!(halves["result"]["quotients"], json!([0.5]));
}

#[derive(serde::Serialize)]
struct Quotients {
    quotients: Vec<f64>,
}

fn quotients(quotient: f64) -> Quotients {
    Quotients {
        quotients: vec![quotient],
    }
}
