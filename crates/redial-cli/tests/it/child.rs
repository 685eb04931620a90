//! A server in a process of its own, so that it can be stopped: this test program once more, which then
//! runs one of its tests alone, and serves.

#![cfg(unix)]

use std::{
    collections::HashMap,
    env,
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
};

use redial_server::Server;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use serde::{Deserialize, Serialize};

/// Set where the program is to serve.
const SERVES: &str = "REDIAL_TEST_SERVES";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IncBy {
    key: String,
    #[serde(default = "one")]
    delta: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GetParams {
    key: String,
}

#[derive(Serialize)]
struct CounterValue {
    key: String,
    value: i64,
}

fn one() -> i64 {
    1
}

/// No test: what the other process runs. It ends with the one that started it.
#[test]
fn serves_counters() {
    if env::var_os(SERVES).is_none() {
        return;
    }
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(0);
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(async {
        let server = counters();
        let listener = server.bind("127.0.0.1:0").await.unwrap();
        // Of its own line, since the harness has begun one.
        println!("\nlistening on {}", listener.local_addr().unwrap());
        std::io::stdout().flush().unwrap();
        server.serve(listener).await.unwrap();
    });
}

fn counters() -> Server {
    let counters = Arc::new(Mutex::new(HashMap::<String, i64>::new()));
    let read = counters.clone();
    let builder = Server::builder()
        .mutation("inc", move |params: IncBy| {
            let mut counters = counters.lock().unwrap();
            let value = counters.entry(params.key.clone()).or_default();
            *value += params.delta;
            let value = *value;
            async move {
                Ok(CounterValue {
                    key: params.key,
                    value,
                })
            }
        })
        .query("get", move |params: GetParams| {
            let value = read
                .lock()
                .unwrap()
                .get(&params.key)
                .copied()
                .unwrap_or_default();
            async move {
                Ok(CounterValue {
                    key: params.key,
                    value,
                })
            }
        });
    builder.build().unwrap()
}

/// A server that listens. It is killed at the latest when its test ends.
pub(crate) struct ChildServer {
    child: Child,
    pub(crate) address: String,
}

impl ChildServer {
    pub(crate) fn start() -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args([
                "--exact",
                "child::serves_counters",
                "--nocapture",
                "--test-threads",
                "1",
            ])
            .env(SERVES, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut lines = lines.map(Result::unwrap);
        let address = lines.find_map(|line| Some(line.strip_prefix("listening on ")?.to_owned()));
        let address = address.expect("it says where it listens");
        Self { child, address }
    }

    /// Stops it. When this returns, it stands still.
    pub(crate) fn stop(&self) {
        let process = Pid::from_child(&self.child);
        kill_process(process, Signal::STOP).unwrap();
        waitpid(Some(process), WaitOptions::UNTRACED).unwrap();
    }

    pub(crate) fn go_on(&self) {
        kill_process(Pid::from_child(&self.child), Signal::CONT).unwrap();
    }
}

impl Drop for ChildServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
