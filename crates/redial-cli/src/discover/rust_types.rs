//! JSON schemas as types of Rust. What they have no type for is a `serde_json::Value`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use serde_json::{Map, Value};

use super::{
    document::reference,
    rust_cycles::Cycles,
    rust_enums::{Body, Enumeration},
    rust_names::{comment, field_ident, free, type_ident},
};

const ANY: &str = "serde_json::Value";

const DERIVES: &str = "#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]\n";

/// The types that a module needs beside its methods.
pub(super) struct Types<'a> {
    schemas: &'a Map<String, Value>,
    /// What each of the schemas is called.
    idents: BTreeMap<&'a str, String>,
    cycles: Cycles,
    /// Of which of the schemas a type is written that would hold what it refers to directly.
    holder: Option<&'a str>,
    /// Names that are taken.
    names: BTreeSet<String>,
    text: String,
}

/// A member of an object.
pub(super) struct Field {
    pub(super) name: String,
    pub(super) schema: Value,
    pub(super) is_required: bool,
    pub(super) description: Option<String>,
}

impl<'a> Types<'a> {
    pub(super) fn new(schemas: &'a Map<String, Value>) -> Self {
        let mut names = BTreeSet::new();
        let ident = |name: &'a String| (name.as_str(), free(&mut names, &type_ident(name)));
        let idents = schemas.keys().map(ident).collect();
        Self {
            schemas,
            idents,
            cycles: Cycles::of(schemas),
            holder: None,
            names,
            text: String::new(),
        }
    }

    /// The text of all types, those of `components.schemas` included.
    pub(super) fn finish(mut self) -> String {
        for (name, schema) in self.schemas {
            self.holder = Some(name);
            let ident = self.idents[name.as_str()].clone();
            self.define(&ident, schema);
        }
        self.text
    }

    /// A name that no other type has.
    pub(super) fn free_name(&mut self, wanted: &str) -> String {
        free(&mut self.names, wanted)
    }

    /// The type of a schema; one that needs a definition gets `hint` for its name.
    pub(super) fn of(&mut self, schema: &Value, hint: &str) -> String {
        if let Some(name) = reference(schema) {
            let Some(ident) = self.idents.get(name) else {
                return ANY.to_owned();
            };
            let holds_itself = (self.holder).is_some_and(|holder| self.cycles.leads(name, holder));
            return if holds_itself {
                format!("Box<{ident}>")
            } else {
                ident.clone()
            };
        }
        if let Some(inner) = nullable(schema) {
            let inner = self.of(&inner, hint);
            return option(inner, false);
        }
        if let (Some([only]), None) = (
            schema["allOf"].as_array().map(Vec::as_slice),
            schema.get("properties"),
        ) {
            return self.of(only, hint);
        }
        if is_defined(schema) {
            let name = self.free_name(hint);
            self.define(&name, schema);
            return name;
        }
        self.plain(schema, hint)
    }

    /// A type that needs no definition.
    fn plain(&mut self, schema: &Value, hint: &str) -> String {
        let format = schema["format"].as_str();
        match schema["type"].as_str() {
            Some("string") => "String".to_owned(),
            Some("boolean") => "bool".to_owned(),
            Some("number") => if format == Some("float") {
                "f32"
            } else {
                "f64"
            }
            .to_owned(),
            Some("null") => "()".to_owned(),
            Some("integer") => integer(format).to_owned(),
            Some("array") => match tuple(schema) {
                Some(items) => {
                    let item = |(at, item)| self.of(item, &format!("{hint}{at}"));
                    let items: Vec<_> = items.iter().enumerate().map(item).collect();
                    tuple_type(&items)
                }
                None => format!(
                    "Vec<{}>",
                    self.apart(&schema["items"], &format!("{hint}Item"))
                ),
            },
            Some("object") if schema["additionalProperties"].is_object() => {
                let value = self.apart(&schema["additionalProperties"], &format!("{hint}Value"));
                format!("std::collections::BTreeMap<String, {value}>")
            }
            _ => ANY.to_owned(),
        }
    }

    /// The type of what lies in memory of its own, and so needs no box.
    fn apart(&mut self, schema: &Value, hint: &str) -> String {
        let holder = self.holder.take();
        let text = self.of(schema, hint);
        self.holder = holder;
        text
    }

    /// Writes the definition of a type.
    fn define(&mut self, name: &str, schema: &Value) {
        let mut text = format!("\n{}", comment(schema["description"].as_str(), ""));
        if let Some(enumeration) = Enumeration::read(schema) {
            text += &self.enumeration(name, &enumeration);
        } else if schema["properties"].is_object() {
            let fields = self.fields(name, &fields_of(schema), "    pub ");
            let _ = write!(text, "{DERIVES}pub struct {name} {{\n{fields}}}\n");
        } else {
            // An alias can't stand for something that it is in itself.
            let other = self.alias(schema, name);
            let is_circular = self
                .holder
                .is_some_and(|holder| self.cycles.is_circle(holder));
            if is_circular {
                let _ = writeln!(text, "{DERIVES}pub struct {name}(pub {other});");
            } else {
                let _ = writeln!(text, "pub type {name} = {other};");
            }
        }
        self.text += &text;
    }

