//! The index alone: against a plain list of hashes, at its edges, and where it is full of one hash.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

/// An index with the hashes of the records that are live.
struct IndexWorld {
    index: Index,
    hashes: VecDeque<u32>,
    first: u32,
}

impl IndexWorld {
    fn new(first: u32) -> Self {
        Self {
            index: Index::default(),
            hashes: VecDeque::new(),
            first,
        }
    }

    fn live(&self) -> Live {
        Live {
            first: self.first,
            len: self.hashes.len() as u32,
        }
    }

    fn push(&mut self, hash: u32) {
        if !self.index.has_room(self.hashes.len()) {
            self.rebuild();
        }
        self.index.insert(hash, self.live());
        self.hashes.push_back(hash);
    }

    fn rebuild(&mut self) {
        let hashes = self.hashes.iter().copied();
        self.index.rebuild(self.first, hashes);
    }

    fn drop_front(&mut self, count: usize) {
        let count = count.min(self.hashes.len());
        self.hashes.drain(..count);
        self.first = self.first.wrapping_add(count as u32);
    }

    /// Every number that it looks at for a hash.
    fn looked_at(&self, hash: u32) -> Vec<u32> {
        let mut numbers = Vec::new();
        let found: Option<()> = self.index.find(hash, self.live(), |number| {
            numbers.push(number);
            None
        });
        assert_eq!(found, None);
        numbers
    }

    /// Every record is looked at under its hash, once, and no dead one ever is.
    fn check(&self) {
        for (at, hash) in (0..).zip(&self.hashes) {
            let number = self.first.wrapping_add(at);
            let looked_at = self.looked_at(*hash);
            let times = looked_at.iter().filter(|known| **known == number).count();
            assert_eq!(times, 1, "{number} under {hash:#x} in {looked_at:?}");
            assert!(looked_at.iter().all(|known| self.live().has(*known)));
        }
    }
}

#[test]
fn records_of_one_hash_fill_bucket_after_bucket_and_leave_nothing_behind() {
    // The last bucket, from which they go on to the first.
    for hash in [u32::MAX, 0, 0x8000_0000] {
        let mut world = IndexWorld::new(0);
        (0..500).for_each(|_| world.push(hash));
        world.check();
        assert_eq!(world.looked_at(hash).len(), 500);
        world.drop_front(400);
        world.check();
        assert_eq!(world.looked_at(hash).len(), 100);
        world.drop_front(100);
        assert!(world.looked_at(hash).is_empty());
    }
}

#[test]
fn a_chain_goes_on_over_those_of_others_and_over_the_end_of_all_numbers() {
    let mut world = IndexWorld::new(u32::MAX - 300);
    for number in 0..20_000_u32 {
        world.push(match number % 3 {
            0 => u32::MAX,
            1 => u32::MAX - number,
            _ => number.wrapping_mul(0x9e37_79b9),
        });
        if number > 400 {
            world.drop_front(1 + usize::from(number % 1_000 == 0));
        }
        if number % 499 == 0 {
            world.check();
        }
    }
}

#[test]
fn it_is_no_larger_than_its_records_need() {
    let mut world = IndexWorld::new(7);
    for hash in 0..10_000_u32 {
        world.push(hash.wrapping_mul(0x9e37_79b9));
        assert!(!world.index.is_too_large(world.hashes.len()));
    }
    world.drop_front(9_900);
    assert!(world.index.is_too_large(world.hashes.len()));
    world.rebuild();
    assert!(!world.index.is_too_large(world.hashes.len()));
    world.check();
}

#[derive(Clone, Debug)]
enum IndexStep {
    Push(Vec<u32>),
    Drop(usize),
    Rebuild,
}

fn steps() -> impl Strategy<Value = Vec<IndexStep>> {
    // Few buckets, so that many collide there, and few tags.
    let crowded = (0u32..4, 0u32..3).prop_map(|(bucket, tag)| bucket << 30 | tag);
    let hash = prop_oneof![2 => crowded, 1 => any::<u32>()];
    let step = prop_oneof![
        6 => prop::collection::vec(hash, 0..60).prop_map(IndexStep::Push),
        4 => (0usize..80).prop_map(IndexStep::Drop),
        1 => Just(IndexStep::Rebuild),
    ];
    prop::collection::vec(step, 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn it_finds_what_a_list_of_all_records_has(first in any::<u32>(), steps in steps()) {
        let mut world = IndexWorld::new(first);
        for step in steps {
            match step {
                IndexStep::Push(hashes) => hashes.into_iter().for_each(|hash| world.push(hash)),
                IndexStep::Drop(count) => world.drop_front(count),
                IndexStep::Rebuild => world.rebuild(),
            }
            world.check();
        }
    }
}
