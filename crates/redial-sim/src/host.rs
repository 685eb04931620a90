//! The machine that the server runs on: it starts the server, kills it, and starts it again without
//! its memory. The counters survive.

use std::{
    any::TypeId,
    panic,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use redial_server::{
    Abort, Context, Event as ServerEvent, EventKind, FaultRule, Faults, Observer, Server,
};
use serde_json::value::RawValue;
use tokio::task::AbortHandle;

use crate::{
    bug::Bug,
    database::Database,
    frost::Frost,
    journal::{Event, Journal, Method, SHUT_DOWN},
    model::Model,
    net::{Net, Whose, Wire},
    rng::{Rng, Stream},
    scenario::ServerPlan,
    service::{Counter, HandlerEnd, Ledger, Params, Service},
    shared_store::{Leases, SharedTableStore},
    store::{Disk, DiskStore, Transactional},
};

/// What is simulated: the server, and the client where the bug is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The real server and real clients.
    Real,
    /// The same, the server with a store on a disk that the power may leave.
    Stored,
    /// Several real servers, on a table in a database that they share.
    Shared,
    /// Several real servers, and clients with a list of addresses. In a third of the worlds the servers share a
    /// table, in the others each has one of its own, in memory.
    Endpoints,
    /// The model server of this crate, without a bug.
    Model,
    /// A bug: in the model server, or in clients of the real one.
    Buggy(Bug),
}

impl Subject {
    /// Whether the server has a store in this world.
    pub(crate) fn is_stored(self, seed: u64) -> bool {
        matches!(self, Self::Stored)
            || matches!(self, Self::Buggy(bug) if bug.is_in_store())
            || self.is_shared(seed)
    }

    /// Whether several servers share that store in this world.
    pub(crate) fn is_shared(self, seed: u64) -> bool {
        matches!(self, Self::Shared)
            || matches!(self, Self::Buggy(bug) if bug.is_in_shared_store())
            || self.has_endpoints() && seed.is_multiple_of(3)
    }

    /// Whether clients have a list of addresses.
    pub(crate) fn has_endpoints(self) -> bool {
        matches!(self, Self::Endpoints) || matches!(self, Self::Buggy(bug) if bug.is_in_routing())
    }

    /// Whether the effects of its calls lie in that store in this world, or beside it.
    pub(crate) fn is_transactional(self, seed: u64) -> bool {
        self.is_stored(seed) && seed.is_multiple_of(2)
    }

    /// Whether its calls may be run again where the server that ran them is gone.
    pub(crate) fn is_resumable(self, seed: u64) -> bool {
        self.is_shared(seed) && seed % 4 == 1
    }
}

/// The machine. All clones are the same one.
#[derive(Clone)]
pub(crate) struct Host(Arc<HostShared>);

/// What the servers of a world have in common.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub(crate) seed: u64,
    pub(crate) subject: Subject,
    pub(crate) journal: Journal,
    pub(crate) net: Net,
    pub(crate) ledger: Ledger,
    /// Whether there is one.
    pub(crate) is_alone: bool,
    /// How many lives all of them have had.
    pub(crate) lives: Arc<AtomicU32>,
    /// What they share, and how long a server's lease on it lasts.
    pub(crate) database: Option<(Database, Duration)>,
}

struct HostShared {
    number: u32,
    plan: ServerPlan,
    world: Surroundings,
    frost: Frost,
    disk: Disk,
    state: Mutex<HostState>,
}

#[derive(Default)]
struct HostState {
    life: u32,
    running: Option<Running>,
    store: Option<OpenStore>,
    connections: Vec<AbortHandle>,
}

#[derive(Clone)]
enum OpenStore {
    OnDisk(DiskStore),
    Shared(SharedTableStore),
}

#[derive(Clone)]
enum Running {
    Real(Server),
    Model(Model),
}

impl Host {
    pub(crate) fn new(number: u32, plan: &ServerPlan, world: Surroundings) -> Self {
        Self(Arc::new(HostShared {
            number,
            plan: plan.clone(),
            world,
            frost: Frost::default(),
            disk: Disk::default(),
            state: Mutex::default(),
        }))
    }

    /// Holds the server's process.
    pub(crate) fn frost(&self) -> &Frost {
        &self.0.frost
    }

