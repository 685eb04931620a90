//! A client that is killed after it has sent a call learns in its next run what happened to it.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use redial_examples::{
    counters::Counters,
    methods::{GetParams, Inc, IncParams},
};
use redial_protocol::Method;
use redial_server::{Delay, EventKind, Fault, FaultRule, Server};
use tokio::{
    process::{Child, Command},
    sync::mpsc,
};

use super::inc_events::IncEvents;

const PATIENCE: Duration = Duration::from_secs(20);

struct CrashingServer {
    counters: Counters,
    server: Server,
    address: String,
    events: mpsc::UnboundedReceiver<EventKind>,
    token: PathBuf,
}

impl CrashingServer {
    async fn new(name: &str) -> Self {
        let counters = Counters::default();
        let (sender, events) = mpsc::unbounded_channel();
        let builder = counters.register(Server::builder());
        let server = builder.observer(IncEvents(sender)).build().unwrap();
        let listener = server.bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let serving = server.clone();
        tokio::spawn(async move { serving.serve(listener).await });
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let token = folder.join(format!("crash_safe_{name}_{}", std::process::id()));
        let _ = std::fs::remove_file(&token);
        Self {
            counters,
            server,
            address,
            events,
            token,
        }
    }

    fn rule(&self, fault: Fault) {
        let rule = FaultRule::new(fault, 1.0).unwrap().for_method(Inc::NAME);
        self.server.faults().set([rule]);
    }

    fn start(&self) -> Child {
        Command::new(env!("CARGO_BIN_EXE_crash-safe"))
            .args(["--connect", &self.address, "--token"])
            .arg(&self.token)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }

    /// A run that ends by `kill -9` once this has happened to its call.
    async fn run_until(&mut self, expected: EventKind) {
        let mut child = self.start();
        let seen = async { while self.events.recv().await.unwrap() != expected {} };
        tokio::time::timeout(PATIENCE, seen).await.unwrap();
        child.kill().await.unwrap();
        assert!(
            self.token.exists(),
            "the token was written before the call was sent"
        );
    }

    /// A run that ends by itself, and its output.
    async fn last_run(&self) -> String {
        let output = self.start().wait_with_output();
        let output = tokio::time::timeout(PATIENCE, output)
            .await
            .unwrap()
            .unwrap();
        assert!(output.status.success());
        assert!(!self.token.exists());
        String::from_utf8(output.stdout).unwrap()
    }

    fn value(&self) -> i64 {
        self.counters.get(GetParams { key: "k".into() }).value
    }
}

#[tokio::test]
async fn a_call_that_was_executed_has_its_recorded_reply() {
    let mut world = CrashingServer::new("executed").await;
    world.rule(Fault::DropReply);
    world.run_until(EventKind::ReplyDropped).await;
    world.server.faults().clear();
    assert_eq!(
        world.last_run().await,
        "the call of the previous run was executed\nthe counter is 1\n"
    );
    assert_eq!(world.value(), 1);
}

#[tokio::test]
async fn resolving_waits_for_a_running_call() {
    let mut world = CrashingServer::new("running").await;
    world.rule(Fault::DelayExecution(Delay::Fixed(Duration::from_secs(1))));
    world.run_until(EventKind::Accepted).await;
    assert_eq!(
        world.last_run().await,
        "the call of the previous run was executed\nthe counter is 1\n"
    );
    assert_eq!(world.value(), 1);
}

/// The run was killed between the call's end and the removal of its token.
#[tokio::test]
async fn a_call_that_had_succeeded_is_known_in_the_next_run() {
    let world = CrashingServer::new("ended").await;
    let client = redial_client::Client::connect(&world.address)
        .await
        .unwrap();
    let one = |key: &str| IncParams {
        key: key.into(),
        delta: 1,
    };
    let mut call = client.call::<Inc>(one("k"));
    let token = serde_json::to_string(&call.token().await.unwrap()).unwrap();
    assert_eq!(call.await.unwrap().value, 1);
    // The next call, or the end of the client, would acknowledge this one.
    client.call::<Inc>(one("other")).await.unwrap();
    client.close().await;
    std::fs::write(&world.token, token).unwrap();
    assert_eq!(
        world.last_run().await,
        "the call of the previous run was executed\nthe counter is 1\n"
    );
    assert_eq!(world.value(), 1);
}

/// Once the call is forgotten, the copy of a token gets no outcome, and nothing is executed again.
#[tokio::test]
async fn a_token_of_a_forgotten_call_gets_no_outcome() {
    let world = CrashingServer::new("heard").await;
    let kept = world.token.with_extension("copy");
    let mut child = world.start();
    while !world.token.exists() {
        tokio::task::yield_now().await;
    }
    std::fs::copy(&world.token, &kept).unwrap();
    assert!(child.wait().await.unwrap().success());
    let forgotten = async {
        while world.server.stats().session_records > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, forgotten).await.unwrap();
    std::fs::rename(&kept, &world.token).unwrap();
    let output = world.start().wait_with_output().await.unwrap();
    assert!(!output.status.success());
    assert_eq!(world.value(), 1);
    std::fs::remove_file(&world.token).unwrap();
}

#[tokio::test]
async fn a_restarted_server_leaves_the_call_unknown_and_executes_nothing_twice() {
    let mut world = CrashingServer::new("restarted").await;
    world.rule(Fault::DropReply);
    world.run_until(EventKind::ReplyDropped).await;
    let other = CrashingServer::new("another").await;
    world.address = other.address.clone();
    for _ in 0..2 {
        let output = world.start().wait_with_output().await.unwrap();
        assert!(!output.status.success());
    }
    assert_eq!((world.value(), other.value()), (1, 0));
    std::fs::remove_file(&world.token).unwrap();
}

/// Then it is fenced: a lost request may still arrive, and is not executed.
#[tokio::test]
async fn a_call_that_never_arrived_is_fenced_and_made_again() {
    let mut world = CrashingServer::new("lost").await;
    world.rule(Fault::DropRequest);
    world.run_until(EventKind::RequestDropped).await;
    world.server.faults().clear();
    let token = std::fs::read_to_string(&world.token).unwrap();
    let never = "the call of the previous run was not executed, and never will be";
    let life = world.last_run().await;
    assert!(
        life.starts_with(never) && life.ends_with("the counter is 1\n"),
        "{life}"
    );
    assert_eq!(world.value(), 1);

    let client = redial_client::Client::connect(&world.address)
        .await
        .unwrap();
    let late = client
        .resume(serde_json::from_str::<redial_client::CallToken>(&token).unwrap())
        .await;
    let code = late.unwrap_err().server_error().unwrap().code;
    assert_eq!(i32::from(code), -32007);
    assert_eq!(world.value(), 1);
    let params = IncParams {
        key: "k".into(),
        delta: 1,
    };
    assert_eq!(client.call::<Inc>(params).await.unwrap().value, 2);
}
