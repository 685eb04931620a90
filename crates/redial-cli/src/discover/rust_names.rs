//! Names of JSON as names of Rust, and texts as comments.

use std::collections::BTreeSet;

/// Words that a field can't be called by; the last four not even as raw identifiers.
const KEYWORDS: &[&str] = &[
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "do", "dyn",
    "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let",
    "loop", "macro", "match", "mod", "move", "mut", "override", "priv", "pub", "ref", "return",
    "static", "struct", "trait", "true", "try", "type", "typeof", "unsafe", "unsized", "use",
    "virtual", "where", "while", "yield", "self", "super", "crate", "Self",
];

/// Names of types that a module uses for something else.
const USED: &[&str] = &[
    "Box",
    "Deserialize",
    "Method",
    "MethodKind",
    "Option",
    "Self",
    "Serialize",
    "String",
    "Vec",
];

/// A name as one of a type, `sum.all` as `SumAll`.
pub(super) fn type_ident(name: &str) -> String {
    let words = name.split(|char: char| !char.is_ascii_alphanumeric());
    let words = words.filter(|word| !word.is_empty());
    let ident: String = words
        .map(|word| word[..1].to_ascii_uppercase() + &word[1..])
        .collect();
    match ident.bytes().next() {
        Some(first) if first.is_ascii_alphabetic() && !USED.contains(&&*ident) => ident,
        _ => format!("T{ident}"),
    }
}

/// A name as one of a field, `dark-blue` as `dark_blue` and `type` as `r#type`.
pub(super) fn field_ident(name: &str) -> String {
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

/// A text as the lines of a comment, with what stands before each.
pub(super) fn comment(text: Option<&str>, before: &str) -> String {
    // Of the characters that end a line, Rust allows no others within one.
    let text = text.unwrap_or_default().replace('\r', "");
    let lines = text.lines().map(|line| format!("{before}/// {line}"));
    lines
        .map(|line| line.trim_end().to_owned() + "\n")
        .collect()
}

/// The name itself, or with a number if it is taken. It is taken from now on.
pub(super) fn free(taken: &mut BTreeSet<String>, wanted: &str) -> String {
    let numbered = (2..).map(|number| format!("{wanted}{number}"));
    let mut names = std::iter::once(wanted.to_owned()).chain(numbered);
    let free = names.find(|name| !taken.contains(name)).unwrap_or_default();
    taken.insert(free.clone());
    free
}
