//! The same request again, long after the first, written by hand as frames.

use std::{net::SocketAddr, thread, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::harness::{
    command_line::words,
    programs::Programs,
    wire::{self, Wire},
};

/// How long the server keeps the reply to a plain id, and a session without a connection.
const TTL_MS: u64 = 100;
const LEASE_MS: u64 = 200;
/// How long the second sending stays away.
pub(crate) const AWAY: Duration = Duration::from_millis(800);
/// How long each reply is waited for.
const REPLY: Duration = Duration::from_secs(5);

/// All requests with their replies.
pub(crate) struct Late {
    sendings: Vec<Sending>,
}

/// What the second sending must lead to.
#[derive(Clone, Copy, PartialEq)]
enum Expected {
    /// Another effect: nothing better is promised.
    Doubled,
    /// The recorded reply.
    Recorded,
    /// An error with this code.
    Refused(i64),
}

/// A way to name a request that is sent twice.
struct Case {
    what: &'static str,
    key: &'static str,
    expected: Expected,
}

const PLAIN: Case = Case {
    what: "plain, after its 100 ms",
    key: "late-plain",
    expected: Expected::Doubled,
};
const ACKNOWLEDGED: Case = Case {
    what: "session, acknowledged",
    key: "late-acknowledged",
    expected: Expected::Refused(-32007),
};
const KEPT: Case = Case {
    what: "session, not acknowledged",
    key: "late-kept",
    expected: Expected::Recorded,
};
const LEFT: Case = Case {
    what: "session, its lease over",
    key: "late-left",
    expected: Expected::Refused(-32004),
};

/// One request, sent twice.
struct Sending {
    case: &'static Case,
    request: Value,
    first: Value,
    again: Value,
    effects: i64,
}

/// What the columns are called.
pub(crate) const HEADINGS: [&str; 5] = ["id", "verdict", "first\nreply", "second reply", "effects"];

/// Sends each request, waits, and sends each again.
pub(crate) fn watch(programs: &Programs) -> Result<Late> {
    let flags = words(&format!("--ttl-ms {TTL_MS} --lease-ms {LEASE_MS}"));
    let server = programs.server(&flags)?;
    let address = server.address;
    let mut plain = Wire::connect(address)?;
    let mut attached = Wire::connect(address)?;
    let session = open(&mut attached)?;
    let mut leaving = Wire::connect(address)?;
    let left = open(&mut leaving)?;

    let mut sendings = vec![
        send(&mut plain, &PLAIN, "plain-id-1")?,
        send(&mut attached, &ACKNOWLEDGED, &id(&session, 0))?,
        send(&mut attached, &KEPT, &id(&session, 1))?,
        send(&mut leaving, &LEFT, &id(&left, 0))?,
    ];
    let ack = json!({"id": "ack", "method": "rpc.ack", "params": {"session": session, "ack": 1}});
    let answer = attached.ask(&ack, REPLY)?;
    ensure!(
        answer["result"] == true,
        "expected true from rpc.ack, got {answer}"
    );
    drop(leaving);
    thread::sleep(AWAY);
    for sending in &mut sendings {
        // The first session keeps its connection. A held-back request may come on any.
        sending.again = Wire::connect(address)?.ask(&sending.request, REPLY)?;
        sending.effects = effects(address, sending.case.key)?;
    }
    server.stop()?;
    Ok(Late { sendings })
}

fn open(wire: &mut Wire) -> Result<String> {
    let hello = json!({"id": "hello", "method": "rpc.hello", "params": {}});
    let answer = wire.ask(&hello, REPLY)?;
    let session = answer["result"]["session"].as_str();
    let session =
        session.with_context(|| format!("expected a session from rpc.hello, got {answer}"))?;
    Ok(session.to_owned())
}

/// The UUID (version 8) of a session's call: its 15 digits, then the call's number.
fn id(session: &str, number: u64) -> String {
    let (high, rest) = session.split_at(8);
    let (middle, low) = rest.split_at(4);
    format!("{high}-{middle}-8{low}-8000-{number:012x}")
}

fn send(wire: &mut Wire, case: &'static Case, id: &str) -> Result<Sending> {
    let params = json!({"key": case.key, "delta": 1});
    let request = json!({"id": id, "method": "inc", "params": params});
    let first = wire.ask(&request, REPLY)?;
    Ok(Sending {
        case,
        request,
        first,
        again: Value::Null,
        effects: 0,
    })
}

fn effects(address: SocketAddr, key: &str) -> Result<i64> {
    let id = format!("get-{key}");
    let get = json!({"id": id, "method": "get", "params": {"key": key}});
    let answer = Wire::connect(address)?.ask(&get, REPLY)?;
    wire::value_of(answer.to_string().as_bytes(), &id)
}

impl Late {
    pub(crate) fn problems(&self) -> Vec<String> {
        let wrong = self.sendings.iter().filter(|sending| !sending.is_right());
        let wrong = wrong.filter(|sending| sending.case.expected != Expected::Doubled);
        wrong
            .map(|sending| {
                format!(
                    "late retry, id {}: {} effects, and the reply {}",
                    sending.case.what, sending.effects, sending.again
                )
            })
            .collect()
    }

    pub(crate) fn surprise(&self) -> Option<String> {
        let plain = self
            .sendings
            .iter()
            .find(|sending| sending.case.expected == Expected::Doubled)?;
        (!plain.is_right()).then(|| "late retry, plain id: not doubled this time".to_owned())
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = [String; 5]> {
        self.sendings.iter().map(|sending| {
            [
                sending.case.what.to_owned(),
                sending.verdict().to_owned(),
                summary(&sending.first),
                summary(&sending.again),
                sending.effects.to_string(),
            ]
        })
    }

    pub(crate) fn json(&self) -> Value {
        let sendings = self.sendings.iter().map(|sending| {
            json!({
                "id": sending.case.what,
                "request": sending.request,
                "first": sending.first,
                "again": sending.again,
                "effects": sending.effects,
                "verdict": sending.verdict(),
            })
        });
        sendings.collect()
    }
}

impl Sending {
    fn is_right(&self) -> bool {
        let result = &self.again["result"];
        match self.case.expected {
            Expected::Doubled => self.effects == 2,
            Expected::Recorded => self.effects == 1 && *result == self.first["result"],
            Expected::Refused(code) => self.effects == 1 && self.again["error"]["code"] == code,
        }
    }

    fn verdict(&self) -> &'static str {
        match (self.effects, self.is_right()) {
            (2.., _) => "doubled",
            (_, true) => "exact",
            (_, false) => "wrong",
        }
    }
}

/// A reply, in a few words.
fn summary(reply: &Value) -> String {
    let recorded = match reply["redial"]["replayed"].as_bool() {
        Some(true) => ", from the record",
        _ => "",
    };
    match (
        reply["result"]["value"].as_i64(),
        reply["error"]["code"].as_i64(),
    ) {
        (Some(value), _) => format!("value {value}{recorded}"),
        (None, Some(code)) => {
            let name = match code {
                -32004 => "unknown",
                -32007 => "stale",
                _ => "error",
            };
            format!("{name} ({code})")
        }
        (None, None) => reply.to_string(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn sending(case: &'static Case, again: Value, effects: i64) -> Sending {
        Sending {
            case,
            request: json!({}),
            first: json!({"result": {"value": 1}}),
            again,
            effects,
        }
    }

    /// Three of them, as they should be.
    pub(crate) fn late() -> Late {
        let recorded = json!({"result": {"value": 1}, "redial": {"replayed": true}});
        let stale = json!({"error": {"code": -32007}});
        Late {
            sendings: vec![
                sending(&KEPT, recorded, 1),
                sending(&ACKNOWLEDGED, stale, 1),
                sending(&PLAIN, json!({"result": {"value": 2}}), 2),
            ],
        }
    }

    #[test]
    fn a_calls_id_is_its_sessions_digits_and_its_number() {
        let id = id("123456789abcdef", 7);
        assert_eq!(id, "12345678-9abc-8def-8000-000000000007");
    }

    #[test]
    fn a_second_effect_or_another_answer_is_a_problem_with_a_session_only() {
        assert_eq!(late().problems(), [""; 0]);
        assert_eq!(late().surprise(), None);
        let stale = json!({"error": {"code": -32007}});
        let value = json!({"result": {"value": 2}});
        for wrong in [
            sending(&KEPT, value.clone(), 2),
            sending(&KEPT, stale.clone(), 1),
            sending(&ACKNOWLEDGED, value, 2),
            sending(&LEFT, stale, 1),
        ] {
            let verdict = wrong.verdict();
            assert_ne!(verdict, "exact");
            let late = Late {
                sendings: vec![wrong],
            };
            assert_eq!(late.problems().len(), 1, "{verdict}");
        }
    }

    #[test]
    fn replies_are_shown_in_a_few_words() {
        let rows: Vec<_> = late().rows().collect();
        assert_eq!(rows[0][3], "value 1, from the record");
        assert_eq!(rows[1][3], "stale (-32007)");
        assert_eq!(rows[2][1..], ["doubled", "value 1", "value 2", "2"]);
    }
}
