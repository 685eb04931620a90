//! What is in use, and the files that it came from: a newer state of them takes its place, unless it
//! can't be used.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{
    error::TlsError,
    files::{Source, Stamp},
};

/// Something that was loaded from files, and is loaded again when they change.
pub(crate) struct Reloading<T> {
    sources: Vec<Source>,
    state: Mutex<State<T>>,
}

struct State<T> {
    current: T,
    /// What the files were when they were last read, whether or not that could be used.
    read: Vec<Stamp>,
    /// Why the latest state of the files is not in use.
    problem: Option<String>,
}

impl<T: Clone> Reloading<T> {
    pub(crate) fn new(
        sources: Vec<Source>,
        load: impl FnOnce() -> Result<T, TlsError>,
    ) -> Result<Self, TlsError> {
        let read = stamps(&sources);
        let state = Mutex::new(State {
            current: load()?,
            read,
            problem: None,
        });
        Ok(Self { sources, state })
    }

    /// Something that comes from no file.
    pub(crate) fn fixed(current: T) -> Self {
        let (read, problem) = (Vec::new(), None);
        Self {
            sources: Vec::new(),
            state: Mutex::new(State {
                current,
                read,
                problem,
            }),
        }
    }

    pub(crate) fn current(&self) -> T {
        self.lock().current.clone()
    }

    pub(crate) fn load(&self, load: impl FnOnce() -> Result<T, TlsError>) -> Result<(), TlsError> {
        // Before they are read: what changes meanwhile is read again.
        let read = stamps(&self.sources);
        let loaded = load();
        let mut state = self.lock();
        state.read = read;
        match loaded {
            Ok(current) => {
                state.current = current;
                state.problem = None;
                Ok(())
            }
            Err(error) => {
                state.problem = Some(error.to_string());
                Err(error)
            }
        }
    }

    /// Loads if a file has changed, or if the last state of them could not be used: a pair may be
    /// replaced file by file, and within one tick of the file system's clock. `None` if there is
    /// nothing new to say.
    pub(crate) fn load_if_changed(
        &self,
        load: impl FnOnce() -> Result<T, TlsError>,
    ) -> Option<Result<(), TlsError>> {
        let stamps = stamps(&self.sources);
        let problem = {
            let state = self.lock();
            if state.problem.is_none() && state.read == stamps {
                return None;
            }
            state.problem.clone()
        };
        let loaded = self.load(load);
        let said = loaded.as_ref().err().map(ToString::to_string);
        (said.is_none() || said != problem).then_some(loaded)
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> fmt::Debug for Reloading<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.sources).finish()
    }
}

fn stamps(sources: &[Source]) -> Vec<Stamp> {
    sources.iter().map(Source::stamp).collect()
}