    /// Starts the server, unless it is running.
    pub(crate) fn start(&self) {
        let mut state = self.lock();
        if state.running.is_some() {
            return;
        }
        let world = &self.0.world;
        // Handlers of the life before change nothing any more.
        world.ledger.close(state.life);
        state.life = world.lives.fetch_add(1, Relaxed) + 1;
        let life = state.life;
        let mut service = world.ledger.open(life, &self.0.frost);
        service.is_repeatable = world.subject.is_resumable(world.seed);
        let seed = world.seed.wrapping_mul(1000) + u64::from(life);
        let bug = match world.subject {
            subject if subject.is_stored(world.seed) => None,
            Subject::Buggy(bug) => Some(bug).filter(|bug| !bug.is_in_client()),
            _ => None,
        };
        state.running = Some(match (world.subject, bug) {
            (Subject::Model, _) | (_, Some(_)) => {
                Running::Model(Model::new(&self.0.plan, service, bug, seed, &self.0.frost))
            }
            _ => {
                state.store = world
                    .subject
                    .is_stored(world.seed)
                    .then(|| self.store(life));
                Running::Real(self.real(service, life, seed, state.store.clone()))
            }
        });
        let name = self.name();
        world.journal.remark(format!("{name} starts, life {life}"));
        if !world.is_alone {
            let server = self.0.number;
            world.journal.note(Event::Started { server, life });
        }
    }

    /// As it stands in the journal.
    fn name(&self) -> String {
        if self.0.world.is_alone {
            "server".to_owned()
        } else {
            format!("server {}", self.0.number)
        }
    }

    /// What the next life finds on the disk, or in the database.
    fn store(&self, life: u32) -> OpenStore {
        let (host, world) = (&*self.0, &self.0.world);
        let bug = match world.subject {
            Subject::Buggy(bug) => Some(bug),
            _ => None,
        };
        let rng = Rng::new(world.seed, Stream::Disk(life));
        let (ledger, frost) = (&world.ledger, &host.frost);
        match &world.database {
            Some((database, server)) => {
                let leases = Leases {
                    server: *server,
                    session: host.plan.config.session_lease,
                };
                OpenStore::Shared(SharedTableStore::open(
                    database, ledger, frost, life, leases, rng, bug,
                ))
            }
            None => OpenStore::OnDisk(DiskStore::open(&host.disk, ledger, frost, life, rng, bug)),
        }
    }

    fn real(&self, service: Service, life: u32, seed: u64, store: Option<OpenStore>) -> Server {
        let world = &self.0.world;
        let faults = Faults::new(seed);
        let rules = self.0.plan.faults.iter().map(|fault| {
            FaultRule::new(*fault, self.0.plan.fault_rate)
                .expect("the scenario's numbers are in range")
        });
        faults.set(rules);
        let mut builder = Server::builder()
            .config(self.0.plan.config.clone())
            .session_seed(seed)
            .spawn_background({
                let frost = self.0.frost.clone();
                move |task| drop(tokio::spawn(frost.clone().around(task)))
            })
            .faults(faults)
            .observer(JournalObserver {
                journal: world.journal.clone(),
                life,
            });
        builder = match store {
            Some(OpenStore::OnDisk(store)) => builder.store(store),
            Some(OpenStore::Shared(store)) => builder.store(store),
            None => builder,
        };
        let store_type = match world.database {
            Some(_) => TypeId::of::<SharedTableStore>(),
            None => TypeId::of::<DiskStore>(),
        };
        let is_transactional = world.subject.is_transactional(world.seed);
        for method in Method::ALL {
            if is_transactional && method != Method::Get {
                let transaction = Arc::new(Transactional(method, store_type));
                builder = builder.transaction_method(method.name(), transaction);
                continue;
            }
            let service = service.clone();
            let handler = move |params: Params, _: Context| {
                let run = service.clone().run(method, params);
                async move { reply(run.await) }
            };
            builder = match method {
                Method::Get => builder.query(method.name(), handler),
                _ => builder.mutation(method.name(), handler),
            };
        }
        if world.subject.is_resumable(world.seed) {
            builder = builder.resumable(Method::Inc.name());
        }
        builder.build().expect("the scenario makes sense")
    }

    pub(crate) fn is_up(&self) -> bool {
        self.lock().running.is_some()
    }

    /// The life that serves now.
    pub(crate) fn life(&self) -> Option<u32> {
        let state = self.lock();
        state.running.as_ref().map(|_| state.life)
    }

