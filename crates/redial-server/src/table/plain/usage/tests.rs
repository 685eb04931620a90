//! Hands that take and give, against one count of what they hold.

use proptest::prelude::*;

use super::*;

const MAX: Amount = Amount {
    records: 3 * SHARDS * PORTION.records,
    bytes: 3 * SHARDS * PORTION.bytes,
};

fn amount(records: usize, bytes: usize) -> Amount {
    Amount { records, bytes }
}

#[test]
fn one_hand_may_hold_all_there_is_and_nothing_more() {
    let (usage, mut hand) = (Usage::new(MAX), LocalQuota::default());
    let mut count = 0;
    while hand.reserve(amount(1, 100), &usage) {
        count += 1;
    }
    assert_eq!(count, MAX.records);
    hand.put(amount(1, 100), &usage);
    assert!(hand.reserve(amount(1, 100), &usage));
    assert!(!hand.reserve(amount(1, 100), &usage));
}

#[test]
fn an_outcome_is_kept_though_there_is_no_room() {
    let (usage, mut hand) = (Usage::new(MAX), LocalQuota::default());
    hand.take(MAX.bytes + 5, &usage);
    assert_eq!(usage.taken().less(hand.amount()), amount(0, MAX.bytes + 5));
    assert!(!hand.reserve(amount(1, 1), &usage));
}

#[test]
fn a_hand_is_not_left_with_much() {
    let (usage, mut hand) = (Usage::new(MAX), LocalQuota::default());
    for _ in 0..2_000 {
        assert!(hand.reserve(amount(1, 500), &usage));
    }
    hand.put(amount(2_000, 1_000_000), &usage);
    assert!(hand.amount().fits_into(PORTION.plus(PORTION)));
    hand.return_all(&usage);
    assert_eq!(usage.taken(), Amount::default());
}

proptest! {
    #[test]
    fn what_is_taken_and_not_in_hand_is_what_is_held(
        steps in prop::collection::vec((0usize..4, 0usize..4, 0usize..40_000), 1..300),
    ) {
        let usage = Usage::new(amount(400, 600_000));
        let mut hands: [LocalQuota; 4] = Default::default();
        let mut held = [Amount::default(); 4];
        for (at, step, bytes) in steps {
            let (hand, mine) = (&mut hands[at], &mut held[at]);
            match step {
                0 if hand.reserve(amount(1, bytes), &usage) => *mine = mine.plus(amount(1, bytes)),
                0 => {}
                1 => {
                    hand.take(bytes, &usage);
                    *mine = mine.plus(amount(0, bytes));
                }
                2 => hand.put(std::mem::take(mine), &usage),
                _ => {
                    hand.return_all(&usage);
                }
            }
            let quota = hands.iter().map(LocalQuota::amount);
            let quota = quota.fold(Amount::default(), Amount::plus);
            let held = held.into_iter().fold(Amount::default(), Amount::plus);
            prop_assert_eq!(usage.taken(), held.plus(quota));
        }
    }
}
