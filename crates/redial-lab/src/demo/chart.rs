//! The demo's pictures.

pub(crate) mod attempts;
pub(crate) mod ecdf;
pub(crate) mod effects;
pub(crate) mod lanes;
pub(crate) mod outcomes;
mod panel;
pub(crate) mod tail;

/// A scenario's name as part of an element's id.
fn slug(kind: &str, name: &str, mode: &str) -> String {
    let text: String = name
        .chars()
        .map(|c| if c.is_alphanumeric() { c } else { '-' })
        .collect();
    format!("{kind}-{text}-{mode}").to_lowercase()
}
