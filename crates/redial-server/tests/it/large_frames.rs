//! Kind of fault: what one peer sends in megabytes has a thread for itself until all of it is read, run and
//! answered, and all other peers of that thread wait.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use redial_server::{Context, Server};
use serde_json::Value;

use crate::common::pipe_of;

const LARGE: usize = 16;

/// A server that counts the large params that it has seen.
fn server(seen: &Arc<AtomicUsize>) -> Server {
    let seen = Arc::clone(seen);
    let builder = Server::builder().query("size", move |params: Value, _: Context| {
        let size = params["text"].as_str().map_or(0, str::len);
        seen.fetch_add(usize::from(size > 1000), SeqCst);
        async move { Ok(size) }
    });
    builder.build().unwrap()
}

fn request(id: usize, size: usize) -> String {
    let text = "x".repeat(size);
    format!(r#"{{"id":{id},"method":"size","params":{{"text":"{text}"}}}}"#)
}

#[tokio::test]
async fn a_small_call_waits_for_few_of_anothers_large_ones() {
    let seen = Arc::new(AtomicUsize::new(0));
    let server = server(&seen);
    let [mut greedy, mut modest] = [16 << 20, 4096].map(|bytes| pipe_of(&server, bytes));
    // All of it lies there before the server looks.
    for id in 0..LARGE {
        greedy.send(request(id, 300 << 10)).await;
    }
    let reply = modest.call_json(request(1, 5)).await;
    assert_eq!(reply["result"], 5);
    let before = seen.load(SeqCst);
    assert!(before <= 4, "{before} large calls came first");
    for id in 0..LARGE {
        let reply = greedy.receive_json().await;
        assert_eq!(
            (&reply["id"], &reply["result"]),
            (&id.into(), &(300 << 10).into())
        );
    }
    assert_eq!(seen.load(SeqCst), LARGE);
}

/// Connections that are dropped while they wait for their turn, or have it, pass it on.
#[tokio::test]
async fn the_turn_of_a_connection_that_ends_goes_to_the_next() {
    let seen = Arc::new(AtomicUsize::new(0));
    let server = server(&seen);
    for _ in 0..3 {
        let mut peers: Vec<_> = (0..8).map(|_| pipe_of(&server, 4 << 20)).collect();
        for peer in &mut peers {
            for id in 0..4 {
                peer.send(request(id, 300 << 10)).await;
            }
        }
        peers.truncate(2);
        for peer in &mut peers {
            for id in 0..4 {
                assert_eq!(peer.receive_json().await["id"], id);
            }
        }
    }
}
