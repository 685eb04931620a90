//! Storms: the naive fleet must be seen to go down in them, or they prove nothing, and Redial to stand.

use redial_sim::{Conditions, Figure, Fleet, Storm, StormRecord, storm};

/// Fewer clients than by default, since tests are not built for speed.
const CLIENTS: u32 = 100;

fn play(letter: Storm, fleet: Fleet, seed: u64) -> StormRecord {
    storm(&Conditions {
        storm: letter,
        fleet,
        seed,
        clients: CLIENTS,
    })
}

fn broken(record: &StormRecord) -> Vec<&Figure> {
    let figures = record.figures.iter();
    figures.filter(|figure| !figure.holds).collect()
}

/// Kind of fault: a short stall leaves a server with work for nothing that keeps it from work for something.
#[test]
fn a_stall_keeps_a_naive_fleet_down_and_redial_comes_back() {
    let naive = play(Storm::Metastable, Fleet::Naive, 1);
    assert!(
        broken(&naive).is_empty(),
        "it comes back: {:?}",
        naive.figures
    );
    assert!(naive.count.repeated > 1_000, "{:?}", naive.count);
    let redial = play(Storm::Metastable, Fleet::Redial, 1);
    let in_the_end = redial
        .figures
        .iter()
        .find(|figure| figure.name == "ok in the end");
    assert!(
        in_the_end.is_some_and(|figure| figure.holds),
        "{:?}",
        redial.figures
    );
    assert!(redial.violations.is_empty(), "{:?}", redial.violations);
}

/// Kind of fault: a comparison that one side loses by its rules. Instance: a naive fleet that gave up after 2 s where
/// Redial's had 20 s, and so had thousands of calls refused for good.
#[test]
fn a_naive_fleet_has_as_long_as_redial_to_come_back_after_a_restart() {
    let naive = storm(&Conditions {
        storm: Storm::Hello,
        fleet: Fleet::Naive,
        seed: 1,
        clients: 10_000,
    });
    assert_eq!(naive.count.ok, naive.count.calls, "{:?}", naive.figures);
}

/// Kind of fault: a storm that can't be repeated can't be looked into.
#[test]
fn a_storm_is_the_same_each_time() {
    let [first, second] = [(); 2].map(|()| play(Storm::Timeouts, Fleet::Redial, 7));
    assert_eq!(first, second);
}
