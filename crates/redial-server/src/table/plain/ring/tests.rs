//! The ring against a plain queue.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum RingStep {
    Push(u16),
    Extend(Vec<u16>),
    Drop(usize),
    Shrink,
}

fn steps() -> impl Strategy<Value = Vec<RingStep>> {
    let step = prop_oneof![
        3 => any::<u16>().prop_map(RingStep::Push),
        3 => prop::collection::vec(any::<u16>(), 0..3_000).prop_map(RingStep::Extend),
        3 => (0usize..4_000).prop_map(RingStep::Drop),
        1 => Just(RingStep::Shrink),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    #[test]
    fn it_holds_what_a_queue_holds(steps in steps()) {
        let (mut ring, mut queue) = (Ring::new(), VecDeque::new());
        for step in steps {
            match step {
                RingStep::Push(item) => {
                    ring.push(item);
                    queue.push_back(item);
                }
                RingStep::Extend(items) => {
                    ring.extend(&items);
                    queue.extend(items);
                }
                RingStep::Drop(count) => {
                    let count = count.min(queue.len());
                    ring.drop_front(count);
                    queue.drain(..count);
                }
                RingStep::Shrink => ring.shrink(),
            }
            prop_assert_eq!(ring.len(), queue.len());
            prop_assert!(ring.iter().eq(&queue));
            prop_assert_eq!(ring.get(queue.len()), None);
            let range = queue.len() / 3..queue.len() - queue.len() / 5;
            prop_assert!(ring.pieces(range.clone()).concat().iter().eq(queue.range(range)));
        }
    }
}

#[test]
fn it_is_cut_where_the_items_say() {
    let mut ring = Ring::new();
    // Often enough to have its end anywhere in its memory.
    for number in 0..5_000_usize {
        ring.push(number);
        let first = number.saturating_sub(50);
        for cut in [0, first, first + 7, number, number + 1] {
            let expected = cut.saturating_sub(first).min(ring.len());
            assert_eq!(ring.partition_point(|item| *item < cut), expected);
        }
        ring.drop_front(usize::from(number >= 50));
    }
}

#[test]
fn it_takes_little_more_than_its_items_and_gives_it_back() {
    let mut ring = Ring::new();
    for number in 0..100_000_u32 {
        ring.push(number);
        let most = ring.len() + ring.len() / GROWTH + 2 * LEAST_BYTES / 4;
        assert!(ring.items.capacity() <= most);
    }
    ring.drop_front(99_990);
    ring.shrink();
    assert!(ring.items.capacity() <= 4 * LEAST_BYTES / 4);
    assert!(ring.iter().copied().eq(99_990..100_000));
}
