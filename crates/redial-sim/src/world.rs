//! Start reading here: a world is made from a seed, runs to its end, and leaves a record.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    sync::mpsc::{UnboundedSender, unbounded_channel},
    time::{Instant, sleep, sleep_until},
};

use crate::{
    caller, clock,
    cluster::Cluster,
    frost::Frost,
    host::Subject,
    journal::{Entry, Event, Frozen, Journal},
    middlebox::Middlebox,
    net::{Capture, Net, Whose},
    panics,
    scenario::{AddressChange, ClientPlan, Disaster, Scenario},
};

/// How long the world goes on after the last call, in addition to the longest hold of a copy.
const AFTERMATH: Duration = Duration::from_secs(3);

/// What everything in a world shares.
pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) subject: Subject,
    pub(crate) scenario: Scenario,
    pub(crate) start: Instant,
    pub(crate) journal: Journal,
    pub(crate) net: Net,
    pub(crate) cluster: Cluster,
    /// Of each client.
    pub(crate) frosts: Vec<Frost>,
    tags: AtomicU32,
    ops: AtomicU32,
}

/// The record of a finished world.
#[derive(Clone, Debug)]
pub struct Run {
    /// The seed of the world.
    pub seed: u64,
    /// Everything that happened.
    pub entries: Vec<Entry>,
    /// How long it lasted, in its own time.
    pub lasted: Duration,
    /// How long a server keeps the outcome of a call with a plain id.
    pub ttl: Duration,
    /// How long a session outlives its last connection.
    pub lease: Duration,
    /// Whether the server has room for every session that a world asks for.
    pub has_room_for_sessions: bool,
    /// Whether the server has a store.
    pub is_stored: bool,
    /// Whether the effects of its calls lie in that store.
    pub is_transactional: bool,
    /// Whether several servers share it.
    pub is_shared: bool,
    /// Whether calls may be run again where the server that ran them is gone, and come to the same.
    pub is_resumable: bool,
    /// Whether no client gives up a call before its deadline.
    pub is_patient: bool,
    /// Whether clients have a list of addresses.
    pub has_endpoints: bool,
    /// Whether nothing goes wrong but with servers and their addresses.
    pub is_smooth: bool,
    /// Panics other than those of handlers that are meant to panic.
    pub panics: Vec<String>,
}

/// Runs the world of a seed to its end: on this thread, in a runtime and a time of its own.
///
/// # Panics
///
/// If the system gives no runtime.
#[must_use]
pub fn run(seed: u64, subject: Subject) -> Run {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O needs nothing of the system");
    let (mut run, panics) = panics::collected(|| {
        let run = runtime.block_on(play(seed, subject));
        drop(runtime);
        run
    });
    run.panics = panics;
    run
}

async fn play(seed: u64, subject: Subject) -> Run {
    let (captures, captured) = unbounded_channel();
    let world = Arc::new(World::new(seed, subject, captures));
    let World {
        journal,
        net,
        cluster,
        ..
    } = &*world;
    journal.remark(format!("seed {seed}"));
    for line in world.scenario.summary() {
        journal.remark(line);
    }
    cluster.start();
    cluster.note_reachable(journal);
    let middlebox = Middlebox::new(net, cluster, journal);
    tokio::spawn(middlebox.clone().run(captured));
    let sharing = world.scenario.sharing.iter();
    let of_servers = sharing.flat_map(|sharing| sharing.servers.clone());
    let disasters = [world.scenario.disasters.clone()].into_iter();
    let disasters: Vec<_> = disasters
        .map(|disasters| (0, disasters))
        .chain((0..).zip(of_servers))
        .map(|(server, disasters)| tokio::spawn(run_disasters(world.clone(), server, disasters)))
        .chain([tokio::spawn(run_turns(world.clone()))])
        .collect();
    let clients = world.scenario.clients.len() as u32;
    let clients: Vec<_> = (0..clients)
        .map(|number| tokio::spawn(caller::live(world.clone(), number)))
        .collect();
    for client in clients {
        client.await.expect("a client does not panic");
    }
    for disasters in disasters {
        disasters.await.expect("a disaster does not panic");
    }
    journal.remark("all calls have ended");
    net.calm();
    cluster.calm();
    sleep(Duration::from_millis(world.scenario.net.hold_ms) + AFTERMATH).await;
    middlebox.release_last_copies().await;
    sleep(AFTERMATH).await;
    Run {
        seed,
        lasted: journal.elapsed(),
        entries: journal.take(),
        ttl: world.scenario.server.config.ttl,
        lease: world.scenario.server.config.session_lease,
        has_room_for_sessions: world.scenario.server.config.max_sessions >= 1_000,
        is_stored: subject.is_stored(seed),
        is_transactional: subject.is_transactional(seed),
        is_shared: subject.is_shared(seed),
        is_resumable: subject.is_resumable(seed),
        is_patient: (world.scenario.sharing.as_ref()).is_some_and(|sharing| sharing.is_patient),
        has_endpoints: subject.has_endpoints(),
        is_smooth: (world.scenario.endpoints.as_ref()).is_some_and(|plan| plan.is_smooth),
        panics: Vec::new(),
    }
}

