//! How a server is made of what its builder was given: checked, recovered, and put together.

use std::sync::{Arc, Mutex};

use rand::{Rng as _, SeedableRng, rngs::SysRng};
use rand_chacha::ChaCha8Rng;

use super::ServerBuilder;
use crate::{
    admission::Admission,
    auth::Authentication,
    awake::AwakeClock,
    clock,
    discover::{self, Gates},
    error::BuildError,
    failure_texts::Settings,
    fault::Faults,
    guesses::Guesses,
    method_times::MethodTimes,
    observe::Observers,
    recovery,
    router::MethodBody,
    server::Server,
    shared::Shared,
    store::Store,
    table::{PlainTable, Sessions, Table},
};

impl ServerBuilder {
    /// Makes the server.
    ///
    /// # Errors
    ///
    /// [`BuildError`] if a method has two handlers or a reserved name, if a limit, of the server or of a
    /// method, lets nothing through, if a transaction has no store, if the store can't be read, or if the system has no
    /// random numbers.
    pub fn build(mut self) -> Result<Server, BuildError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        self.config.check()?;
        self.check_transactions()?;
        self.check_ttl()?;
        discover::check(&self.descriptions, &self.router)?;
        self.router.wrap(&self.layers)?;
        (self.router).set_default_timeout(self.config.execution_timeout);
        let rng = match self.session_seed {
            Some(seed) => ChaCha8Rng::seed_from_u64(seed),
            None => ChaCha8Rng::try_from_rng(&mut SysRng)
                .map_err(|error| BuildError::NoRandomness(error.to_string()))?,
        };
        self.disclosure.settle(Settings {
            exposes: self.exposes_failures,
            observers: self.observers.clone(),
            // Of its own stream, so that the ids of sessions are those that they were.
            seed: {
                let mut own = rng.clone();
                own.set_stream(1);
                own.next_u64()
            },
        });
        let mut ages = rng.clone();
        ages.set_stream(2);
        // What is seeded repeats, whatever process it is in.
        let process = self.session_seed.is_none().then(std::process::id);
        let mut discover = self.discover();
        let epoch = clock::now();
        let is_shared = |store: &Arc<dyn Store>| store.as_shared().is_some();
        let limits = if self.store.as_ref().is_some_and(is_shared) {
            self.config.shared_session_limits()
        } else {
            self.config.session_limits()
        };
        let table = Table {
            plain: PlainTable::new(self.config.plain_limits(), epoch),
            sessions: Sessions::new(limits, rng, process),
        };
        let interrupted = match &self.store {
            Some(store) => recovery::recover(&**store, &table, epoch)?,
            None => Vec::new(),
        };
        let limits = self.config.admission_limits();
        let methods = self.router.methods().iter();
        let max_running_of = methods.map(|method| method.limits.max_running.unwrap_or(usize::MAX));
        let names = self.router.methods().iter().map(|method| &*method.name);
        let all = self.observers.into_iter().chain(self.instruments);
        let observers = Observers::new(all, &names.collect::<Vec<_>>());
        #[cfg(feature = "metrics")]
        let recorder = self
            .recorder
            .filter(|_| observers.wanting(crate::observe::EventKind::Finished) == 1);
        let times = MethodTimes::new(self.router.methods().len());
        let admission = Admission::new(limits, max_running_of.collect());
        self.config.fit_to_frame(&mut discover);
        let unix_principals = self.unix_principals || self.verifier.is_some();
        let guesses = self.config.max_peer_auth_failures;
        let authentication = self.verifier.map(|verifier| Authentication {
            verifier,
            guesses: Guesses::new(guesses, epoch),
        });
        let authentication = authentication.map(Arc::new);
        let server = Server {
            shared: Arc::new(Shared {
                awake: AwakeClock::new(&self.config, epoch),
                discover,
                router: self.router,
                table,
                store: self.store,
                interrupted_calls: Mutex::new(interrupted),
                admission,
                config: self.config,
                faults: self.faults.unwrap_or_else(|| Faults::new(0)),
                fault_control: self.fault_control,
                observers,
                #[cfg(feature = "metrics")]
                recorder,
                traces: self.traces,
                unix_principals,
                authentication,
                #[cfg(feature = "tls")]
                handshakes: Default::default(),
                policy: self.policy,
                counters: Default::default(),
                times,
                listeners: Default::default(),
                executions: Default::default(),
                is_draining: Default::default(),
                draining: Default::default(),
                cut_off: Default::default(),
                closing: Default::default(),
                closed: Default::default(),
                interrupted: Default::default(),
                connections: Default::default(),
                large_frames: crate::connection::large_frames::permits(),
                goodbyes: Default::default(),
                looked_at: 0.into(),
                sweeping: Default::default(),
                next_look: Default::default(),
                next_clearing: Default::default(),
                ages: Mutex::new(ages),
                spawn_background: self
                    .spawn_background
                    .unwrap_or_else(|| Box::new(|task| drop(tokio::spawn(task)))),
            }),
        };
        server.shared.watch_commits();
        Ok(server)
    }

    /// What `rpc.discover` answers.
    fn discover(&self) -> Vec<u8> {
        #[cfg(feature = "schemas")]
        let schemas = crate::schemas::of(&self.descriptions);
        #[cfg(not(feature = "schemas"))]
        let schemas = discover::Schemas::default();
        let gates = Gates {
            asks_for_tokens: self.verifier.is_some(),
            has_policy: self.policy.is_some(),
        };
        discover::outcome(
            &self.info,
            &self.router,
            &self.descriptions,
            schemas,
            &gates,
        )
    }

    /// The store keeps plain ids for as long as this server promises.
    fn check_ttl(&self) -> Result<(), BuildError> {
        let server = self.config.ttl;
        match self.store.as_ref().and_then(|store| store.ttl()) {
            Some(store) if store < server => Err(BuildError::StoreTtl { store, server }),
            _ => Ok(()),
        }
    }

    /// Every transaction has the store that it was registered for.
    fn check_transactions(&self) -> Result<(), BuildError> {
        let store_type = self.store.as_ref().map(|store| (**store).type_id());
        for method in self.router.methods() {
            if let MethodBody::Transaction(transaction) = &method.body
                && store_type != Some(transaction.store_type())
            {
                return Err(BuildError::NoStore(method.name.to_string()));
            }
        }
        Ok(())
    }
}
