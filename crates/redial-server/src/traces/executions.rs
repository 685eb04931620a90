//! How the spans of the latest executions are named, so that an attempt which gets the outcome of one can
//! say so.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use redial_protocol::{CallKey, cut};
use tracing::Span;

/// Gives the `traceparent` of an execution's span.
pub(super) type SpanNamer = dyn Fn(&Span) -> Option<String> + Send + Sync;

/// Links an attempt's span to the span with this `traceparent`.
pub(super) type SpanLinker = dyn Fn(&Span, &str) + Send + Sync;

/// The latest executions of mutations, by the call's key.
pub(super) struct Executions {
    pub(super) name: Option<Arc<SpanNamer>>,
    pub(super) link: Option<Arc<SpanLinker>>,
    pub(super) max: usize,
    latest: Mutex<Latest>,
}

#[derive(Default)]
struct Latest {
    names: HashMap<CallKey, Box<str>>,
    /// The oldest first.
    order: VecDeque<CallKey>,
}

impl Default for Executions {
    fn default() -> Self {
        Self::new(None, None, 1_024)
    }
}

impl Executions {
    pub(super) fn new(
        name: Option<Arc<SpanNamer>>,
        link: Option<Arc<SpanLinker>>,
        max: usize,
    ) -> Self {
        Self {
            name,
            link,
            max,
            latest: Mutex::default(),
        }
    }

    /// An execution of the call begins, for an attempt that came with this `traceparent`.
    pub(super) fn begin(&self, call: &CallKey, execution: &Span, traceparent: Option<&str>) {
        let named = self.name.as_ref().and_then(|name| name(execution));
        let Some(name) = named.as_deref().or(traceparent) else {
            return;
        };
        self.lock().keep(call, cut(name).into(), self.max);
    }

    /// An attempt gets the outcome of the call's execution. Whether that is known.
    pub(super) fn link(&self, call: &CallKey, attempt: &Span) -> bool {
        let Some(name) = self.lock().names.get(call).cloned() else {
            return false;
        };
        attempt.record("redial.execution", &*name);
        if let Some(link) = &self.link {
            link(attempt, &name);
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, Latest> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Latest {
    fn keep(&mut self, call: &CallKey, name: Box<str>, max: usize) {
        if self.names.insert(call.clone(), name).is_none() {
            self.order.push_back(call.clone());
        }
        if self.order.len() > max
            && let Some(oldest) = self.order.pop_front()
        {
            self.names.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kind: memory that grows with every call. Instances: more calls than are remembered, one that is run
    /// again, and none that are to be.
    #[test]
    fn the_latest_executions_are_remembered_and_no_more() {
        let call = |number: u64| CallKey::of_string(&format!("call {number}"));
        for max in [0, 1, 3] {
            let executions = Executions::new(None, None, max);
            for number in 0..9 {
                executions.begin(&call(number), &Span::none(), Some("00-ab-cd-01"));
                executions.begin(&call(number), &Span::none(), Some("00-ab-ef-01"));
                executions.begin(&call(number), &Span::none(), None);
            }
            let known = |number| executions.link(&call(number), &Span::none());
            let known = (0..9).filter(|number| known(*number)).count();
            assert_eq!(known, max);
            let latest = executions.lock();
            assert_eq!((latest.names.len(), latest.order.len()), (max, max));
        }
    }
}
