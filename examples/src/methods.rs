//! The methods `inc` and `get`: their names, their params and their results.

use redial_protocol::{Method, MethodKind};
use redial_server::schemars::{self, JsonSchema};
use serde::{Deserialize, Serialize};

/// `inc {key, delta = 1}` adds to a counter and returns its new value.
pub enum Inc {}

/// `get {key}` returns a counter's value, 0 for an unused key.
pub enum Get {}

/// The params of `inc`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IncParams {
    /// The name of the counter.
    pub key: String,
    /// What to add, negative to subtract. Default 1.
    #[serde(default = "one")]
    pub delta: i64,
}

/// The params of `get`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetParams {
    /// The name of the counter.
    pub key: String,
}

/// The result of both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Counter {
    /// The name of the counter.
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
