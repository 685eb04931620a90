//! The counters: a map in memory behind the two methods, and an optional ledger of every effect.

use std::{
    collections::HashMap,
    fmt,
    fs::File,
    io::{self, Write},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use redial_server::{Abort, ServerBuilder};

use serde::Serialize;

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
/// # Ok::<(), redial_examples::counters::Unchanged>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Counters(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    values: HashMap<String, i64>,
    ledger: Option<File>,
}

/// One line of a ledger.
#[derive(Serialize)]
struct Entry<'a> {
    key: &'a str,
    delta: i64,
    value: i64,
}

/// Why a counter did not change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unchanged {
    /// The sum does not fit into 64 bits.
    Overflow {
        /// The counter's value.
        value: i64,
        /// What was to be added.
        delta: i64,
    },
    /// The effect could not be written to the ledger, for this reason.
    Ledger(String),
}

impl fmt::Display for Unchanged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overflow { value, delta } => {
                write!(f, "{value} + {delta} does not fit into 64 bits")?;
            }
            Self::Ledger(reason) => write!(f, "cannot write the ledger: {reason}")?,
        }
        write!(f, "; nothing was changed")
    }
}

impl std::error::Error for Unchanged {}

impl Counters {
    /// New counters, with a ledger of every effect: a line of JSON, such as
    /// `{"key":"k","delta":1,"value":7}`, appended to the file before the counter changes. So it
    /// holds every effect that a client can have heard of, even after `kill -9`, but not after a
    /// power failure. The file is created, or appended to.
    ///
    /// # Errors
    ///
    /// The system's, if the file cannot be opened.
    pub fn with_ledger(path: &Path) -> io::Result<Self> {
        let ledger = File::options().create(true).append(true).open(path)?;
        let state = State {
            ledger: Some(ledger),
            ..State::default()
        };
        Ok(Self(Arc::new(Mutex::new(state))))
    }

    /// Adds to a counter.
    ///
    /// # Errors
    ///
    /// [`Unchanged`] if the sum does not fit into 64 bits, or the ledger cannot be written.
    pub fn inc(&self, params: IncParams) -> Result<Counter, Unchanged> {
        let IncParams { key, delta } = params;
        let mut state = self.lock();
        let value = state.values.get(&key).copied().unwrap_or(0);
        let value = value
            .checked_add(delta)
            .ok_or(Unchanged::Overflow { value, delta })?;
        state.append(&key, delta, value)?;
        state.values.insert(key.clone(), value);
        Ok(Counter { key, value })
    }

    /// A counter's value, 0 for an unused key.
    #[must_use]
    pub fn get(&self, params: GetParams) -> Counter {
        let value = self.lock().values.get(&params.key).copied().unwrap_or(0);
        Counter {
            key: params.key,
            value,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers `inc` and `get` with a server.
    #[must_use]
    pub fn register(&self, server: ServerBuilder) -> ServerBuilder {
        let (for_inc, for_get) = (self.clone(), self.clone());
        server
            .method::<Inc>(move |params| {
                let counters = for_inc.clone();
                async move {
                    counters
                        .inc(params)
                        .map_err(|error| Abort::failed(error.to_string()))
                }
            })
            .method::<Get>(move |params| {
                let counters = for_get.clone();
                async move { Ok(counters.get(params)) }
            })
    }
}

impl State {
    fn append(&mut self, key: &str, delta: i64, value: i64) -> Result<(), Unchanged> {
        let Some(ledger) = &mut self.ledger else {
            return Ok(());
        };
        let entry = Entry { key, delta, value };
        let mut line = serde_json::to_vec(&entry).expect("plain members are always JSON");
        line.push(b'\n');
        let written = ledger.write_all(&line);
        written.map_err(|error| Unchanged::Ledger(error.to_string()))
    }
}
