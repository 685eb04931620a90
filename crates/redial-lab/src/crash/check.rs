//! What the ledgers of all lives of a server say about what its callers heard. It shares no code with
//! server or client.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::harness::events::{Call, Outcome};

/// The lives, counted from 1, in which each key was counted up, one for each effect.
#[derive(Default)]
pub(crate) struct Effects {
    lives: HashMap<String, Vec<usize>>,
    count: u64,
}

#[derive(Deserialize)]
struct Entry {
    key: String,
    delta: i64,
}

impl Effects {
    /// Adds the ledger of one more life.
    pub(super) fn add(&mut self, life: usize, text: &str) -> Result<()> {
        // The kill may have come in the middle of a write. Then the counter had not changed yet, and
        // no caller had heard of it.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        for line in whole.lines() {
            let entry: Entry = serde_json::from_str(line).with_context(|| line.to_owned())?;
            ensure!(
                entry.delta == 1,
                "an effect of {} under {}",
                entry.delta,
                entry.key
            );
            self.lives.entry(entry.key).or_default().push(life);
            self.count += 1;
        }
        Ok(())
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }
}

/// A broken promise.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// More than one effect, in these lives.
    Doubled(String, Vec<usize>),
    /// The caller heard ok, and there is no effect.
    Lost(String),
    /// The caller heard that it was not executed, and there is an effect, in this life.
    Ghost(String, usize),
    /// The caller heard another value than one effect gives.
    Value(String, Option<i64>),
    /// An effect of a call that was never made.
    Stray(String),
    /// The call had not ended when it had to; it took this many microseconds.
    Late(String, u64),
    /// The call never ended.
    Missing(String),
    /// The call ended more than once.
    Again(String),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Doubled(key, lives) => {
                write!(f, "{key}: {} effects, in lives {lives:?}", lives.len())
            }
            Self::Lost(key) => write!(f, "{key}: ok, and no effect"),
            Self::Ghost(key, life) => {
                write!(f, "{key}: not executed, and an effect in life {life}")
            }
            Self::Value(key, Some(value)) => write!(f, "{key}: ok with {value} instead of 1"),
            Self::Value(key, None) => write!(f, "{key}: ok without a value"),
            Self::Stray(key) => write!(f, "{key}: an effect of no call"),
            Self::Late(key, us) => write!(f, "{key}: took {:.3} s", *us as f64 / 1e6),
            Self::Missing(key) => write!(f, "{key}: never ended"),
            Self::Again(key) => write!(f, "{key}: ended more than once"),
        }
    }
}

/// What one client wrote down.
#[derive(Clone)]
pub(crate) struct History {
    /// Call `n` counted under `PREFIX-n`.
    pub(crate) prefix: String,
    /// Without their attempts: minutes of them would not fit into memory.
    pub(crate) calls: Vec<Call>,
    pub(crate) end: ClientEnd,
    /// No call may have taken longer.
    pub(crate) limit: Duration,
    /// How many of the calls were sent more than once.
    pub(crate) retried: u64,
}

impl History {
    pub(crate) fn new(
        prefix: String,
        mut calls: Vec<Call>,
        end: ClientEnd,
        limit: Duration,
    ) -> Self {
        let is_retried = |call: &&Call| call.attempts.len() > 1;
        let retried = calls.iter().filter(is_retried).count() as u64;
        for call in &mut calls {
            call.attempts = Vec::new();
        }
        Self {
            prefix,
            calls,
            end,
            limit,
            retried,
        }
    }
}

/// How a client ended, which decides what is known of the calls that it did not write down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientEnd {
    /// It had this many to make, so none may be missing.
    Planned(u64),
    /// It ended its calls and stopped, so there were no others.
    Stopped,
    /// It was killed: there may have been others, whose callers heard nothing.
    Killed,
}

/// Compares what each client wrote down with the effects.
pub(crate) fn violations(histories: &[History], mut effects: Effects) -> Vec<Violation> {
    let mut found = Vec::new();
    for history in histories {
        found.extend(recorded(history, &mut effects));
    }
    let ends = histories
        .iter()
        .map(|history| (&*history.prefix, history.end));
    found.extend(unrecorded(&ends.collect(), effects));
    found
}

