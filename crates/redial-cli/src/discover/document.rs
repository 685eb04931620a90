//! An OpenRPC document, as far as it is shown. What it doesn't say is left out.

use serde_json::{Map, Value};

/// What a server says of itself.
#[derive(Debug)]
pub(super) struct Document {
    /// Name and version of the service.
    pub(super) title: String,
    pub(super) methods: Vec<MethodEntry>,
    /// `components.schemas`, by name.
    pub(super) schemas: Map<String, Value>,
}

/// What it says of a method.
#[derive(Debug)]
pub(super) struct MethodEntry {
    pub(super) name: String,
    /// `query`, `mutation` or `transaction`; not every server says it.
    pub(super) kind: Option<String>,
    pub(super) is_resumable: bool,
    pub(super) deadline_ms: Option<u64>,
    pub(super) summary: Option<String>,
    pub(super) by_position: bool,
    pub(super) params: Vec<Param>,
    /// The schema of all params together, which Redial's servers add.
    pub(super) params_schema: Option<Value>,
    /// The schema of the result, if there is one that says anything.
    pub(super) result: Option<Value>,
    pub(super) errors: Vec<(i64, String)>,
}

#[derive(Debug)]
pub(super) struct Param {
    pub(super) name: String,
    pub(super) is_required: bool,
    pub(super) schema: Value,
    pub(super) description: Option<String>,
}

impl Document {
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let document: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let methods = document["methods"].as_array().ok_or("it has no methods")?;
        let info = |name: &str| document["info"][name].as_str().unwrap_or_default();
        let title = format!("{} {}", info("title"), info("version"));
        let schemas = document["components"]["schemas"].as_object();
        Ok(Self {
            title: Some(title.trim())
                .filter(|title| !title.is_empty())
                .unwrap_or("a service")
                .to_owned(),
            methods: methods
                .iter()
                .filter_map(|method| MethodEntry::read(&document, method))
                .collect(),
            schemas: schemas.cloned().unwrap_or_default(),
        })
    }
}

impl MethodEntry {
    fn read(document: &Value, method: &Value) -> Option<Self> {
        let method = follow(document, method);
        let redial = &method["x-redial"];
        let kind = redial["kind"].as_str().or(method["x-redial-kind"].as_str());
        let said = |name: &str| method[name].as_str().map(str::to_owned);
        let params = method["params"].as_array().into_iter().flatten();
        let errors = method["errors"].as_array().into_iter().flatten();
        let errors = errors.filter_map(|error| {
            let error = follow(document, error);
            Some((
                error["code"].as_i64()?,
                error["message"].as_str().unwrap_or_default().to_owned(),
            ))
        });
        let result = follow(document, &method["result"])
            .get("schema")
            .filter(|schema| says(schema));
        Some(Self {
            name: method["name"].as_str()?.to_owned(),
            kind: kind.map(str::to_owned),
            is_resumable: redial["resumable"].as_bool().unwrap_or_default(),
            deadline_ms: redial["deadline_ms"]
                .as_u64()
                .or(redial["deadline"].as_u64()),
            summary: said("summary").or(said("description")),
            by_position: method["paramStructure"] == "by-position",
            params: params
                .filter_map(|param| Param::read(document, param))
                .collect(),
            params_schema: redial.get("params").filter(|schema| says(schema)).cloned(),
            result: result.cloned(),
            errors: errors.collect(),
        })
    }

    /// The kind, and what else is to be known before it is called.
    pub(super) fn kind_and_notes(&self) -> String {
        let mut text = self.kind.clone().unwrap_or_else(|| "-".to_owned());
        if self.is_resumable {
            text += ", resumable";
        }
        if let Some(ms) = self.deadline_ms {
            text += &format!(", {ms} ms");
        }
        text
    }

    /// The params in a line: `key: string, delta?: integer`.
    pub(super) fn params_line(&self) -> String {
        if self.params.is_empty() {
            // Neither members nor a list of known length, or nothing.
            let schema = self.params_schema.as_ref();
            let schema = schema.filter(|schema| schema["type"] != "null");
            return schema.map(type_name).unwrap_or_default();
        }
        let params = self.params.iter().map(|param| {
            let mark = if param.is_required { "" } else { "?" };
            format!("{}{mark}: {}", param.name, type_name(&param.schema))
        });
        params.collect::<Vec<_>>().join(", ")
    }