    /// Accepts a connection. False if no server is running.
    pub(crate) fn accept(&self, wire: Wire) -> bool {
        let mut state = self.lock();
        let Some(running) = state.running.clone() else {
            return false;
        };
        wire.is_served_by(self.0.number);
        let world = &self.0.world;
        if !world.is_alone {
            world.journal.note(Event::Accepted {
                wire: wire.number(),
                address: wire.address(),
                life: state.life,
            });
        }
        let frost = self.0.frost.clone();
        let task = match running {
            Running::Real(server) => {
                let wire = frost.hold(wire);
                tokio::spawn(frost.around(async move { server.serve_connection(wire).await }))
            }
            Running::Model(model) => tokio::spawn(frost.around(model.serve(wire))),
        };
        state.connections.retain(|task| !task.is_finished());
        state.connections.push(task.abort_handle());
        true
    }

    /// Kills the process: connections break, handlers never resume, the memory is gone.
    pub(crate) fn crash(&self) {
        let mut state = self.lock();
        let Some(running) = state.running.take() else {
            return;
        };
        let world = &self.0.world;
        let (name, life) = (self.name(), state.life);
        world.journal.remark(format!("{name} dies, life {life}"));
        self.note_ending(life);
        world.ledger.close(life);
        match state.store.take() {
            Some(OpenStore::OnDisk(store)) => {
                store.die();
                let mut rng = Rng::new(world.seed, Stream::PowerCut(life));
                self.0.disk.crash(&mut rng);
            }
            Some(OpenStore::Shared(store)) => store.die(),
            None => {}
        }
        world.net.break_all(Whose::Server(self.0.number));
        state.connections.drain(..).for_each(|task| task.abort());
        match running {
            Running::Model(model) => model.kill(),
            // No connection is left to carry a reply: this only ends the tasks of the executions.
            Running::Real(server) => drop(tokio::spawn(async move { server.shutdown().await })),
        }
    }

    /// Shuts the server down gracefully. It takes no connections from now on.
    pub(crate) fn shut_down(&self) -> impl Future<Output = ()> {
        let mut state = self.lock();
        let (running, life) = (state.running.take(), state.life);
        drop(state);
        if running.is_some() {
            self.note_ending(life);
        }
        self.clone().shut_down_life(running, life)
    }

    fn note_ending(&self, life: u32) {
        if !self.0.world.is_alone {
            self.0.world.journal.note(Event::LifeEnds { life });
        }
    }

    async fn shut_down_life(self, running: Option<Running>, life: u32) {
        let (world, name) = (&self.0.world, self.name());
        match running {
            Some(Running::Real(server)) => {
                world.journal.remark(format!("{name}{SHUT_DOWN}"));
                let shutdown = server.shutdown().await;
                // A store is closed on a thread of its own, so in no order with what else happens at this moment.
                tokio::time::sleep(Duration::from_millis(1)).await;
                let interrupted = shutdown.interrupted;
                let down = format!("{name} is down, {interrupted} calls interrupted");
                world.journal.remark(down);
            }
            Some(Running::Model(model)) => {
                world.journal.remark(format!("{name}{SHUT_DOWN}"));
                model.shut_down(self.0.plan.config.drain_timeout).await;
                world.ledger.close(life);
                let connections = std::mem::take(&mut self.lock().connections);
                connections.iter().for_each(AbortHandle::abort);
                world.journal.remark(format!("{name} is down"));
            }
            None => {}
        }
        // Lets the tasks that the shutdown did not wait for end.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    fn lock(&self) -> MutexGuard<'_, HostState> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn reply(outcome: HandlerEnd) -> Result<Counter, Abort> {
    match outcome {
        HandlerEnd::Value(value) => Ok(Counter { value }),
        HandlerEnd::Failed => Err(Abort::failed("it failed")),
        HandlerEnd::PassedOn(code, data) => {
            let data: &RawValue = serde_json::from_str(data).expect("it is JSON");
            let error = Abort::failed("passed on").code(code);
            Err(error.data(&data).expect("JSON can be written"))
        }
        HandlerEnd::NoEffect => Err(Abort::no_effect("rolled back")),
        // Unwinds past the panic hook, so nothing is printed.
        HandlerEnd::Panic => panic::resume_unwind(Box::new("it panicked")),
    }
}

/// Records what the real server reports about attempts.
struct JournalObserver {
    journal: Journal,
    life: u32,
}

impl Observer for JournalObserver {
    fn wants(&self, kind: EventKind) -> bool {
        kind.is_of_attempt()
    }

    fn observe(&self, event: &ServerEvent<'_>) {
        self.journal.note(Event::Server {
            life: self.life,
            what: format!("{:?}", event.kind),
            id: event.id.map(str::to_owned),
            attempt: event.attempt,
        });
    }
}
