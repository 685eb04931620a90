//! The task that looks after the endpoints: it follows what [`Endpoints`] say, and starts the drivers of
//! new ones.

use std::{
    future::{Future, poll_fn},
    io,
    pin::pin,
    sync::{Arc, PoisonError},
    task::Poll,
    time::Duration,
};

use tokio::{task::AbortHandle, time::sleep};

use crate::{
    cause::ConnectError,
    clock,
    endpoints::{Endpoint, Endpoints},
    shared::{Shared, SharedState, SpawnDriver},
    wake_list::replace_waker,
};

/// Where endpoints come from, and what connects to them.
pub(crate) struct Discovery {
    pub(crate) endpoints: Box<dyn Endpoints>,
    pub(crate) transport: Transport,
}

/// Makes what connects to an endpoint.
pub(crate) type Transport =
    Box<dyn Fn(&Endpoint) -> io::Result<Arc<dyn SpawnDriver>> + Send + Sync>;

/// What is to be done next.
enum Event {
    Changed(io::Result<Vec<Endpoint>>),
    Failed,
}

/// Holds what the task needs, and gives it back when the task's runtime ends.
struct DiscoveryGuard {
    shared: Arc<Shared>,
    discovery: Option<Discovery>,
    forks: u32,
}

impl Drop for DiscoveryGuard {
    fn drop(&mut self) {
        if self.forks != self.shared.forks() {
            return;
        }
        let mut slot = self.shared.discovery.lock();
        let slot = slot.as_mut().unwrap_or_else(|error| error.get_mut());
        **slot = self.discovery.take();
        self.shared.with(|state| state.mux.has_discovery = false);
    }
}

/// Starts the task, unless it runs, and the drivers of the endpoints that are known.
pub(crate) fn start(shared: &Arc<Shared>) {
    if shared.with(|state| std::mem::replace(&mut state.mux.has_discovery, true)) {
        return;
    }
    let slot = shared.discovery.lock();
    let discovery = slot.unwrap_or_else(PoisonError::into_inner).take();
    if let Some(discovery) = discovery {
        let guard = DiscoveryGuard {
            shared: shared.clone(),
            discovery: Some(discovery),
            forks: shared.forks(),
        };
        let task = tokio::spawn(follow(guard)).abort_handle();
        let rejected = shared.with(|state| state.set_discovery(task));
        rejected.inspect(AbortHandle::abort);
    }
    let known = shared.with(|state| state.mux.endpoints().collect::<Vec<_>>());
    known
        .into_iter()
        .for_each(|endpoint| shared.start_drivers(endpoint));
}

async fn follow(mut guard: DiscoveryGuard) {
    let mut failures = 0;
    loop {
        let shared = guard.shared.clone();
        let discovery = guard.discovery.as_mut().expect("the task has it");
        match next_event(&shared, &mut *discovery.endpoints).await {
            Event::Failed => discovery.endpoints.refresh(),
            Event::Changed(Ok(set)) => {
                failures = 0;
                apply(&shared, &discovery.transport, &set);
            }
            Event::Changed(Err(error)) => {
                failures += 1;
                let pause = shared.with(|state| {
                    state.mux.handle_no_endpoints(&unknown(error));
                    let backoff = shared.config.reconnect;
                    backoff.delay(failures, Duration::ZERO, &mut state.retry.jitter)
                });
                sleep(pause).await;
            }
        }
    }
}

fn unknown(error: io::Error) -> ConnectError {
    ConnectError {
        peer: "any endpoint".into(),
        connector: None,
        reason: Arc::new(error),
    }
}

async fn next_event(shared: &Shared, endpoints: &mut dyn Endpoints) -> Event {
    let mut changed = pin!(endpoints.changed());
    poll_fn(|context| {
        if let Poll::Ready(set) = changed.as_mut().poll(context) {
            return Poll::Ready(Event::Changed(set));
        }
        shared.with(|state| {
            let mux = &mut state.mux;
            if std::mem::take(&mut mux.is_refresh_wanted) {
                return Poll::Ready(Event::Failed);
            }
            let replaced = replace_waker(&mut mux.discovery, context.waker());
            mux.wakers.extend(replaced);
            Poll::Pending
        })
    })
    .await
}

/// Has the client call these endpoints, and no others.
fn apply(shared: &Arc<Shared>, transport: &Transport, set: &[Endpoint]) {
    let mut spawners = Vec::new();
    for endpoint in set {
        let spawner = endpoint.address().check().map_err(io::Error::other);
        match spawner.and_then(|()| transport(endpoint)) {
            Ok(spawner) => spawners.push((Arc::from(endpoint.address().as_str()), spawner)),
            Err(error) => {
                let error = unknown(error);
                shared.with(|state| state.mux.handle_no_endpoints(&error));
            }
        }
    }
    let now = clock::now();
    let idle = shared.with(|state| {
        for (name, spawner) in &spawners {
            add(state, name, spawner);
        }
        let is_gone = |state: &SharedState, at: usize| {
            let mut named = spawners.iter();
            !named.any(|(name, _)| state.mux.is_named(at, name))
        };
        let mut idle = Vec::new();
        for at in state.mux.endpoints() {
            if is_gone(state, at) {
                let links = state.mux.remove_endpoint(at, now).into_iter();
                idle.extend(links.filter_map(|link| state.tasks.take_driver(link)));
            }
        }
        idle
    });
    idle.iter().for_each(AbortHandle::abort);
    let known = shared.with(|state| state.mux.endpoints().collect::<Vec<_>>());
    known
        .into_iter()
        .for_each(|endpoint| shared.start_drivers(endpoint));
}

fn add(state: &mut SharedState, name: &Arc<str>, spawner: &Arc<dyn SpawnDriver>) {
    let (at, is_new) = state.mux.add_endpoint(name);
    if at == state.spawners.len() {
        state.spawners.push(spawner.clone());
    } else if is_new {
        state.spawners[at] = spawner.clone();
    }
}
