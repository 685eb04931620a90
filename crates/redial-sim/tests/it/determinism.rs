//! A seed is one world: two runs of it leave the same journal, byte for byte.

use redial_sim::{Subject, log, run};

#[test]
fn two_runs_of_a_seed_leave_the_same_journal() {
    // In the last two, a server once closed its connections in random order.
    let seeds = (1..=50).chain([497, 560]);
    let alone = seeds.map(|seed| (seed, Subject::Real));
    let several = [Subject::Shared, Subject::Endpoints];
    let several = several
        .into_iter()
        .flat_map(|subject| (1..=6).map(move |seed| (seed, subject)));
    for (seed, subject) in alone.chain(several) {
        let [first, second] = [(); 2].map(|()| log(&run(seed, subject).entries));
        if let Some(number) = first.lines().zip(second.lines()).position(|(a, b)| a != b) {
            let line = |text: &str| text.lines().nth(number).unwrap_or_default().to_owned();
            panic!(
                "{subject:?}, seed {seed}, line {number}:\n{}\n{}",
                line(&first),
                line(&second)
            );
        }
        assert_eq!(first.len(), second.len(), "seed {seed}");
        assert!(first.lines().count() > 20, "seed {seed} is an empty world");
    }
}

#[test]
fn a_world_is_the_same_on_another_thread_between_other_worlds() {
    let expected: Vec<_> = (1..=10)
        .map(|seed| log(&run(seed, Subject::Real).entries))
        .collect();
    std::thread::scope(|scope| {
        let elsewhere = scope.spawn(|| {
            let seeds = (1..=10).rev();
            let logs = seeds.map(|seed| log(&run(seed, Subject::Real).entries));
            logs.collect::<Vec<_>>()
        });
        let _beside: Vec<_> = (20..=25).map(|seed| run(seed, Subject::Real)).collect();
        let mut logs = elsewhere.join().expect("no world panics");
        logs.reverse();
        assert!(logs == expected, "a world differs on another thread");
    });
}
