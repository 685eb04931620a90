//! Which schemas refer to one another in circles: a type that held itself would have no size.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::document::reference;

/// Which names lead to which.
type Graph = BTreeMap<String, BTreeSet<String>>;

#[derive(Debug)]
pub(super) struct Cycles {
    /// By what a type holds in itself: not in a list or a map, which lie elsewhere.
    held: Graph,
    /// By whatever a type refers to.
    any: Graph,
}

impl Cycles {
    pub(super) fn of(schemas: &Map<String, Value>) -> Self {
        let graph = |with_lists| {
            let found = |schema| {
                let mut found = BTreeSet::new();
                references(schema, with_lists, &mut found);
                found
            };
            let graph = schemas
                .iter()
                .map(|(name, schema)| (name.clone(), found(schema)));
            closed(graph.collect())
        };
        Self {
            held: graph(false),
            any: graph(true),
        }
    }

    /// Whether `from` is `to`, or holds it.
    pub(super) fn leads(&self, from: &str, to: &str) -> bool {
        let is_held = self.held.get(from).is_some_and(|held| held.contains(to));
        is_held || from == to
    }

    /// Whether it refers to itself, in whatever way.
    pub(super) fn is_circle(&self, name: &str) -> bool {
        self.any.get(name).is_some_and(|names| names.contains(name))
    }
}

fn references(schema: &Value, with_lists: bool, found: &mut BTreeSet<String>) {
    if let Some(name) = reference(schema) {
        found.insert(name.to_owned());
    }
    let Some(members) = schema.as_object() else {
        return;
    };
    for (name, value) in members {
        match (&**name, value) {
            ("properties", Value::Object(properties)) => {
                properties
                    .values()
                    .for_each(|it| references(it, with_lists, found));
            }
            ("items" | "prefixItems" | "oneOf" | "anyOf" | "allOf", Value::Array(values)) => {
                values
                    .iter()
                    .for_each(|it| references(it, with_lists, found));
            }
            ("items" | "additionalProperties", value) if with_lists => {
                references(value, with_lists, found);
            }
            _ => {}
        }
    }
}

/// What is reached in any number of steps.
fn closed(mut graph: Graph) -> Graph {
    loop {
        let mut has_grown = false;
        for name in graph.keys().cloned().collect::<Vec<_>>() {
            let steps = graph[&name].iter().filter_map(|next| graph.get(next));
            let further: BTreeSet<_> = steps.flatten().cloned().collect();
            let reached = graph.entry(name).or_default();
            let before = reached.len();
            reached.extend(further);
            has_grown |= reached.len() > before;
        }
        if !has_grown {
            return graph;
        }
    }
}
