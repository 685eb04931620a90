//! The servers of a world: one, or several, behind a balancer that deals new connections out to those that live,
//! or at addresses of their own. A frozen one is taken for alive, as its machine still accepts connections.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU32, Ordering::Relaxed},
};

use crate::{
    database::Database,
    host::{Host, Subject, Surroundings},
    journal::{Event, Journal},
    net::{Net, Wire},
    scenario::{AddressChange, Scenario},
    service::Ledger,
};

/// All clones are the same servers.
#[derive(Clone)]
pub(crate) struct Cluster(Arc<ClusterShared>);

struct ClusterShared {
    hosts: Vec<Host>,
    database: Option<Database>,
    /// Which of them gets the next connection.
    next: AtomicU32,
    /// Where clients have a list of addresses.
    addresses: Mutex<Addresses>,
}

/// To which servers each address leads, and which of them clients hear of.
#[derive(Default)]
struct Addresses {
    all: Vec<Address>,
    list: Vec<u32>,
}

struct Address {
    servers: Vec<u32>,
    door: Door,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    Open,
    Closed,
    Hole,
}

/// What happens to a client that wants to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Knock {
    Answered,
    Refused,
    /// Neither, until later.
    Silence,
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
        let database = plan.and_then(|plan| plan.database);
        let database = database.map(|plan| Database::new(seed, plan));
        let servers = plan.map_or(1, |plan| plan.servers.len() as u32);
        let surroundings = Surroundings {
            seed,
            subject,
            journal: journal.clone(),
            net: net.clone(),
            ledger: Ledger::new(journal),
            is_alone: plan.is_none(),
            lives: Arc::default(),
            database: database.clone().zip(plan.map(|plan| plan.server_lease)),
        };
        let hosts = (0..servers)
            .map(|number| Host::new(number, &scenario.server, surroundings.clone()))
            .collect();
        let plan = scenario.endpoints.iter();
        let all = plan.clone().flat_map(|plan| plan.addresses.clone());
        let all = all.map(|servers| Address {
            servers,
            door: Door::Open,
        });
        let addresses = Addresses {
            all: all.collect(),
            list: plan.flat_map(|plan| plan.first.clone()).collect(),
        };
        Self(Arc::new(ClusterShared {
            hosts,
            database,
            next: AtomicU32::new(0),
            addresses: Mutex::new(addresses),
        }))
    }

    pub(crate) fn start(&self) {
        self.0.hosts.iter().for_each(Host::start);
    }

    pub(crate) fn host(&self, number: u32) -> &Host {
        &self.0.hosts[number as usize]
    }

    /// What a client finds at an address, or where there is only one.
    pub(crate) fn knock(&self, address: Option<u32>) -> Knock {
        match address.map(|address| self.addresses().all[address as usize].door) {
            None | Some(Door::Open) => Knock::Answered,
            Some(Door::Closed) => Knock::Refused,
            Some(Door::Hole) => Knock::Silence,
        }
    }

    /// Gives a connection to the next server that runs, of those at its address. False if none does.
    pub(crate) fn accept(&self, wire: Wire) -> bool {
        let all = || (0..self.0.hosts.len() as u32).collect();
        let servers: Vec<u32> = match wire.address() {
            None => all(),
            Some(address) => self.addresses().all[address as usize].servers.clone(),
        };
        let first = self.0.next.fetch_add(1, Relaxed) as usize;
        let steps = 0..servers.len();
        let mut hosts = steps.map(|step| self.host(servers[(first + step) % servers.len()]));
        hosts
            .find(|host| host.is_up())
            .is_some_and(|host| host.accept(wire))
    }

    /// Something happens to an address.
    pub(crate) fn change(&self, change: &AddressChange) {
        let mut addresses = self.addresses();
        let mut set = |address: u32, door| addresses.all[address as usize].door = door;
        match change {
            AddressChange::List(list) => addresses.list.clone_from(list),
            AddressChange::Hole(address) => set(*address, Door::Hole),
            AddressChange::Open(address) => set(*address, Door::Open),
            AddressChange::Close(address) => set(*address, Door::Closed),
            AddressChange::Move(address, server) | AddressChange::MoveAll(address, server) => {
                addresses.all[*address as usize].servers = vec![*server];
            }
        }
    }

    /// Notes which addresses of the list lead to which tables now, if there is a list.
    pub(crate) fn note_reachable(&self, journal: &Journal) {
        let addresses = self.addresses();
        if addresses.all.is_empty() {
            return;
        }
        let reachable = addresses.list.iter().filter_map(|address| {
            let Address { servers, door } = &addresses.all[*address as usize];
            let is_certain =
                *door == Door::Open && (servers.len() == 1 || self.0.database.is_some());
            Some((*address, self.table_of(servers).filter(|_| is_certain)?))
        });
        let (listed, tables) = (addresses.list.clone(), reachable.collect());
        journal.note(Event::Reachable { listed, tables });
    }

    /// The table of these servers, if one of them runs, and none stands still.
    fn table_of(&self, servers: &[u32]) -> Option<u32> {
        let hosts = || servers.iter().map(|server| self.host(*server));
        let life = hosts().find_map(Host::life)?;
        let is_frozen = hosts().any(|host| host.frost().is_frozen());
        let table = if self.0.database.is_some() { 0 } else { life };
        (!is_frozen).then_some(table)
    }

    fn addresses(&self) -> MutexGuard<'_, Addresses> {
        (self.0.addresses.lock()).unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on the database answers every statement, and every address leads somewhere.
    pub(crate) fn calm(&self) {
        if let Some(database) = &self.0.database {
            database.calm();
        }
        for address in &mut self.addresses().all {
            address.door = Door::Open;
        }
    }
}
