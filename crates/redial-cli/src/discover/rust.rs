//! The methods of a server as types of Rust: what a client of `redial` calls them by.

use std::fmt::Write;

use super::{
    document::{Document, MethodEntry, Param},
    rust_names::{comment, type_ident},
    rust_types::{Field, Types, option, tuple_type},
};

/// A module: one type for each method, and one for each schema that it needs.
pub(super) fn module(document: &Document) -> String {
    let mut types = Types::new(&document.schemas);
    let mut methods = String::new();
    for method in &document.methods {
        method_type(&mut methods, &mut types, method);
    }
    let title = document.title.replace(char::is_control, " ");
    format!(
        "//! The methods of {title}, as `redial discover --rust` read them.\n\n\
         use redial::{{Method, MethodKind}};\n\
         use serde::{{Deserialize, Serialize}};\n{methods}{}",
        types.finish(),
    )
}

fn method_type(out: &mut String, types: &mut Types<'_>, method: &MethodEntry) {
    // Not every name of a method is one of a type, and a schema may have the same.
    let name = types.free_name(&type_ident(&method.name));
    let params = params_type(types, &name, method);
    let output = match &method.result {
        Some(schema) => types.of(schema, &format!("{name}Result")),
        None => "serde_json::Value".to_owned(),
    };
    let kind = match method.kind.as_deref() {
        Some("query") => "Query",
        // What is not known to be without effect is called as what has one.
        _ => "Mutation",
    };
    out.push('\n');
    *out += &comment(method.summary.as_deref(), "");
    let _ = write!(
        out,
        "pub enum {name} {{}}\n\n\
         impl Method for {name} {{\n    \
             const NAME: &'static str = {:?};\n    \
             const KIND: MethodKind = MethodKind::{kind};\n    \
             type Params = {params};\n    \
             type Output = {output};\n\
         }}\n",
        method.name,
    );
}

fn params_type(types: &mut Types<'_>, name: &str, method: &MethodEntry) -> String {
    let wanted = format!("{name}Params");
    if let Some(schema) = &method.params_schema {
        return types.of(schema, &wanted);
    }
    if method.params.is_empty() {
        // Without a schema nothing is known: `null` leaves the params out.
        return "serde_json::Value".to_owned();
    }
    let field = |param: &Param| Field {
        name: param.name.clone(),
        schema: param.schema.clone(),
        is_required: param.is_required,
        description: param.description.clone(),
    };
    let fields: Vec<_> = method.params.iter().map(field).collect();
    if method.by_position {
        let item = |field: &Field| {
            let text = types.of(&field.schema, &format!("{name}{}", type_ident(&field.name)));
            option(text, field.is_required)
        };
        return tuple_type(&fields.iter().map(item).collect::<Vec<_>>());
    }
    types.add_struct(&wanted, &fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names and types that are no Rust.
    #[test]
    fn methods_and_schemas_become_types() {
        let text = r##"{
            "info": {"title": "counter", "version": "1"},
            "methods": [
                {"name": "inc", "summary": "Adds.", "x-redial": {"kind": "mutation"}, "paramStructure": "by-name",
                 "params": [{"name": "key", "required": true, "schema": {"type": "string"}},
                            {"name": "type", "schema": {"type": "integer", "format": "uint32"}}],
                 "result": {"name": "r", "schema": {"$ref": "#/components/schemas/Counter"}}},
                {"name": "sum.all", "x-redial-kind": "query", "paramStructure": "by-position",
                 "params": [{"name": "of", "required": true, "schema": {"type": "array", "items": {"type": "number"}}}],
                 "result": {"name": "r", "schema": {"type": "number"}}},
                {"name": "counter", "params": [], "result": {"name": "r", "schema": true}}
            ],
            "components": {"schemas": {"Counter": {"type": "object", "required": ["value"], "properties": {
                "value": {"type": "integer"}, "colour": {"enum": ["red", "dark-blue"]},
                "next": {"anyOf": [{"$ref": "#/components/schemas/Counter"}, {"type": "null"}]}}}}}
        }"##;
        let module = module(&Document::read(text).unwrap());
        for expected in [
            "/// Adds.\npub enum Inc {}",
            "const NAME: &'static str = \"inc\";",
            "type Params = IncParams;\n    type Output = Counter;",
            "pub struct IncParams {\n    pub key: String,\n",
            "#[serde(rename = \"type\", default, skip_serializing_if = \"Option::is_none\")]\n    pub r#type: Option<u32>,",
            "pub enum SumAll {}",
            "MethodKind::Query;\n    type Params = (Vec<f64>,);\n    type Output = f64;",
            "pub enum Counter2 {}",
            "pub value: i64,",
            "pub next: Option<Box<Counter>>,",
            "#[serde(rename = \"dark-blue\")]\n    DarkBlue,",
            "pub colour: Option<CounterColour>,",
        ] {
            assert!(module.contains(expected), "no {expected}\n{module}");
        }
    }
}