/// What is wrong about the calls that a client wrote down, or had to; takes their effects away.
fn recorded(history: &History, effects: &mut Effects) -> Vec<Violation> {
    let mut ended: BTreeMap<u64, Vec<&Call>> = BTreeMap::new();
    for call in &history.calls {
        ended.entry(call.number).or_default().push(call);
    }
    if let ClientEnd::Planned(calls) = history.end {
        for number in 0..calls {
            ended.entry(number).or_default();
        }
    }
    let mut found = Vec::new();
    for (number, calls) in ended {
        let key = format!("{}-{number}", history.prefix);
        let lives = effects.lives.remove(&key).unwrap_or_default();
        match calls[..] {
            [] => found.push(Violation::Missing(key)),
            [call] => found.extend(judge(call, key, lives, history.limit)),
            _ => found.push(Violation::Again(key)),
        }
    }
    found
}

/// What is wrong about the effects of calls that no client wrote down.
fn unrecorded(ends: &HashMap<&str, ClientEnd>, effects: Effects) -> Vec<Violation> {
    let mut rest: Vec<_> = effects.lives.into_iter().collect();
    rest.sort();
    let judged = rest.into_iter().map(|(key, lives)| {
        let client = key.rsplit_once('-').map_or(&*key, |(prefix, _)| prefix);
        let was_killed = ends.get(client) == Some(&ClientEnd::Killed);
        match lives[..] {
            [_, _, ..] if was_killed => Some(Violation::Doubled(key, lives)),
            _ if was_killed => None,
            _ => Some(Violation::Stray(key)),
        }
    });
    judged.flatten().collect()
}

