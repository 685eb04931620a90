//! The oracle finds each deliberate bug within some hundred seeds, by the rule that it breaks. Without a
//! bug the same server passes (`seeds.rs`).

use redial_sim::{Bug, Subject, judge, run, trace};

const SEEDS: u64 = 200;

/// The same for a bug that needs a rare world: a server that stands still for longer than it keeps plain
/// ids, while a retry is on its way.
const MORE_SEEDS: u64 = 1000;

/// After how many seeds the bug is found at all, and after how many by this rule.
fn found(bug: Bug, rule: &str) -> Option<(u64, u64)> {
    let mut first = None;
    for seed in 1..=seeds(bug) {
        let run = run(seed, Subject::Buggy(bug));
        let violations = judge(&run);
        if first.is_none()
            && let Some(violation) = violations.first()
        {
            let trace = trace(&run, violation.tag?);
            assert!(
                trace.lines().count() > 3,
                "seed {seed}: no trace of {violation}:\n{trace}"
            );
            first = Some(seed);
        }
        if violations.iter().any(|violation| violation.rule == rule) {
            return Some((first?, seed));
        }
    }
    None
}

fn seeds(bug: Bug) -> u64 {
    match bug {
        Bug::WallClockTtl => MORE_SEEDS,
        _ => SEEDS,
    }
}

/// The rule that must find the bug.
fn rule(bug: Bug) -> &'static str {
    match bug {
        Bug::EarlyAck => "acknowledged means delivered",
        Bug::NoFingerprint => "a reply is about what was asked",
        Bug::Unmarked => "not executed means no effect",
        Bug::BrokenMeansNotExecuted => "not executed means no effect",
        Bug::RefusalForgotten => "not executed means no effect",
        Bug::NeverNotFenced => "never means no effect",
        Bug::ReplyMadeAnew => "one id has one outcome",
        Bug::OldValues => "linearizable",
        Bug::LostUpdates => "additions add up",
        Bug::MessageMeansReply => "ok means exactly one effect",
        Bug::SilenceMeansPlain => "a client with sessions stays one",
        Bug::Overdue => "every call ends by its deadline",
        Bug::ReplyBeforeCommit => "ok means exactly one effect",
        Bug::AckBeforeDelivery => "stale means acknowledged",
        Bug::SessionForgotten => "a session survives a restart",
        Bug::OutcomeForgotten => "a transaction is never interrupted",
        Bug::DurableDoubted => "unknown only when nothing better can be known",
        Bug::EpochForgotten => "one id has one outcome",
        Bug::UnansweredMeansFailed => "not executed means no effect",
        Bug::TableIgnored
        | Bug::RetryElsewhere
        | Bug::HedgeElsewhere
        | Bug::LostElsewhere
        | Bug::GoawayMeansUnread => "a call is executed by one table alone",
        Bug::ListIgnored => "a server within reach takes calls",
        Bug::LastTooEarly => "what the last word leaves out never runs",
        _ => "at most one effect",
    }
}

#[test]
fn every_bug_is_found_by_its_own_rule() {
    for bug in Bug::ALL {
        let (name, rule) = (bug.name(), rule(bug));
        let Some((first, seed)) = found(bug, rule) else {
            panic!("{name}: not found as {rule:?} in {} seeds", seeds(bug));
        };
        println!("{name:<26} found after {first:>3} seeds, as {rule:?} after {seed:>3}");
    }
}
