//! How often a call allocates memory, once buffers and pools have grown.

use allocation_counter::measure;
use redial_bench::in_memory::{Path, run};

/// Enough calls for rings, buffers and pools to reach their sizes.
const CALLS: u32 = 20_000;

/// How many allocations and bytes one more call takes. Only this thread's count, and everything
/// runs on it.
fn per_call(path: Path, at_once: u32) -> (f64, f64) {
    let allocations = |calls| measure(|| run(path, calls, at_once).expect("all are answered"));
    // What the thread itself allocates is there before anything is counted.
    let warm = allocations(1);
    assert!(warm.count_total > 0, "nothing is counted at all");
    let (once, twice) = (allocations(CALLS), allocations(CALLS * 2));
    let per_call = |once: u64, twice: u64| (twice as f64 - once as f64) / f64::from(CALLS);
    let found = (
        per_call(once.count_total, twice.count_total),
        per_call(once.bytes_total, twice.bytes_total),
    );
    println!(
        "{path:?}, {at_once} at once: {:.3} allocations, {:.1} bytes",
        found.0, found.1
    );
    found
}

/// Panics if a call allocates more often than that, one at a time or many at once.
fn at_most(allocations: f64, path: Path) {
    let found = [1, 32].map(|at_once| per_call(path, at_once));
    // Rings and buffers may still grow once in a while.
    let is_within = found.iter().all(|(count, _)| *count < allocations + 0.001);
    assert!(
        is_within,
        "{path:?}, one and 32 at once: {found:?} allocations and bytes a call"
    );
}

#[test]
fn the_server_allocates_nothing_for_a_call_of_a_session() {
    at_most(0.0, Path::ServerSession);
}

#[test]
fn the_server_allocates_nothing_for_a_query() {
    at_most(0.0, Path::ServerQuery);
}

#[test]
fn the_client_allocates_nothing_for_a_call() {
    at_most(0.0, Path::ClientSession);
}

/// Kind: what is prepared for the worst, and costs each call. Instance: the list of endpoints that may be down.
#[test]
fn a_call_that_fails_fast_allocates_no_more_while_all_is_well() {
    at_most(0.0, Path::ClientSessionFailFast);
}
