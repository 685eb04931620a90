//! What `rpc.discover` answers: an OpenRPC document (<https://spec.open-rpc.org>, 1.4) of the methods. It
//! says which of them have an effect, and of those that the program describes what they take, give and
//! fail with.

mod params;

use std::{collections::BTreeMap, time::Duration};

use redial_protocol::{ErrorCode, MethodKind, encode_result};
use serde_json::{Map, Value, json};

use crate::{
    error::BuildError,
    router::{Registered, Router},
};

/// The version of OpenRPC.
const OPENRPC: &str = "1.4.1";

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

/// What the program says of a method beside its handler.
#[derive(Default)]
pub(crate) struct Description {
    #[cfg(feature = "schemas")]
    pub(crate) types: Option<crate::schemas::Types>,
    /// What kind the method was said to be, if that was said.
    pub(crate) kind: Option<MethodKind>,
    /// The errors of its own.
    pub(crate) errors: Vec<(ErrorCode, String)>,
}

/// By the names of the methods.
pub(crate) type Descriptions = BTreeMap<String, Description>;

/// The schemas of the described types, whose definitions lie together.
#[derive(Default)]
pub(crate) struct Schemas {
    /// By the names of the methods: what one takes, and what it gives.
    pub(crate) methods: BTreeMap<String, (Value, Value)>,
    pub(crate) definitions: Map<String, Value>,
}

/// What calls may fail with beside their handlers.
pub(crate) struct Gates {
    pub(crate) asks_for_tokens: bool,
    pub(crate) has_policy: bool,
}

/// That each description is one of a method that there is.
pub(crate) fn check(descriptions: &Descriptions, router: &Router) -> Result<(), BuildError> {
    for (name, description) in descriptions {
        let method = router.find(name).map(|index| router.method(index));
        let problem = match (method, description.kind) {
            (None, _) => "there is no such method; expected one that is registered",
            (Some(method), Some(kind)) if method.kind != kind => {
                "it is registered as the other kind; expected both to be a query, or a mutation"
            }
            _ => continue,
        };
        return Err(BuildError::Description {
            method: name.clone(),
            problem,
        });
    }
    Ok(())
}

/// The whole outcome, since it never changes.
pub(crate) fn outcome(
    info: &ServiceInfo,
    router: &Router,
    descriptions: &Descriptions,
    schemas: Schemas,
    gates: &Gates,
) -> Vec<u8> {
    let mut errors = Map::new();
    let mut methods = Vec::new();
    for method in router.methods() {
        let mut entry = Map::new();
        entry.insert("name".into(), json!(&*method.name));
        let mut redial = about(method);
        match schemas.methods.get(&*method.name) {
            Some((params, result)) => {
                let (structure, list) = params::list(params, &schemas.definitions);
                entry.insert("paramStructure".into(), json!(structure));
                entry.insert("params".into(), list);
                entry.insert("result".into(), json!({"name": "result", "schema": result}));
                redial.insert("params".into(), params.clone());
            }
            None => undescribed(&mut entry),
        }
        if let Some(description) = descriptions.get(&*method.name) {
            let own = description.errors.iter();
            let own = own.map(|(code, message)| json!({"code": code, "message": message}));
            let known = known_errors(method.kind, gates).map(|code| reference(code, &mut errors));
            entry.insert("errors".into(), own.chain(known).collect());
        }
        entry.insert("x-redial-kind".into(), json!(method.kind.name()));
        entry.insert("x-redial".into(), redial.into());
        methods.push(Value::from(entry));
    }
    let mut document = json!({
        "openrpc": OPENRPC,
        "info": { "title": info.title, "version": info.version },
        "methods": methods,
    });
    if !errors.is_empty() {
        document["components"] = json!({ "errors": errors, "schemas": schemas.definitions });
    }
    let mut outcome = Vec::new();
    encode_result(&mut outcome, &document).expect("a JSON value is always JSON");
    outcome
}

/// Without a schema for the types nothing is promised about params and result.
fn undescribed(entry: &mut Map<String, Value>) {
    let text = "What it takes and gives is not described here.";
    entry.insert("description".into(), json!(text));
    entry.insert("paramStructure".into(), json!("either"));
    entry.insert("params".into(), json!([]));
    let result = json!({ "name": "result", "schema": true });
    entry.insert("result".into(), result);
}

/// What OpenRPC has no words for.
fn about(method: &Registered) -> Map<String, Value> {
    let mut about = Map::new();
    about.insert("kind".into(), json!(method.kind.name()));
    about.insert("resumable".into(), json!(method.is_resumable));
    if let Some(deadline) = method.limits.execution_timeout {
        about.insert("deadline_ms".into(), json!(whole_ms(deadline)));
    }
    about
}

fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What a call of any method of this kind may fail with.
fn known_errors(kind: MethodKind, gates: &Gates) -> impl Iterator<Item = ErrorCode> {
    let is_mutation = kind == MethodKind::Mutation;
    [
        (true, ErrorCode::INVALID_PARAMS),
        (true, ErrorCode::INTERNAL_ERROR),
        (true, ErrorCode::HANDLER_ERROR),
        (true, ErrorCode::OVERLOADED),
        (true, ErrorCode::DEADLINE_PASSED),
        (is_mutation, ErrorCode::ID_REUSED),
        (is_mutation, ErrorCode::OUTCOME_UNKNOWN),
        (gates.asks_for_tokens, ErrorCode::UNAUTHENTICATED),
        (true, ErrorCode::SHUTTING_DOWN),
        (is_mutation, ErrorCode::STALE),
        (true, ErrorCode::INTERRUPTED),
        (gates.has_policy, ErrorCode::FORBIDDEN),
    ]
    .into_iter()
    .filter_map(|(applies, code)| applies.then_some(code))
}

/// Refers to an error that is described once for all methods.
fn reference(code: ErrorCode, errors: &mut Map<String, Value>) -> Value {
    let name = code.name().to_lowercase().replace(' ', "_");
    let reference = json!({ "$ref": format!("#/components/errors/{name}") });
    errors.entry(name).or_insert_with(|| {
        let mut error = json!({ "code": code, "message": code.name() });
        // What comes with an error of a handler is the handler's affair.
        if code != ErrorCode::HANDLER_ERROR {
            error["data"] = json!({ "executed": code.executed() });
        }
        error
    });
    reference
}
