//! The real client and server keep every promise of GUARANTEES.md, and so does the model server:
//! otherwise finding its bugs would prove nothing.

use redial_sim::{Subject, judge, run, trace};

fn passes(seeds: std::ops::RangeInclusive<u64>, subject: Subject) {
    for seed in seeds {
        let run = run(seed, subject);
        if let Some(violation) = judge(&run).first() {
            let trace = violation.tag.map(|tag| trace(&run, tag));
            panic!("seed {seed}: {violation}\n{}", trace.unwrap_or_default());
        }
    }
}

#[test]
fn the_real_client_and_server_pass() {
    passes(1..=60, Subject::Real);
}

#[test]
fn the_model_without_a_bug_passes() {
    passes(1..=60, Subject::Model);
}

#[test]
fn a_server_with_a_store_keeps_its_promises_over_all_lives() {
    passes(1..=60, Subject::Stored);
    // An attempt that waited for room once heard *never* before that was durable.
    passes(5565..=5565, Subject::Stored);
}
