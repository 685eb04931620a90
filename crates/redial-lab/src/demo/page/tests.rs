//! The page of a made-up demo.

use std::{collections::HashSet, time::Duration};

use super::*;
use crate::{
    demo::{
        chapters::{self, Chapters, hedging::POLICIES},
        duplicate::Duplicate,
        scenario::Scenario,
    },
    harness::{
        events::{self, Attempt, AttemptEnd, Call, Event, Summary},
        mode::Mode,
    },
    memory::measure::{Curve, MemorySample},
};

/// Two attempts: the reply to the first is lost, the second ends the call. Naively each has an
/// id of its own and is executed; in the scenario "slow" both come to nothing.
fn run(scenario: &'static Scenario, mode: Mode) -> Run {
    let slow = scenario.name == "slow" && mode == Mode::Naive;
    let (ids, numbers) = match mode {
        Mode::Session => (["a", "a"], [1, 2]),
        _ => (["a", "b"], [1, 1]),
    };
    let attempt = |index: usize, sent_us, end| Attempt {
        id: ids[index].to_owned(),
        attempt: numbers[index],
        sent_us,
        end_us: sent_us + 5000,
        end,
    };
    let last = if slow {
        AttemptEnd::Timeout
    } else {
        AttemptEnd::Reply
    };
    let call = Call {
        number: 0,
        outcome: if slow {
            events::Outcome::Unknown
        } else {
            events::Outcome::Ok
        },
        start_us: 0,
        end_us: 12_000,
        value: None,
        error: None,
        attempts: vec![attempt(0, 0, AttemptEnd::Timeout), attempt(1, 7000, last)],
    };
    let verdict = |index: usize, t_us, event| events::ServerEvent {
        t_us,
        event,
        id: Some(ids[index].to_owned()),
        attempt: numbers[index],
    };
    let again = if mode == Mode::Session {
        Event::Replayed
    } else {
        Event::Started
    };
    let summary = Summary {
        calls: 1,
        ok: u64::from(!slow),
        unknown: u64::from(slow),
        attempts_total: 2,
        attempts_histogram: [(2, 1)].into(),
        ..Summary::default()
    };
    let effects = if mode == Mode::Session { 1 } else { 2 };
    Run {
        scenario,
        mode,
        verdict: EffectCheck::of(&summary, effects),
        summary,
        effects,
        calls: vec![call],
        server_events: vec![
            verdict(0, 100, Event::Started),
            verdict(0, 200, Event::Finished),
            verdict(0, 300, Event::ReplyDropped),
            verdict(1, 7100, again),
            verdict(1, 7200, Event::Replied),
        ],
        commands: [
            "counter-server <>".to_owned(),
            "counter-client &".to_owned(),
        ],
    }
}

fn results() -> DemoResults {
    let runs = scenario::ALL
        .iter()
        .flat_map(|scenario| scenario::MODES.map(|mode| run(scenario, mode)));
    DemoResults {
        seed: 7,
        calls: 1,
        duplicate: Duplicate {
            requests: vec!["{\"id\":\"a\"}".to_owned(); 3],
            replies: vec!["<reply>".to_owned(); 3],
            verdicts: vec![Some(Event::Started), Some(Event::Joined), None],
            effects: 1,
        },
        runs: runs.collect(),
        chapters: chapters(),
        took: Duration::from_secs(1),
    }
}

/// The same with figures as they are.
pub(in crate::demo) fn sample() -> DemoResults {
    let mut results = results();
    let call = results.runs[0].calls[0].clone();
    for (index, run) in results.runs.iter_mut().enumerate() {
        let is_ok = !(run.scenario.name == "slow" && run.mode == Mode::Naive);
        let ok = if is_ok { 300 - index as u64 % 3 } else { 0 };
        run.summary = Summary {
            calls: 300,
            ok,
            unknown: 300 - ok,
            attempts_total: 450 + 80 * index as u64,
            attempts_histogram: [(1, 180), (2, 90), (3, 20), (17, 10)].into(),
            ..Summary::default()
        };
        run.effects = match run.mode {
            Mode::Session => 300,
            _ => 300 + 220 * (index as u64 / 2),
        };
        run.verdict = EffectCheck::of(&run.summary, run.effects);
        let calls = (0..if is_ok { 300 } else { 0 }).map(|n: u64| Call {
            end_us: 3000 + n * n * 9,
            ..call.clone()
        });
        run.calls.extend(calls);
    }
    results
}

fn chapters() -> Chapters {
    let curve = |ids, rss_kib| Curve {
        ids,
        summary: Summary::default(),
        samples: vec![MemorySample {
            at_s: 1.0,
            calls: 1,
            rss_kib,
        }],
    };
    let [_, session, _, naive] = &chapters::restart::WAYS;
    let restarted = |way, doubled| chapters::restart::tests::restarted(way, doubled);
    let served = |ids, doubled| chapters::servers::tests::served(ids, doubled);
    Chapters {
        late: chapters::late::tests::late(),
        restarted: vec![restarted(session, 0), restarted(naive, 17)],
        served: vec![served(Mode::Session, 0), served(Mode::Naive, 19)],
        hedged: POLICIES
            .iter()
            .map(|policy| chapters::hedging::tests::hedged(policy, 4))
            .collect(),
        memory: vec![curve(Mode::Plain, 2048), curve(Mode::Session, 1024)],
    }
}

#[test]
fn the_page_is_whole() {
    let results = results();
    assert_eq!(results.problems(), [""; 0]);
    let page = html(&results);
    for needle in ["NaN", "inf\"", "http", "<reply>", "<script"] {
        assert!(!page.contains(needle), "{needle}");
    }
    for needle in [
        "7 calls through every kind of trouble: none counted twice",
        "7 effects too many",
        "A lost reply, with a session",
        "A lost reply, naively",
        "and executed again, time 2",
        "naive: no call was ever ok",
        "left no trace",
        "none twice, 10 unknown",
        "17 twice",
        "3,019",
        "stale (-32007)",
        "second request: after the p95",
        "with plain ids: 2.0 MiB",
        "demo --seed 7 --calls 1",
        "counter-server &lt;&gt;",
    ] {
        assert!(page.contains(needle), "{needle}");
    }
    for tag in ["svg", "figure", "section", "table", "text"] {
        let opened =
            page.matches(&format!("<{tag} ")).count() + page.matches(&format!("<{tag}>")).count();
        assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{tag}");
    }
}

#[test]
fn what_is_missing_for_a_part_of_the_page_is_said_with_how_to_get_it() {
    let mut results = results();
    results.chapters.served.clear();
    assert_eq!(results.problems(), [""; 0]);
    let page = html(&results);
    assert!(page.contains("skipped: no PostgreSQL"), "{page}");
    assert!(page.contains("apt-get install postgresql"), "{page}");
    assert!(results.chapters.text().contains("skipped: no PostgreSQL"));
}

#[test]
fn every_id_is_there_once() {
    let page = html(&results());
    let ids: Vec<_> = page
        .split(" id=\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .collect();
    let distinct: HashSet<_> = ids.iter().collect();
    assert!(ids.len() > 30, "{}", ids.len());
    assert_eq!(ids.len(), distinct.len());
}

#[test]
fn a_broken_promise_is_said_on_top() {
    let mut results = results();
    results.duplicate.effects = 2;
    results.runs[2].verdict = EffectCheck::Lost(1);
    let page = html(&results);
    assert!(page.contains("<p class=\"problem\">one id, sent three times, had 2 effects</p>"));
    assert!(page.contains("<p class=\"problem\">no faults, with a session: 1 lost</p>"));
}
