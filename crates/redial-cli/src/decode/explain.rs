//! What a message says, member by member.

use std::collections::BTreeMap;

use redial_protocol::{
    Dialect, ErrorObject, Id, Incoming, Limits, Rejection, Reply, ReplyError, Request, SessionCall,
    cut, rpc,
};
use serde::{Serialize, de::IgnoredAny};
use serde_json::{
    Map, Value,
    value::{RawValue, to_raw_value},
};

use super::stream::Piece;

/// A message, explained: its first line, more lines, and its members for machines.
#[derive(Debug)]
pub(super) struct Explained {
    head: String,
    lines: Vec<String>,
    /// A line that may be long: `params` or `result`.
    long: Option<(&'static str, String)>,
    /// What `--json` prints beside number, time and way, as it is written: a number may be none that a machine
    /// has. **Stable**: members are added, never changed.
    members: BTreeMap<&'static str, Box<RawValue>>,
    dialect: Option<Dialect>,
}

/// An error, with its data as it is written.
#[derive(Serialize)]
struct WrittenError<'a> {
    code: i32,
    name: &'a str,
    message: &'a str,
    data: Option<Box<RawValue>>,
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
    let members: BTreeMap<String, IgnoredAny> = serde_json::from_slice(message).unwrap_or_default();
    let dialect = if members.contains_key("jsonrpc") {
        Dialect::JsonRpc2
    } else {
        Dialect::Notebook
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
        let mut explained = Self {
            head: String::new(),
            lines: Vec::new(),
            long: None,
            members: BTreeMap::new(),
            dialect: Some(dialect),
        };
        explained.member("kind", kind);
        let name = match dialect {
            Dialect::Notebook => "notebook",
            Dialect::JsonRpc2 => "jsonrpc2",
        };
        explained.member("dialect", name);
        explained
    }

    fn problem(text: &str) -> Self {
        let mut explained = Self {
            head: format!("no message: {text}"),
            lines: Vec::new(),
            long: None,
            members: BTreeMap::new(),
            dialect: None,
        };
        explained.member("kind", "problem");
        explained.member("problem", text);
        explained
    }

    pub(super) fn is_problem(&self) -> bool {
        self.members.contains_key("problem")
    }

    fn member(&mut self, name: &'static str, value: impl Serialize) {
        // Texts and numbers can always be written.
        self.members
            .extend(to_raw_value(&value).ok().map(|raw| (name, raw)));
    }

    fn id(&mut self, id: &Id<'_>) {
        let raw = cut(id.raw());
        self.member("id", as_written(id.raw()));
        let mut line = format!("id {raw}");
        if let Some(call) = id.as_uuid().and_then(SessionCall::from_uuid) {
            line += &format!(": call {} of session {}", call.number, call.session);
            self.member("session", call.session.to_string());
            self.member("call", call.number);
        }
        self.lines.push(line);
    }

    fn long(&mut self, name: &'static str, text: &str) {
        self.member(name, as_written(text));
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
        let data = error.data.as_ref();
        let data = data.and_then(|data| as_written(data.get()));
        self.member("executed", executed);
        self.member("retryable", code.is_retryable());
        self.member("retry_after_ms", error.retry_after_ms());
        let (code, message) = (i32::from(code), &error.message);
        self.member(
            "error",
            WrittenError {
                code,
                name,
                message,
                data,
            },
        );
    }

    fn spelled(&self) -> &'static str {
        self.dialect.map_or("", spelling)
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

    /// One line.
    pub(super) fn into_json(mut self, number: u64, piece: &Piece) -> String {
        self.member("frame", number);
        for (name, part) in [("at", &piece.at), ("way", &piece.way)] {
            if let Some(part) = part {
                self.member(name, part);
            }
        }
        if let Ok(message) = &piece.content {
            self.member("bytes", message.len());
        }
        serde_json::to_string(&self.members).unwrap_or_default()
    }
}

/// JSON with every number and every member as it stands there, in one line.
fn as_written(json: &str) -> Option<Box<RawValue>> {
    let (mut line, mut is_text, mut is_escaped) = (String::with_capacity(json.len()), false, false);
    for char in json.chars() {
        if is_text || !char.is_ascii_whitespace() {
            line.push(char);
        }
        is_text ^= char == '"' && !is_escaped;
        is_escaped = is_text && char == '\\' && !is_escaped;
    }
    RawValue::from_string(line).ok()
}
