//! The oracle finds each deliberate bug within 200 seeds, by a rule that the bug breaks. Without a
//! bug the same server passes (`seeds.rs`).

use redial_sim::{Bug, Subject, judge, run, trace};

const SEEDS: u64 = 200;

/// The first seed that fails, and the rules that it breaks.
fn found(bug: Bug) -> Option<(u64, Vec<&'static str>)> {
    (1..=SEEDS).find_map(|seed| {
        let run = run(seed, Subject::Buggy(bug));
        let violations = judge(&run);
        let first = violations.first()?;
        let trace = trace(&run, first.tag?);
        assert!(
            trace.lines().count() > 3,
            "seed {seed}: no trace of {first}:\n{trace}"
        );
        let mut rules: Vec<_> = violations.iter().map(|violation| violation.rule).collect();
        rules.sort_unstable();
        rules.dedup();
        Some((seed, rules))
    })
}

/// The rule that must find the bug.
fn rule(bug: Bug) -> &'static str {
    match bug {
        Bug::EarlyAck => "acknowledged means delivered",
        Bug::NoFingerprint => "a reply is about what was asked",
        Bug::BrokenMeansNotExecuted => "not executed means no effect",
        Bug::RefusalForgotten => "not executed means no effect",
        Bug::NeverNotFenced => "never means no effect",
        Bug::ReplyMadeAnew => "one id has one outcome",
        Bug::OldValues => "linearizable",
        Bug::LostUpdates => "additions add up",
        Bug::Overdue => "every call ends by its deadline",
        _ => "at most one effect",
    }
}

#[test]
fn every_bug_is_found_within_200_seeds_by_a_rule_that_it_breaks() {
    for bug in Bug::ALL {
        let Some((seeds, rules)) = found(bug) else {
            panic!("{}: not found in {SEEDS} seeds", bug.name());
        };
        println!(
            "{:<26} after {seeds:>3} seeds: {}",
            bug.name(),
            rules.join("; ")
        );
    }
}

#[test]
fn each_bug_is_found_by_its_own_rule() {
    for bug in Bug::ALL {
        let rules = (1..=SEEDS).map(|seed| judge(&run(seed, Subject::Buggy(bug))));
        let mut violations = rules.flatten();
        let expected = rule(bug);
        assert!(
            violations.any(|violation| violation.rule == expected),
            "{}: never found as {expected:?}",
            bug.name()
        );
    }
}
