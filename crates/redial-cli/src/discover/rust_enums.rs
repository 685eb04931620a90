//! Enumerations in JSON schemas, in the forms that serde gives them.

use std::collections::BTreeSet;

use serde_json::Value;

use super::rust_names::type_ident;

/// An enumeration of Rust.
#[derive(Debug)]
pub(super) struct Enumeration {
    /// The member that names the variant, if the variants are not named by what they stand in.
    pub(super) tag: Option<String>,
    pub(super) variants: Vec<Variant>,
}

#[derive(Debug)]
pub(super) struct Variant {
    /// As it is written in JSON.
    pub(super) name: String,
    pub(super) description: Option<String>,
    pub(super) body: Body,
}

#[derive(Debug)]
pub(super) enum Body {
    Nothing,
    /// One value of this schema.
    Value(Value),
    /// The members of this schema, the tag not among them.
    Members(Value),
}

impl Enumeration {
    /// `None` if it is no enum, or one that serde writes in no form that has a name for each variant.
    pub(super) fn read(schema: &Value) -> Option<Self> {
        let named = |tag, variants| Some(Self { tag, variants });
        let branches = schema["oneOf"].as_array().or(schema["anyOf"].as_array());
        let read = match branches {
            None => named(None, names(schema)?),
            Some(branches) => {
                let external: Option<Vec<_>> = branches.iter().map(external).collect();
                match external {
                    Some(external) => named(None, external.into_iter().flatten().collect()),
                    None => {
                        let tag = tag(branches)?;
                        let variants = branches.iter().map(|branch| internal(branch, &tag));
                        let variants = variants.collect::<Option<_>>()?;
                        named(Some(tag), variants)
                    }
                }
            }
        };
        read.filter(|read| {
            let idents = read.variants.iter().map(|it| type_ident(&it.name));
            let idents: BTreeSet<_> = idents.collect();
            idents.len() == read.variants.len() && !idents.is_empty()
        })
    }
}

fn description(schema: &Value) -> Option<String> {
    schema["description"].as_str().map(str::to_owned)
}

/// Texts, each a variant.
fn names(schema: &Value) -> Option<Vec<Variant>> {
    let texts: Option<Vec<_>> = match (&schema["const"], &schema["enum"]) {
        (Value::String(text), _) => Some(vec![&**text]),
        (_, Value::Array(texts)) => texts.iter().map(Value::as_str).collect(),
        _ => None,
    };
    let texts = texts?;
    let description = description(schema).filter(|_| texts.len() == 1);
    let variant = |name: &str| Variant {
        name: name.to_owned(),
        description: description.clone(),
        body: Body::Nothing,
    };
    Some(texts.into_iter().map(variant).collect())
}

/// Texts, or an object whose only member is named as the variant is.
fn external(branch: &Value) -> Option<Vec<Variant>> {
    if let Some(names) = names(branch) {
        return Some(names);
    }
    let mut properties = branch["properties"].as_object()?.iter();
    let (Some((name, schema)), None) = (properties.next(), properties.next()) else {
        return None;
    };
    let is_closed = branch["additionalProperties"] == false && requires(branch, name);
    is_closed.then(|| {
        vec![Variant {
            name: name.clone(),
            description: description(branch),
            body: Body::Value(schema.clone()),
        }]
    })
}

/// An object in which a member says which variant it is.
fn internal(branch: &Value, tag: &str) -> Option<Variant> {
    let mut members = branch.clone();
    let named = members["properties"].as_object_mut()?.remove(tag)?;
    let name = names(&named)?.pop()?.name;
    let others = members["properties"]
        .as_object()
        .map_or(0, |others| others.len());
    let body = match (&branch["allOf"], &branch["$ref"]) {
        (Value::Null, Value::Null) if others == 0 => Body::Nothing,
        (Value::Null, Value::Null) => Body::Members(members),
        (Value::Array(all), Value::Null) if others == 0 && all.len() == 1 => {
            Body::Value(all[0].clone())
        }
        _ => return None,
    };
    Some(Variant {
        name,
        description: description(branch),
        body,
    })
}

/// The member that is required everywhere, and a text of its own in each branch.
fn tag(branches: &[Value]) -> Option<String> {
    let is_tag = |name: &str| {
        branches.iter().all(|branch| {
            let names = names(&branch["properties"][name]);
            requires(branch, name) && names.is_some_and(|names| names.len() == 1)
        })
    };
    let first = branches.first()?["properties"].as_object()?;
    first.keys().find(|name| is_tag(name)).cloned()
}

fn requires(schema: &Value, name: &str) -> bool {
    let required = schema["required"].as_array();
    required.is_some_and(|required| required.iter().any(|it| it == name))
}
