//! A whole connection of a server that is fed any bytes: it answers or closes, sends no more than it
//! was asked for, and goes on serving others.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use redial_protocol::Reply;
use redial_server::{Abort, Config, Context, Server};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    runtime,
    time::{sleep, timeout},
};

use crate::script::{Script, frame};

const PIPE_BYTES: usize = 4096;
/// Longer than any limit of a connection: 300 s of idleness.
const PATIENCE: Duration = Duration::from_secs(400);
/// More than enough for the slow handler, as often as the queue lets it run.
const DONE: Duration = Duration::from_secs(1);
/// What one answer may take: an error, or what a handler here gives.
const MAX_REPLY_BYTES: usize = 4096;
const PING: &[u8] = br#"{"id":"p","method":"rpc.ping"}"#;

/// Feeds a server: as they are after an even first byte, each piece as a frame after an odd one.
///
/// # Panics
///
/// If the server panics, hangs, sends more than it may or what isn't a reply, runs more handlers than
/// there were requests, or no longer answers others.
pub fn check(data: &[u8]) {
    run(data);
}

fn run(data: &[u8]) -> u64 {
    let runtime = runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime can be made");
    runtime.block_on(feed(data))
}

/// How many handlers with an effect ran.
async fn feed(data: &[u8]) -> u64 {
    let effects = Arc::new(AtomicU64::new(0));
    let server = server(&effects);
    let (near, far) = duplex(PIPE_BYTES);
    let serving = tokio::spawn({
        let server = server.clone();
        async move { server.serve_connection(far).await }
    });
    let bytes = stream(data);
    // Every request begins with a brace of its own, and so does every entry of a batch.
    let requests = bytes.iter().filter(|byte| **byte == b'{').count();
    let replies = timeout(PATIENCE, round_trip(near, bytes));
    let replies = replies.await.expect("the connection was never closed");
    // Ten protocol errors may be answered, and one frame that is too long or incomplete.
    let most = (requests + 11) * MAX_REPLY_BYTES;
    assert!(
        replies.len() <= most,
        "{} bytes for {requests}",
        replies.len()
    );
    check_replies(&replies);
    serving.await.expect("the connection panicked");
    // What runs outlives its connection.
    sleep(DONE).await;
    let effects = effects.load(Ordering::SeqCst);
    assert!(effects <= requests as u64, "{effects} of {requests}");
    expect_pong(&server).await;
    let stats = server.stats();
    assert_eq!((stats.running, stats.queued, stats.connections), (0, 0, 0));
    assert_eq!(stats.started, stats.finished);
    effects
}

fn server(effects: &Arc<AtomicU64>) -> Server {
    let (inc, slow, fail) = (effects.clone(), effects.clone(), effects.clone());
    let count = |effects: &AtomicU64| effects.fetch_add(1, Ordering::SeqCst) + 1;
    Server::builder()
        .config(Config {
            max_running: 2,
            max_queued: 2,
            ..Config::default()
        })
        .session_seed(1)
        .mutation("inc", move |_: Value, _: Context| {
            let value = count(&inc);
            async move { Ok(value) }
        })
        .mutation("slow", move |_: Value, _: Context| {
            let effects = slow.clone();
            async move {
                sleep(Duration::from_millis(100)).await;
                Ok(count(&effects))
            }
        })
        .mutation("fail", move |_: Value, _: Context| {
            let value = count(&fail);
            async move { Err::<(), _>(Abort::failed(format!("no {value}"))) }
        })
        .query("get", async |(): (), _: Context| Ok(7))
        .build()
        .expect("its limits are right")
}

fn stream(data: &[u8]) -> Vec<u8> {
    let mut script = Script::new(data);
    match script.byte() {
        Some(first) if first % 2 == 1 => {
            let mut bytes = Vec::new();
            while !script.is_finished() {
                bytes.extend(frame(script.piece()));
            }
            bytes
        }
        _ => script.rest().to_vec(),
    }
}

/// Writes and reads at once, lest both ends wait for each other; everything that was answered.
async fn round_trip(near: DuplexStream, bytes: Vec<u8>) -> Vec<u8> {
    let (mut from, mut to) = tokio::io::split(near);
    let writing = tokio::spawn(async move {
        // The server may close before it has read everything.
        let _ = to.write_all(&bytes).await;
        let _ = to.shutdown().await;
    });
    let mut replies = Vec::new();
    // So it may while something is on its way.
    let _ = from.read_to_end(&mut replies).await;
    writing.await.expect("writing does not panic");
    replies
}

/// Each frame is whole, and a reply or an array of them.
fn check_replies(mut bytes: &[u8]) {
    while let Some((header, rest)) = bytes.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*header) as usize;
        assert!(rest.len() >= length, "the last reply is not whole");
        let (body, next) = rest.split_at(length);
        bytes = next;
        if body.first() == Some(&b'[') {
            let replies: Vec<Value> = serde_json::from_slice(body).expect("a batch of replies");
            assert!(!replies.is_empty(), "an empty batch of replies");
            continue;
        }
        let text = String::from_utf8_lossy(body);
        Reply::parse(body).unwrap_or_else(|error| panic!("{text}: {error}"));
    }
    assert!(bytes.is_empty(), "the last reply is not whole");
}

async fn expect_pong(server: &Server) {
    let (near, far) = duplex(PIPE_BYTES);
    let other = server.clone();
    let serving = tokio::spawn(async move { other.serve_connection(far).await });
    let replies = timeout(PATIENCE, round_trip(near, frame(PING)));
    let replies = replies.await.expect("others are not answered any more");
    assert_eq!(replies[4..], *br#"{"id":"p","result":"pong"}"#);
    serving.await.expect("the other connection panicked");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_handlers_run_as_often_as_there_are_calls() {
        let inc = |id: u8| format!(r#"{{"id":"{id}","method":"inc"}}"#);
        let framed = [&[1], [inc(1), inc(2), inc(1)].join("\0").as_bytes()].concat();
        assert_eq!(run(&framed), 2);
        let raw = [&[0], &frame(inc(3).as_bytes())[..]].concat();
        assert_eq!(run(&raw), 1);
        assert_eq!(run(b"\x01{"), 0);
    }

    /// Else the cases with sessions would no longer reach what they were made for.
    #[test]
    fn the_session_of_the_corpus_is_the_one_that_the_server_opens() {
        let case = |name: &str| {
            let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/corpus/connection");
            std::fs::read(format!("{corpus}/{name}")).unwrap()
        };
        assert_eq!(
            run(&case("session")),
            2,
            "calls 0 and 1, and not the fenced 5"
        );
        let slow = run(&case("session_slow"));
        assert!((3..=4).contains(&slow), "{slow}");
    }

    #[test]
    #[should_panic = "not whole"]
    fn half_a_reply_is_noticed() {
        check_replies(&frame(PING)[..20]);
    }
}
