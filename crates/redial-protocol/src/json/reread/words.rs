//! JSON's words for what Rust's types and serde's texts say.

use serde::de::Unexpected;

/// How much of a value an error repeats, in bytes. With the path and a type's own words, which may
/// repeat it, too, it is 200.
pub(super) const MAX_FOUND_BYTES: usize = 60;

/// How much of the names in a path is repeated, in bytes.
pub(super) const MAX_PATH_BYTES: usize = 60;

/// How much of what a type says itself an error repeats, in bytes.
pub(super) const MAX_WORDS_BYTES: usize = 80;

/// How much of the names that a type has an error lists, in bytes.
const MAX_NAMES_BYTES: usize = 200;

/// What stands for every struct.
pub(super) const OBJECT: &str = "an object";

/// A text, shortened at a character's boundary if it is longer than this. The sign that it goes on
/// is part of that.
pub(super) fn shortened(text: &str, max_bytes: usize) -> String {
    if text.len() <= max_bytes {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(max_bytes - '…'.len_utf8());
    format!("{}…", &text[..end])
}

/// Text as a JSON string.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The kind of a JSON value.
pub(super) fn kind(json: &str) -> &'static str {
    match json.bytes().next() {
        Some(b'"') => "string",
        Some(b'[') => "array",
        Some(b'{') => "object",
        Some(b't' | b'f') => "boolean",
        Some(b'n') => "null",
        Some(_) => "number",
        None => "nothing",
    }
}

/// A JSON value with its kind, shortened.
pub(super) fn found(json: &str) -> String {
    let text = shortened(json, MAX_FOUND_BYTES);
    match kind(json) {
        "boolean" | "null" => text,
        "nothing" => "nothing".to_owned(),
        kind if text.len() < json.len() || text != json => {
            format!("the {kind} {text} ({} bytes)", json.len())
        }
        kind => format!("the {kind} {text}"),
    }
}

/// The kind of what a type was shown, and the value with it, shortened.
pub(super) fn shown(value: &Unexpected<'_>) -> (&'static str, String) {
    let number = |number: &dyn std::fmt::Display| ("number", format!("the number {number}"));
    match value {
        Unexpected::Bool(bool) => ("boolean", bool.to_string()),
        Unexpected::Unsigned(value) => number(value),
        Unexpected::Signed(value) => number(value),
        Unexpected::Float(value) => number(value),
        Unexpected::Char(char) => ("string", found(&quoted(&char.to_string()))),
        Unexpected::Str(text) => ("string", found(&quoted(text))),
        Unexpected::Bytes(_) => ("string", "a string".to_owned()),
        Unexpected::Unit | Unexpected::Option => ("null", "null".to_owned()),
        Unexpected::Seq => ("array", "an array".to_owned()),
        Unexpected::Map => ("object", OBJECT.to_owned()),
        Unexpected::NewtypeStruct
        | Unexpected::Enum
        | Unexpected::UnitVariant
        | Unexpected::NewtypeVariant
        | Unexpected::TupleVariant
        | Unexpected::StructVariant => ("", "another form".to_owned()),
        Unexpected::Other(text) => ("", shortened(text, MAX_FOUND_BYTES)),
    }
}

/// What is expected, in JSON's words where serde's are known, and as it is otherwise.
pub(super) fn expected(text: &str) -> String {
    let known = match text {
        "a boolean" => "true or false",
        "a string" | "a borrowed string" | "path string" => "a string",
        "a character" => "a string of one character",
        "f32" | "f64" => "a number",
        "a sequence" | "bytes" | "byte array" | "a borrowed byte array" => "an array",
        "a map" => OBJECT,
        "unit" => "null",
        "option" => "a value or null",
        "variant identifier" => "the name of a variant",
        "field identifier" => "the name of a member",
        _ => {
            return integer(text)
                .or_else(|| compound(text))
                .unwrap_or_else(|| text.to_owned());
        }
    };
    known.to_owned()
}

/// `i64` and `a nonzero i64`.
fn integer(text: &str) -> Option<String> {
    let name = text.strip_prefix("a nonzero ");
    let (bits, is_signed) = match name.unwrap_or(text).split_at_checked(1)? {
        ("i", bits) => (bits, true),
        ("u", bits) => (bits, false),
        _ => return None,
    };
    let bits: u32 = match bits {
        "size" => usize::BITS,
        "8" | "16" | "32" | "64" | "128" => bits.parse().ok()?,
        _ => return None,
    };
    let range = if is_signed {
        let most = u128::MAX >> (129 - bits);
        format!("an integer from -{} to {most}", most + 1)
    } else {
        let least = u8::from(name.is_some());
        format!("an integer from {least} to {}", u128::MAX >> (128 - bits))
    };
    let is_not_zero = is_signed && name.is_some();
    Some(if is_not_zero {
        format!("{range}, but not 0")
    } else {
        range
    })
}

/// `struct X with 2 elements`, `a tuple of size 2`, and the like.
fn compound(text: &str) -> Option<String> {
    let len = |prefix| text.strip_prefix(prefix)?.parse().ok();
    if let Some(len) = len("a tuple of size ").or_else(|| len("an array of length ")) {
        return Some(array_of(len));
    }
    let elements = text
        .rsplit_once(" with ")
        .and_then(|(_, elements)| elements.split_once(" element")?.0.parse().ok());
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| text.starts_with(prefix));
    if text == "an empty array" {
        Some(text.to_owned())
    } else if starts(&["tuple struct ", "tuple variant "]) {
        Some(elements.map_or_else(|| "an array".to_owned(), array_of))
    } else if starts(&["struct "]) {
        let array = elements.map(|len| format!("{OBJECT} or {}", array_of(len)));
        Some(array.unwrap_or_else(|| OBJECT.to_owned()))
    } else if starts(&["internally tagged enum ", "adjacently tagged enum "]) {
        Some(OBJECT.to_owned())
    } else if starts(&["unit struct ", "unit variant "]) {
        Some("null".to_owned())
    } else if starts(&["enum "]) {
        Some("the name of a variant, or an object with one member that has it".to_owned())
    } else {
        None
    }
}

pub(super) fn array_of(len: usize) -> String {
    match len {
        0 => "an empty array".to_owned(),
        1 => "an array of 1 element".to_owned(),
        len => format!("an array of {len} elements"),
    }
}

/// An object of these members, or an array of their values.
pub(super) fn object_of(members: &[&str]) -> String {
    match members {
        [] => OBJECT.to_owned(),
        [name] => format!("{OBJECT} with the member {name:?}, or {}", array_of(1)),
        names => format!(
            "{OBJECT} with the members {}, or an array of these {}",
            listed(names, ", "),
            names.len()
        ),
    }
}

/// One of these names.
pub(super) fn one_of(names: &[&str]) -> String {
    match names {
        [] => "none".to_owned(),
        names => listed(names, " or "),
    }
}

fn listed(names: &[&str], between: &str) -> String {
    let quoted: Vec<_> = names.iter().map(|name| quoted(name)).collect();
    shortened(&quoted.join(between), MAX_NAMES_BYTES)
}
