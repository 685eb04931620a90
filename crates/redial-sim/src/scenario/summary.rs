//! A scenario in a few lines: what its seed chose, without what all worlds have in common.

use std::{fmt, time::Duration};

use redial_client::{Dialect, Hedge, RetryBudget};

use super::{
    AddressChange, ClientPlan, DatabasePlan, Disaster, EndpointsPlan, Latency, NetPlan, Scenario,
    ServerPlan, SharingPlan,
};

impl Scenario {
    /// One line each for the network, the server, every client, partition and disaster.
    pub(crate) fn summary(&self) -> Vec<String> {
        let mut lines = vec![self.net.summary(), self.server.summary()];
        for (number, client) in self.clients.iter().enumerate() {
            lines.push(client.summary(number, self.keys));
        }
        for partition in &self.net.partitions {
            let cut_off = partition.client.map(|client| format!("client {client}"));
            let cut_off = cut_off.unwrap_or_else(|| "all clients".to_owned());
            let (from, to) = (partition.from, partition.to);
            lines.push(format!(
                "to come: {cut_off} cut off from {from:?} to {to:?}"
            ));
        }
        lines.extend(self.disasters.iter().map(Disaster::summary));
        if let Some(sharing) = &self.sharing {
            lines.extend(sharing.summary());
        }
        if let Some(endpoints) = &self.endpoints {
            lines.extend(endpoints.summary());
        }
        lines
    }
}

impl SharingPlan {
    fn summary(&self) -> Vec<String> {
        let table = match self.database {
            Some(database) => database.summary(self.server_lease),
            None => "each with a table of its own".to_owned(),
        };
        let patience = if self.is_patient {
            "; patient clients"
        } else {
            ""
        };
        let mut lines = vec![format!("{} servers {table}{patience}", self.servers.len())];
        for (number, disasters) in self.servers.iter().enumerate() {
            let one = |disaster| format!("server {number}: {}", Disaster::summary(disaster));
            lines.extend(disasters.iter().map(one));
        }
        lines
    }
}

impl DatabasePlan {
    fn summary(&self, lease: Duration) -> String {
        let Self {
            slow_ms,
            aborts,
            lost,
        } = self;
        format!(
            "on one table, with leases of {lease:?}; database: up to {slow_ms} ms each way, {} of commits turned \
             away, {} of statements without an answer",
            percent(*aborts),
            percent(*lost),
        )
    }
}

impl EndpointsPlan {
    fn summary(&self) -> Vec<String> {
        let calm = if self.is_smooth {
            "; nothing goes wrong but with servers and addresses"
        } else {
            ""
        };
        let (addresses, first) = (&self.addresses, &self.first);
        let mut lines = vec![format!(
            "addresses lead to {addresses:?}, clients hear of {first:?} first{calm}"
        )];
        let changes = self.changes.iter();
        lines.extend(changes.map(|(at, change)| format!("to come: {change} at {at:?}")));
        lines
    }
}

impl fmt::Display for AddressChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::List(list) => write!(f, "clients hear of addresses {list:?}"),
            Self::Hole(address) => write!(f, "address {address} swallows everything"),
            Self::Open(address) => write!(f, "address {address} takes connections again"),
            Self::Close(address) => write!(f, "address {address} is closed"),
            Self::Move(address, server) => write!(f, "address {address} leads to server {server}"),
            Self::MoveAll(address, server) => {
                write!(f, "address {address} leads to server {server}, and breaks")
            }
        }
    }
}

impl NetPlan {
    fn summary(&self) -> String {
        let latency = match self.latency {
            Latency::Fixed(ms) => format!("{ms} ms"),
            Latency::Uniform(min, max) => format!("{min} to {max} ms"),
            Latency::Tail(min, max) => format!("{min} to {max} ms with a heavy tail"),
        };
        let mut text = format!("network: latency {latency}");
        if self.splits_writes {
            text += ", writes split";
        }
        let cut = format!("of connections cut ({} silently)", percent(self.silent_cut));
        let copied = format!("of requests copied (held up to {} ms)", self.hold_ms);
        for (share, what) in [
            (self.refuse, "of connections refused"),
            (self.hole, "of connections swallow bytes"),
            (self.unasked, "messages unasked for"),
            (self.cut, &cut),
            (self.copy, &copied),
            (self.forge, "of requests forged"),
            (self.cancel, "of calls cancelled"),
        ] {
            if share > 0.0 {
                text += &format!(", {} {what}", percent(share));
            }
        }
        text
    }
}

impl ServerPlan {
    fn summary(&self) -> String {
        let config = &self.config;
        let mut text = format!(
            "server: ttl {:?}, lease {:?}, drain {:?}; limits: {} in flight, {} running, {} queued, \
             {} joined, {} sessions, {} bytes a session, {} records",
            config.ttl,
            config.session_lease,
            config.drain_timeout,
            config.max_in_flight,
            config.max_running,
            config.max_queued,
            config.max_joined,
            config.max_sessions,
            config.max_session_bytes,
            config.max_records,
        );
        if !self.faults.is_empty() {
            let rate = percent(self.fault_rate);
            text += &format!("; {rate} each of {:?}", self.faults);
        }
        text
    }
}

impl ClientPlan {
    fn summary(&self, number: usize, counters: u32) -> String {
        let (config, call) = (&self.config, &self.config.call);
        let mut text = format!(
            "client {number}: {} workers with {} calls each on {counters} counters; \
             {} connections, window {}, keepalive {:?}; \
             {} attempts of {:?} within {:?}",
            self.workers,
            self.calls_per_worker,
            config.connections,
            config.max_in_flight,
            config.keepalive,
            call.max_attempts,
            call.attempt_timeout,
            call.deadline,
        );
        match call.hedge {
            Hedge::Off => {}
            Hedge::After(delay) => text += &format!(", hedged after {delay:?}"),
            _ => text += ", hedged at the 95th percentile",
        }
        for (applies, what) in [
            (config.dialect == Dialect::Notebook, "notebook dialect"),
            (!config.extensions, "no extensions"),
            (!config.sessions, "no sessions"),
            (call.fail_fast, "fails fast"),
            (call.adaptive_timeout.is_some(), "adaptive timeouts"),
            (
                config.retry_budget == RetryBudget::unlimited(),
                "unlimited retries",
            ),
        ] {
            if applies {
                text += &format!(", {what}");
            }
        }
        for (share, what) in [(self.saved, "calls saved"), (self.dropped, "calls dropped")] {
            if share > 0.0 {
                text += &format!(", {} of {what}", percent(share));
            }
        }
        if !self.dies_at.is_empty() {
            text += &format!(", dies at {:?}", self.dies_at);
        }
        text
    }
}

impl Disaster {
    fn summary(&self) -> String {
        match self {
            Self::Crash { at, down } => {
                format!("to come: server dies at {at:?}, down for {down:?}")
            }
            Self::Restart { at, down } => {
                format!("to come: server restarts at {at:?}, down for {down:?}")
            }
            Self::BreakAll { at } => format!("to come: all connections break at {at:?}"),
            Self::Freeze { at, what, time } => {
                format!("to come: {what} stands still at {at:?}, for {time:?}")
            }
        }
    }
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}
