//! The methods of counter 1.0.0, as `redial discover --rust` read them.

use redial::{Method, MethodKind};
use serde::{Deserialize, Serialize};

/// Adds to a counter.
pub enum Inc {}

impl Method for Inc {
    const NAME: &'static str = "inc";
    const KIND: MethodKind = MethodKind::Mutation;
    type Params = IncParams;
    type Output = Counter;
}

pub enum SumOf {}

impl Method for SumOf {
    const NAME: &'static str = "sum.of";
    const KIND: MethodKind = MethodKind::Query;
    type Params = (Vec<f64>,);
    type Output = f64;
}

pub enum Counter2 {}

impl Method for Counter2 {
    const NAME: &'static str = "counter";
    const KIND: MethodKind = MethodKind::Query;
    type Params = serde_json::Value;
    type Output = std::collections::BTreeMap<String, u32>;
}

pub enum Add {}

impl Method for Add {
    const NAME: &'static str = "add";
    const KIND: MethodKind = MethodKind::Mutation;
    type Params = (String, i32);
    type Output = ();
}

pub enum Take {}

impl Method for Take {
    const NAME: &'static str = "take";
    const KIND: MethodKind = MethodKind::Mutation;
    type Params = TakeParams;
    type Output = bool;
}

pub enum Anything {}

impl Method for Anything {
    const NAME: &'static str = "anything";
    const KIND: MethodKind = MethodKind::Mutation;
    type Params = serde_json::Value;
    type Output = serde_json::Value;
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IncParams {
    /// Which counter.
    pub key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delta: Option<i64>,
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub r#type: Option<Colour>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Colour {
    #[serde(rename = "red")]
    Red,
    #[serde(rename = "dark-blue")]
    DarkBlue,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CounterHistoryItem {
    pub at: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Counter {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub colour: Option<Colour>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<Vec<CounterHistoryItem>>,
    #[serde(rename = "maxValue", default, skip_serializing_if = "Option::is_none")]
    pub max_value: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Box<Counter>>,
    pub pair: (String, bool),
    /// What it is now.
    pub value: i64,
}

pub type Key = String;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TakeParams {
    pub key: String,
}
