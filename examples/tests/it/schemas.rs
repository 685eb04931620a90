//! What `rpc.discover` says of methods is what OpenRPC allows it to say, and what the methods do.

use std::{collections::BTreeMap, time::Duration};

use jsonschema::{Draft, Registry, Validator};
use redial_client::Client;
use redial_server::{
    Abort, BuildError, Method, MethodKind, MethodLimits, Server, ServerBuilder,
    schemars::{self, JsonSchema},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::duplex;

/// An order, as it is read and written.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
struct Order {
    /// Who pays.
    customer: String,
    items: Vec<Item>,
    /// A promise, or nothing.
    due: Option<Due>,
    #[serde(default)]
    express: bool,
    notes: BTreeMap<String, Note>,
    place: (f64, f32),
    parent: Option<Box<Order>>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
struct Item {
    article: u32,
    colour: Colour,
    #[serde(default)]
    count: Count,
    #[serde(default, skip_serializing)]
    voucher: Option<String>,
}

/// Always written with what may be left out.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
struct Note {
    text: String,
    author: Option<String>,
    #[serde(default)]
    is_read: bool,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
struct Count(i64);

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Colour {
    Red,
    /// Or nearly so.
    DeepBlue,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type")]
enum Due {
    Day { day: String },
    Never,
}

enum PlaceOrder {}

impl Method for PlaceOrder {
    const NAME: &'static str = "place";
    const KIND: MethodKind = MethodKind::Mutation;
    type Params = Order;
    type Output = Order;
}

enum Scale {}

impl Method for Scale {
    const NAME: &'static str = "scale";
    const KIND: MethodKind = MethodKind::Query;
    type Params = (f64, Vec<f64>);
    type Output = Vec<f64>;
}

fn builder() -> ServerBuilder {
    Server::builder()
        .info("shop", "2.1.0")
        .describe::<PlaceOrder>()
        .method::<PlaceOrder>(|order| async move {
            if order.items.is_empty() {
                return Err(Abort::failed("nothing ordered").code(7));
            }
            let vouchers = order.items.iter().filter_map(|item| item.voucher.as_ref());
            if vouchers.count() > order.items.len() / 2 {
                return Err(Abort::failed("too many vouchers").code(7));
            }
            Ok(order)
        })
        .method::<Scale>(|(by, numbers)| async move {
            Ok(numbers.iter().map(|number| number * by).collect())
        })
        .query("raw", async |params: Value| Ok(params))
        .query("now", async |(): ()| Ok(5_u64))
        .query("table", async |rows: BTreeMap<String, u8>| Ok(rows.len()))
        .describe::<Scale>()
        .describe_types::<(), u64>("now")
        .describe_types::<BTreeMap<String, u8>, usize>("table")
        .describe_error("place", 7, "nothing ordered")
        .resumable("place")
        .method_limits(
            "scale",
            MethodLimits {
                execution_timeout: Some(Duration::from_millis(1500)),
                max_running: None,
            },
        )
}

async fn client(builder: ServerBuilder) -> Client {
    let server = builder.build().expect("a valid server");
    let connector = move || {
        let (near, far) = duplex(64 * 1024);
        let server = server.clone();
        tokio::spawn(async move { server.serve_connection(far).await });
        std::future::ready(Ok(near))
    };
    let client = Client::builder().connect_with(connector);
    client.await.expect("a pipe connects")
}

async fn document(builder: ServerBuilder) -> Value {
    let client = client(builder).await;
    let answer = client.query("rpc.discover", json!({})).await;
    answer.expect("a document")
}

/// OpenRPC's own schema, which refers to one of schemas.
fn openrpc() -> Validator {
    let read = |text: &str| {
        let mut schema: Value = serde_json::from_str(text).unwrap();
        // It is one of draft 7 by another name.
        schema.as_object_mut().unwrap().remove("$schema");
        schema
    };
    let schemas = read(include_str!("../data/openrpc/json-schema-draft-7.json"));
    let registry = Registry::new()
        .draft(Draft::Draft7)
        .add("https://meta.json-schema.tools", schemas)
        .unwrap()
        .prepare()
        .unwrap();
    let openrpc = read(include_str!("../data/openrpc/openrpc-1.4.json"));
    jsonschema::options()
        .with_draft(Draft::Draft7)
        .with_registry(&registry)
        .build(&openrpc)
        .unwrap()
}

fn method<'d>(document: &'d Value, name: &str) -> &'d Value {
    let methods = document["methods"].as_array().unwrap();
    methods.iter().find(|it| it["name"] == name).unwrap()
}

/// Accepts what a schema of the document does.
fn validator(document: &Value, schema: &Value) -> Validator {
    let mut schema = schema.clone();
    assert!(jsonschema::draft7::meta::is_valid(&schema), "{schema}");
    schema["components"] = document["components"].clone();
    let options = jsonschema::options().with_draft(Draft::Draft7);
    options.build(&schema).unwrap()
}

/// Kind: a document is written by hand for readers that never see it. Instance: `rpc.discover`.
#[tokio::test]
async fn the_document_is_what_openrpc_says_it_is() {
    let openrpc = openrpc();
    let undescribed = Server::builder().query("raw", async |params: Value| Ok(params));
    let policed = builder().policy(|_, _| true);
    for builder in [Server::builder(), undescribed, builder(), policed] {
        let document = document(builder).await;
        let errors: Vec<_> = openrpc.iter_errors(&document).collect();
        assert!(errors.is_empty(), "{errors:#?} in {document:#}");
    }
    let wrong = json!({"openrpc": "1.4.1", "info": {"title": "t", "version": "1"}, "methods": [{"name": ""}]});
    assert!(!openrpc.is_valid(&wrong), "the schema itself says nothing");
}

/// What is described as fitting is taken, what is described as not fitting is refused, and what is given
/// fits its description.
#[tokio::test]
async fn a_schema_says_what_the_method_does() {
    let document = document(builder()).await;
    let client = client(builder()).await;
    let item = json!({"article": 3, "colour": "deep_blue"});
    let order = |change: Value| {
        let mut order = json!({"customer": "Ada", "items": [item], "notes": {"a": {"text": "b"}}, "place": [1.5, 2.5]});
        let order_members = order.as_object_mut().unwrap();
        order_members.extend(change.as_object().unwrap().clone());
        order
    };
    let nested = order(json!({"due": {"type": "Never"}}));
    for (name, params, fits) in [
        ("place", order(json!({})), true),
        (
            "place",
            order(json!({"due": {"type": "Day", "day": "Monday"}})),
            true,
        ),
        (
            "place",
            order(json!({"parent": nested, "express": true})),
            true,
        ),
        ("place", order(json!({"due": {"type": "Week"}})), false),
        ("place", order(json!({"customer": null})), false),
        (
            "place",
            order(json!({"items": [{"article": -1, "colour": "red"}]})),
            false,
        ),
        (
            "place",
            order(json!({"items": [{"article": 1, "colour": "green"}]})),
            false,
        ),
        ("place", order(json!({"place": [1.5]})), false),
        ("place", json!({"customer": "Ada"}), false),
        ("scale", json!([2.0, [1.0, 2.0]]), true),
        ("scale", json!([2.0]), false),
        ("scale", json!([[1.0], 2.0]), false),
        ("table", json!({"a": 1, "b": 255}), true),
        ("table", json!({"a": 256}), false),
    ] {
        let described = method(&document, name);
        let taken = validator(&document, &described["x-redial"]["params"]);
        assert_eq!(taken.is_valid(&params), fits, "{name} {params}");
        let answer = client.request(name, &params).await;
        assert_eq!(answer.is_ok(), fits, "{name} {params}: {answer:?}");
        if let Ok(answer) = answer {
            let given = validator(&document, &described["result"]["schema"]);
            let errors: Vec<_> = given.iter_errors(&answer).collect();
            assert!(errors.is_empty(), "{errors:#?} in {answer}");
        }
    }
}

#[tokio::test]
async fn each_method_says_what_it_takes_and_what_openrpc_has_no_words_for() {
    let document = document(builder().policy(|_, _| true)).await;
    let place = method(&document, "place");
    assert_eq!(place["x-redial-kind"], "mutation", "for older clients");
    assert_eq!(place["x-redial"]["kind"], "mutation");
    assert_eq!(place["x-redial"]["resumable"], true);
    assert_eq!(place["x-redial"].get("deadline_ms"), None);
    assert_eq!(place["paramStructure"], "by-name");
    let named = |method: &Value| -> Vec<(String, bool)> {
        let params = method["params"].as_array().unwrap().iter();
        params
            .map(|param| {
                let name = param["name"].as_str().unwrap();
                (name.to_owned(), param["required"].as_bool().unwrap())
            })
            .collect()
    };
    let names = [
        ("customer", true),
        ("items", true),
        ("notes", true),
        ("place", true),
        ("due", false),
        ("express", false),
        ("parent", false),
    ];
    assert_eq!(
        named(place),
        names.map(|(name, required)| (name.to_owned(), required))
    );
    assert_eq!(place["params"][0]["description"], "Who pays.");
    let errors = place["errors"].as_array().unwrap();
    assert_eq!(errors[0], json!({"code": 7, "message": "nothing ordered"}));
    let refers = |method: &Value, error: &str| {
        let reference = json!({"$ref": format!("#/components/errors/{error}")});
        method["errors"].as_array().unwrap().contains(&reference)
    };
    let stale = json!({"code": -32007, "message": "Stale", "data": {"executed": "unknown"}});
    assert_eq!(document["components"]["errors"]["stale"], stale);
    let scale = method(&document, "scale");
    assert_eq!(scale["paramStructure"], "by-position");
    assert_eq!(scale["x-redial"]["deadline_ms"], 1500);
    assert_eq!(named(scale).len(), 2);
    assert!(refers(place, "stale") && !refers(scale, "stale"));
    assert!(refers(scale, "forbidden") && !refers(scale, "unauthenticated"));
    assert_eq!(method(&document, "now")["params"], json!([]));
    // No list of names says what a map takes; the whole schema does.
    assert_eq!(method(&document, "table")["params"], json!([]));
    assert_eq!(
        method(&document, "table")["x-redial"]["params"]["type"],
        "object"
    );
    let raw = method(&document, "raw");
    assert_eq!(
        raw["x-redial"],
        json!({"kind": "query", "resumable": false})
    );
    assert_eq!(raw.get("errors"), None);
    // What is never written makes a type another one, and so all that refer to it.
    let schemas = &document["components"]["schemas"];
    assert!(schemas["Item"]["properties"]["voucher"].is_object());
    assert_eq!(schemas["ItemResult"]["properties"].get("voucher"), None);
    let items = &schemas["OrderResult"]["properties"]["items"]["items"];
    assert_eq!(items["$ref"], "#/components/schemas/ItemResult");
    assert_eq!(schemas["Note"]["required"], json!(["text"]));
    for same in ["NoteResult", "ColourResult", "DueResult"] {
        assert_eq!(schemas.get(same), None);
    }
}

#[tokio::test]
async fn a_description_of_no_method_or_of_the_other_kind_is_refused() {
    let registered = Server::builder().query("place", async |params: Value| Ok(params));
    for (builder, problem) in [
        (
            Server::builder().describe::<PlaceOrder>(),
            "there is no such method",
        ),
        (
            Server::builder().describe_error("place", 7, "no"),
            "there is no such method",
        ),
        (
            registered.describe::<PlaceOrder>(),
            "it is registered as the other kind",
        ),
    ] {
        let error = builder.build().err().expect("an error");
        assert!(matches!(error, BuildError::Description { .. }), "{error}");
        let text = error.to_string();
        assert!(
            text.contains("\"place\"") && text.contains(problem),
            "{text}"
        );
    }
}
