//! JSON read by hand: a reader of this room may refuse a text, but never disagrees with serde_json
//! about one.
//!
//! Nearly every message is short and plain, and a general parser would be a third of what a call
//! costs. So there is one grammar here for all that is read on the way of a call ([`skip`]): RFC 8259
//! without escapes in strings, without white space other than spaces, and nested at most
//! [`MAX_DEPTH`] deep. Text that doesn't fit it, or is wrong, makes a reader return `None`, and
//! serde_json reads that text from its start. It alone finds errors, and words them.
//!
//! | file | reads |
//! |---|---|
//! | [`skip`] | past one value: the grammar |
//! | [`request`] | a request |
//! | [`template`] | a request that is spelled like the one before it |
//! | [`reply`] | a reply |
//! | [`de`] | params into a type |
//! | [`reread`] | what serde_json has refused: why, and whether `-0` is all that was wrong |
//! | [`string`] | strings with escapes, and writes them |
//! | [`depth`] | how deep any text nests |
//! | [`object`] | objects by the names of their members, with what serde derives |
//!
//! And one writer, [`finite`], which takes no number that JSON has not.
//!
//! Property tests beside each reader, and the targets of `redial-fuzz`, hold it against serde_json.

pub(crate) mod de;
pub(crate) mod depth;
pub(crate) mod finite;
pub(crate) mod object;
pub(crate) mod reply;
pub(crate) mod request;
pub(crate) mod reread;
mod skip;
pub(crate) mod string;
pub(crate) mod template;
#[cfg(test)]
mod tests;

/// How deep objects and arrays may nest, counting the message itself. What nests deeper is rare, and
/// serde_json's, whose own limit is 128.
const MAX_DEPTH: usize = 64;
