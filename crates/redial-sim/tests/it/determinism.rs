//! One seed is one world: two runs of it leave the same record, byte for byte.

use redial_sim::{Subject, log, run};

#[test]
fn two_runs_of_a_seed_leave_the_same_record() {
    // In the last two the order in which a server told its connections of its end was random once.
    for seed in (1..=50).chain([497, 560]) {
        let [first, second] = [(); 2].map(|()| log(&run(seed, Subject::Real).entries));
        if let Some(place) = first.lines().zip(second.lines()).position(|(a, b)| a != b) {
            let line = |text: &str| text.lines().nth(place).unwrap_or_default().to_owned();
            panic!(
                "seed {seed}, line {place}:\n{}\n{}",
                line(&first),
                line(&second)
            );
        }
        assert_eq!(first.len(), second.len(), "seed {seed}");
        assert!(first.lines().count() > 20, "seed {seed} is an empty world");
    }
}

/// On another thread, between other worlds.
#[test]
fn a_world_does_not_depend_on_those_before_it_or_beside_it() {
    let expected: Vec<_> = (1..=10)
        .map(|seed| log(&run(seed, Subject::Real).entries))
        .collect();
    std::thread::scope(|scope| {
        let there = scope.spawn(|| {
            let seeds = (1..=10).rev();
            let logs = seeds.map(|seed| log(&run(seed, Subject::Real).entries));
            logs.collect::<Vec<_>>()
        });
        let _beside: Vec<_> = (20..=25).map(|seed| run(seed, Subject::Real)).collect();
        let mut logs = there.join().expect("no world panics");
        logs.reverse();
        assert!(
            logs == expected,
            "a world was another one on another thread"
        );
    });
}
