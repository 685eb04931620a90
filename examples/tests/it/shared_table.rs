//! The kind of fault: of two servers on one database one is killed under load, and a call that was sent to
//! it has no effect, or two, when its client goes to the other.
#![cfg(unix)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{
    counter_server::CounterServer,
    databases::{effects, new_database},
};

const CLIENTS: usize = 4;
const CALLS: usize = 60;

/// A client with plain ids that sends a call to the other server when the one fails.
struct TwoServerPeer {
    addresses: [String; 2],
    at: usize,
    stream: Option<TcpStream>,
}

impl TwoServerPeer {
    /// The reply to a request, from whichever server.
    async fn call(&mut self, request: &Value) -> Value {
        loop {
            let attempt = timeout(Duration::from_secs(10), self.attempt(request)).await;
            match attempt {
                Ok(Ok(reply)) if reply["error"]["data"]["executed"] == "no" => {}
                Ok(Ok(reply)) => return reply,
                Ok(Err(_)) | Err(_) => {
                    self.at += 1;
                    self.stream = None;
                }
            }
        }
    }

    async fn attempt(&mut self, request: &Value) -> std::io::Result<Value> {
        if self.stream.is_none() {
            self.stream = Some(TcpStream::connect(&self.addresses[self.at % 2]).await?);
        }
        let stream = self.stream.as_mut().expect("it is connected");
        let body = request.to_string().into_bytes();
        let mut frame = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
        frame.extend(body);
        stream.write_all(&frame).await?;
        let len = stream.read_u32().await?;
        let mut reply = vec![0; len as usize];
        stream.read_exact(&mut reply).await?;
        Ok(serde_json::from_slice(&reply)?)
    }
}

/// Kind of fault: the database's own words, which may hold what no caller is to see, in a reply.
#[tokio::test]
async fn what_the_database_says_of_a_failure_stays_on_the_server() {
    let Some(url) = new_database().await else {
        return;
    };
    let server = CounterServer::start(["--store", &url]);
    let mut peer = TwoServerPeer {
        addresses: [server.address.clone(), server.address.clone()],
        at: 0,
        stream: None,
    };
    let inc = |id: &str, delta: i64| json!({"id": id, "method": "inc", "params": {"key": "k", "delta": delta}});
    let most = peer.call(&inc("most", i64::MAX)).await;
    assert_eq!(most["result"]["value"], i64::MAX);
    let beyond = peer.call(&inc("beyond", 1)).await;
    assert_eq!(beyond["error"]["code"], -32000, "{beyond}");
    assert!(!beyond.to_string().contains("bigint"), "{beyond}");
    assert!(beyond.to_string().contains("reference"), "{beyond}");
    assert_eq!(peer.call(&inc("beyond", 1)).await, beyond);
}

#[tokio::test]
async fn a_server_that_is_killed_takes_no_call_with_it_and_doubles_none() {
    let Some(url) = new_database().await else {
        return;
    };
    let start = || CounterServer::start(["--keep-effects", "--store", &url]);
    let (mut first, second) = (start(), start());
    let ended = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let addresses = [first.address.clone(), second.address.clone()];
            let ended = Arc::clone(&ended);
            tokio::spawn(async move {
                let mut peer = TwoServerPeer {
                    addresses,
                    // Half of them begin at the server that lives.
                    at: client % 2,
                    stream: None,
                };
                for call in 0..CALLS {
                    let id = format!("client {client} call {call}");
                    let request = json!({"id": id, "method": "inc", "params": {"key": "k"}});
                    let reply = peer.call(&request).await;
                    assert!(reply["result"]["value"].is_i64(), "unknown: {reply}");
                    ended.fetch_add(1, Relaxed);
                }
            })
        })
        .collect();
    while ended.load(Relaxed) < CLIENTS * CALLS / 4 {
        tokio::task::yield_now().await;
    }
    first.child.kill().unwrap();
    for client in clients {
        client.await.unwrap();
    }
    assert_eq!(effects(&url).await, [(CLIENTS * CALLS) as i64; 3]);
}
