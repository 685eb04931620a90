//! Who hears the text of a failure that no handler meant for its caller: a panic, or an error that `?` has
//! passed on. It may hold a path, a query or a secret, so callers get a reference, and the text stays here.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use redial_protocol::ErrorObject;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::{
    observe::{HiddenFailure, Observer},
    panics, refusal,
};

/// Who hears the texts of one method's failures. The default sends them, and is for tests of stores:
/// each call of a server comes with the server's own.
#[derive(Clone, Default)]
pub struct FailureTexts {
    hidden: Option<Arc<Hidden>>,
}

struct Hidden {
    server: Arc<Disclosure>,
    method: Box<str>,
}

/// What all methods of a server have in common.
#[derive(Default)]
pub(crate) struct Disclosure {
    /// What the program has decided, once the server is built.
    settings: OnceLock<Settings>,
    /// How many texts were kept from callers.
    count: AtomicU64,
}

pub(crate) struct Settings {
    pub(crate) exposes: bool,
    pub(crate) observers: Vec<Arc<dyn Observer>>,
    /// Makes the references of two servers differ.
    pub(crate) seed: u64,
}

impl Disclosure {
    pub(crate) fn settle(&self, settings: Settings) {
        // A server is built once.
        let _: Result<(), Settings> = self.settings.set(settings);
    }

    pub(crate) fn of(self: &Arc<Self>, method: &str) -> FailureTexts {
        FailureTexts {
            hidden: Some(Arc::new(Hidden {
                server: Arc::clone(self),
                method: method.into(),
            })),
        }
    }
}

impl FailureTexts {
    /// The error of a handler that has panicked.
    #[cold]
    pub(crate) fn of_panic(&self, text: &str) -> ErrorObject {
        match self.hide(text, true) {
            Some(reference) => refusal::handler_panicked_as(&reference),
            None => refusal::handler_panicked(text),
        }
    }

    /// The error of params whose decoding has panicked.
    #[cold]
    pub(crate) fn of_params(&self, text: &str) -> ErrorObject {
        match self.hide(text, true) {
            Some(reference) => refusal::params_panicked_as(&reference),
            None => refusal::params_panicked(text),
        }
    }

    /// What is said in place of the text of an error that `?` has passed on; `None` if the text is.
    #[cold]
    pub(crate) fn in_place_of(&self, text: &str) -> Option<String> {
        let reference = self.hide(text, false)?;
        Some(format!("the handler failed (reference {reference})"))
    }

    /// Keeps a text, and gives the reference to it; `None` if callers may hear it.
    fn hide(&self, text: &str, is_panic: bool) -> Option<String> {
        let Hidden { server, method } = &**self.hidden.as_ref()?;
        let settings = server.settings.get()?;
        if settings.exposes {
            return None;
        }
        let number = server.count.fetch_add(1, Relaxed);
        let hash = xxh3_64_with_seed(&number.to_le_bytes(), settings.seed);
        let reference = format!("{:012x}", hash >> 16);
        let failure = HiddenFailure {
            reference: &reference,
            method,
            text,
            is_panic,
        };
        // In the middle of a call a panic would take its outcome along.
        for observer in &settings.observers {
            let _: Result<(), String> = panics::catch(|| observer.observe_hidden(&failure));
        }
        if settings.observers.is_empty() {
            failure.print();
        }
        Some(reference)
    }
}

impl fmt::Debug for FailureTexts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FailureTexts").finish_non_exhaustive()
    }
}
