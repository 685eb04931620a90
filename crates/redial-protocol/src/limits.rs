//! Limits: what a message may cost before it is refused.

use serde::Deserialize;

/// Limits that both ends apply to what they read from the wire.
///
/// ```
/// use redial_protocol::Limits;
///
/// let limits = Limits { max_frame_bytes: 64 * 1024, ..Limits::default() };
/// assert_eq!(limits.max_batch_entries, 100);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// The largest frame, in bytes without its 4-byte header. Default 1 MiB. A connection may
    /// hold one frame of this size while it arrives, so the worst case of a server is this
    /// times its connections. At the limit: -32600, and the connection is closed. Results are made
    /// to fit into it as well; an error takes up to 2 KiB whatever this says.
    pub max_frame_bytes: usize,
    /// The most entries of one batch. Default 100. Each entry may be a call, so this multiplies
    /// what one frame can start. At the limit: -32600 for the batch as a whole.
    pub max_batch_entries: usize,
    /// How deep objects and arrays may nest, counting the message itself. Default 128, which is
    /// also serde_json's own limit: a larger number here lets a message through that a typed
    /// handler can't decode. At the limit: -32700.
    pub max_depth: usize,
}

impl Limits {
    /// The longest id, in bytes: a string without its quotes, or the digits of an integer.
    pub const MAX_ID_BYTES: usize = 128;

    /// The highest number of an attempt. A server keeps which attempts of a call it has refused, and takes
    /// no lower one after them: so a number beyond what any client needs is refused before it is kept.
    pub const MAX_ATTEMPT: u32 = 1_000_000;

    /// How much of a peer's input an error's text may repeat, in bytes.
    pub const MAX_ECHO_BYTES: usize = 200;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_frame_bytes: 1024 * 1024,
            max_batch_entries: 100,
            max_depth: 128,
        }
    }
}
