//! A generator of load that spends next to nothing on a call, so that the server is what is
//! measured: requests are copies of a template with a few digits changed, replies are recognised by
//! their position and their length, and everything that there is room for leaves in one write.

pub mod connection;
pub mod hex;
pub mod peer;
pub mod slots;
pub mod template;
pub mod wire;

use std::{
    io::ErrorKind,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use hdrhistogram::Histogram;
use mio::{Events, Poll, Token};
use redial_tls::rustls::ClientConfig;

use self::{connection::Connection, peer::Peer};
use crate::{
    clock,
    slices::Slices,
    summary::{Cpu, Summary, histogram},
};

/// How long the replies to the last calls may take.
const DRAIN: Duration = Duration::from_secs(5);

/// What is asked of the peer, and under what ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// The requests of `session`, to a peer that sends them back.
    Echo,
    /// The same method as a query, in the very requests of `session`: no call is recorded.
    Query,
    /// The same with plain ids, and nothing to acknowledge.
    PlainQuery,
    /// `inc` with plain ids.
    Plain,
    /// `inc` with the numbers of a session, one for each connection, and acknowledgements.
    Session,
}

/// A run.
#[derive(Clone, Debug)]
pub struct Load {
    /// Where the peer listens.
    pub peer: SocketAddr,
    /// How TLS is spoken, if it is.
    pub tls: Option<Arc<ClientConfig>>,
    /// What is asked of it.
    pub mode: Mode,
    /// Over how many connections.
    pub connections: usize,
    /// How many calls are in flight on each.
    pub in_flight: usize,
    /// The share of calls that are sent twice, the second time right after the first.
    pub duplicates: f64,
    /// How long before anything is measured.
    pub warmup: Duration,
    /// How long is measured.
    pub length: Duration,
    /// Whether to ask for replies all the time, instead of sleeping until there are some: then a
    /// server never pays for waking this end up, which is expensive on a virtual machine.
    pub spin: bool,
    /// The process whose time is measured as well.
    pub watch: Option<u32>,
}

impl Load {
    /// Runs it, and makes sure that every call had its effect, once.
    ///
    /// # Errors
    ///
    /// If a call was not answered by a result, if the two replies to one that was sent twice
    /// differ, or if the counters don't show exactly the calls that were made.
    pub fn run(&self) -> Result<Summary> {
        let mut poll = Poll::new().context("no event queue")?;
        let mut peers = Vec::new();
        let mut connections = Vec::new();
        for index in 0..self.connections {
            let (peer, wire, template) = Peer::open(self, index)?;
            let connection = Connection::new(wire, template, self, &poll, Token(index))?;
            peers.push(peer);
            connections.push(connection);
        }
        let summary = self.measure(&mut poll, &mut connections)?;
        let mut missing = 0;
        for (peer, connection) in peers.iter().zip(&connections) {
            missing += peer.missing(connection.calls())?;
        }
        ensure!(
            missing == 0,
            "{} calls too {} had an effect",
            missing.abs(),
            if missing > 0 { "few" } else { "many" }
        );
        Ok(summary)
    }

    fn measure(&self, poll: &mut Poll, connections: &mut [Connection]) -> Result<Summary> {
        let start = clock::now();
        for connection in connections.iter_mut() {
            connection.send(0)?;
        }
        let mut event_loop = EventLoop {
            poll,
            events: Events::with_capacity(64),
            start,
            spin: self.spin,
            latencies: histogram(),
            slices: Slices::of(Duration::ZERO),
            sliced_from: self.warmup,
        };
        event_loop.run(connections, self.warmup, true)?;
        let (before, from) = (Cpu::now(self.watch)?, clock::now());
        event_loop.latencies.reset();
        event_loop.slices = Slices::of(self.length);
        event_loop.sliced_from = from.duration_since(start);
        event_loop.run(connections, self.warmup + self.length, true)?;
        let elapsed = clock::now().duration_since(from);
        let after = Cpu::now(self.watch)?;
        let cpu = [before, after];
        let summary = Summary::new(
            &event_loop.latencies,
            event_loop.slices.clone(),
            elapsed,
            cpu,
        );
        event_loop.run(connections, self.warmup + self.length + DRAIN, false)?;
        let in_flight = connections.iter().map(Connection::in_flight);
        let unanswered: usize = in_flight.sum();
        ensure!(
            unanswered == 0,
            "{unanswered} calls were not answered within {DRAIN:?}"
        );
        Ok(summary)
    }
}

/// The event loop around the connections.
struct EventLoop<'p> {
    poll: &'p mut Poll,
    events: Events,
    start: Instant,
    spin: bool,
    latencies: Histogram<u64>,
    slices: Slices,
    /// When the first slice began, after the start.
    sliced_from: Duration,
}

impl EventLoop<'_> {
    /// Takes replies, and makes calls for them if it `calls`, until so long after the start, or until
    /// nothing is in flight any more.
    fn run(&mut self, connections: &mut [Connection], until: Duration, calls: bool) -> Result<()> {
        loop {
            let now = clock::now().duration_since(self.start);
            let is_done = !calls && connections.iter().all(|it| it.in_flight() == 0);
            if now >= until || is_done {
                return Ok(());
            }
            let patience = if self.spin {
                Duration::ZERO
            } else {
                until - now
            };
            match self.poll.poll(&mut self.events, Some(patience)) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
                _ => {}
            }
            for event in &self.events {
                let connection = &mut connections[event.token().0];
                let before = self.latencies.len();
                connection.receive(self.start, &mut self.latencies)?;
                let now = clock::now().duration_since(self.start);
                let at = now.saturating_sub(self.sliced_from);
                self.slices.add(at, self.latencies.len() - before);
                if calls {
                    connection.send(now.as_nanos() as u64)?;
                } else {
                    connection.flush()?;
                }
            }
        }
    }
}
