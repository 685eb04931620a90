//! Schemas of what methods take and give, made of their types by schemars.

use std::collections::{BTreeMap, BTreeSet};

use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value};

use crate::discover::{Descriptions, Schemas};

/// Where the definitions lie in the document.
const DEFINITIONS: &str = "/components/schemas";

type MakeSchema = fn(&mut SchemaGenerator) -> Schema;

/// The types of a method, as what makes schemas of them.
#[derive(Clone, Copy)]
pub(crate) struct Types {
    params: MakeSchema,
    result: MakeSchema,
}

impl Types {
    pub(crate) fn of<P: JsonSchema, T: JsonSchema>() -> Self {
        Self {
            params: SchemaGenerator::subschema_for::<P>,
            result: SchemaGenerator::subschema_for::<T>,
        }
    }
}

/// The schemas of all described methods.
pub(crate) fn of(descriptions: &Descriptions) -> Schemas {
    // OpenRPC's schemas are those of draft 7.
    let settings = || {
        SchemaSettings::draft07().with(|settings| {
            settings.definitions_path = DEFINITIONS.into();
            settings.meta_schema = None;
        })
    };
    let mut taken = settings().for_deserialize().into_generator();
    let mut given = settings().for_serialize().into_generator();
    let mut schemas = Schemas::default();
    for (name, description) in descriptions {
        if let Some(types) = description.types {
            let params = make(types.params, &mut taken);
            let result = make(types.result, &mut given);
            schemas.methods.insert(name.clone(), (params, result));
        }
    }
    schemas.definitions = taken.take_definitions(true);
    join(&mut schemas, given.take_definitions(true));
    schemas
}

fn make(make: MakeSchema, generator: &mut SchemaGenerator) -> Value {
    let mut schema = make(generator);
    for transform in generator.transforms_mut() {
        transform.transform(&mut schema);
    }
    schema.into()
}

/// Adds the definitions of results. A type that may be written as it can't be read has a definition for
/// each, and so has a type that refers to it.
fn join(schemas: &mut Schemas, mut given: Map<String, Value>) {
    let taken = &schemas.definitions;
    let both = |name: &&String| taken.contains_key(*name);
    let mut apart: BTreeSet<String> = given
        .iter()
        .filter(|(name, given)| {
            taken
                .get(*name)
                .is_some_and(|taken| !says_less(taken, given))
        })
        .map(|(name, _)| name.clone())
        .collect();
    loop {
        let refers = |name: &String| {
            let mut refers = false;
            let mut definition = given[name].clone();
            each_reference(&mut definition, &mut |to| refers |= apart.contains(to));
            refers
        };
        let more = given.keys().filter(&both);
        let more = more.filter(|name| !apart.contains(*name) && refers(name));
        let more: Vec<String> = more.cloned().collect();
        if more.is_empty() {
            break;
        }
        apart.extend(more);
    }
    let mut names = BTreeMap::new();
    for name in apart {
        let mut other = format!("{name}Result");
        while taken.contains_key(&other) || given.contains_key(&other) {
            other.push('_');
        }
        let definition = given.remove(&name).expect("a name of these definitions");
        given.insert(other.clone(), definition);
        names.insert(name, other);
    }
    let mut rename = |to: &mut String| {
        if let Some(other) = names.get(to) {
            to.clone_from(other);
        }
    };
    for definition in given.values_mut() {
        each_reference(definition, &mut rename);
    }
    for (_, result) in schemas.methods.values_mut() {
        each_reference(result, &mut rename);
    }
    // Of what is the same the reader's definition stays: all that is written fits it.
    given.retain(|name, _| !schemas.definitions.contains_key(name));
    schemas.definitions.append(&mut given);
}

/// Whether one schema is the other, but that it requires fewer members: what can be left out, as what is an
/// `Option` or has a default, is always written.
fn says_less(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let is_list = |name: &str, of: &Map<String, Value>| {
                name == "required" && of.get(name).is_none_or(Value::is_array)
            };
            let mut names: BTreeSet<_> = one.keys().chain(other.keys()).collect();
            names.retain(|name| !(is_list(name, one) && is_list(name, other)));
            let required = |of: &Map<String, Value>| -> Vec<Value> {
                let list = of.get("required").and_then(Value::as_array);
                list.cloned().unwrap_or_default()
            };
            let others = required(other);
            required(one).iter().all(|name| others.contains(name))
                && names
                    .iter()
                    .all(|name| match (one.get(*name), other.get(*name)) {
                        (Some(one), Some(other)) => says_less(one, other),
                        _ => false,
                    })
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len()
                && one
                    .iter()
                    .zip(other)
                    .all(|(one, other)| says_less(one, other))
        }
        (one, other) => one == other,
    }
}

/// Calls it with the name of each definition that a schema refers to, which it may change.
fn each_reference(schema: &mut Value, call: &mut impl FnMut(&mut String)) {
    match schema {
        Value::Array(values) => values
            .iter_mut()
            .for_each(|value| each_reference(value, call)),
        Value::Object(members) => {
            for (name, value) in members {
                match value {
                    Value::String(to) if name == "$ref" => {
                        let prefix = format!("#{DEFINITIONS}/");
                        if let Some(name) = to.strip_prefix(&prefix) {
                            let mut name = name.to_owned();
                            call(&mut name);
                            *to = prefix + &name;
                        }
                    }
                    value => each_reference(value, call),
                }
            }
        }
        _ => {}
    }
}
