//! What PROTOCOL.md says of the wire, checked without a server.

mod error_codes;
mod vectors;
