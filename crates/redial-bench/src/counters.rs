//! The handlers that are measured: cheap ones, so that what shows is what is around them.

use std::{
    collections::BTreeMap,
    future::ready,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use compact_str::CompactString;
use redial_server::{BuildError, Config, Context, Server, ServerBuilder};

use crate::methods::{GetParams, IncParams};

/// Counters by name. Cheap to clone; all clones are the same counters.
#[derive(Clone, Debug, Default)]
pub struct Counters(Arc<Mutex<BTreeMap<CompactString, i64>>>);

impl Counters {
    /// Adds, and returns the new value.
    #[must_use]
    pub fn inc(&self, params: IncParams) -> i64 {
        let mut counters = self.lock();
        let counter = match counters.get_mut(&params.key) {
            Some(counter) => counter,
            None => counters.entry(params.key).or_default(),
        };
        *counter += params.delta;
        *counter
    }

    /// The value, 0 for a key that was never counted.
    #[must_use]
    pub fn get(&self, params: &GetParams) -> i64 {
        self.lock().get(&params.key).copied().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<CompactString, i64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts on a server the mutation `inc`, the very same handler as the query `inc_query`, and
    /// the query `get`. All are ready at once.
    #[must_use]
    pub fn register(&self, server: ServerBuilder) -> ServerBuilder {
        let [inc, inc_query, get] = [(); 3].map(|()| self.clone());
        server
            .mutation("inc", move |params: IncParams, _: Context| {
                ready(Ok(inc.inc(params)))
            })
            .query("inc_query", move |params: IncParams, _: Context| {
                ready(Ok(inc_query.inc(params)))
            })
            .query("get", move |params: GetParams, _: Context| {
                ready(Ok(get.get(&params)))
            })
    }
}

/// A server of counters, which keeps replies to plain ids for so long and so many of them.
///
/// # Errors
///
/// [`BuildError`] if a limit is 0.
pub fn server(ttl: Duration, max_records: usize) -> Result<Server, BuildError> {
    server_builder(ttl, max_records).build()
}

/// The same before it is built.
#[must_use]
pub fn server_builder(ttl: Duration, max_records: usize) -> ServerBuilder {
    let config = Config {
        ttl,
        max_records,
        // The number of records is what bounds them.
        max_record_bytes: usize::MAX / 2,
        ..Config::default()
    };
    let builder = Counters::default().register(Server::builder());
    builder.config(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_count_apart() {
        let counters = Counters::default();
        let inc = |key: &str, delta| {
            let key = key.into();
            counters.inc(IncParams { key, delta })
        };
        assert_eq!([inc("a", 2), inc("b", 1), inc("a", -5)], [2, 1, -3]);
        assert_eq!(counters.get(&GetParams { key: "a".into() }), -3);
        assert_eq!(counters.get(&GetParams { key: "c".into() }), 0);
    }
}
