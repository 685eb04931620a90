//! No number in a configuration panics, however large: it is refused by its name and its range, or it
//! works.

use std::{panic::AssertUnwindSafe, time::Duration};

use redial_client::{Backoff, BuildError, Client, Config as ClientConfig, Hedge, Jitter};
use redial_server::{Abort, BuildError as ServerBuildError, Config as ServerConfig, Server};
use serde_json::Value;
use tokio::io::duplex;

fn server(config: ServerConfig) -> Result<Server, ServerBuildError> {
    let builder = Server::builder().config(config);
    builder
        .mutation("echo", async |value: Value| Ok::<_, Abort>(value))
        .build()
}

/// A call, through a client and a server with these numbers.
async fn call(client: ClientConfig, server: Server) -> Result<(), BuildError> {
    let connector = move || {
        let (near, far) = duplex(64 * 1024);
        let server = server.clone();
        tokio::spawn(async move { server.serve_connection(far).await });
        std::future::ready(Ok(near))
    };
    let client = Client::builder()
        .config(client)
        .connect_with(connector)
        .await?;
    let value = client.request("echo", [1]).await.expect("an echo");
    assert_eq!(value, serde_json::json!([1]));
    client.close().await;
    Ok(())
}

/// What `run` gives; its panic is the number's, and is named so.
fn calmly<T>(name: &str, run: impl FnOnce() -> T) -> T {
    std::panic::catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| panic!("{name} panics"))
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(future)
}

/// Kind: a number from a user that nothing bounds. Instance: `--concurrency 18446744073709551615`
/// panics with "capacity overflow".
#[test]
fn the_largest_numbers_of_a_client_work_or_are_refused_by_name() {
    type Change = fn(&mut ClientConfig);
    let changes: [(&str, Change); 15] = [
        ("connections", |c| c.connections = usize::MAX),
        ("connect_timeout", |c| c.connect_timeout = Duration::MAX),
        ("keepalive", |c| c.keepalive = Duration::MAX),
        ("max_frame_bytes", |c| c.max_frame_bytes = usize::MAX),
        ("max_buffered_bytes", |c| c.max_buffered_bytes = usize::MAX),
        ("max_in_flight", |c| c.max_in_flight = usize::MAX),
        ("resend_window", |c| c.resend_window = Duration::MAX),
        ("attempt_timeout", |c| {
            c.call.attempt_timeout = Duration::MAX
        }),
        ("max_attempts", |c| c.call.max_attempts = u32::MAX),
        ("deadline", |c| c.call.deadline = Duration::MAX),
        ("hedge", |c| c.call.hedge = Hedge::After(Duration::MAX)),
        ("percent_of_calls", |c| {
            c.retry_budget.percent_of_calls = f64::MAX
        }),
        ("min_per_second", |c| {
            c.retry_budget.min_per_second = f64::INFINITY
        }),
        ("burst", |c| c.retry_budget.burst = f64::INFINITY),
        ("backoff", |c| {
            let slow = Backoff::new(Duration::MAX, f64::MAX, Duration::MAX, Jitter::Equal);
            c.call.backoff = slow.expect("numbers of a backoff");
            c.reconnect = c.call.backoff;
        }),
    ];
    for (name, change) in changes {
        for sessions in [true, false] {
            let mut config = ClientConfig {
                sessions,
                ..ClientConfig::default()
            };
            change(&mut config);
            let server = server(ServerConfig::default()).expect("the defaults");
            match calmly(name, || block_on(call(config, server))) {
                Ok(()) => {}
                Err(BuildError::Config(text)) => {
                    let is_named = text.contains(name) && text.contains("expected");
                    assert!(is_named, "{name}: {text}");
                }
                Err(error) => panic!("{name}: {error}"),
            }
        }
    }
}

#[test]
fn the_largest_numbers_of_a_server_work_or_are_refused_by_name() {
    type Change = fn(&mut ServerConfig);
    let changes: [(&str, Change); 22] = [
        ("ttl", |c| c.ttl = Duration::MAX),
        ("session_lease", |c| c.session_lease = Duration::MAX),
        ("write_timeout", |c| c.write_timeout = Duration::MAX),
        ("frame_timeout", |c| c.frame_timeout = Duration::MAX),
        ("idle_timeout", |c| c.idle_timeout = Duration::MAX),
        ("drain_timeout", |c| c.drain_timeout = Duration::MAX),
        ("max_records", |c| c.max_records = usize::MAX),
        ("max_record_bytes", |c| c.max_record_bytes = usize::MAX),
        ("max_sessions", |c| c.max_sessions = usize::MAX),
        ("max_session_bytes", |c| c.max_session_bytes = usize::MAX),
        ("max_all_session_bytes", |c| {
            c.max_all_session_bytes = usize::MAX
        }),
        ("max_joined", |c| c.max_joined = usize::MAX),
        ("max_running", |c| c.max_running = usize::MAX),
        ("max_queued", |c| c.max_queued = usize::MAX),
        ("max_running and max_queued", |c| {
            (c.max_running, c.max_queued) = (usize::MAX, usize::MAX);
        }),
        ("max_connections", |c| c.max_connections = usize::MAX),
        ("max_in_flight", |c| c.max_in_flight = usize::MAX),
        ("unsent_pause_bytes", |c| c.unsent_pause_bytes = usize::MAX),
        ("max_protocol_errors", |c| c.max_protocol_errors = u32::MAX),
        ("limits.max_frame_bytes", |c| {
            c.limits.max_frame_bytes = usize::MAX
        }),
        ("limits.max_batch_entries", |c| {
            c.limits.max_batch_entries = usize::MAX
        }),
        ("limits.max_depth", |c| c.limits.max_depth = usize::MAX),
    ];
    for (name, change) in changes {
        for sessions in [true, false] {
            let mut config = ServerConfig::default();
            change(&mut config);
            match calmly(name, || server(config)) {
                Ok(server) => calmly(name, || {
                    block_on(async {
                        let client = ClientConfig {
                            sessions,
                            ..ClientConfig::default()
                        };
                        call(client, server.clone()).await.expect("a pipe connects");
                        server.shutdown().await;
                    });
                }),
                Err(ServerBuildError::Limit { name: refused, .. }) => assert_eq!(refused, name),
                Err(error) => panic!("{name}: {error}"),
            }
        }
    }
}
