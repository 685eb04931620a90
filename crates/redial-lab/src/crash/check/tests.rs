//! Every kind of broken promise is found in a history that has it, and a history that keeps them all passes.

use super::*;
use crate::harness::events::{Attempt, AttemptEnd};

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
        error: None,
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

#[test]
fn a_plain_id_is_known_to_one_life_of_the_server_and_no_longer() {
    let judged = |lives| {
        let calls = vec![call(0, Outcome::Ok), call(1, Outcome::NotExecuted)];
        let plain = history(0, calls, ClientEnd::Planned(2)).under(Promise::Plain);
        violations(&[plain], effects(lives))
    };
    assert_eq!(judged([&[(0, 0)], &[(0, 0), (0, 1)]]), []);
    let doubled = Violation::Doubled(key(0, 0), vec![1, 2, 2]);
    assert_eq!(judged([&[(0, 0)], &[(0, 0), (0, 0)]]), [doubled]);
    assert_eq!(judged([&[], &[]]), [Violation::Lost(key(0, 0))]);
    let killed = history(0, Vec::new(), ClientEnd::Killed).under(Promise::Plain);
    let found = |lives| violations(std::slice::from_ref(&killed), effects(lives));
    assert_eq!(found([&[(0, 7)], &[(0, 7)]]), []);
    let doubled = Violation::Doubled(key(0, 7), vec![2, 2]);
    assert_eq!(found([&[], &[(0, 7), (0, 7)]]), [doubled]);
}

#[test]
fn an_attempt_outside_the_session_is_caught() {
    let id = |id: &str| Attempt {
        id: id.to_owned(),
        attempt: 1,
        sent_us: 5,
        end_us: 6,
        end: AttemptEnd::Reply,
    };
    let mut ok = call(0, Outcome::Ok);
    ok.attempts = vec![
        id("0f2d5a1c-3b4e-8c7d-9a0b-1c2d3e4f5a6b"),
        id("0f2d5a1c-3b4e-4c7d-9a0b-1c2d3e4f5a6b"),
        id("00000000-0000-0000-0000-000000000000"),
    ];
    let history = history(0, vec![ok], ClientEnd::Planned(1));
    let judged = |promise| {
        let histories = [history.clone().under(promise)];
        violations(&histories, effects([&[(0, 0)], &[]]))
    };
    assert_eq!(judged(Promise::Exact), []);
    let left = Violation::LeftSession("client0".to_owned(), 1);
    assert_eq!(judged(Promise::Session), [left]);
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

#[test]
fn a_call_that_is_not_settled_needs_an_excuse() {
    let mut interrupted = call(0, Outcome::Unknown);
    interrupted.error = Some("the server answered -32008 Interrupted".to_owned());
    let mut lost = call(1, Outcome::Unknown);
    lost.error = Some("the connection was lost".to_owned());
    let refused = call(2, Outcome::NotExecuted);
    let calls = vec![interrupted, lost, refused, call(3, Outcome::Failed)];
    let judged = |excuse| {
        let history = history(0, calls.clone(), ClientEnd::Planned(4)).excused_by(excuse);
        let found = violations(&[history], effects([&[], &[]]));
        found.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let lost = "client0-1: not settled: the connection was lost";
    let refused = "client0-2: not settled: ";
    let interrupted = "client0-0: not settled: the server answered -32008 Interrupted";
    assert_eq!(judged(Excuse::Any), [""; 0]);
    let (took, longer) = (Duration::from_millis(1), Duration::from_millis(2));
    assert_eq!(judged(Excuse::Deadline(took)), [""; 0]);
    assert_eq!(
        judged(Excuse::Deadline(longer)),
        [interrupted, lost, refused]
    );
    assert_eq!(judged(Excuse::Interrupted(longer)), [lost, refused]);
}
