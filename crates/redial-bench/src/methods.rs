//! The methods `inc` and `get`: names, parameters and results.

use compact_str::CompactString;
use redial_protocol::{Method, MethodKind};
use serde::{Deserialize, Serialize};

/// `inc {key, delta}` adds to a counter and returns its new value.
pub enum Inc {}

/// `get {key}` returns a counter's value.
pub enum Get {}

/// What `inc` takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncParams {
    /// Which counter. A short name lies in place, without an allocation.
    pub key: CompactString,
    /// What to add.
    pub delta: i64,
}

/// What `get` takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetParams {
    /// Which counter.
    pub key: CompactString,
}

impl Method for Inc {
    const NAME: &'static str = "inc";
    const KIND: MethodKind = MethodKind::Mutation;
    type Params = IncParams;
    type Output = i64;
}

impl Method for Get {
    const NAME: &'static str = "get";
    const KIND: MethodKind = MethodKind::Query;
    type Params = GetParams;
    type Output = i64;
}
