//! The calls that are not over, each in a place that is found without hashing.

/// Where a call is. A key is never used again: not even when its place is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    index: u32,
    generation: u32,
}

/// Values in places that are used again.
#[derive(Debug)]
pub(super) struct Slab<T> {
    places: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
}

impl<T> Slab<T> {
    pub(super) const fn new() -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
        }
    }

    pub(super) fn insert(&mut self, value: T) -> Key {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push((0, None));
            u32::try_from(self.places.len() - 1).expect("fewer than 2^32 calls at once")
        });
        let (generation, place) = &mut self.places[index as usize];
        *place = Some(value);
        Key {
            index,
            generation: *generation,
        }
    }

    pub(super) fn get(&self, key: Key) -> Option<&T> {
        let (generation, place) = self.places.get(key.index as usize)?;
        place.as_ref().filter(|_| *generation == key.generation)
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let (generation, place) = self.places.get_mut(key.index as usize)?;
        place.as_mut().filter(|_| *generation == key.generation)
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<T> {
        self.get(key)?;
        let (generation, place) = &mut self.places[key.index as usize];
        *generation = generation.wrapping_add(1);
        self.free.push(key.index);
        place.take()
    }

    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.places
            .iter_mut()
            .filter_map(|(_, place)| place.as_mut())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_place_is_used_again_and_its_key_is_not() {
        let mut slab = Slab::new();
        let (a, b) = (slab.insert('a'), slab.insert('b'));
        assert_eq!(slab.remove(a), Some('a'));
        assert_eq!((slab.remove(a), slab.get(a), slab.len()), (None, None, 1));
        let c = slab.insert('c');
        assert_eq!((a.index, slab.get_mut(a)), (c.index, None));
        assert_eq!(slab.get(c), Some(&'c'));
        assert_eq!(slab.get(b), Some(&'b'));
        assert_eq!(slab.values_mut().count(), 2);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        /// Against a list of all values that there ever were. A step puts a value in, or takes out
        /// one of those that are or were there.
        #[test]
        fn it_behaves_like_a_list_of_all_values(
            steps in prop::collection::vec(prop::option::of(0usize..20), 0..40),
        ) {
            let (mut slab, mut all) = (Slab::new(), Vec::<(Key, Option<usize>)>::new());
            for (value, step) in steps.into_iter().enumerate() {
                match step.map(|at| at % all.len().max(1)) {
                    Some(at) if at < all.len() => {
                        let (key, there) = &mut all[at];
                        prop_assert_eq!(slab.remove(*key), there.take());
                    }
                    _ => all.push((slab.insert(value), Some(value))),
                }
                for (key, there) in &mut all {
                    prop_assert_eq!(slab.get(*key), there.as_ref());
                    prop_assert_eq!(slab.get_mut(*key), there.as_mut());
                }
                let mut there: Vec<_> = all.iter().filter_map(|(_, there)| *there).collect();
                let mut found: Vec<_> = slab.values_mut().map(|value| *value).collect();
                found.sort_unstable();
                there.sort_unstable();
                prop_assert_eq!(&found, &there);
                prop_assert_eq!(slab.len(), there.len());
            }
        }
    }
}
