//! The two ways to spell a message.

/// How a message is spelled, and so how it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// `{"id", "method", "params"}` without a `jsonrpc` member. Every id but null is an idempotency
    /// key.
    Notebook,
    /// JSON-RPC 2.0, with `"jsonrpc":"2.0"`. Only ids that are UUIDs are idempotency keys, since
    /// clients of other make count 1, 2, 3 on every connection.
    JsonRpc2,
}
