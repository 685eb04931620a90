//! The machine that the server runs on: it starts it, kills it, and starts it again without its
//! memory. The counters survive.

use std::{
    panic,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use redial_server::{Abort, Context, Event as ServerEvent, Faults, Observer, Server};
use serde::Serialize;
use tokio::task::AbortHandle;

use crate::{
    bug::Bug,
    journal::{Event, Journal, Method},
    model::Model,
    net::{Net, Wire},
    scenario::ServerPlan,
    workshop::{Ledger, Outcome, Params, Workshop},
};

/// Which server it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The real one, between real clients.
    Real,
    /// The small one of this crate, without a bug.
    Model,
    /// One with a bug: the small server, or the real one behind a faulty client.
    Buggy(Bug),
}

/// The machine. All clones are the same one.
#[derive(Clone)]
pub(crate) struct Host(Arc<Inner>);

struct Inner {
    seed: u64,
    subject: Subject,
    plan: ServerPlan,
    journal: Journal,
    ledger: Ledger,
    net: Net,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    life: u32,
    running: Option<Running>,
    connections: Vec<AbortHandle>,
}

#[derive(Clone)]
enum Running {
    Real(Server),
    Model(Model),
}

#[derive(Serialize)]
struct Counter {
    value: i64,
}

impl Host {
    pub(crate) fn new(
        seed: u64,
        subject: Subject,
        plan: ServerPlan,
        journal: &Journal,
        net: &Net,
    ) -> Self {
        Self(Arc::new(Inner {
            seed,
            subject,
            plan,
            journal: journal.clone(),
            ledger: Ledger::new(journal),
            net: net.clone(),
            state: Mutex::default(),
        }))
    }

    /// Starts the server, if it isn't there.
    pub(crate) fn start(&self) {
        let mut state = self.lock();
        if state.running.is_some() {
            return;
        }
        state.life += 1;
        let life = state.life;
        let workshop = self.0.ledger.open(life);
        let seed = self.0.seed.wrapping_mul(1000) + u64::from(life);
        let bug = match self.0.subject {
            Subject::Buggy(bug) => Some(bug).filter(|bug| !bug.is_the_clients()),
            _ => None,
        };
        state.running = Some(match (self.0.subject, bug) {
            (Subject::Model, _) | (_, Some(_)) => {
                Running::Model(Model::new(&self.0.plan, workshop, bug, seed))
            }
            _ => Running::Real(self.real(workshop, life, seed)),
        });
        self.0.journal.remark(format!("server starts, life {life}"));
    }

    fn real(&self, workshop: Workshop, life: u32, seed: u64) -> Server {
        let faults = Faults::new(seed);
        faults.set(self.0.plan.faults.iter().cloned());
        let mut builder = Server::builder()
            .config(self.0.plan.config.clone())
            .session_seed(seed)
            .faults(faults)
            .observer(Eye {
                journal: self.0.journal.clone(),
                life,
            });
        for method in Method::ALL {
            let workshop = workshop.clone();
            let handler = move |params: Params, _: Context| {
                let run = workshop.clone().run(method, params);
                async move { answer(run.await) }
            };
            builder = match method {
                Method::Get => builder.query(method.name(), handler),
                _ => builder.mutation(method.name(), handler),
            };
        }
        builder.build().expect("the scenario makes sense")
    }

    /// Takes a connection. False if nobody is there to take it.
    pub(crate) fn accept(&self, wire: Wire) -> bool {
        let mut state = self.lock();
        let Some(running) = state.running.clone() else {
            return false;
        };
        let task = match running {
            Running::Real(server) => {
                tokio::spawn(async move { server.serve_connection(wire).await })
            }
            Running::Model(model) => tokio::spawn(model.serve(wire)),
        };
        state.connections.retain(|task| !task.is_finished());
        state.connections.push(task.abort_handle());
        true
    }

    /// The process dies: connections break, handlers stay where they are, the memory is gone.
    pub(crate) fn crash(&self) {
        let mut state = self.lock();
        let Some(running) = state.running.take() else {
            return;
        };
        self.0
            .journal
            .remark(format!("server dies, life {}", state.life));
        self.0.ledger.close();
        self.0.net.break_all(None);
        state.connections.drain(..).for_each(|task| task.abort());
        match running {
            Running::Model(model) => model.kill(),
            // Nothing of this reaches anybody: it ends the tasks of the executions.
            Running::Real(server) => drop(tokio::spawn(async move { server.shutdown().await })),
        }
    }

    /// Shuts the server down in order.
    pub(crate) async fn shut_down(&self) {
        let running = self.lock().running.take();
        match running {
            Some(Running::Real(server)) => {
                self.0.journal.remark("server is shut down");
                let shutdown = server.shutdown().await;
                let interrupted = shutdown.interrupted;
                self.0
                    .journal
                    .remark(format!("server is down, {interrupted} calls interrupted"));
            }
            Some(model) => {
                self.lock().running = Some(model);
                self.crash();
            }
            None => {}
        }
        // What was not waited for is over.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn answer(outcome: Outcome) -> Result<Counter, Abort> {
    match outcome {
        Outcome::Value(value) => Ok(Counter { value }),
        Outcome::Failed => Err(Abort::failed("it failed")),
        Outcome::NoEffect => Err(Abort::no_effect("taken back")),
        // As a panic, and without a word on the terminal.
        Outcome::Panic => panic::resume_unwind(Box::new("it panicked")),
    }
}

/// Notes what the real server says about attempts.
struct Eye {
    journal: Journal,
    life: u32,
}

impl Observer for Eye {
    fn observe(&self, event: &ServerEvent<'_>) {
        self.journal.note(Event::Server {
            life: self.life,
            what: format!("{:?}", event.kind),
            id: event.id.map(str::to_owned),
            attempt: event.attempt,
        });
    }
}
