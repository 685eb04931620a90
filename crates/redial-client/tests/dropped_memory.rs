//! A dropped call leaves nothing behind, not even a reply that it has not read. Measured on the
//! whole process, so this file has one test.

#![cfg(target_os = "linux")]

#[path = "it/peer/mod.rs"]
mod peer;

use std::future::IntoFuture;

use peer::{builder, config, connected, ms};
use redial_client::Config;
use serde_json::json;

/// So much that an allocator returns it to the system.
const ANSWER_BYTES: usize = 40 << 20;

fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let mut lines = status.lines();
    let line = lines.find(|line| line.starts_with("VmRSS:")).unwrap();
    let kib: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib * 1024
}

#[tokio::test(start_paused = true)]
async fn dropping_a_call_frees_its_unread_reply() {
    let builder = builder().config(Config {
        max_frame_bytes: 2 * ANSWER_BYTES,
        ..config()
    });
    let (client, mut peer, _network) = connected(builder).await;
    let before = resident_bytes();
    let mut call = Box::pin(client.request("big", json!({})).into_future());
    let ended = tokio::time::timeout(ms(0), &mut call).await;
    ended.expect_err("it has no answer yet");
    let request = peer.next().await;
    let start = format!(r#"{{"jsonrpc":"2.0","id":{},"result":""#, request.id);
    let length = start.len() + ANSWER_BYTES + 2;
    peer.raw(&u32::try_from(length).unwrap().to_be_bytes())
        .await;
    peer.raw(start.as_bytes()).await;
    for _ in 0..ANSWER_BYTES >> 15 {
        peer.raw(&[b'x'; 1 << 15]).await;
    }
    peer.raw(b"\"}").await;
    tokio::time::sleep(ms(1)).await;
    let kept = resident_bytes() - before;
    assert!(kept > ANSWER_BYTES / 2, "the answer has not arrived");
    drop(call);
    let left = resident_bytes().saturating_sub(before);
    assert!(left < ANSWER_BYTES / 2, "{left} bytes are left");
}
