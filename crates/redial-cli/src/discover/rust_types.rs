//! JSON schemas as types of Rust. What they have no type for is a `serde_json::Value`.

use std::{collections::BTreeSet, fmt::Write};

use serde_json::{Map, Value};

use super::document::reference;

const ANY: &str = "serde_json::Value";

const DERIVES: &str = "#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]\n";

/// Words that a field can't be called by; the last four not even as raw identifiers.
const KEYWORDS: &[&str] = &[
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "do", "dyn",
    "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let",
    "loop", "macro", "match", "mod", "move", "mut", "override", "priv", "pub", "ref", "return",
    "static", "struct", "trait", "true", "try", "type", "typeof", "unsafe", "unsized", "use",
    "virtual", "where", "while", "yield", "self", "super", "crate", "Self",
];

/// The types that a module needs beside its methods.
pub(super) struct Types<'a> {
    schemas: &'a Map<String, Value>,
    /// Names that are taken.
    names: BTreeSet<String>,
    text: String,
}

impl<'a> Types<'a> {
    pub(super) fn new(schemas: &'a Map<String, Value>) -> Self {
        let names = schemas.keys().map(|name| type_ident(name)).collect();
        Self {
            schemas,
            names,
            text: String::new(),
        }
    }

    /// The text of all types, those of `components.schemas` included.
    pub(super) fn finish(mut self) -> String {
        for (name, schema) in self.schemas {
            self.define(&type_ident(name), schema);
        }
        self.text
    }

    /// A name that no other type has.
    pub(super) fn free_name(&mut self, wanted: &str) -> String {
        let numbered = (2..).map(|number| format!("{wanted}{number}"));
        let mut names = std::iter::once(wanted.to_owned()).chain(numbered);
        let free = names
            .find(|name| !self.names.contains(name))
            .unwrap_or_default();
        self.names.insert(free.clone());
        free
    }

    /// The type of a schema; one that needs a definition gets `hint` for its name.
    pub(super) fn of(&mut self, schema: &Value, hint: &str) -> String {
        if let Some(name) = reference(schema) {
            let is_known = self.schemas.contains_key(name);
            return if is_known {
                type_ident(name)
            } else {
                ANY.to_owned()
            };
        }
        if let Some(inner) = nullable(schema) {
            let inner = self.of(&inner, hint);
            return format!("Option<{inner}>");
        }
        let is_named = schema["enum"].is_array() || schema["properties"].is_object();
        if is_named && definable(schema) {
            let name = self.free_name(hint);
            self.define(&name, schema);
            return name;
        }
        self.plain(schema, hint)
    }

    /// A type that needs no definition.
    fn plain(&mut self, schema: &Value, hint: &str) -> String {
        match schema["type"].as_str() {
            Some("string") => "String".to_owned(),
            Some("boolean") => "bool".to_owned(),
            Some("number") => "f64".to_owned(),
            Some("null") => "()".to_owned(),
            Some("integer") => integer(schema).to_owned(),
            Some("array") => match tuple(schema) {
                Some(items) => {
                    let items: String = items
                        .iter()
                        .map(|item| self.of(item, hint) + ", ")
                        .collect();
                    format!("({})", items.trim_end())
                }
                None => format!("Vec<{}>", self.of(&schema["items"], &format!("{hint}Item"))),
            },
            Some("object") if schema["additionalProperties"].is_object() => {
                let value = self.of(&schema["additionalProperties"], &format!("{hint}Value"));
                format!("std::collections::BTreeMap<String, {value}>")
            }
            _ => ANY.to_owned(),
        }
    }

    /// Writes the definition of a type.
    fn define(&mut self, name: &str, schema: &Value) {
        if let Some(variants) = schema["enum"].as_array().filter(|_| definable(schema)) {
            self.add_enum(name, variants);
        } else if let Some(properties) = schema["properties"].as_object() {
            let required = schema["required"].as_array();
            let is_required =
                |field: &str| required.is_some_and(|names| names.iter().any(|name| name == field));
            let mut fields = Vec::new();
            for (field, schema) in properties {
                let text = self.of(schema, &format!("{name}{}", type_ident(field)));
                let text = boxed(text, name);
                let is_option = text.starts_with("Option<") || is_required(field);
                let text = if is_option {
                    text
                } else {
                    format!("Option<{text}>")
                };
                let description = schema["description"].as_str().map(str::to_owned);
                fields.push((field.clone(), text, description));
            }
            self.names.insert(name.to_owned());
            self.write_struct(name, &fields);
        } else {
            let other = self.plain(schema, name);
            let _ = write!(self.text, "\npub type {name} = {other};\n");
        }
    }

