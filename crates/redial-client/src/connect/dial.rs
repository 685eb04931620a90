//! The edge of a [`Race`]: looks a name up, starts the attempts when they are due, and gives the
//! first connection.

use std::{
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    pin::Pin,
    task::Poll,
    time::{Duration, Instant},
};

use redial_protocol::{Address, unmapped};
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout_at,
};

use super::race::{Race, RaceStep};
use crate::clock;

/// What a race needs of the system.
pub(super) trait Network: Sync {
    type Io;

    /// The addresses of a name, in the order of preference (RFC 6724).
    fn lookup(&self, address: &Address)
    -> impl Future<Output = io::Result<Vec<SocketAddr>>> + Send;

    fn connect(&self, address: SocketAddr) -> impl Future<Output = io::Result<Self::Io>> + Send;
}

/// TCP, as the system has it.
pub(super) struct System;

impl Network for System {
    type Io = TcpStream;

    async fn lookup(&self, address: &Address) -> io::Result<Vec<SocketAddr>> {
        Ok(lookup_host(address.as_str()).await?.collect())
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// Connects to the first address of a name that answers; the limit bounds the look-up and all the
/// attempts together. What has no connection by then is dropped.
pub(super) async fn dial<N: Network>(
    network: &N,
    address: &Address,
    limit: Option<Duration>,
) -> io::Result<N::Io> {
    let deadline = limit.and_then(|limit| clock::now().checked_add(limit));
    let timed_out = |what| {
        let text = format!("{what} within {:?}", limit.unwrap_or_default());
        io::Error::new(io::ErrorKind::TimedOut, text)
    };
    if let Ok(address) = address.as_str().parse() {
        let connected = by(deadline, network.connect(unmapped(address))).await;
        return connected.unwrap_or_else(|| Err(timed_out("no connection")));
    }
    let resolved = by(deadline, network.lookup(address)).await;
    let resolved = resolved.unwrap_or_else(|| Err(timed_out("the name was not resolved")));
    let (mut race, mut running) = (Race::new(resolved?), Running::<N::Io>::default());
    loop {
        let now = clock::now();
        if deadline.is_some_and(|deadline| deadline <= now) {
            return Err(race.into_error(limit));
        }
        let next_at = match race.next(now) {
            RaceStep::Start(address) => {
                running.start(address, network.connect(address));
                continue;
            }
            RaceStep::Wait(next_at) => next_at,
            RaceStep::Exhausted => return Err(race.into_error(None)),
        };
        let until = [next_at, deadline].into_iter().flatten().min();
        match by(until, running.first_ended()).await {
            Some((_, Ok(io))) => return Ok(io),
            Some((address, Err(error))) => race.failed(address, error),
            None => {}
        }
    }
}

/// What a future gives, if it does so in time.
async fn by<F: Future>(until: Option<Instant>, future: F) -> Option<F::Output> {
    match until {
        Some(until) => timeout_at(until.into(), future).await.ok(),
        None => Some(future.await),
    }
}

/// The attempts that run.
struct Running<'a, Io>(Vec<(SocketAddr, Dialing<'a, Io>)>);

type Dialing<'a, Io> = Pin<Box<dyn Future<Output = io::Result<Io>> + Send + 'a>>;

impl<Io> Default for Running<'_, Io> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'a, Io> Running<'a, Io> {
    fn start(
        &mut self,
        address: SocketAddr,
        attempt: impl Future<Output = io::Result<Io>> + Send + 'a,
    ) {
        self.0.push((address, Box::pin(attempt)));
    }

    async fn first_ended(&mut self) -> (SocketAddr, io::Result<Io>) {
        poll_fn(|context| {
            for at in 0..self.0.len() {
                let (address, attempt) = &mut self.0[at];
                if let Poll::Ready(ended) = attempt.as_mut().poll(context) {
                    let address = *address;
                    drop(self.0.remove(at));
                    return Poll::Ready((address, ended));
                }
            }
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests;
