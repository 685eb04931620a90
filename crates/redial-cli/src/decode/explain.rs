//! What a message says, member by member.

use redial_protocol::{
    Dialect, ErrorObject, Id, Incoming, Limits, Rejection, Reply, ReplyError, Request, SessionCall,
    cut, rpc,
};
use serde_json::{Map, Value, json, value::RawValue};

use super::stream::Piece;

/// A message, explained: its first line, more lines, and its members for machines.
#[derive(Debug)]
pub(super) struct Explained {
    head: String,
    lines: Vec<String>,
    /// A line that may be long: `params` or `result`.
    long: Option<(&'static str, String)>,
    /// What `--json` prints beside number, time and way. **Stable**: members are added, never changed.
    members: Map<String, Value>,
}

/// Explains a message, each entry of a batch on its own.
pub(super) fn piece(piece: &Piece) -> Vec<Explained> {
    let message = match &piece.content {
        Ok(message) => message,
        Err(problem) => return vec![Explained::problem(problem)],
    };
    if message.trim_ascii_start().first() == Some(&b'[') {
        return batch(message);
    }
    vec![single(message)]
}

fn single(message: &[u8]) -> Explained {
    match Reply::parse(message) {
        Ok(read) => reply(message, read),
        Err(ReplyError::Request { .. }) => match Incoming::parse(message, &Limits::default()) {
            Ok(Incoming::Request(read)) => request(&read),
            Ok(Incoming::Batch(_)) => Explained::problem("a batch in a batch"),
            Err(refused) => rejected(&refused),
        },
        Err(error) => Explained::problem(&error.to_string()),
    }
}

fn batch(message: &[u8]) -> Vec<Explained> {
    match serde_json::from_slice::<Vec<&RawValue>>(message) {
        Ok(entries) if entries.is_empty() => vec![Explained::problem("an empty batch")],
        Ok(entries) => {
            let count = entries.len();
            let entries = (1..).zip(entries);
            let explain = |(number, entry): (usize, &RawValue)| {
                let explained = single(entry.get().as_bytes());
                let head = format!("batch {number}/{count}: {}", explained.head);
                Explained { head, ..explained }
            };
            entries.map(explain).collect()
        }
        Err(error) => vec![Explained::problem(&format!("no JSON: {error}"))],
    }
}

fn rejected(refused: &Rejection<'_>) -> Explained {
    Explained::problem(&format!("a server refuses it: {}", refused.error))
}

fn request(request: &Request<'_>) -> Explained {
    let kind = if request.is_notification() {
        "notification"
    } else {
        "request"
    };
    let mut explained = Explained::new(kind, request.dialect);
    explained.head = format!("{kind} {} ({})", request.method, spelling(request.dialect));
    explained.member("method", request.method.as_ref());
    if let Some(id) = &request.id {
        explained.id(id);
    }
    let meta = &request.meta;
    let mut said = Vec::new();
    if request.is_extended {
        said.push(format!("attempt {}", meta.attempt));
        explained.member("attempt", meta.attempt);
    }
    if let Some(ms) = meta.timeout_ms {
        said.push(format!("the caller waits {ms} ms more"));
        explained.member("timeout_ms", ms);
    }
    if let Some(ack) = meta.ack {
        said.push(format!("acknowledges all calls below {ack}"));
        explained.member("ack", ack);
    }
    explained
        .lines
        .extend((!said.is_empty()).then(|| said.join(", ")));
    if let Some(trace) = &meta.traceparent {
        explained.lines.push(format!("trace {}", cut(trace)));
        explained.member("traceparent", trace.as_ref());
    }
    if let Some(meta) = meta.meta {
        // Values may be secrets.
        let meta = meta.to_metadata();
        let keys: Vec<_> = meta.iter().map(|(key, _)| key.to_owned()).collect();
        explained
            .lines
            .push(format!("meta: {} (values not shown)", keys.join(", ")));
        explained.member("meta_keys", keys);
    }
    if let Some(params) = request.params {
        explained.long("params", &hide_token(&request.method, params));
    }
    explained
}

/// Tokens are shown nowhere.
fn hide_token(method: &str, params: &str) -> String {
    if method != rpc::HELLO && method != rpc::AUTH {
        return params.to_owned();
    }
    match serde_json::from_str::<Map<String, Value>>(params) {
        Ok(mut members) => {
            if let Some(token) = members.get_mut("token") {
                *token = "(not shown)".into();
            }
            Value::Object(members).to_string()
        }
        Err(_) => "\"(not shown)\"".to_owned(),
    }
}

fn reply(message: &[u8], reply: Reply<'_>) -> Explained {
    let members: Map<String, Value> = serde_json::from_slice(message).unwrap_or_default();
    let dialect = match members.get("jsonrpc") {
        Some(_) => Dialect::JsonRpc2,
        None => Dialect::Notebook,
    };
    let kind = if reply.outcome.is_ok() {
        "result"
    } else {
        "error"
    };
    let mut explained = Explained::new(kind, dialect);
    explained.head = format!("{kind} ({})", spelling(dialect));
    explained.id(&reply.id);
    if let Some(replayed) = reply.meta.replayed {
        explained.member("replayed", replayed);
        let text = if replayed {
            "replayed: recorded by an earlier attempt"
        } else {
            "not replayed"
        };
        explained.lines.push(text.to_owned());
    }
    if let Some(attempt) = reply.meta.attempt {
        explained.member("attempt", attempt);
        explained.lines.push(format!("refuses attempt {attempt}"));
    }
    match reply.outcome {
        Ok(result) => explained.long("result", result),
        Err(error) => explained.error(error.unmarked()),
    }
    explained
}

fn spelling(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Notebook => "notebook dialect",
        Dialect::JsonRpc2 => "JSON-RPC 2.0",
    }
}

