//! What a handler did not say on purpose reaches the log, and its caller a reference to it.

use std::sync::{Arc, Mutex};

use redial_server::{
    Abort, Context, Event, HiddenFailure, LayerCall, Next, Observer, Outcome, Server,
};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use crate::common::{code, executed, pipe, uuid};

const SECRET: &str = "password=hunter2 in /etc/app.toml";

/// Params whose decoding panics.
struct Undecodable;

impl<'de> Deserialize<'de> for Undecodable {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        panic!("{SECRET}")
    }
}

#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<(String, String, bool)>>>);

impl Observer for Kept {
    fn observe(&self, _: &Event<'_>) {}

    fn observe_hidden(&self, failure: &HiddenFailure<'_>) {
        let kept = (
            failure.reference.into(),
            failure.method.into(),
            failure.is_panic,
        );
        assert!(failure.text.contains(SECRET));
        self.0.lock().unwrap().push(kept);
        assert_ne!(
            failure.method, "layered",
            "an observer that panics takes no call along"
        );
    }
}

fn foreign() -> Result<(), Abort> {
    Err(std::io::Error::other(SECRET))?
}

fn server(kept: &Kept, exposes: bool) -> Server {
    let builder = Server::builder()
        .mutation("panics", async |_: Value, _: Context| {
            if true {
                panic!("{SECRET}");
            }
            Ok(())
        })
        .mutation("panics_later", async |_: Value, _: Context| {
            tokio::task::yield_now().await;
            if true {
                panic!("{SECRET}");
            }
            Ok(())
        })
        .mutation("fails", async |_: Value, _: Context| foreign())
        .mutation("fails_later", async |_: Value, _: Context| {
            tokio::task::yield_now().await;
            foreign().map_err(|abort| abort.code(7))
        })
        .query("undecodable", async |_: Undecodable| Ok(()))
        .query("layered", async |_: Value| Ok(()))
        .mutation("says", async |_: Value| {
            Err::<(), _>(Abort::failed(format!("on purpose: {SECRET}")))
        })
        .layer_of("layered", async |_: LayerCall, _: Next| -> Outcome {
            panic!("{SECRET}")
        })
        .mutation("layer_fails", async |_: Value| Ok(()))
        .layer_of("layer_fails", async |call: LayerCall, next: Next| {
            let outcome = next.run(call).await;
            assert!(!String::from_utf8_lossy(outcome.bytes()).contains(SECRET));
            outcome
        })
        .layer_of("layer_fails", async |_: LayerCall, _: Next| -> Outcome {
            match foreign() {
                Ok(()) => Abort::failed("it failed").into(),
                Err(abort) => abort.code(7).into(),
            }
        });
    builder
        .observer(kept.clone())
        .expose_failures(exposes)
        .build()
        .unwrap()
}

fn call(method: &str, number: u32) -> String {
    let id = uuid(number);
    json!({"id": id, "method": method, "params": []}).to_string()
}

/// Panics and errors by `?`, at once and later, of handlers, params and layers.
#[tokio::test(start_paused = true)]
async fn what_was_meant_for_no_caller_stays_on_the_server() {
    let kept = Kept::default();
    let mut peer = pipe(&server(&kept, false));
    let mut references = Vec::new();
    for (number, (method, expected, is_panic)) in (0..).zip([
        ("panics", -32603, true),
        ("panics_later", -32603, true),
        ("fails", -32000, false),
        ("fails_later", 7, false),
        ("undecodable", -32602, true),
        ("layered", -32603, true),
        ("layer_fails", 7, false),
    ]) {
        let reply = peer.call(call(method, number)).await;
        assert!(
            !reply.contains("hunter2") && !reply.contains("/etc"),
            "{reply}"
        );
        let (reference, of, was_panic) = kept.0.lock().unwrap().pop().unwrap();
        assert!(
            reply.contains(&format!("(reference {reference})")),
            "{reply}"
        );
        assert_eq!((of.as_str(), was_panic), (method, is_panic));
        let error: Value = serde_json::from_str(&reply).unwrap();
        assert_eq!(code(&error), expected);
        if method.starts_with("panics") || method.contains("fails") {
            // On record with its reference, which is not given again.
            assert_eq!(peer.call(call(method, number)).await, reply);
            assert!(kept.0.lock().unwrap().is_empty());
        } else if method == "undecodable" {
            assert_eq!(executed(&error), "no");
        }
        references.push(reference);
    }
    references.sort_unstable();
    references.dedup();
    assert_eq!(references.len(), 7, "each has its own");
}

/// What a handler says on purpose, and a program that asks for it all.
#[tokio::test(start_paused = true)]
async fn what_is_said_on_purpose_or_asked_for_is_sent() {
    let kept = Kept::default();
    let said = pipe(&server(&kept, false)).call(call("says", 0)).await;
    assert!(said.contains("on purpose: password=hunter2"), "{said}");
    let mut peer = pipe(&server(&kept, true));
    for (number, method) in (0..).zip([
        "panics",
        "panics_later",
        "fails",
        "fails_later",
        "layer_fails",
        "says",
    ]) {
        let reply = peer.call(call(method, number)).await;
        assert!(reply.contains("password=hunter2"), "{method}: {reply}");
    }
    assert!(kept.0.lock().unwrap().is_empty());
}
