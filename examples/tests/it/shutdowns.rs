//! Requests under load while their server is asked to stop, and another one is started in its place:
//! real processes, SIGTERM, and a client with a session.

#![cfg(unix)]

use std::{
    path::Path,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use redial_client::{CallError, Client};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{counter_server::CounterServer, frozen_programs::signal};

const CALLERS: u64 = 64;
const CALLS_EACH: u64 = 64;

fn start(address: &str, ledger: &Path) -> CounterServer {
    let mut command = CounterServer::command(address);
    command.args(["--delay-ms", "2", "--ledger"]).arg(ledger);
    CounterServer::spawn(command.stderr(Stdio::null()))
}

/// Asks it to stop, and waits until it has.
fn stop(server: &mut CounterServer) {
    signal(server, Signal::TERM);
    let status = server.child.wait().unwrap();
    assert!(status.success(), "calls were cut off");
}

async fn make_calls(client: Client, done: Arc<AtomicU64>) -> Result<(), CallError> {
    for _ in 0..CALLS_EACH {
        let _: Value = client.request("inc", json!({"key": "k"})).await?;
        done.fetch_add(1, SeqCst);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_of_a_session_is_lost_to_a_restart() {
    let ledger = Path::new(env!("CARGO_TARGET_TMPDIR")).join("shutdowns.ledger");
    let _ = std::fs::remove_file(&ledger);
    let mut server = start("127.0.0.1:0", &ledger);
    let client = Client::connect(server.address.as_str()).await.unwrap();
    let done = Arc::new(AtomicU64::new(0));
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| tokio::spawn(make_calls(client.clone(), Arc::clone(&done))))
        .collect();
    for restart in 1..=3 {
        while done.load(SeqCst) < CALLERS * CALLS_EACH / 4 * restart {
            tokio::task::yield_now().await;
        }
        let ledger = ledger.clone();
        let restarted = tokio::task::spawn_blocking(move || {
            stop(&mut server);
            start(&server.address, &ledger)
        });
        server = restarted.await.unwrap();
    }
    for caller in callers {
        caller.await.unwrap().unwrap();
    }
    let effects = std::fs::read_to_string(&ledger).unwrap().lines().count();
    assert_eq!(effects as u64, CALLERS * CALLS_EACH);
}
