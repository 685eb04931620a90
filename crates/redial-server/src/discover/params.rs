//! The params of a method as OpenRPC lists them, one by one, made of the schema of them all.

use serde_json::{Map, Value, json};

/// Definitions may refer to one another in a circle.
const MAX_REFERENCES: usize = 32;

/// How params are given, by name or by position, and the list of them. The list is empty if params are
/// neither an object of known members nor an array of known length.
pub(super) fn list(schema: &Value, definitions: &Map<String, Value>) -> (&'static str, Value) {
    let schema = resolve(schema, definitions);
    let required: Vec<&str> = strings(&schema["required"]).collect();
    if let Some(properties) = schema["properties"]
        .as_object()
        .filter(|_| is_plain(schema))
    {
        let is_required = |name: &str| required.contains(&name);
        let optional = properties.keys().map(String::as_str);
        // Those that are required come in the order of the type's fields.
        let names = required
            .iter()
            .copied()
            .filter(|name| properties.contains_key(*name))
            .chain(optional.filter(|name| !is_required(name)));
        let list = names.map(|name| descriptor(name, &properties[name], is_required(name)));
        return ("by-name", list.collect());
    }
    let (items, length) = (schema["items"].as_array(), schema["maxItems"].as_u64());
    match items.filter(|items| length == Some(items.len() as u64)) {
        Some(items) => {
            let list = items.iter().enumerate();
            let list = list.map(|(at, item)| descriptor(&format!("arg{at}"), item, true));
            ("by-position", list.collect())
        }
        None => ("either", json!([])),
    }
}

/// Whether the members say all that there is to say.
fn is_plain(schema: &Value) -> bool {
    let others = ["oneOf", "anyOf", "allOf", "patternProperties"];
    let additional = &schema["additionalProperties"];
    !others.iter().any(|other| schema.get(other).is_some())
        && (additional.is_null() || additional.is_boolean())
}

fn descriptor(name: &str, schema: &Value, is_required: bool) -> Value {
    let mut descriptor = json!({ "name": name, "required": is_required, "schema": schema });
    if let Some(description) = schema["description"].as_str() {
        descriptor["description"] = json!(description);
    }
    descriptor
}

fn resolve<'v>(mut schema: &'v Value, definitions: &'v Map<String, Value>) -> &'v Value {
    for _ in 0..MAX_REFERENCES {
        let name = schema["$ref"].as_str();
        let name = name.and_then(|name| name.strip_prefix("#/components/schemas/"));
        match name.and_then(|name| definitions.get(name)) {
            Some(definition) => schema = definition,
            None => break,
        }
    }
    schema
}

fn strings(list: &Value) -> impl Iterator<Item = &str> {
    let list = list.as_array().map_or(&[][..], Vec::as_slice);
    list.iter().filter_map(Value::as_str)
}
