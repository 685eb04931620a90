//! The counters: a map in memory behind the two methods, and an optional ledger of every effect.

use std::{
    borrow::Cow,
    collections::HashMap,
    fmt,
    fs::File,
    io::{self, BufRead, BufReader, Write},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use redial_server::{Abort, ServerBuilder};

use serde::{Deserialize, Serialize};

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
    /// What each call that is honoured by its id has come to.
    by_id: HashMap<String, i64>,
}

/// One line of a ledger.
#[derive(Serialize, Deserialize)]
struct Entry<'a> {
    /// The call's id, where the counters go by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<Cow<'a, str>>,
    key: Cow<'a, str>,
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

    /// Restores what the ledger says, as a service outside would that outlives this one.
    ///
    /// # Errors
    ///
    /// The system's, if the file cannot be read. A line that was cut off counts for nothing.
    pub fn recover(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        for line in BufReader::new(File::open(path)?).split(b'\n') {
            if let Ok(Entry { id, key, value, .. }) = serde_json::from_slice::<Entry<'_>>(&line?) {
                state.by_id.extend(id.map(|id| (id.into_owned(), value)));
                state.values.insert(key.into_owned(), value);
            }
        }
        Ok(())
    }

    /// Adds to a counter, once for each id however often it is asked: as a service outside does that
    /// honours idempotency keys.
    ///
    /// # Errors
    ///
    /// As [`inc`](Self::inc).
    pub fn inc_once(&self, id: String, params: IncParams) -> Result<Counter, Unchanged> {
        let mut state = self.lock();
        if let Some(value) = state.by_id.get(&id).copied() {
            let key = params.key;
            return Ok(Counter { key, value });
        }
        let counter = state.inc(params, Some(&id))?;
        state.by_id.insert(id, counter.value);
        Ok(counter)
    }

    /// Adds to a counter.
    ///
    /// # Errors
    ///
    /// [`Unchanged`] if the sum does not fit into 64 bits, or the ledger cannot be written.
    pub fn inc(&self, params: IncParams) -> Result<Counter, Unchanged> {
        self.lock().inc(params, None)
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

    /// As [`register`](Self::register), with an `inc` that takes effect once for each call's id.
    #[must_use]
    pub fn register_by_id(&self, server: ServerBuilder) -> ServerBuilder {
        let (for_inc, for_get) = (self.clone(), self.clone());
        server
            .method_with_context::<Inc>(move |params, context| {
                let counters = for_inc.clone();
                async move {
                    let id = context.call_id().ok_or_else(|| {
                        Abort::failed("the call has no id; expected a UUID, or one of a session")
                    })?;
                    let counter = counters.inc_once(id, params);
                    counter.map_err(|error| Abort::failed(error.to_string()))
                }
            })
            .method::<Get>(move |params| {
                let counters = for_get.clone();
                async move { Ok(counters.get(params)) }
            })
    }

    /// As [`register`](Self::register), with the id of its call beside each effect in the ledger.
    #[must_use]
    pub fn register_with_ids(&self, server: ServerBuilder) -> ServerBuilder {
        let (for_inc, for_get) = (self.clone(), self.clone());
        server
            .method_with_context::<Inc>(move |params, context| {
                let counters = for_inc.clone();
                async move {
                    let counter = counters.lock().inc(params, context.call_id().as_deref());
                    counter.map_err(|error| Abort::failed(error.to_string()))
                }
            })
            .method::<Get>(move |params| {
                let counters = for_get.clone();
                async move { Ok(counters.get(params)) }
            })
    }
}

impl State {
    fn inc(&mut self, params: IncParams, id: Option<&str>) -> Result<Counter, Unchanged> {
        let IncParams { key, delta } = params;
        let value = self.values.get(&key).copied().unwrap_or(0);
        let value = value
            .checked_add(delta)
            .ok_or(Unchanged::Overflow { value, delta })?;
        self.append(&Entry {
            id: id.map(Cow::Borrowed),
            key: key.as_str().into(),
            delta,
            value,
        })?;
        self.values.insert(key.clone(), value);
        Ok(Counter { key, value })
    }

    fn append(&mut self, entry: &Entry<'_>) -> Result<(), Unchanged> {
        let Some(ledger) = &mut self.ledger else {
            return Ok(());
        };
        let mut line = serde_json::to_vec(entry).expect("plain members are always JSON");
        line.push(b'\n');
        let written = ledger.write_all(&line);
        written.map_err(|error| Unchanged::Ledger(error.to_string()))
    }
}
