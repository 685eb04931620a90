//! The machine that the server runs on: it starts the server, kills it, and starts it again without
//! its memory. The counters survive.

use std::{
    panic,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use redial_server::{Abort, Context, Event as ServerEvent, FaultRule, Faults, Observer, Server};
use serde_json::value::RawValue;
use tokio::task::AbortHandle;

use crate::{
    bug::Bug,
    frost::Frost,
    journal::{Event, Journal, Method, SHUT_DOWN},
    model::Model,
    net::{Net, Wire},
    rng::{Rng, Stream},
    scenario::ServerPlan,
    service::{Counter, Ledger, Outcome, Params, Service},
    store::{Disk, DiskStore, Transactional},
};

/// What is simulated: the server, and the client where the bug is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The real server and real clients.
    Real,
    /// The same, the server with a store on a disk that the power may leave.
    Stored,
    /// The model server of this crate, without a bug.
    Model,
    /// A bug: in the model server, or in clients of the real one.
    Buggy(Bug),
}

impl Subject {
    /// Whether the server has a store.
    #[must_use]
    pub fn is_stored(self) -> bool {
        matches!(self, Self::Stored) || matches!(self, Self::Buggy(bug) if bug.is_in_store())
    }

    /// Whether the effects of its calls lie in that store in this world, or beside it.
    pub(crate) fn is_transactional(self, seed: u64) -> bool {
        self.is_stored() && seed.is_multiple_of(2)
    }
}

/// The machine. All clones are the same one.
#[derive(Clone)]
pub(crate) struct Host(Arc<HostShared>);

struct HostShared {
    seed: u64,
    subject: Subject,
    plan: ServerPlan,
    journal: Journal,
    ledger: Ledger,
    net: Net,
    frost: Frost,
    disk: Disk,
    state: Mutex<HostState>,
}

#[derive(Default)]
struct HostState {
    life: u32,
    running: Option<Running>,
    store: Option<DiskStore>,
    connections: Vec<AbortHandle>,
}

#[derive(Clone)]
enum Running {
    Real(Server),
    Model(Model),
}

impl Host {
    pub(crate) fn new(
        seed: u64,
        subject: Subject,
        plan: ServerPlan,
        journal: &Journal,
        net: &Net,
    ) -> Self {
        Self(Arc::new(HostShared {
            seed,
            subject,
            plan,
            journal: journal.clone(),
            ledger: Ledger::new(journal),
            net: net.clone(),
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
        state.life += 1;
        let life = state.life;
        let service = self.0.ledger.open(life, &self.0.frost);
        let seed = self.0.seed.wrapping_mul(1000) + u64::from(life);
        let bug = match self.0.subject {
            Subject::Buggy(bug) => {
                Some(bug).filter(|bug| !bug.is_in_client() && !bug.is_in_store())
            }
            _ => None,
        };
        state.running = Some(match (self.0.subject, bug) {
            (Subject::Model, _) | (_, Some(_)) => {
                Running::Model(Model::new(&self.0.plan, service, bug, seed, &self.0.frost))
            }
            _ => {
                state.store = self.0.subject.is_stored().then(|| self.store(life));
                Running::Real(self.real(service, life, seed, state.store.clone()))
            }
        });
        self.0.journal.remark(format!("server starts, life {life}"));
    }

    /// What the next life finds on the disk.
    fn store(&self, life: u32) -> DiskStore {
        let host = &*self.0;
        let bug = match host.subject {
            Subject::Buggy(bug) => Some(bug),
            _ => None,
        };
        let rng = Rng::new(host.seed, Stream::Disk(life));
        DiskStore::open(&host.disk, &host.ledger, &host.frost, life, rng, bug)
    }

    fn real(&self, service: Service, life: u32, seed: u64, store: Option<DiskStore>) -> Server {
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
                journal: self.0.journal.clone(),
                life,
            });
        if let Some(store) = store {
            builder = builder.store(store);
        }
        let is_transactional = self.0.subject.is_transactional(self.0.seed);
        for method in Method::ALL {
            if is_transactional && method != Method::Get {
                let transaction = Arc::new(Transactional(method));
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
        builder.build().expect("the scenario makes sense")
    }

    /// Accepts a connection. False if no server is running.
    pub(crate) fn accept(&self, wire: Wire) -> bool {
        let mut state = self.lock();
        let Some(running) = state.running.clone() else {
            return false;
        };
        let frost = self.0.frost.clone();
        let task = match running {
            Running::Real(server) => {
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
        self.0
            .journal
            .remark(format!("server dies, life {}", state.life));
        self.0.ledger.close();
        if let Some(store) = state.store.take() {
            store.die();
            let mut rng = Rng::new(self.0.seed, Stream::PowerCut(state.life));
            self.0.disk.crash(&mut rng);
        }
        self.0.net.break_all(None);
        state.connections.drain(..).for_each(|task| task.abort());
        match running {
            Running::Model(model) => model.kill(),
            // No connection is left to carry a reply: this only ends the tasks of the executions.
            Running::Real(server) => drop(tokio::spawn(async move { server.shutdown().await })),
        }
    }

    /// Shuts the server down gracefully.
    pub(crate) async fn shut_down(&self) {
        let running = self.lock().running.take();
        match running {
            Some(Running::Real(server)) => {
                self.0.journal.remark(SHUT_DOWN);
                let shutdown = server.shutdown().await;
                let interrupted = shutdown.interrupted;
                self.0
                    .journal
                    .remark(format!("server is down, {interrupted} calls interrupted"));
            }
            Some(Running::Model(model)) => {
                self.0.journal.remark(SHUT_DOWN);
                model.shut_down(self.0.plan.config.drain_timeout).await;
                self.0.ledger.close();
                let connections = std::mem::take(&mut self.lock().connections);
                connections.iter().for_each(AbortHandle::abort);
                self.0.journal.remark("server is down");
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

fn reply(outcome: Outcome) -> Result<Counter, Abort> {
    match outcome {
        Outcome::Value(value) => Ok(Counter { value }),
        Outcome::Failed => Err(Abort::failed("it failed")),
        Outcome::PassedOn(code, data) => {
            let data: &RawValue = serde_json::from_str(data).expect("it is JSON");
            let error = Abort::failed("passed on").code(code);
            Err(error.data(&data).expect("JSON can be written"))
        }
        Outcome::NoEffect => Err(Abort::no_effect("rolled back")),
        // Unwinds past the panic hook, so nothing is printed.
        Outcome::Panic => panic::resume_unwind(Box::new("it panicked")),
    }
}

/// Records what the real server reports about attempts.
struct JournalObserver {
    journal: Journal,
    life: u32,
}

impl Observer for JournalObserver {
    fn observe(&self, event: &ServerEvent<'_>) {
        self.journal.note(Event::Server {
            life: self.life,
            what: format!("{:?}", event.kind),
            id: event.id.map(str::to_owned),
            attempt: event.attempt,
        });
    }
}