/// What is wrong about one call.
fn judge(call: &Call, key: String, lives: Vec<usize>, limit: Duration) -> Option<Violation> {
    let took = call.took_us();
    match (call.outcome, &lives[..]) {
        (_, [_, _, ..]) => Some(Violation::Doubled(key, lives)),
        (Outcome::Ok, []) => Some(Violation::Lost(key)),
        (Outcome::NotExecuted, [life]) => Some(Violation::Ghost(key, *life)),
        (Outcome::Ok, [_]) if call.value != Some(1) => Some(Violation::Value(key, call.value)),
        _ if u128::from(took) > limit.as_micros() => Some(Violation::Late(key, took)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_millis(1);

    fn key(client: usize, number: u64) -> String {
        format!("client{client}-{number}")
    }

    fn history(client: usize, calls: Vec<Call>, end: ClientEnd) -> History {
        History::new(format!("client{client}"), calls, end, LIMIT)
    }

    fn call(number: u64, outcome: Outcome) -> Call {
        Call {
            number,
            outcome,
            start_us: 5,
            end_us: 1005,
            value: (outcome == Outcome::Ok).then_some(1),
            attempts: Vec::new(),
        }
    }

    /// The ledgers of two lives, each effect as client and call.
    fn effects(lives: [&[(usize, u64)]; 2]) -> Effects {
        let mut effects = Effects::default();
        for (index, entries) in lives.into_iter().enumerate() {
            let lines = entries.iter().map(|&(client, number)| {
                format!(
                    "{{\"key\":\"{}\",\"delta\":1,\"value\":1}}\n",
                    key(client, number)
                )
            });
            let text: String = lines.collect();
            effects.add(index + 1, &text).unwrap();
        }
        effects
    }

    fn one_client(calls: Vec<Call>, lives: [&[(usize, u64)]; 2]) -> Vec<Violation> {
        let end = ClientEnd::Planned(calls.len() as u64);
        violations(&[history(0, calls, end)], effects(lives))
    }

    #[test]
    fn nothing_is_wrong_where_nothing_is() {
        let calls = vec![
            call(3, Outcome::Failed),
            call(0, Outcome::Ok),
            call(1, Outcome::NotExecuted),
            call(2, Outcome::Unknown),
            call(4, Outcome::Unknown),
            call(5, Outcome::Ok),
        ];
        assert_eq!(one_client(calls, [&[(0, 0), (0, 2)], &[(0, 5)]]), []);
        let both =
            [0, 1].map(|client| history(client, vec![call(0, Outcome::Ok)], ClientEnd::Planned(1)));
        assert_eq!(violations(&both, effects([&[(1, 0)], &[(0, 0)]])), []);
    }

    #[test]
    fn a_doubled_effect_is_caught_whatever_the_caller_heard() {
        for outcome in [
            Outcome::Ok,
            Outcome::Unknown,
            Outcome::Failed,
            Outcome::NotExecuted,
        ] {
            let found = one_client(vec![call(0, outcome)], [&[(0, 0)], &[(0, 0)]]);
            assert_eq!(
                found,
                [Violation::Doubled("client0-0".to_owned(), vec![1, 2])]
            );
            let found = one_client(vec![call(0, outcome)], [&[], &[(0, 0), (0, 0)]]);
            assert_eq!(
                found,
                [Violation::Doubled("client0-0".to_owned(), vec![2, 2])]
            );
        }
    }

    #[test]
    fn a_lost_effect_is_caught() {
        let found = one_client(
            vec![call(0, Outcome::Ok), call(1, Outcome::Ok)],
            [&[(0, 1)], &[]],
        );
        assert_eq!(found, [Violation::Lost("client0-0".to_owned())]);
        assert_eq!(found[0].to_string(), "client0-0: ok, and no effect");
    }

    #[test]
    fn a_ghost_effect_is_caught() {
        let found = one_client(vec![call(0, Outcome::NotExecuted)], [&[], &[(0, 0)]]);
        assert_eq!(found, [Violation::Ghost("client0-0".to_owned(), 2)]);
        // Of another client, or of a number that was never called.
        let found = one_client(vec![call(0, Outcome::Ok)], [&[(0, 0), (1, 0)], &[(0, 1)]]);
        let strays = ["client0-1", "client1-0"].map(|key| Violation::Stray(key.to_owned()));
        assert_eq!(found, strays);
    }

    #[test]
    fn a_call_that_is_late_or_missing_or_ended_twice_or_misinformed_is_caught() {
        let mut late = call(0, Outcome::Unknown);
        late.end_us += 1;
        let mut wrong = call(1, Outcome::Ok);
        wrong.value = Some(2);
        let calls = vec![late, wrong, call(2, Outcome::Ok), call(2, Outcome::Ok)];
        let found = one_client(calls, [&[(0, 1), (0, 2)], &[]]);
        let key = |number| key(0, number);
        assert_eq!(
            found,
            [
                Violation::Late(key(0), 1001),
                Violation::Value(key(1), Some(2)),
                Violation::Again(key(2)),
                Violation::Missing(key(3)),
            ]
        );
    }

    /// The history of client 0, judged beside one that was stopped without a call.
    fn ended(end: ClientEnd, calls: &[Call], lives: [&[(usize, u64)]; 2]) -> Vec<Violation> {
        let histories = [
            history(0, calls.to_vec(), end),
            history(1, Vec::new(), ClientEnd::Stopped),
        ];
        violations(&histories, effects(lives))
    }

    #[test]
    fn of_a_killed_clients_unrecorded_calls_only_the_second_effect_is_wrong() {
        let calls = [call(0, Outcome::Ok), call(7, Outcome::Ok)];
        let lives = [&[(0, 0), (0, 1)][..], &[(0, 7), (0, 3)]];
        assert_eq!(ended(ClientEnd::Killed, &calls, lives), []);
        let strays = [1, 3].map(|number| Violation::Stray(key(0, number)));
        assert_eq!(ended(ClientEnd::Stopped, &calls, lives), strays);
        assert_eq!(
            ended(ClientEnd::Killed, &calls, [&[(0, 0), (0, 1)], &[(0, 1)]]),
            [
                Violation::Lost(key(0, 7)),
                Violation::Doubled(key(0, 1), vec![1, 2])
            ]
        );
        let other = [&[(1, 0)][..], &[]];
        assert_eq!(
            ended(ClientEnd::Killed, &[], other),
            [Violation::Stray(key(1, 0))]
        );
    }

    #[test]
    fn a_line_that_the_kill_cut_off_is_no_effect_and_a_bad_one_is_named() {
        let mut effects = Effects::default();
        let whole = r#"{"key":"a","delta":1,"value":1}"#;
        effects
            .add(1, &format!("{whole}\n{{\"key\":\"b\",\"del"))
            .unwrap();
        assert_eq!(effects.count(), 1);
        effects.add(2, "").unwrap();
        let error = effects.add(3, &format!("nonsense\n{whole}\n")).unwrap_err();
        assert!(error.to_string().contains("nonsense"), "{error}");
        let error = effects.add(3, &whole.replace("\"delta\":1", "\"delta\":2"));
        assert!(error.is_ok(), "the last line is not whole");
        let error = effects.add(
            3,
            &format!("{}\n", whole.replace("\"delta\":1", "\"delta\":2")),
        );
        assert!(error.unwrap_err().to_string().contains("an effect of 2"));
    }
}
