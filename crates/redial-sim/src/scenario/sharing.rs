//! What a seed stands for where there are several servers, which may share a table: how many there are, what happens to each, and
//! how their database behaves. The rest of the scenario is as for one server, with sessions that live for
//! longer than a server's lease; in half of the worlds the clients try for as long as a call's deadline.

use std::time::Duration;

use super::{Disaster, Scenario};
use crate::{
    journal::Frozen,
    rng::{Rng, Stream},
};

#[derive(Clone)]
pub(crate) struct SharingPlan {
    /// Where the table lies that they share; otherwise each has one of its own, in memory.
    pub(crate) database: Option<DatabasePlan>,
    /// How long a server may record things after it was last heard of.
    pub(crate) server_lease: Duration,
    /// What happens to each of them.
    pub(crate) servers: Vec<Vec<Disaster>>,
    /// Whether clients give up no call before its deadline.
    pub(crate) is_patient: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct DatabasePlan {
    /// How long a statement takes at most, on each of its ways.
    pub(crate) slow_ms: u64,
    /// The share of commits that are turned away.
    pub(crate) aborts: f64,
    /// The share of statements that have no answer: half of them have not arrived.
    pub(crate) lost: f64,
}

impl Scenario {
    /// The same world with several servers.
    pub(crate) fn shared(mut self, seed: u64) -> Self {
        let rng = &mut Rng::new(seed, Stream::Cluster);
        let lease_ms = rng.pick(&[150, 400, 1000]);
        let busy_ms = self.clients.iter().map(super::ClientPlan::busy_ms).max();
        let busy_ms = busy_ms.unwrap_or(0).max(lease_ms);
        let servers = 0..rng.number(2..=3);
        let sharing = SharingPlan {
            database: Some(DatabasePlan {
                slow_ms: rng.pick(&[1, 4, 20]),
                aborts: rng.pick(&[0.0, 0.05, 0.3]),
                lost: rng.pick(&[0.0, 0.04, 0.15]),
            }),
            server_lease: Duration::from_millis(lease_ms),
            servers: servers.map(|_| disasters(rng, lease_ms, busy_ms)).collect(),
            is_patient: rng.happens(0.5),
        };
        self.server.config.session_lease = rng.pick(&[2, 30]) * Duration::from_secs(1);
        self.server.config.max_sessions = 10_000;
        self.disasters.retain(|disaster| match disaster {
            Disaster::BreakAll { .. } => true,
            Disaster::Freeze { what, .. } => matches!(what, Frozen::Client(_)),
            _ => false,
        });
        for client in &mut self.clients {
            if sharing.is_patient {
                client.be_stubborn(PATIENCE);
            }
        }
        self.sharing = Some(sharing);
        self
    }
}

/// How long a call of a patient client may take, at least: longer than a server is away or frozen.
const PATIENCE: Duration = Duration::from_secs(4);

fn disasters(rng: &mut Rng, lease_ms: u64, busy_ms: u64) -> Vec<Disaster> {
    let mut disasters: Vec<_> = (0..rng.pick(&[0, 1, 2, 4]))
        .map(|_| {
            let at = rng.ms(5..=busy_ms);
            match rng.number(0..=3) {
                0 => Disaster::Crash {
                    at,
                    down: rng.ms(0..=400),
                },
                1 => Disaster::Restart {
                    at,
                    down: rng.ms(0..=400),
                },
                kind => Disaster::Freeze {
                    at,
                    what: Frozen::Server,
                    time: if kind == 2 {
                        rng.ms(10..=lease_ms)
                    } else {
                        rng.ms(lease_ms..=2 * lease_ms)
                    },
                },
            }
        })
        .collect();
    disasters.sort_by_key(|disaster| disaster.at());
    disasters
}