impl Explained {
    fn new(kind: &str, dialect: Dialect) -> Self {
        let dialect = match dialect {
            Dialect::Notebook => "notebook",
            Dialect::JsonRpc2 => "jsonrpc2",
        };
        let members = [
            ("kind".to_owned(), kind.into()),
            ("dialect".to_owned(), dialect.into()),
        ];
        Self {
            head: String::new(),
            lines: Vec::new(),
            long: None,
            members: members.into_iter().collect(),
        }
    }

    fn problem(text: &str) -> Self {
        let members = [
            ("kind".to_owned(), "problem".into()),
            ("problem".to_owned(), text.into()),
        ];
        Self {
            head: format!("no message: {text}"),
            lines: Vec::new(),
            long: None,
            members: members.into_iter().collect(),
        }
    }

    pub(super) fn is_problem(&self) -> bool {
        self.members.contains_key("problem")
    }

    fn member(&mut self, name: &str, value: impl Into<Value>) {
        self.members.insert(name.to_owned(), value.into());
    }

    fn id(&mut self, id: &Id<'_>) {
        let raw = cut(id.raw());
        self.member("id", serde_json::from_str(id.raw()).unwrap_or(Value::Null));
        let mut line = format!("id {raw}");
        if let Some(call) = id.as_uuid().and_then(SessionCall::from_uuid) {
            line += &format!(": call {} of session {}", call.number, call.session);
            self.member("session", call.session.to_string());
            self.member("call", call.number);
        }
        self.lines.push(line);
    }

    fn long(&mut self, name: &'static str, text: &str) {
        self.member(name, serde_json::from_str(text).unwrap_or(Value::Null));
        self.long = Some((name, text.to_owned()));
    }

    fn error(&mut self, error: ErrorObject) {
        let executed = error.executed();
        let (code, name) = (error.code, error.code.name());
        self.head = format!("error {code} {name} ({})", self.spelled());
        let retry = match (code.is_retryable(), error.retry_after_ms()) {
            (true, Some(ms)) => format!("the call may be sent again after {ms} ms"),
            (true, None) => "the call may be sent again".to_owned(),
            (false, _) => "sending it again would not help".to_owned(),
        };
        let executed = serde_json::to_value(executed).unwrap_or_default();
        let said = match executed.as_str() {
            Some("no") => "not executed",
            Some("yes") => "executed",
            _ => "it is unknown whether it was executed",
        };
        self.lines.push(format!("{said}; {retry}"));
        self.lines
            .push(format!("message {:?}", cut(&error.message)));
        if let Some(detail) = error.detail() {
            self.lines.push(format!("detail {detail:?}"));
        }
        let data = error.data.as_ref().map(|data| data.get());
        let data: Option<Value> = data.and_then(|data| serde_json::from_str(data).ok());
        self.member("executed", executed);
        self.member("retryable", code.is_retryable());
        self.member("retry_after_ms", error.retry_after_ms());
        let code = i32::from(code);
        let whole = json!({ "code": code, "name": name, "message": error.message, "data": data });
        self.member("error", whole);
    }

    fn spelled(&self) -> &'static str {
        let is_notebook = self.members["dialect"] == "notebook";
        spelling(if is_notebook {
            Dialect::Notebook
        } else {
            Dialect::JsonRpc2
        })
    }

    pub(super) fn as_text(&self, head: &str, is_full: bool) -> String {
        let mut text = format!("{head}{}", self.head);
        for line in &self.lines {
            text += &format!("\n    {line}");
        }
        if let Some((name, long)) = &self.long {
            let shown = if is_full { long } else { cut(long) };
            let more = if shown.len() < long.len() { "…" } else { "" };
            text += &format!("\n    {name} {shown}{more}");
        }
        text
    }

    pub(super) fn as_json(&self, number: u64, piece: &Piece) -> Value {
        let mut members = self.members.clone();
        members.insert("frame".to_owned(), number.into());
        for (name, part) in [("at", &piece.at), ("way", &piece.way)] {
            members.extend(part.clone().map(|part| (name.to_owned(), part.into())));
        }
        if let Ok(message) = &piece.content {
            members.insert("bytes".to_owned(), message.len().into());
        }
        Value::Object(members)
    }
}
