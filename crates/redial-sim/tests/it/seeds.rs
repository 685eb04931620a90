//! The real client and the real server keep every promise, and so does the model server, without
//! which the bugs would prove nothing.

use redial_sim::{Subject, judge, run, story};

fn passes(seeds: std::ops::RangeInclusive<u64>, subject: Subject) {
    for seed in seeds {
        let run = run(seed, subject);
        if let Some(violation) = judge(&run).first() {
            let story = violation.tag.map(|tag| story(&run, tag));
            panic!("seed {seed}: {violation}\n{}", story.unwrap_or_default());
        }
    }
}

#[test]
fn the_real_ones() {
    passes(1..=60, Subject::Real);
}

#[test]
fn the_model_without_a_bug() {
    passes(1..=60, Subject::Model);
}