/// Runs some disasters, one after the other.
async fn run_disasters(world: Arc<World>, server: u32, disasters: Vec<Disaster>) {
    let host = world.cluster.host(server);
    for disaster in disasters {
        sleep_until(world.start + disaster.at()).await;
        match disaster {
            Disaster::BreakAll { .. } => {
                world.journal.remark("all connections break");
                world.net.break_all(Whose::All);
            }
            Disaster::Freeze { what, time, .. } => world.freeze(server, what, time).await,
            Disaster::Crash { down, .. } => {
                host.crash();
                world.note_reachable();
                sleep(down).await;
                host.start();
            }
            Disaster::Restart { down, .. } => {
                let shutdown = host.shut_down();
                world.note_reachable();
                shutdown.await;
                sleep(down).await;
                host.start();
            }
        }
        world.note_reachable();
    }
}

/// Lets happen to addresses what the scenario says.
async fn run_turns(world: Arc<World>) {
    let changes = world
        .scenario
        .endpoints
        .iter()
        .flat_map(|plan| &plan.changes);
    for (at, change) in changes {
        sleep_until(world.start + *at).await;
        world.journal.remark(change.to_string());
        world.cluster.change(change);
        match change {
            AddressChange::Hole(address) => world.net.swallow_all(Whose::Address(*address)),
            AddressChange::Close(address) | AddressChange::MoveAll(address, _) => {
                world.net.break_all(Whose::Address(*address));
            }
            AddressChange::List(_) | AddressChange::Open(_) | AddressChange::Move(..) => {}
        }
        world.note_reachable();
    }
}

impl World {
    fn new(seed: u64, subject: Subject, captures: UnboundedSender<Capture>) -> Self {
        let mut scenario = Scenario::of(seed);
        if subject.has_endpoints() {
            scenario = scenario.shared(seed);
            scenario = scenario.with_endpoints(seed, subject.is_shared(seed));
        } else if subject.is_shared(seed) {
            scenario = scenario.shared(seed);
        } else if subject.is_stored(seed) && seed & 2 != 0 {
            let clients = &mut scenario.clients;
            clients.iter_mut().for_each(ClientPlan::be_patient);
        }
        let (journal, start) = (Journal::new(), clock::now());
        let net = Net::new(seed, scenario.net.clone(), start, &journal, captures);
        let cluster = Cluster::new(seed, subject, &scenario, &journal, &net);
        Self {
            seed,
            subject,
            start,
            journal,
            net,
            cluster,
            frosts: scenario.clients.iter().map(|_| Frost::default()).collect(),
            scenario,
            tags: AtomicU32::new(0),
            ops: AtomicU32::new(0),
        }
    }

    /// Has something stand still.
    async fn freeze(&self, server: u32, what: Frozen, time: Duration) {
        let host = self.cluster.host(server);
        self.journal.note(Event::Froze(what, time));
        if what == Frozen::Server && self.scenario.sharing.is_some() {
            self.journal.remark(format!("it is server {server}"));
        }
        let frost = match what {
            Frozen::Server => host.frost(),
            Frozen::Client(number) => &self.frosts[number as usize],
            Frozen::All => {
                // All timers fire late, and all that is in flight arrives before. Nothing runs in between.
                host.frost().thaw(time);
                tokio::time::advance(time).await;
                return;
            }
        };
        frost.freeze();
        self.note_reachable();
        sleep(time).await;
        frost.thaw(time);
    }

    /// Notes what clients can reach from now on, where they have a list of addresses.
    fn note_reachable(&self) {
        self.cluster.note_reachable(&self.journal);
    }

    /// The number of the next call.
    pub(crate) fn new_tag(&self) -> u32 {
        self.tags.fetch_add(1, Relaxed) + 1
    }

    /// The number of the next wait.
    pub(crate) fn new_op(&self) -> u32 {
        self.ops.fetch_add(1, Relaxed) + 1
    }
}
