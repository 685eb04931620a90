//! `redial discover --rust`: what it prints of a server is Rust, and calls that server.

#[rustfmt::skip]
#[allow(dead_code, missing_docs, unreachable_pub, reason = "it is as it was printed")]
mod shop;

use std::collections::BTreeMap;

use redial_client::Client;
use redial_server::{
    Method, MethodKind, Server, ServerBuilder,
    schemars::{self, JsonSchema},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::world::redial;

/// An order,
/// with everything that an order may have.
#[derive(Serialize, Deserialize, JsonSchema)]
struct Order {
    /// Who pays.
    customer: String,
    items: Vec<Item>,
    /// A promise, or nothing.
    due: Option<Due>,
    #[serde(default)]
    express: bool,
    notes: BTreeMap<String, String>,
    place: (f64, f32),
    parent: Option<Box<Order>>,
    r#type: Shade,
    gift: Gift,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Item {
    article: u32,
    colour: Colour,
    count: Count,
    within: Option<Box<Parcel>>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Parcel {
    item: Option<Box<Item>>,
    label: Labels,
    all: Vec<Parcel>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Labels(Vec<Labels>);

#[derive(Serialize, Deserialize, JsonSchema)]
struct Count(i64);

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Colour {
    Red,
    /// Or nearly so.
    DeepBlue,
}

#[derive(Serialize, Deserialize, JsonSchema)]
enum Shade {
    Light,
    Dark,
}

#[derive(Serialize, Deserialize, JsonSchema)]
enum Gift {
    None,
    Card(String),
    Box { wide: u8, high: Option<u8> },
    Many(u8, u16),
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type")]
enum Due {
    Day { day: String },
    Never,
    With(Item),
}

enum SubmitOrder {}

impl Method for SubmitOrder {
    const NAME: &'static str = "place.order";
    const KIND: MethodKind = MethodKind::Mutation;
    type Params = Order;
    type Output = Order;
}

fn builder() -> ServerBuilder {
    Server::builder()
        .info("shop\nmod hostile {}", "2")
        .method::<SubmitOrder>(|order| async move { Ok(order) })
        .query("order", async |(by, gifts): (i16, Vec<Gift>)| {
            Ok((f64::from(by), gifts.len()))
        })
        .query("now", async |(): ()| Ok(5_u64))
        .query("table", async |rows: BTreeMap<String, u8>| Ok(rows))
        .query("raw", async |params: Value| Ok(params))
        .describe::<SubmitOrder>()
        .describe_types::<(i16, Vec<Gift>), (f64, usize)>("order")
        .describe_types::<(), u64>("now")
        .describe_types::<BTreeMap<String, u8>, BTreeMap<String, u8>>("table")
}

/// Kind: what is printed for a compiler is read by people only. Instance: types of Rust. The file is what was
/// printed; with `REDIAL_UPDATE=1` it is written anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_is_printed_compiles_and_calls_the_server() {
    let server = builder().build().unwrap();
    let listener = server.bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { server.serve(listener).await });
    let printing = move || redial(&format!("discover {address} --rust"));
    let printed = tokio::task::spawn_blocking(printing).await.unwrap();
    assert_eq!(printed.code, 0, "{printed:?}");
    if std::env::var_os("REDIAL_UPDATE").is_some() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/it/printed_types/shop.rs"
        );
        std::fs::write(path, &printed.out).unwrap();
    }
    assert_eq!(printed.out, include_str!("printed_types/shop.rs"));

    let client = Client::connect(address).await.unwrap();
    let item = shop::Item {
        article: 3,
        colour: shop::Colour::DeepBlue,
        count: -2,
        within: None,
    };
    let parcel = shop::Parcel {
        item: Some(Box::new(item.clone())),
        label: shop::Labels(vec![shop::Labels(Vec::new())]),
        all: Vec::new(),
    };
    let simple = shop::Order {
        customer: "Ada".into(),
        items: Vec::new(),
        due: None,
        express: None,
        notes: BTreeMap::new(),
        place: (0.5, 1.5),
        parent: None,
        r#type: shop::Shade::Light,
        gift: shop::Gift::None,
    };
    let order = shop::Order {
        items: vec![shop::Item {
            within: Some(Box::new(parcel)),
            ..item.clone()
        }],
        due: Some(shop::Due::With(item)),
        express: Some(true),
        notes: BTreeMap::from([("a".into(), "b".into())]),
        parent: Some(Box::new(simple.clone())),
        r#type: shop::Shade::Dark,
        gift: shop::Gift::Many((1, 2)),
        ..simple
    };
    let placed = client.call::<shop::PlaceOrder>(order.clone());
    let placed = serde_json::to_value(placed.await.unwrap()).unwrap();
    assert_eq!(placed["due"]["type"], "With");
    assert_eq!(placed["items"][0]["colour"], "deep-blue");
    assert_eq!(placed["gift"], serde_json::json!({"Many": [1, 2]}));
    let gifts = vec![shop::Gift::Card("x".into()), shop::Gift::None];
    let counted = client.call::<shop::Order2>((3, gifts)).await.unwrap();
    assert_eq!(counted, (3.0, 2));
    assert_eq!(client.call::<shop::Now>(()).await.unwrap(), 5);
    let table = BTreeMap::from([("a".to_owned(), 7)]);
    assert_eq!(
        client.call::<shop::Table>(table.clone()).await.unwrap(),
        table
    );
    let raw = serde_json::json!({"any": 1});
    assert_eq!(client.call::<shop::Raw>(raw.clone()).await.unwrap(), raw);
}
