//! The methods of a server as a page in Markdown.

use std::fmt::Write;

use super::document::{Document, MethodEntry, type_name};

pub(super) fn page(document: &Document) -> String {
    let mut page = format!(
        "# {}\n\n| method | kind | takes | gives |\n|---|---|---|---|\n",
        document.title
    );
    for method in &document.methods {
        let cells = [
            method.kind_and_notes(),
            method.params_line(),
            method.result_line(),
        ];
        let [kind, takes, gives] = cells.map(|cell| escape(&cell));
        let _ = writeln!(page, "| `{}` | {kind} | {takes} | {gives} |", method.name);
    }
    for method in &document.methods {
        section(&mut page, method);
    }
    for (name, schema) in &document.schemas {
        let text = serde_json::to_string_pretty(schema).unwrap_or_default();
        let _ = write!(page, "\n## {name}\n\n```json\n{text}\n```\n");
    }
    page
}

fn section(page: &mut String, method: &MethodEntry) {
    let _ = write!(page, "\n## `{}`\n\n", method.name);
    if let Some(summary) = &method.summary {
        let _ = write!(page, "{summary}\n\n");
    }
    let _ = writeln!(page, "* kind: {}", method.kind_and_notes());
    for param in &method.params {
        let optional = if param.is_required {
            ""
        } else {
            ", may be left out"
        };
        let text = param
            .description
            .as_ref()
            .map_or(String::new(), |text| format!(": {text}"));
        let _ = writeln!(
            page,
            "* takes `{}`, {}{optional}{text}",
            param.name,
            type_name(&param.schema)
        );
    }
    if method.result.is_some() {
        let _ = writeln!(page, "* gives {}", method.result_line());
    }
    for (code, message) in &method.errors {
        let _ = writeln!(page, "* error {code}: {message}");
    }
}

/// A cell of a table has neither bars nor lines.
fn escape(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
