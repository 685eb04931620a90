//! The counters themselves: a map in memory behind the two methods.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use redial_server::{Abort, Context, ServerBuilder};

use crate::methods::{Counter, Get, GetParams, Inc, IncParams};

/// Named 64-bit counters. Cheap to clone; all clones are the same counters.
///
/// ```
/// use redial_examples::{counters::Counters, methods::IncParams};
///
/// let counters = Counters::default();
/// let inc = |delta| counters.inc(IncParams { key: "k".into(), delta });
/// assert_eq!(inc(2)?.value, 2);
/// assert!(inc(i64::MAX).is_err(), "an overflow changes nothing");
/// assert_eq!(inc(-2)?.value, 0);
/// # Ok::<(), redial_examples::counters::Overflow>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Counters(Arc<Mutex<HashMap<String, i64>>>);

/// A counter has no room for a delta. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overflow {
    value: i64,
    delta: i64,
}

impl std::fmt::Display for Overflow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} + {} does not fit into 64 bits; nothing was changed",
            self.value, self.delta
        )
    }
}

impl std::error::Error for Overflow {}

impl Counters {
    /// Adds to a counter.
    ///
    /// # Errors
    ///
    /// [`Overflow`] if the sum does not fit into 64 bits; the counter is then as it was.
    pub fn inc(&self, params: IncParams) -> Result<Counter, Overflow> {
        let IncParams { key, delta } = params;
        let mut counters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let value = counters.get(&key).copied().unwrap_or(0);
        let value = value.checked_add(delta).ok_or(Overflow { value, delta })?;
        counters.insert(key.clone(), value);
        Ok(Counter { key, value })
    }

    /// A counter's value, 0 if nobody has counted under that key.
    #[must_use]
    pub fn get(&self, params: GetParams) -> Counter {
        let counters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let value = counters.get(&params.key).copied().unwrap_or(0);
        Counter {
            key: params.key,
            value,
        }
    }

    /// Puts `inc` and `get` on a server.
    #[must_use]
    pub fn register(&self, server: ServerBuilder) -> ServerBuilder {
        let (for_inc, for_get) = (self.clone(), self.clone());
        server
            .method::<Inc>(move |params, _: Context| {
                let counters = for_inc.clone();
                async move {
                    counters
                        .inc(params)
                        .map_err(|error| Abort::failed(error.to_string()))
                }
            })
            .method::<Get>(move |params, _: Context| {
                let counters = for_get.clone();
                async move { Ok(counters.get(params)) }
            })
    }
}