    /// Adds a struct under a free name, which it gives.
    pub(super) fn add_struct(
        &mut self,
        wanted: &str,
        fields: &[(String, String, Option<String>)],
    ) -> String {
        let name = self.free_name(wanted);
        self.write_struct(&name, fields);
        name
    }

    fn write_struct(&mut self, name: &str, fields: &[(String, String, Option<String>)]) {
        let _ = write!(self.text, "\n{DERIVES}pub struct {name} {{\n");
        for (field, text, description) in fields {
            for line in description.as_deref().unwrap_or_default().lines() {
                let _ = writeln!(self.text, "    /// {line}");
            }
            let ident = field_ident(field);
            let mut serde = Vec::new();
            if ident != *field {
                serde.push(format!("rename = {field:?}"));
            }
            if text.starts_with("Option<") {
                serde.push("default, skip_serializing_if = \"Option::is_none\"".to_owned());
            }
            if !serde.is_empty() {
                let _ = writeln!(self.text, "    #[serde({})]", serde.join(", "));
            }
            let _ = writeln!(self.text, "    pub {ident}: {text},");
        }
        self.text += "}\n";
    }

    fn add_enum(&mut self, name: &str, variants: &[Value]) {
        let _ = write!(self.text, "\n{DERIVES}pub enum {name} {{\n");
        for variant in variants.iter().filter_map(Value::as_str) {
            let ident = type_ident(variant);
            if ident != variant {
                let _ = writeln!(self.text, "    #[serde(rename = {variant:?})]");
            }
            let _ = writeln!(self.text, "    {ident},");
        }
        self.text += "}\n";
    }
}

/// The types of a tuple's elements, as the drafts of JSON Schema from 2020-12 on spell them or those before.
fn tuple(schema: &Value) -> Option<&Vec<Value>> {
    schema["prefixItems"]
        .as_array()
        .or(schema["items"].as_array())
}

/// Whether an enumeration is one of texts that are different identifiers, too. Everything else is.
fn definable(schema: &Value) -> bool {
    let Some(variants) = schema["enum"].as_array() else {
        return true;
    };
    let names: BTreeSet<_> = variants
        .iter()
        .filter_map(Value::as_str)
        .map(type_ident)
        .collect();
    names.len() == variants.len()
}

/// A type that holds itself needs a box.
fn boxed(text: String, name: &str) -> String {
    if text == name {
        format!("Box<{name}>")
    } else if text == format!("Option<{name}>") {
        format!("Option<Box<{name}>>")
    } else {
        text
    }
}

fn integer(schema: &Value) -> &'static str {
    match schema["format"].as_str() {
        Some("int8") => "i8",
        Some("int16") => "i16",
        Some("int32") => "i32",
        Some("uint8") => "u8",
        Some("uint16") => "u16",
        Some("uint32") => "u32",
        Some("uint64" | "uint") => "u64",
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

/// A name as one of a type, `sum.all` as `SumAll`.
pub(super) fn type_ident(name: &str) -> String {
    let words = name.split(|char: char| !char.is_ascii_alphanumeric());
    let words = words.filter(|word| !word.is_empty());
    let ident: String = words
        .map(|word| word[..1].to_ascii_uppercase() + &word[1..])
        .collect();
    match ident.bytes().next() {
        Some(first) if first.is_ascii_alphabetic() && ident != "Self" => ident,
        _ => format!("T{ident}"),
    }
}

/// A name as one of a field, `dark-blue` as `dark_blue` and `type` as `r#type`.
fn field_ident(name: &str) -> String {
    let mut ident = String::new();
    for char in name.chars() {
        let is_word = char.is_ascii_alphanumeric();
        if char.is_ascii_uppercase() && !ident.is_empty() && !ident.ends_with('_') {
            ident.push('_');
        }
        ident.push(if is_word {
            char.to_ascii_lowercase()
        } else {
            '_'
        });
    }
    if ident.is_empty() || ident.starts_with(|char: char| char.is_ascii_digit()) {
        ident.insert(0, '_');
    }
    match &*ident {
        "self" | "super" | "crate" | "_" => ident + "_",
        word if KEYWORDS.contains(&word) => format!("r#{word}"),
        _ => ident,
    }
}
