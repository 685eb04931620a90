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
    host::{Host, Subject},
    journal::{Entry, Journal},
    middlebox::Middlebox,
    net::{Copy, Net},
    panics,
    scenario::{Disaster, Scenario},
};

/// How long the world goes on after the last call, beside the time that copies are held back.
const AFTERMATH: Duration = Duration::from_secs(3);

/// What is shared by all that happens in a world.
pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) subject: Subject,
    pub(crate) scenario: Scenario,
    pub(crate) start: Instant,
    pub(crate) journal: Journal,
    pub(crate) net: Net,
    pub(crate) host: Host,
    tags: AtomicU32,
    ops: AtomicU32,
}

/// What a world has left.
#[derive(Clone, Debug)]
pub struct Run {
    /// Its seed.
    pub seed: u64,
    /// Everything that happened.
    pub entries: Vec<Entry>,
    /// How long it lasted, in its own time.
    pub lasted: Duration,
    /// How long a server keeps the outcome of a call with a plain id.
    pub ttl: Duration,
    /// What panicked, beside the handlers that are to.
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
    let (mut run, panics) = panics::watched(|| {
        let run = runtime.block_on(play(seed, subject));
        drop(runtime);
        run
    });
    run.panics = panics;
    run
}

async fn play(seed: u64, subject: Subject) -> Run {
    let (copies, overheard) = unbounded_channel();
    let world = Arc::new(World::new(seed, subject, copies));
    let World {
        journal, net, host, ..
    } = &*world;
    journal.remark(format!("seed {seed}: {:?}", world.scenario));
    host.start();
    let middlebox = Middlebox::new(net, host, journal);
    tokio::spawn(middlebox.clone().run(overheard));
    let disasters = tokio::spawn(befall(world.clone()));
    let clients = world.scenario.clients.len() as u32;
    let clients: Vec<_> = (0..clients)
        .map(|number| tokio::spawn(caller::live(world.clone(), number)))
        .collect();
    for client in clients {
        client.await.expect("a client does not panic");
    }
    disasters.await.expect("a disaster does not panic");
    journal.remark("all calls are over");
    net.calm();
    sleep(Duration::from_millis(world.scenario.net.hold_ms) + AFTERMATH).await;
    middlebox.let_the_last_through().await;
    sleep(AFTERMATH).await;
    Run {
        seed,
        lasted: journal.elapsed(),
        entries: journal.take(),
        ttl: world.scenario.server.config.ttl,
        panics: Vec::new(),
    }
}

/// What happens to the server, one after the other.
async fn befall(world: Arc<World>) {
    for disaster in &world.scenario.disasters {
        sleep_until(world.start + disaster.at()).await;
        match *disaster {
            Disaster::CutAll { .. } => {
                world.journal.remark("all connections break");
                world.net.break_all(None);
            }
            Disaster::Crash { down, .. } => {
                world.host.crash();
                sleep(down).await;
            }
            Disaster::Restart { down, .. } => {
                world.host.shut_down().await;
                sleep(down).await;
            }
        }
        world.host.start();
    }
}

impl World {
    fn new(seed: u64, subject: Subject, copies: UnboundedSender<Copy>) -> Self {
        let scenario = Scenario::of(seed);
        let (journal, start) = (Journal::new(), clock::now());
        let net = Net::new(seed, scenario.net.clone(), start, &journal, copies);
        let host = Host::new(seed, subject, scenario.server.clone(), &journal, &net);
        Self {
            seed,
            subject,
            start,
            journal,
            net,
            host,
            scenario,
            tags: AtomicU32::new(0),
            ops: AtomicU32::new(0),
        }
    }

    /// The number of a call that is about to be made.
    pub(crate) fn new_tag(&self) -> u32 {
        self.tags.fetch_add(1, Relaxed) + 1
    }

    /// The number of a wait that is about to begin.
    pub(crate) fn new_op(&self) -> u32 {
        self.ops.fetch_add(1, Relaxed) + 1
    }
}
