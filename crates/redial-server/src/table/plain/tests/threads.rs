//! Several threads at one table: what one does for a moment is no other's loss.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use super::*;

fn table(max_records: usize) -> (PlainTable<u32>, Instant) {
    let limits = PlainLimits {
        max_records,
        ..LIMITS
    };
    let PlainWorld { table, now } = PlainWorld::new(limits);
    (table, now)
}

/// A call starts and has no effect. Returns whether it could start.
fn come_and_go(table: &PlainTable<u32>, number: u128, now: Instant) -> bool {
    let key = table.key(CallKey::Uuid(number.to_be_bytes()));
    let attempt = Attempt {
        fingerprint: Fingerprint::new(1, ""),
        deadline: None,
        now,
        number: 1,
        is_numbered: true,
        ack: None,
        deferred: None,
    };
    let decision: PlainDecision =
        table.begin(&key, &attempt, || Ok(()), || 1, || now, &mut Vec::new());
    let has_started = decision == Decision::Start(());
    if has_started {
        table.release(&key);
    }
    has_started
}

#[test]
fn two_calls_at_a_time_find_room_where_there_is_room_for_two() {
    let (table, now) = table(2);
    let refused = std::thread::scope(|scope| {
        let run = |thread| {
            let table = &table;
            let numbers = (0..20_000_u128).map(move |number| number * 2 + thread);
            move || {
                numbers
                    .filter(|number| !come_and_go(table, *number, now))
                    .count()
            }
        };
        let threads = [0, 1].map(|thread| scope.spawn(run(thread)));
        threads.map(|thread| thread.join().unwrap())
    });
    assert_eq!(refused, [0, 0]);
    assert_eq!((table.records(), table.bytes()), (0, 0));
}

#[test]
fn the_counts_of_a_table_are_true_while_calls_come_and_go() {
    let (table, now) = table(100_000);
    let is_finished = AtomicBool::new(false);
    let most = std::thread::scope(|scope| {
        scope.spawn(|| {
            let could_start = (0..30_000).all(|number| come_and_go(&table, number, now));
            is_finished.store(true, SeqCst);
            assert!(could_start);
        });
        let mut most = 0;
        while !is_finished.load(SeqCst) {
            most = most.max(table.records());
        }
        most
    });
    assert!(most <= 1, "{most}");
}
