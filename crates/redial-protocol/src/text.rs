//! How much of a peer's text an error repeats.

use crate::limits::Limits;

/// Shortens `text` to at most 200 bytes, at a character boundary, for use in an error's text.
///
/// ```
/// let long = "ä".repeat(1000);
/// assert_eq!(redial_protocol::cut(&long).len(), 200);
/// assert_eq!(redial_protocol::cut("short"), "short");
/// ```
#[must_use]
pub fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(Limits::MAX_ECHO_BYTES)]
}