    /// The type of a schema that is known not to be defined by itself.
    fn alias(&mut self, schema: &Value, name: &str) -> String {
        let is_reference = reference(schema).is_some() || nullable(schema).is_some();
        if is_reference || schema.get("allOf").is_some() {
            return self.of(schema, &format!("{name}Inner"));
        }
        self.plain(schema, name)
    }

    /// Adds a struct under a free name, which it gives.
    pub(super) fn add_struct(&mut self, wanted: &str, fields: &[Field]) -> String {
        let name = self.free_name(wanted);
        let fields = self.fields(&name, fields, "    pub ");
        let _ = write!(self.text, "\n{DERIVES}pub struct {name} {{\n{fields}}}\n");
        name
    }

    /// Fields, each on a line that begins so.
    fn fields(&mut self, owner: &str, fields: &[Field], before: &str) -> String {
        let blanks = &before[..before.len() - before.trim_start().len()];
        let (mut text, mut idents) = (String::new(), BTreeSet::new());
        for field in fields {
            let hint = format!("{owner}{}", type_ident(&field.name));
            let kind = option(self.of(&field.schema, &hint), field.is_required);
            let ident = free(&mut idents, &field_ident(&field.name));
            let mut serde = Vec::new();
            if ident != field.name {
                serde.push(format!("rename = {:?}", field.name));
            }
            if kind.starts_with("Option<") && !field.is_required {
                serde.push("default, skip_serializing_if = \"Option::is_none\"".to_owned());
            }
            text += &comment(field.description.as_deref(), blanks);
            if !serde.is_empty() {
                let _ = writeln!(text, "{blanks}#[serde({})]", serde.join(", "));
            }
            let _ = writeln!(text, "{before}{ident}: {kind},");
        }
        text
    }

    fn enumeration(&mut self, name: &str, enumeration: &Enumeration) -> String {
        let mut text = DERIVES.to_owned();
        if let Some(tag) = &enumeration.tag {
            let _ = writeln!(text, "#[serde(tag = {tag:?})]");
        }
        let _ = writeln!(text, "pub enum {name} {{");
        for variant in &enumeration.variants {
            let ident = type_ident(&variant.name);
            text += &comment(variant.description.as_deref(), "    ");
            if ident != variant.name {
                let _ = writeln!(text, "    #[serde(rename = {:?})]", variant.name);
            }
            let hint = format!("{name}{ident}");
            let _ = match &variant.body {
                Body::Nothing => writeln!(text, "    {ident},"),
                Body::Value(schema) => writeln!(text, "    {ident}({}),", self.of(schema, &hint)),
                Body::Members(schema) => {
                    let fields = self.fields(&hint, &fields_of(schema), "        ");
                    write!(text, "    {ident} {{\n{fields}    }},\n")
                }
            };
        }
        text + "}\n"
    }
}

/// Whether a type has a definition of its own.
fn is_defined(schema: &Value) -> bool {
    schema["properties"].is_object() || Enumeration::read(schema).is_some()
}

fn fields_of(schema: &Value) -> Vec<Field> {
    let required = schema["required"].as_array();
    let is_required = |name: &str| required.is_some_and(|names| names.iter().any(|it| it == name));
    let properties = schema["properties"].as_object().into_iter().flatten();
    let field = |(name, schema): (&String, &Value)| Field {
        name: name.clone(),
        schema: schema.clone(),
        is_required: is_required(name),
        description: schema["description"].as_str().map(str::to_owned),
    };
    properties.map(field).collect()
}

/// The type of what may be missing, unless it is required.
pub(super) fn option(text: String, is_required: bool) -> String {
    if is_required || text.starts_with("Option<") {
        text
    } else {
        format!("Option<{text}>")
    }
}

/// The schemas of an array's items, where each has its own.
fn tuple(schema: &Value) -> Option<&Vec<Value>> {
    schema["prefixItems"]
        .as_array()
        .or(schema["items"].as_array())
}

pub(super) fn tuple_type(items: &[String]) -> String {
    match items {
        [only] => format!("({only},)"),
        items => format!("({})", items.join(", ")),
    }
}

fn integer(format: Option<&str>) -> &'static str {
    match format {
        Some("int8") => "i8",
        Some("int16") => "i16",
        Some("int32") => "i32",
        Some("int128") => "i128",
        Some("uint8") => "u8",
        Some("uint16") => "u16",
        Some("uint32") => "u32",
        Some("uint64" | "uint") => "u64",
        Some("uint128") => "u128",
        _ => "i64",
    }
}

/// What a schema allows beside null, if it allows null.
fn nullable(schema: &Value) -> Option<Value> {
    if let Some(names) = schema["type"].as_array() {
        let others: Vec<_> = names.iter().filter(|name| *name != "null").collect();
        let [other] = others[..] else { return None };
        if names.len() == 1 {
            return None;
        }
        let mut inner = schema.clone();
        inner["type"] = other.clone();
        return Some(inner);
    }
    let either = schema["anyOf"].as_array().or(schema["oneOf"].as_array())?;
    let others: Vec<_> = either.iter().filter(|one| one["type"] != "null").collect();
    match others[..] {
        [other] if either.len() == 2 => Some(other.clone()),
        _ => None,
    }
}
