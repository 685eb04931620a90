//! The forced duplicate: one call id sent three times, on raw frames, on three connections.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result};
use serde_json::json;

use super::scenario::KEY;
use crate::harness::{
    events::{self, Event},
    programs::Programs,
    wire::{self, Wire},
};

/// Long enough for the second sending to arrive while the first is executed.
const DELAY_MS: u64 = 60;
/// How long each reply is waited for.
const REPLY: Duration = Duration::from_secs(5);

/// What was sent, and what came back.
pub(crate) struct Duplicate {
    /// The three requests, which differ in their attempt's number alone.
    pub(crate) requests: Vec<String>,
    pub(crate) replies: Vec<String>,
    /// What the server did with each, as far as its log shows.
    pub(crate) verdicts: Vec<Option<Event>>,
    /// The counter's value in the end.
    pub(crate) effects: i64,
}

impl Duplicate {
    /// What is wrong about it, if anything.
    pub(crate) fn problem(&self) -> Option<String> {
        if self.effects != 1 {
            return Some(format!(
                "one id, sent three times, had {} effects",
                self.effects
            ));
        }
        if self.replies.windows(2).any(|pair| pair[0] != pair[1]) {
            return Some(format!(
                "the replies to one id differ: {}",
                self.replies.join(" | ")
            ));
        }
        None
    }
}

/// Sends the same call, again while it is executed, and when both are answered a third time.
pub(crate) fn force(programs: &Programs, folder: &Path, seed: u64) -> Result<Duplicate> {
    let file = folder.join("duplicate-server.jsonl");
    let flags = [
        "--delay-ms",
        &DELAY_MS.to_string(),
        "--events",
        &file.display().to_string(),
    ]
    .map(str::to_owned);
    let server = programs.server(&flags)?;
    let id = call_id(seed);
    let requests: Vec<_> = (1..=3).map(|attempt| request(&id, attempt)).collect();
    let mut first = Wire::connect(server.address)?;
    let mut second = Wire::connect(server.address)?;
    first.send(requests[0].as_bytes())?;
    // A ping passes every queue, but not what came before it on its connection: when it is
    // answered, the server has accepted the first request.
    first.send(br#"{"id":"accepted?","method":"rpc.ping"}"#)?;
    first.receive(REPLY)?;
    second.send(requests[1].as_bytes())?;
    let mut replies = vec![first.receive(REPLY)?, second.receive(REPLY)?];
    let mut third = Wire::connect(server.address)?;
    third.send(requests[2].as_bytes())?;
    replies.push(third.receive(REPLY)?);
    let settle = Duration::from_millis(DELAY_MS + 40);
    let effects = wire::settled_value(server.address, KEY, settle)?;
    server.stop()?;
    let events = events::read(&file)?;
    Ok(Duplicate {
        requests,
        replies: replies
            .into_iter()
            .map(|bytes| String::from_utf8(bytes).context("a reply that is not UTF-8"))
            .collect::<Result<_>>()?,
        verdicts: (1..=3)
            .map(|attempt| verdict(&events, &id, attempt))
            .collect(),
        effects,
    })
}

/// An attempt of the call, as JSON in the notebook's dialect.
fn request(id: &str, attempt: u32) -> String {
    let redial = match attempt {
        1 => String::new(),
        _ => format!(r#","redial":{{"attempt":{attempt}}}"#),
    };
    let params = json!({"key": KEY, "delta": 1});
    format!(r#"{{"id":"{id}","method":"inc","params":{params}{redial}}}"#)
}

/// What the server did with one attempt.
fn verdict(events: &[events::ServerEvent], id: &str, attempt: u32) -> Option<Event> {
    events
        .iter()
        .filter(|event| event.id.as_deref() == Some(id) && event.attempt == attempt)
        .map(|event| event.event)
        .find(|event| matches!(event, Event::Started | Event::Joined | Event::Replayed))
}

/// A UUID of version 4 that is the same for the same seed (`SplitMix64`, Steele et al. 2014).
fn call_id(seed: u64) -> String {
    let mix = |step: u64| {
        let mut z = seed.wrapping_add(step.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let high = mix(1) & !0xf000 | 0x4000;
    let low = mix(2) >> 2 | 1 << 63;
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xffff,
        low >> 48,
        low & 0xffff_ffff_ffff
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_a_uuid_of_version_4_and_the_same_for_the_same_seed() {
        for seed in [0, 1, u64::MAX] {
            let id = call_id(seed);
            let lengths: Vec<_> = id.split('-').map(str::len).collect();
            assert_eq!(lengths, [8, 4, 4, 4, 12], "{id}");
            assert_eq!(&id[14..15], "4", "{id}");
            assert!(matches!(&id[19..20], "8" | "9" | "a" | "b"), "{id}");
            assert_eq!(id, call_id(seed));
        }
        assert_ne!(call_id(1), call_id(2));
    }

    #[test]
    fn an_attempt_says_its_number_from_the_second_on() {
        let first = request("a", 1);
        assert_eq!(
            first,
            r#"{"id":"a","method":"inc","params":{"delta":1,"key":"demo"}}"#
        );
        assert!(request("a", 2).ends_with(r#","redial":{"attempt":2}}"#));
        let event = |attempt, event| events::ServerEvent {
            t_us: 0,
            event,
            id: Some("a".to_owned()),
            attempt,
        };
        let log = [
            event(2, Event::Joined),
            event(1, Event::Accepted),
            event(1, Event::Started),
        ];
        assert_eq!(verdict(&log, "a", 1), Some(Event::Started));
        assert_eq!(verdict(&log, "a", 2), Some(Event::Joined));
        assert_eq!(verdict(&log, "a", 3), None);
    }

    #[test]
    fn two_effects_or_replies_that_differ_are_a_problem() {
        let good = || Duplicate {
            requests: Vec::new(),
            replies: vec!["a".to_owned(), "a".to_owned(), "a".to_owned()],
            verdicts: Vec::new(),
            effects: 1,
        };
        assert_eq!(good().problem(), None);
        let twice = Duplicate {
            effects: 2,
            ..good()
        };
        assert!(twice.problem().unwrap().contains("2 effects"));
        let differing = Duplicate {
            replies: vec!["a".to_owned(), "b".to_owned()],
            ..good()
        };
        assert!(differing.problem().unwrap().contains("a | b"));
    }
}
