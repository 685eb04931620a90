//! Methods by name.

use std::{collections::HashMap, sync::Arc};

use redial_protocol::MethodKind;

use crate::{
    error::BuildError, handler::ErasedHandler, store::TransactionMethod, table::Fingerprint,
};

/// What a method runs.
pub(crate) enum MethodBody {
    /// A handler.
    Handler(Box<dyn ErasedHandler>),
    /// A handler inside a transaction of the store.
    Transaction(Arc<dyn TransactionMethod>),
}

/// One method that the program has registered.
pub(crate) struct Registered {
    pub(crate) name: Arc<str>,
    pub(crate) kind: MethodKind,
    pub(crate) body: MethodBody,
    /// A call that a crash has interrupted may be run again under its id.
    pub(crate) is_resumable: bool,
    /// What the method contributes to the fingerprints of its calls.
    pub(crate) fingerprint_seed: u64,
}

/// All methods. A method is known by its index, so that connections can keep things per method
/// without hashing its name again.
#[derive(Default)]
pub(crate) struct Router {
    methods: Vec<Registered>,
    by_name: HashMap<Arc<str>, usize>,
}

impl Router {
    pub(crate) fn add(
        &mut self,
        name: &str,
        kind: MethodKind,
        body: MethodBody,
    ) -> Result<(), BuildError> {
        if name.is_empty() || name.starts_with("rpc.") {
            return Err(BuildError::ReservedMethod(name.to_owned()));
        }
        let name: Arc<str> = name.into();
        if self
            .by_name
            .insert(Arc::clone(&name), self.methods.len())
            .is_some()
        {
            return Err(BuildError::DuplicateMethod(name.to_string()));
        }
        let fingerprint_seed = Fingerprint::seed(&name);
        self.methods.push(Registered {
            name,
            kind,
            body,
            is_resumable: false,
            fingerprint_seed,
        });
        Ok(())
    }

    /// Marks a mutation as resumable.
    pub(crate) fn set_resumable(&mut self, name: &str) -> Result<(), BuildError> {
        let method = self.find(name).map(|index| &mut self.methods[index]);
        match method {
            Some(Registered {
                kind: MethodKind::Mutation,
                body: MethodBody::Handler(_),
                is_resumable,
                ..
            }) => {
                *is_resumable = true;
                Ok(())
            }
            _ => Err(BuildError::NotResumable(name.to_owned())),
        }
    }

    pub(crate) fn find(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// Whether this is the name of the method at an index.
    pub(crate) fn is_at(&self, index: usize, name: &str) -> bool {
        let method = self.methods.get(index);
        method.is_some_and(|method| *method.name == *name)
    }

    pub(crate) fn method(&self, index: usize) -> &Registered {
        &self.methods[index]
    }

    /// In the order in which they were registered.
    pub(crate) fn methods(&self) -> &[Registered] {
        &self.methods
    }
}
