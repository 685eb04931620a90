//! TLS as both ends of Redial use it, over pipes in memory.

mod common;
mod errors;
mod hostile;
mod names;
#[cfg(feature = "native-roots")]
mod native_roots;
mod reloading;
mod revoking;
mod streams;
mod trust;
