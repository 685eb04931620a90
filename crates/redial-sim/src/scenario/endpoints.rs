//! What a seed stands for where clients have several addresses: to which servers each leads, when clients hear
//! of it, and what happens to it. In a third of the worlds the servers share a table, in the others each has one
//! of its own in memory. In half of them nothing goes wrong but with servers and addresses, so that the oracle
//! can tell which calls had to get through.

use std::time::Duration;

use super::{Disaster, Latency, Scenario};
use crate::{
    journal::Frozen,
    rng::{Rng, Stream},
};

/// How long a call of a patient client may take at least: longer than all that can be in its way.
const PATIENCE: Duration = Duration::from_secs(8);

/// How long a server that has left the list goes on to take connections, where it does not for ever.
const LINGERS: Duration = Duration::from_millis(300);

#[derive(Clone)]
pub(crate) struct EndpointsPlan {
    /// The servers to which each address leads: to several, if a balancer is there.
    pub(crate) addresses: Vec<Vec<u32>>,
    /// The addresses that clients hear of first.
    pub(crate) first: Vec<u32>,
    /// What happens to addresses, in order.
    pub(crate) changes: Vec<(Duration, AddressChange)>,
    /// Whether discovery fails when it is asked first.
    pub(crate) fails_first: bool,
    /// Whether nothing goes wrong but with servers and addresses.
    pub(crate) is_smooth: bool,
}

/// Something that happens to addresses.
#[derive(Clone, Debug)]
pub(crate) enum AddressChange {
    /// Clients hear of these, and of no others.
    List(Vec<u32>),
    /// What is sent to the address is swallowed, and connections there are neither made nor refused.
    Hole(u32),
    /// It takes connections again.
    Open(u32),
    /// Its connections break, and new ones are refused.
    Close(u32),
    /// It leads to this server from now on. Connections that stand stay.
    Move(u32, u32),
    /// The same, and connections that stand break.
    MoveAll(u32, u32),
}

impl Scenario {
    /// The same world, whose clients have a list of addresses instead of one. Its servers share a table, or
    /// have none of their own but in memory.
    pub(crate) fn with_endpoints(mut self, seed: u64, is_shared: bool) -> Self {
        let rng = &mut Rng::new(seed, Stream::Endpoints);
        let is_smooth = rng.happens(0.5);
        let sharing = self.sharing.as_mut().expect("there are several servers");
        if !is_shared {
            sharing.database = None;
        }
        if is_smooth && let Some(database) = &mut sharing.database {
            (database.aborts, database.lost) = (0.0, 0.0);
        }
        sharing.is_patient |= is_smooth;
        let (servers, is_patient) = (sharing.servers.len() as u32, sharing.is_patient);
        self.server.config.session_lease = Duration::from_secs(30);
        self.server.config.max_connection_age =
            rng.pick(&[None, None, Some(Duration::from_millis(400))]);
        if is_smooth {
            self.be_smooth();
        }
        for client in &mut self.clients {
            client.config.max_endpoint_failures = rng.pick(&[1, 5]);
            if is_patient {
                client.be_stubborn(PATIENCE);
            }
        }
        let busy_ms = self.clients.iter().map(super::ClientPlan::busy_ms).max();
        let busy_ms = busy_ms.unwrap_or(0).max(400);
        self.endpoints = Some(plan(rng, servers, busy_ms, is_smooth));
        self
    }

    /// Leaves only that what happens to servers and addresses.
    fn be_smooth(&mut self) {
        let net = &mut self.net;
        net.latency = match net.latency {
            Latency::Fixed(ms) => Latency::Fixed(ms),
            Latency::Uniform(least, most) => Latency::Uniform(least, most.min(20)),
            Latency::Tail(..) => Latency::Uniform(0, 3),
        };
        (net.cut, net.silent_cut, net.hole, net.refuse) = (0.0, 0.0, 0.0, 0.0);
        (net.unasked, net.forge, net.cancel) = (0.0, 0.0, 0.0);
        net.partitions.clear();
        let is_frozen = |disaster: &Disaster| matches!(disaster, Disaster::Freeze { what, .. } if *what != Frozen::Server);
        self.disasters.retain(|disaster| !is_frozen(disaster));
        self.server.faults.clear();
        let config = &mut self.server.config;
        (config.max_running, config.max_queued, config.max_joined) = (256, 1024, 64);
        (config.max_session_bytes, config.max_records) = (16 << 20, 1_000_000);
        config.max_in_flight = 512;
        for client in &mut self.clients {
            client.dies_at.clear();
            client.slow_ms = client.slow_ms.min(30);
        }
    }
}

fn plan(rng: &mut Rng, servers: u32, busy_ms: u64, is_smooth: bool) -> EndpointsPlan {
    let mut addresses: Vec<Vec<u32>> = (0..servers).map(|server| vec![server]).collect();
    if rng.happens(0.3) {
        // A second address of a server that has one.
        addresses.push(vec![rng.small(0..=servers - 1)]);
    }
    if rng.happens(0.25) {
        addresses.push((0..servers).collect());
    }
    let count = addresses.len() as u32;
    let all: Vec<_> = (0..count).collect();
    let first = if rng.happens(0.5) {
        all
    } else {
        some_of(rng, count)
    };
    let mut changes = Vec::new();
    let closes = rng.happens(0.5);
    for _ in 0..rng.pick(&[0, 0, 1, 3]) {
        let (at, list) = (rng.ms(5..=busy_ms), some_of(rng, count));
        changes.push((at, AddressChange::List(list)));
    }
    for _ in 0..rng.pick(&[0, 0, 1, 2]) {
        let (at, address) = (rng.ms(0..=busy_ms), rng.small(0..=count - 1));
        changes.push((at, AddressChange::Hole(address)));
        changes.push((at + rng.ms(50..=1500), AddressChange::Open(address)));
    }
    for _ in 0..rng.pick(&[0, 0, 0, 1]) {
        let (at, address) = (rng.ms(5..=busy_ms), rng.small(0..=count - 1));
        let server = rng.small(0..=servers - 1);
        let change = if rng.happens(0.5) {
            AddressChange::Move(address, server)
        } else {
            AddressChange::MoveAll(address, server)
        };
        changes.push((at, change));
    }
    changes.sort_by_key(|(at, _)| *at);
    if closes {
        close_what_leaves(&first, &mut changes);
    }
    EndpointsPlan {
        addresses,
        first,
        changes,
        fails_first: rng.happens(0.2),
        is_smooth,
    }
}

/// Some addresses, at least one.
fn some_of(rng: &mut Rng, count: u32) -> Vec<u32> {
    let certain = rng.small(0..=count - 1);
    (0..count)
        .filter(|address| *address == certain || rng.happens(0.5))
        .collect()
}

/// An address that leaves the list is closed soon after, and opened when it comes back.
fn close_what_leaves(first: &[u32], changes: &mut Vec<(Duration, AddressChange)>) {
    let (mut list, mut more) = (first.to_vec(), Vec::new());
    for (at, change) in changes.iter() {
        let AddressChange::List(new) = change else {
            continue;
        };
        let gone = list.iter().filter(|address| !new.contains(address));
        more.extend(gone.map(|address| (*at + LINGERS, AddressChange::Close(*address))));
        let back = new.iter().filter(|address| !list.contains(address));
        more.extend(back.map(|address| (*at, AddressChange::Open(*address))));
        list.clone_from(new);
    }
    changes.extend(more);
    changes.sort_by_key(|(at, _)| *at);
}
