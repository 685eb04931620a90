//! Whoever asks what became of a call is told its outcome, or that it was not executed and never
//! will be; and a call is taken back only if it has not begun.

mod common;

use std::time::Duration;

use common::{Peer, Service, code, executed, now, pipe, uuid};
use redial_protocol::{SessionCall, SessionId};
use redial_server::Config;
use serde_json::{Value, json};
use tokio::io::DuplexStream;

/// A session, with the connection it was opened on.
struct Client {
    peer: Peer<DuplexStream>,
    session: SessionId,
}

impl Client {
    async fn new(service: &Service, config: Config) -> Self {
        let mut peer = pipe(&service.server(config));
        let hello = peer
            .call_json(r#"{"jsonrpc":"2.0","id":"h","method":"rpc.hello"}"#)
            .await;
        let session = hello["result"]["session"].as_str().unwrap();
        let session = session.parse().unwrap();
        Self { peer, session }
    }

    fn id(&self, number: u64) -> String {
        let session = self.session;
        SessionCall { session, number }.uuid().to_string()
    }

    fn request(&self, method: &str, number: u64, attempt: u32) -> String {
        let id = self.id(number);
        let redial = json!({"attempt": attempt});
        json!({"jsonrpc": "2.0", "id": id, "method": method, "params": {}, "redial": redial})
            .to_string()
    }

    fn ask(&self, method: &str, id: &str) -> String {
        json!({"jsonrpc": "2.0", "id": method, "method": method, "params": {"id": id}}).to_string()
    }

    async fn resolve(&mut self, number: u64) -> Value {
        let request = self.ask("rpc.resolve", &self.id(number));
        self.peer.call_json(request).await
    }

    async fn cancel(&mut self, number: u64) -> Value {
        let request = self.ask("rpc.cancel", &self.id(number));
        self.peer.call_json(request).await
    }

    async fn receive(&mut self) -> Value {
        serde_json::from_str(&self.peer.receive().await.unwrap()).unwrap()
    }
}

#[tokio::test]
async fn a_finished_call_has_its_recorded_outcome_result_or_error() {
    let service = Service::default();
    let mut client = Client::new(&service, Config::default()).await;
    let results = [client.request("inc", 0, 1), client.request("fail", 1, 1)];
    for request in results {
        client.peer.call(request).await;
    }
    for _ in 0..2 {
        let done = json!({"state": "done", "result": {"value": 1}});
        assert_eq!(client.resolve(0).await["result"], done);
        let failed = client.resolve(1).await;
        assert_eq!(failed["result"]["state"], "done");
        assert_eq!(failed["result"]["error"]["code"], -32000);
    }
    assert_eq!(service.effects(), 2);
}

#[tokio::test]
async fn a_call_that_never_arrived_is_fenced_and_never_runs() {
    let service = Service::default();
    let mut client = Client::new(&service, Config::default()).await;
    for _ in 0..2 {
        let never = json!({"state": "never"});
        assert_eq!(client.resolve(3).await["result"], never);
    }
    for attempt in 1..3 {
        let late = client.request("inc", 3, attempt);
        let late = client.peer.call_json(late).await;
        assert_eq!((code(&late), executed(&late)), (-32007, "no"));
    }
    assert_eq!(service.effects(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_running_call_is_waited_for() {
    let service = Service::default();
    let mut client = Client::new(&service, Config::default()).await;
    let start = now();
    client.peer.send(client.request("slow_inc", 0, 1)).await;
    client
        .peer
        .send(client.ask("rpc.resolve", &client.id(0)))
        .await;
    let replies = [client.receive().await, client.receive().await];
    assert_eq!(start.elapsed(), Duration::from_millis(100));
    let resolution = replies
        .iter()
        .find(|reply| reply["id"] == "rpc.resolve")
        .unwrap();
    let done = json!({"state": "done", "result": {"value": 1}});
    assert_eq!(resolution["result"], done);
}

#[tokio::test]
async fn what_nobody_can_know_is_said_to_be_unknown() {
    let service = Service::default();
    let mut client = Client::new(&service, Config::default()).await;
    let stranger = SessionCall {
        session: SessionId::from_bits(5),
        number: 0,
    };
    for id in [stranger.uuid().to_string(), uuid(1), "text".to_owned()] {
        let request = client.ask("rpc.resolve", &id);
        let reply = client.peer.call_json(request).await;
        assert_eq!(
            (code(&reply), executed(&reply)),
            (-32004, "unknown"),
            "{id}"
        );
    }
    client.peer.call(client.request("inc", 0, 1)).await;
    let ack = json!({"session": client.session, "ack": 1});
    let ack = json!({"jsonrpc": "2.0", "method": "rpc.ack", "params": ack}).to_string();
    client.peer.send(ack).await;
    let reply = client.resolve(0).await;
    assert_eq!((code(&reply), executed(&reply)), (-32007, "yes"));
}

#[tokio::test]
async fn a_plain_id_is_resolved_while_its_record_lives() {
    let service = Service::default();
    let mut client = Client::new(&service, Config::default()).await;
    let inc = format!(r#"{{"id":"{}","method":"inc","params":{{}}}}"#, uuid(1));
    client.peer.call(inc).await;
    let request = client.ask("rpc.resolve", &uuid(1));
    let reply = client.peer.call_json(request).await;
    assert_eq!(
        reply["result"],
        json!({"state": "done", "result": {"value": 1}})
    );
}

#[tokio::test(start_paused = true)]
async fn a_queued_call_is_taken_back_and_its_place_is_free_at_once() {
    let service = Service::default();
    let config = Config {
        max_running: 1,
        max_queued: 1,
        ..Config::default()
    };
    let mut client = Client::new(&service, config).await;
    client.peer.send(client.request("slow_inc", 0, 1)).await;
    client.peer.send(client.request("inc", 1, 1)).await;
    client
        .peer
        .send(client.ask("rpc.cancel", &client.id(1)))
        .await;
    let cancelled = [client.receive().await, client.receive().await];
    let answer = cancelled
        .iter()
        .find(|reply| reply["id"] == "rpc.cancel")
        .unwrap();
    assert_eq!(answer["result"], json!({"state": "never"}));
    let told = cancelled
        .iter()
        .find(|reply| reply["id"] != "rpc.cancel")
        .unwrap();
    assert_eq!((code(told), executed(told)), (-32007, "no"));
    // The next one finds the place in the queue that was freed, while the first still runs.
    client.peer.send(client.request("inc", 2, 1)).await;
    let replies = [client.receive().await, client.receive().await];
    assert!(
        replies.iter().all(|reply| reply.get("result").is_some()),
        "{replies:?}"
    );
    let late = client.peer.call_json(client.request("inc", 1, 2)).await;
    assert_eq!((code(&late), executed(&late)), (-32007, "no"));
    assert_eq!(service.effects(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_runs_or_has_run_is_not_taken_back() {
    let service = Service::default();
    let mut client = Client::new(&service, Config::default()).await;
    client.peer.send(client.request("slow_inc", 0, 1)).await;
    assert_eq!(
        client.cancel(0).await["result"],
        json!({"state": "running"})
    );
    assert!(client.receive().await.get("result").is_some());
    assert_eq!(client.cancel(0).await["result"], json!({"state": "done"}));
    assert_eq!(service.effects(), 1);
}

#[tokio::test]
async fn a_call_is_taken_back_before_it_arrives() {
    let service = Service::default();
    let mut client = Client::new(&service, Config::default()).await;
    assert_eq!(client.cancel(0).await["result"], json!({"state": "never"}));
    let late = client.peer.call_json(client.request("inc", 0, 1)).await;
    assert_eq!((code(&late), executed(&late)), (-32007, "no"));
    let plain = client.ask("rpc.cancel", &uuid(1));
    assert_eq!(code(&client.peer.call_json(plain).await), -32602);
}

/// A call that is turned away while somebody asks about it leaves the asker with a question, and
/// the next answer is final.
#[tokio::test(start_paused = true)]
async fn whoever_asks_about_a_call_that_comes_to_nothing_asks_again() {
    let service = Service::default();
    let config = Config {
        max_running: 1,
        ..Config::default()
    };
    let mut client = Client::new(&service, config).await;
    client.peer.send(client.request("slow_inc", 0, 1)).await;
    client.peer.send(client.request("no_effect", 1, 1)).await;
    client
        .peer
        .send(client.ask("rpc.resolve", &client.id(1)))
        .await;
    let replies = [
        client.receive().await,
        client.receive().await,
        client.receive().await,
    ];
    let asker = replies
        .iter()
        .find(|reply| reply["id"] == "rpc.resolve")
        .unwrap();
    // Its handler ran and said that it had no effect: that is an outcome for those who wait.
    assert_eq!(asker["result"]["state"], "done", "{replies:?}");
    assert_eq!(client.resolve(1).await["result"], json!({"state": "never"}));
}
