//! The servers of a world: one, or several on one table, behind a balancer that deals new connections out to
//! those that live. It takes a frozen one for alive, as its machine still accepts connections.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::Relaxed},
};

use crate::{
    database::Database,
    host::{Host, Subject, Surroundings},
    journal::Journal,
    net::{Net, Wire},
    scenario::Scenario,
    service::Ledger,
};

/// All clones are the same servers.
#[derive(Clone)]
pub(crate) struct Cluster(Arc<Shared>);

struct Shared {
    hosts: Vec<Host>,
    database: Option<Database>,
    /// Which of them gets the next connection.
    next: AtomicU32,
}

impl Cluster {
    pub(crate) fn new(
        seed: u64,
        subject: Subject,
        scenario: &Scenario,
        journal: &Journal,
        net: &Net,
    ) -> Self {
        let plan = scenario.sharing.as_ref();
        let database = plan.map(|plan| Database::new(seed, plan.database));
        let surroundings = Surroundings {
            seed,
            subject,
            journal: journal.clone(),
            net: net.clone(),
            ledger: Ledger::new(journal),
            lives: Arc::default(),
            database: database.clone().zip(plan.map(|plan| plan.server_lease)),
        };
        let servers = plan.map_or(1, |plan| plan.servers.len() as u32);
        let hosts = (0..servers)
            .map(|number| Host::new(number, &scenario.server, surroundings.clone()))
            .collect();
        Self(Arc::new(Shared {
            hosts,
            database,
            next: AtomicU32::new(0),
        }))
    }

    pub(crate) fn start(&self) {
        self.0.hosts.iter().for_each(Host::start);
    }

    pub(crate) fn host(&self, number: u32) -> &Host {
        &self.0.hosts[number as usize]
    }

    /// Gives a connection to the next server that runs. False if none does.
    pub(crate) fn accept(&self, wire: Wire) -> bool {
        let hosts = &self.0.hosts;
        let first = self.0.next.fetch_add(1, Relaxed) as usize;
        let mut hosts = (0..hosts.len()).map(|step| &hosts[(first + step) % hosts.len()]);
        hosts
            .find(|host| host.is_up())
            .is_some_and(|host| host.accept(wire))
    }

    /// From now on the database answers every statement.
    pub(crate) fn calm(&self) {
        if let Some(database) = &self.0.database {
            database.calm();
        }
    }
}
