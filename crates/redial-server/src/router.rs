//! Methods by name.

use std::{collections::HashMap, sync::Arc, time::Duration};

use redial_protocol::MethodKind;

use crate::{
    error::BuildError,
    failure_texts::FailureTexts,
    handler::ErasedHandler,
    layer::{Layer, Layered, Layers},
    method_limits::MethodLimits,
    store::TransactionMethod,
    table::Fingerprint,
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
    pub(crate) failure_texts: FailureTexts,
    /// A call that a crash has interrupted may be run again under its id.
    pub(crate) is_resumable: bool,
    /// Its own limits; `execution_timeout` is that which holds, once the server is built.
    pub(crate) limits: MethodLimits,
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
        failure_texts: FailureTexts,
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
            failure_texts,
            is_resumable: false,
            limits: MethodLimits::default(),
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

    /// Gives a method limits of its own.
    pub(crate) fn set_limits(
        &mut self,
        name: &str,
        limits: MethodLimits,
    ) -> Result<(), BuildError> {
        let method = self.find(name).map(|index| &mut self.methods[index]);
        let is_transaction = (method.as_ref())
            .is_some_and(|method| matches!(method.body, MethodBody::Transaction(_)));
        let problem = match (method, limits) {
            (None, _) => "there is no such method; expected one that was registered before",
            (_, limits) if limits.max_running == Some(0) => "max_running is 0; expected 1 or more",
            (_, limits) if limits.execution_timeout == Some(Duration::ZERO) => {
                "execution_timeout is 0; expected more"
            }
            (_, limits) if is_transaction && limits.execution_timeout.is_some() => {
                "execution_timeout does not hold inside a transaction; expected none"
            }
            (Some(method), limits) => {
                method.limits = limits;
                return Ok(());
            }
        };
        Err(BuildError::MethodLimits {
            method: name.to_owned(),
            problem,
        })
    }

    /// Puts layers around the handlers of all methods, or of the one that is named; the outermost first.
    pub(crate) fn wrap(
        &mut self,
        layers: &[(Option<String>, Arc<dyn Layer>)],
    ) -> Result<(), BuildError> {
        let unknown = layers.iter().find_map(|(name, _)| {
            let name = name.as_ref()?;
            self.find(name)
                .is_none()
                .then(|| (name.clone(), "there is no such method"))
        });
        let refused = |(method, problem)| Err(BuildError::Layer { method, problem });
        if let Some(unknown) = unknown {
            return refused(unknown);
        }
        for method in std::mem::take(&mut self.methods) {
            let own = layers
                .iter()
                .filter(|(name, _)| name.as_deref().is_none_or(|name| name == &*method.name));
            let own: Layers = own.map(|(_, layer)| Arc::clone(layer)).collect();
            let body = match method.body {
                body if own.is_empty() => body,
                MethodBody::Handler(handler) => MethodBody::Handler(Box::new(Layered {
                    method: Arc::clone(&method.name),
                    layers: own,
                    texts: method.failure_texts.clone(),
                    handler,
                })),
                MethodBody::Transaction(_) => {
                    let problem = "it runs inside a transaction of the store, which no layer is \
                                   around; expected layer_of for each of the other methods";
                    return refused((method.name.to_string(), problem));
                }
            };
            self.methods.push(Registered { body, ..method });
        }
        Ok(())
    }

    /// The timeout for methods without one of their own. One that can never be reached counts as no timeout.
    pub(crate) fn set_default_timeout(&mut self, timeout: Option<Duration>) {
        for method in &mut self.methods {
            let timeout = match &method.body {
                MethodBody::Handler(_) => method.limits.execution_timeout.or(timeout),
                MethodBody::Transaction(_) => None,
            };
            method.limits.execution_timeout = timeout.filter(|timeout| *timeout < Duration::MAX);
        }
    }

    pub(crate) fn find(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// The kind of the method of this name, if there is one.
    pub(crate) fn kind_of(&self, name: &str) -> Option<MethodKind> {
        Some(self.method(self.find(name)?).kind)
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