    pub(super) fn result_line(&self) -> String {
        self.result.as_ref().map(type_name).unwrap_or_default()
    }
}

impl Param {
    fn read(document: &Value, param: &Value) -> Option<Self> {
        let param = follow(document, param);
        Some(Self {
            name: param["name"].as_str()?.to_owned(),
            is_required: param["required"].as_bool().unwrap_or_default(),
            schema: param["schema"].clone(),
            description: param["description"]
                .as_str()
                .or(param["schema"]["description"].as_str())
                .map(str::to_owned),
        })
    }
}

/// What a `$ref` leads to; the value itself if it is no `$ref`, or leads nowhere.
fn follow<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    let target = value["$ref"]
        .as_str()
        .and_then(|path| path.strip_prefix('#'));
    target
        .and_then(|path| document.pointer(path))
        .unwrap_or(value)
}

/// Whether a schema says anything: `true` and `{}` allow all values.
fn says(schema: &Value) -> bool {
    schema
        .as_object()
        .is_some_and(|members| !members.is_empty())
}

/// The last part of a `$ref`.
pub(super) fn reference(schema: &Value) -> Option<&str> {
    schema["$ref"].as_str()?.rsplit('/').next()
}

/// A schema's type in few letters, for people.
pub(super) fn type_name(schema: &Value) -> String {
    if let Some(name) = reference(schema) {
        return name.to_owned();
    }
    match &schema["type"] {
        Value::String(name) if name == "array" && schema.get("items").is_some() => {
            let items = match schema["items"].as_array() {
                Some(items) => items.iter().map(type_name).collect(),
                None => vec![type_name(&schema["items"])],
            };
            format!("[{}]", items.join(", "))
        }
        Value::String(name) => match schema["title"].as_str() {
            Some(title) if name == "object" => title.to_owned(),
            _ => name.clone(),
        },
        Value::Array(names) => {
            let names = names.iter().filter_map(Value::as_str);
            names.collect::<Vec<_>>().join(" or ")
        }
        _ => {
            let either = schema["anyOf"].as_array().or(schema["oneOf"].as_array());
            match (either, schema["title"].as_str()) {
                (_, Some(title)) => title.to_owned(),
                (Some(either), None) => either
                    .iter()
                    .map(type_name)
                    .collect::<Vec<_>>()
                    .join(" or "),
                _ => "any".to_owned(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A document of another version that is shown as nothing.
    #[test]
    fn both_spellings_of_the_kind_are_read_and_references_followed() {
        let text = r##"{
            "openrpc": "1.4.0", "info": {"title": "counter", "version": "2"},
            "methods": [
                {"name": "old", "params": [], "result": {"name": "r", "schema": true}, "x-redial-kind": "query"},
                {"name": "new", "paramStructure": "by-name", "x-redial": {"kind": "mutation", "resumable": true},
                 "params": [{"$ref": "#/components/contentDescriptors/Key"}, {"name": "delta", "schema": {"type": ["integer", "null"]}}],
                 "result": {"name": "r", "schema": {"$ref": "#/components/schemas/Counter"}}},
                {"name": "bare"}
            ],
            "components": {
                "contentDescriptors": {"Key": {"name": "key", "required": true, "schema": {"type": "string"}}},
                "schemas": {"Counter": {"type": "object"}}
            }
        }"##;
        let document = Document::read(text).unwrap();
        assert_eq!(document.title, "counter 2");
        let [old, new, bare] = &document.methods[..] else {
            panic!("{document:?}")
        };
        assert_eq!(
            (old.kind_and_notes(), old.result_line()),
            ("query".into(), String::new())
        );
        assert_eq!(new.kind_and_notes(), "mutation, resumable");
        assert_eq!(new.params_line(), "key: string, delta?: integer or null");
        assert_eq!(new.result_line(), "Counter");
        assert_eq!(
            (bare.kind_and_notes(), bare.params_line()),
            ("-".into(), String::new())
        );
        assert!(Document::read("[]").is_err() && Document::read(r#"{"methods":7}"#).is_err());
    }
}
