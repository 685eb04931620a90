//! Requests under load while their server is asked to stop, and another one is started in its place:
//! real processes, SIGTERM, and a client with a session.

#![cfg(unix)]

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use redial_client::{CallError, Client};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

const CALLERS: u64 = 64;
const CALLS_EACH: u64 = 64;

/// A counter server, killed at the latest when the test ends.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(address: &str, ledger: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_counter-server"))
            .args(["--listen", address, "--delay-ms", "2", "--ledger"])
            .arg(ledger)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line.trim().strip_prefix("listening on ").unwrap().into();
        Self { child, address }
    }

    /// Asks it to stop, and waits until it has.
    fn stop(&mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success(), "calls were cut off");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
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
    let mut server = Server::start("127.0.0.1:0", &ledger);
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
            server.stop();
            Server::start(&server.address, &ledger)
        });
        server = restarted.await.unwrap();
    }
    for caller in callers {
        caller.await.unwrap().unwrap();
    }
    let effects = std::fs::read_to_string(&ledger).unwrap().lines().count();
    assert_eq!(effects as u64, CALLERS * CALLS_EACH);
}
