//! The methods of shop mod hostile {} 2, as `redial discover --rust` read them.

use redial::{Method, MethodKind};
use serde::{Deserialize, Serialize};

pub enum PlaceOrder {}

impl Method for PlaceOrder {
    const NAME: &'static str = "place.order";
    const KIND: MethodKind = MethodKind::Mutation;
    type Params = Order;
    type Output = Order;
}

pub enum Order2 {}

impl Method for Order2 {
    const NAME: &'static str = "order";
    const KIND: MethodKind = MethodKind::Query;
    type Params = (i16, Vec<Gift>);
    type Output = (f64, u64);
}

pub enum Now {}

impl Method for Now {
    const NAME: &'static str = "now";
    const KIND: MethodKind = MethodKind::Query;
    type Params = ();
    type Output = u64;
}

pub enum Table {}

impl Method for Table {
    const NAME: &'static str = "table";
    const KIND: MethodKind = MethodKind::Query;
    type Params = std::collections::BTreeMap<String, u8>;
    type Output = std::collections::BTreeMap<String, u8>;
}

/// What it takes and gives is not described here.
pub enum Raw {}

impl Method for Raw {
    const NAME: &'static str = "raw";
    const KIND: MethodKind = MethodKind::Query;
    type Params = serde_json::Value;
    type Output = serde_json::Value;
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Colour {
    #[serde(rename = "red")]
    Red,
    /// Or nearly so.
    #[serde(rename = "deep-blue")]
    DeepBlue,
}

pub type Count = i64;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum Due {
    Day {
        day: String,
    },
    Never,
    With(Item),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GiftTBox {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high: Option<u8>,
    pub wide: u8,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Gift {
    None,
    Card(String),
    #[serde(rename = "Box")]
    TBox(GiftTBox),
    Many((u8, u16)),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Item {
    pub article: u32,
    pub colour: Colour,
    pub count: Count,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<Box<Parcel>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Labels(pub Vec<Labels>);

/// An order,
/// with everything that an order may have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// Who pays.
    pub customer: String,
    /// A promise, or nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Due>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub express: Option<bool>,
    pub gift: Gift,
    pub items: Vec<Item>,
    pub notes: std::collections::BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Box<Order>>,
    pub place: (f64, f32),
    #[serde(rename = "type")]
    pub r#type: Shade,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Parcel {
    pub all: Vec<Parcel>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<Box<Item>>,
    pub label: Labels,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Shade {
    Light,
    Dark,
}
