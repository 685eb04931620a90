//! An idle connection keeps no large handler future. Measured on the whole process, so this file
//! has one test.
#![cfg(target_os = "linux")]

#[path = "it/common/mod.rs"]
mod common;

use common::{pipe, resident_kib, uuid};
use redial_server::{Config, Context, Server};

/// So large that what a hundred connections keep is seen.
const LARGE: usize = 48 * 1024;
const PEERS: u32 = 100;

#[tokio::test]
async fn an_idle_connection_keeps_no_large_future() {
    async fn large(waits: bool) -> usize {
        let mut large = [1_u8; LARGE];
        if waits {
            tokio::task::yield_now().await;
        }
        std::hint::black_box(&mut large)
            .iter()
            .map(|byte| usize::from(*byte))
            .sum()
    }
    let server = Server::builder()
        .query("ready", async |(): (), _: Context| Ok(large(false).await))
        .query("waits", async |(): (), _: Context| Ok(large(true).await))
        .config(Config::default())
        .build()
        .unwrap();
    let mut peers = vec![pipe(&server)];
    let ask = |method: &str| format!(r#"{{"id":"{}","method":"{method}"}}"#, uuid(1));
    let expected = format!(r#"{{"id":"{}","result":{LARGE}}}"#, uuid(1));
    for method in ["ready", "waits"] {
        assert_eq!(peers[0].call(ask(method)).await, expected);
    }
    let before = resident_kib();
    for _ in 0..PEERS {
        let mut peer = pipe(&server);
        for method in ["ready", "waits"] {
            assert_eq!(peer.call(ask(method)).await, expected);
        }
        peers.push(peer);
    }
    let each = resident_kib().saturating_sub(before) as f64 / f64::from(PEERS);
    println!("an idle connection keeps {each:.1} KiB");
    assert!(each <= 32.0, "{each} KiB");
}
