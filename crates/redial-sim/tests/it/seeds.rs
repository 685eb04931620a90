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
    // A waker once ran while its process was frozen, and the server's clock counted what it saw.
    passes(17488..=17488, Subject::Real);
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

/// Kind of fault: a call goes to a server that knows nothing of its first attempt, or to none though one is
/// there, as servers and their addresses come, go and change.
#[test]
fn clients_of_several_addresses_keep_the_promises_of_one() {
    passes(1..=40, Subject::Endpoints);
    // A balancer's second connection once said for all servers that a session was unknown, and so did one of two
    // that were asking, and one beside servers that were no longer listed.
    passes(83..=83, Subject::Endpoints);
    passes(155..=155, Subject::Endpoints);
    // A call once went to one table under a number of another, and calls woke each other without pause.
    passes(1382..=1382, Subject::Endpoints);
    passes(1792..=1792, Subject::Endpoints);
    // A connection that was too old once swallowed requests.
    passes(409..=409, Subject::Endpoints);
}

/// Kind of fault: servers on one table get in each other's way, or one that is gone, frozen, or has lost its
/// epoch goes on with what another has taken for its own.
#[test]
fn servers_that_share_a_table_keep_the_promises_of_one() {
    passes(1..=15, Subject::Shared);
    // An attempt whose call was cancelled once got the outcome of another call under its id.
    passes(58..=58, Subject::Shared);
    // An outcome could once not be recorded in time, and the next attempt ran the call again.
    passes(83..=83, Subject::Shared);
}
