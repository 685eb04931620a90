//! What `inc` and `get` are called, what they take and what they answer.

use redial_protocol::{Method, MethodKind};
use serde::{Deserialize, Serialize};

/// `inc {key, delta = 1}` adds to a counter and answers its new value.
pub enum Inc {}

/// `get {key}` answers a counter's value, 0 if nobody has counted under that key.
pub enum Get {}

/// What `inc` takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IncParams {
    /// Which counter.
    pub key: String,
    /// What to add, negative to subtract. Default 1.
    #[serde(default = "one")]
    pub delta: i64,
}

/// What `get` takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetParams {
    /// Which counter.
    pub key: String,
}

/// What both answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counter {
    /// Which counter.
    pub key: String,
    /// Its value.
    pub value: i64,
}

impl Method for Inc {
    const NAME: &'static str = "inc";
    const KIND: MethodKind = MethodKind::Mutation;
    type Params = IncParams;
    type Output = Counter;
}

impl Method for Get {
    const NAME: &'static str = "get";
    const KIND: MethodKind = MethodKind::Query;
    type Params = GetParams;
    type Output = Counter;
}

fn one() -> i64 {
    1
}
