//! The drivers: one task per link, which makes its connections and serves them one after another.

mod batch;
mod connection;
mod decode;
mod keepalive;
mod oversized;

use std::{
    future::poll_fn,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::AbortHandle,
    time::sleep_until,
};

use self::connection::Connection;
use crate::{
    cause::ConnectError,
    clock::{self, after},
    connector::Connector,
    origin::Origin,
    shared::{Shared, SharedState, SpawnDriver},
    token_source::FetchedToken,
};

impl<C: Connector> SpawnDriver for Spawner<C> {
    fn spawn(&self, shared: Arc<Shared>, link: usize) -> AbortHandle {
        start(self.0.clone(), shared, link, None)
    }
}

/// Starts drivers for one endpoint.
pub(crate) struct Spawner<C>(pub(crate) Arc<C>);

/// Starts the driver of a link, with a connection if there is one already.
pub(crate) fn start<C: Connector>(
    connector: Arc<C>,
    shared: Arc<Shared>,
    link: usize,
    io: Option<C::Io>,
) -> AbortHandle {
    let guard = DriverGuard {
        forks: shared.forks(),
        shared,
        link,
        is_released: false,
    };
    tokio::spawn(drive(connector, guard, io)).abort_handle()
}

/// Wakes the calls that wait on a link when its driver is gone, even if it panicked or its runtime
/// ended: no call may wait for ever.
struct DriverGuard {
    shared: Arc<Shared>,
    link: usize,
    /// The link was released: another driver may have it by now.
    is_released: bool,
    forks: u32,
}

impl Drop for DriverGuard {
    fn drop(&mut self) {
        if self.is_released || self.forks != self.shared.forks() {
            return;
        }
        let (shared, link) = (&self.shared, self.link);
        let now = clock::now();
        // In one step, so that a call that is woken finds the link without a driver.
        shared.with(|state| {
            // How much was written is not known: all that was taken may have been.
            disconnect(state, shared, link, None, "its task ended", now);
            state.mux.handle_driver_gone(link);
        });
    }
}

/// Serves one link for as long as there is something to send.
async fn drive<C: Connector>(connector: Arc<C>, mut guard: DriverGuard, mut first: Option<C::Io>) {
    while !guard.is_released {
        let (shared, link) = (&guard.shared, guard.link);
        match first.take() {
            Some(io) => match fetch_token(shared).await {
                Ok(token) => serve(io, token, shared, link).await,
                Err(error) => fail(error, &*connector, shared, link),
            },
            None => {
                if let Some(at) = shared.with(|state| state.mux.reconnect_at(link)) {
                    sleep_until(at.into()).await;
                }
                let limit = shared.config.connect_timeout;
                let token = fetch_token(shared).await;
                match (token, connector.connect_within(limit).await) {
                    (Ok(token), Ok(io)) => serve(io, token, shared, link).await,
                    (Err(error), _) | (_, Err(error)) => fail(error, &*connector, shared, link),
                }
            }
        }
        guard.is_released = shared.with(|state| state.mux.release_idle_driver(link));
    }
}

/// The token that a connection begins with, if the client shows any.
async fn fetch_token(shared: &Shared) -> io::Result<Option<FetchedToken>> {
    let Some(tokens) = &shared.tokens else {
        return Ok(None);
    };
    let fetched = tokens.get(None, shared.config.connect_timeout).await;
    fetched.map(Some).map_err(io::Error::other)
}

fn fail(error: io::Error, connector: &impl Connector, shared: &Shared, link: usize) {
    let (now, reason) = (clock::now(), Arc::new(error));
    let name = connector.name().map(Arc::from);
    shared.with(|state| {
        let error = ConnectError {
            peer: state.mux.peer(link),
            connector: name,
            reason,
        };
        state.mux.handle_connect_failed(link, &error, now);
        delay_reconnect(state, shared, link, now);
    });
}

/// Serves one connection to its end.
async fn serve<Io>(io: Io, token: Option<FetchedToken>, shared: &Arc<Shared>, link: usize)
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let now = clock::now();
    let origin = Origin::here();
    let preamble = shared.with(|state| {
        shared.mix_randomness(state, &origin);
        let mut preamble = match &token {
            Some(token) => state.mux.begin_auth(link, token),
            None => Vec::new(),
        };
        preamble.append(&mut state.mux.handle_connected(link, now));
        preamble
    });
    let mut connection = Connection::new(io, shared, link, preamble);
    let reason = poll_fn(|context| connection.poll(context)).await;
    let (now, written) = (clock::now(), connection.written());
    shared.with(|state| disconnect(state, shared, link, Some(written), &reason, now));
}

/// The link's connection is gone. `written` is how far it was written to, if that is known.
fn disconnect(
    state: &mut SharedState,
    shared: &Shared,
    link: usize,
    written: Option<u64>,
    reason: &str,
    now: Instant,
) {
    state.check_suspension(now);
    let peer = state.mux.peer(link);
    let mux = &mut state.mux;
    mux.handle_disconnect(link, written, &peer, reason, now);
    delay_reconnect(state, shared, link, now);
}

/// Connections that were of no use are not made without pause.
fn delay_reconnect(state: &mut SharedState, shared: &Shared, link: usize, now: Instant) {
    let failures = state.mux.consecutive_failures(link);
    if failures > 0 {
        let backoff = shared.config.reconnect;
        let wait = backoff.delay(failures, Duration::ZERO, &mut state.retry.jitter);
        state.mux.delay_reconnect(link, after(now, wait));
    }
}
