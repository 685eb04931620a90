//! What `rpc.discover` answers: an OpenRPC document (<https://spec.open-rpc.org>, 1.3.2) that
//! names the methods and says which of them have an effect.

use redial_protocol::encode_result;
use serde_json::{Value, json};

use crate::router::Router;

/// The name and the version that the document gives the service.
#[derive(Clone, Debug)]
pub(crate) struct ServiceInfo {
    pub(crate) title: String,
    pub(crate) version: String,
}

impl Default for ServiceInfo {
    fn default() -> Self {
        Self {
            title: "redial".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

/// The whole outcome, since it never changes.
pub(crate) fn outcome(info: &ServiceInfo, router: &Router) -> Vec<u8> {
    // Without a schema for the types nothing is promised about params and result.
    let method = |name: &str, kind: &str| {
        json!({
            "name": name,
            "description": "What it takes and gives is not described here.",
            "paramStructure": "either",
            "params": [],
            "result": { "name": "result", "schema": true },
            "x-redial-kind": kind,
        })
    };
    let methods: Vec<Value> = router
        .methods()
        .iter()
        .map(|found| method(&found.name, found.kind.name()))
        .collect();
    let document = json!({
        "openrpc": "1.3.2",
        "info": { "title": info.title, "version": info.version },
        "methods": methods,
    });
    let mut outcome = Vec::new();
    encode_result(&mut outcome, &document).expect("a JSON value is always JSON");
    outcome
}
