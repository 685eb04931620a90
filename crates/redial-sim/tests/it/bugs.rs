//! The oracle is worth what it finds: each deliberate bug is found within 200 seeds, by a rule
//! that is about it. (What passes without a bug is in `seeds.rs`: the same server, and the real
//! one.)

use redial_sim::{Bug, Subject, judge, run, story};

const SEEDS: u64 = 200;

/// After how many seeds, and by which rules.
fn found(bug: Bug) -> Option<(u64, Vec<&'static str>)> {
    (1..=SEEDS).find_map(|seed| {
        let run = run(seed, Subject::Buggy(bug));
        let violations = judge(&run);
        let first = violations.first()?;
        let story = story(&run, first.tag?);
        assert!(
            story.lines().count() > 3,
            "seed {seed}: no story for {first}:\n{story}"
        );
        let mut rules: Vec<_> = violations.iter().map(|violation| violation.rule).collect();
        rules.sort_unstable();
        rules.dedup();
        Some((seed, rules))
    })
}

/// One of the rules that the bug breaks.
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
fn each_rule_finds_the_bug_that_it_is_for() {
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
