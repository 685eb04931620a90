//! The whole of one end against a peer in memory that costs next to nothing: to count instructions
//! and allocations, which sockets, other threads and the time of day would blur.

mod recorder;
mod stub_client;
mod stub_server;

use std::{io, rc::Rc, time::Duration};

use anyhow::{Context, Result};
use clap::ValueEnum;
use redial_client::{Client, ClientBuilder, Config, connect::once};
use redial_server::ServerBuilder;
use tokio::{runtime::Builder, task::LocalSet};

use self::{recorder::KeepingRecorder, stub_client::StubClient, stub_server::StubServer};
use crate::{
    counters::server_builder,
    load::Mode,
    methods::{Inc, IncParams},
};

/// What the calls go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Path {
    /// The server: the method as a query.
    ServerQuery,
    /// The server: as a mutation under plain ids, each of which leaves a record.
    ServerPlain,
    /// The server: as a mutation of a session.
    ServerSession,
    /// The same with metrics, which are recorded.
    ServerSessionMetrics,
    /// The client, with a session.
    ClientSession,
    /// The same with metrics, which are recorded.
    ClientSessionMetrics,
    /// The client, with a session, whose calls fail fast.
    ClientSessionFailFast,
}

/// Makes so many calls, of which `at_once` arrive in one read of the server, or are in flight at once
/// from the client.
///
/// # Errors
///
/// If a call ends without a result.
pub fn run(path: Path, calls: u32, at_once: u32) -> Result<()> {
    match path {
        Path::ServerQuery => run_server(builder(), Mode::Query, calls, at_once),
        Path::ServerPlain => run_server(builder(), Mode::Plain, calls, at_once),
        Path::ServerSession => run_server(builder(), Mode::Session, calls, at_once),
        Path::ServerSessionMetrics => recorded(|| {
            let builder = builder().metrics();
            run_server(builder, Mode::Session, calls, at_once)
        }),
        Path::ClientSession => run_client(Client::builder(), calls, at_once),
        Path::ClientSessionMetrics => {
            recorded(|| run_client(Client::builder().metrics(), calls, at_once))
        }
        Path::ClientSessionFailFast => {
            let mut config = Config::default();
            config.call.fail_fast = true;
            run_client(Client::builder().config(config), calls, at_once)
        }
    }
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    Builder::new_current_thread().enable_time().build()
}

/// The server with nothing that expires: how much would depend on how fast it goes.
fn builder() -> ServerBuilder {
    server_builder(Duration::from_secs(3600), usize::MAX)
}

/// Does it where metrics are recorded. All of it is on this thread.
fn recorded(run: impl FnOnce() -> Result<()>) -> Result<()> {
    metrics::with_local_recorder(&KeepingRecorder, run)
}

fn run_server(builder: ServerBuilder, mode: Mode, calls: u32, at_once: u32) -> Result<()> {
    let server = builder.build()?;
    let (stub_client, result) = StubClient::new(mode, calls, at_once);
    runtime()?.block_on(server.serve_connection(stub_client));
    let result = result.take();
    result.unwrap_or_else(|| {
        anyhow::bail!("the server closed the connection before it had answered all calls")
    })
}

fn run_client(builder: ClientBuilder, calls: u32, at_once: u32) -> Result<()> {
    let local = LocalSet::new();
    local.block_on(&runtime()?, async {
        let client = builder.connect_with(once(StubServer::default()));
        let client = client.await?;
        let left = Rc::new(std::cell::Cell::new(calls));
        let tasks = (0..at_once.min(calls)).map(|_| {
            let (client, left) = (client.clone(), Rc::clone(&left));
            tokio::task::spawn_local(make_calls(client, left))
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.context("a task of the client panicked")??;
        }
        Ok(())
    })
}

async fn make_calls(client: Client, left: Rc<std::cell::Cell<u32>>) -> Result<()> {
    while let Some(rest) = left.get().checked_sub(1) {
        left.set(rest);
        let params = IncParams {
            key: "bench".into(),
            delta: 1,
        };
        client.call::<Inc>(params).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_paths_lead_to_the_end() {
        for path in Path::value_variants() {
            for (calls, at_once) in [(1, 1), (100, 1), (100, 32)] {
                let done = run(*path, calls, at_once);
                assert!(done.is_ok(), "{path:?} {calls} {at_once}: {done:?}");
            }
        }
    }
}
