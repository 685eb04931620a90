//! The counters themselves: a map in memory behind the two methods, and a ledger of what was done
//! to it, if anybody wants one.

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
pub struct Counters(Arc<Mutex<Books>>);

#[derive(Debug, Default)]
struct Books {
    counters: HashMap<String, i64>,
    ledger: Option<File>,
}

/// One line of a ledger: an effect.
#[derive(Serialize)]
struct Entry<'a> {
    key: &'a str,
    delta: i64,
    value: i64,
}

/// Why a counter is as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unchanged {
    /// It has no room for the delta.
    Overflow {
        /// What it is.
        value: i64,
        /// What was to be added.
        delta: i64,
    },
    /// The effect could not be written to the ledger, for the reason that the system gave.
    Ledger(String),
}

impl fmt::Display for Unchanged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overflow { value, delta } => {
                write!(f, "{value} + {delta} does not fit into 64 bits")?;
            }
            Self::Ledger(reason) => write!(f, "the ledger can't be written: {reason}")?,
        }
        write!(f, "; nothing was changed")
    }
}

impl std::error::Error for Unchanged {}

impl Counters {
    /// No counters yet, and a ledger of every effect: a line of JSON, such as
    /// `{"key":"k","delta":1,"value":7}`, that one write of its own appends to the file before the
    /// counter changes. So it holds every effect that anybody was told of, however the process
    /// ended, `kill -9` included; not if the machine did. The file is made, or goes on.
    ///
    /// # Errors
    ///
    /// What the system says if the file can't be opened.
    pub fn with_ledger(path: &Path) -> io::Result<Self> {
        let ledger = File::options().create(true).append(true).open(path)?;
        let books = Books {
            ledger: Some(ledger),
            ..Books::default()
        };
        Ok(Self(Arc::new(Mutex::new(books))))
    }

    /// Adds to a counter.
    ///
    /// # Errors
    ///
    /// [`Unchanged`] if the sum does not fit into 64 bits or into the ledger; the counter is then
    /// as it was.
    pub fn inc(&self, params: IncParams) -> Result<Counter, Unchanged> {
        let IncParams { key, delta } = params;
        let mut books = self.lock();
        let value = books.counters.get(&key).copied().unwrap_or(0);
        let value = value
            .checked_add(delta)
            .ok_or(Unchanged::Overflow { value, delta })?;
        books.write_down(&key, delta, value)?;
        books.counters.insert(key.clone(), value);
        Ok(Counter { key, value })
    }

    /// A counter's value, 0 if nobody has counted under that key.
    #[must_use]
    pub fn get(&self, params: GetParams) -> Counter {
        let value = self.lock().counters.get(&params.key).copied().unwrap_or(0);
        Counter {
            key: params.key,
            value,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts `inc` and `get` on a server.
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

impl Books {
    fn write_down(&mut self, key: &str, delta: i64, value: i64) -> Result<(), Unchanged> {
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
