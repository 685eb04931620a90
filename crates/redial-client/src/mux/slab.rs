//! The calls that are not over, each in a place that is found without hashing.

/// Where a call is. A key is never used again: not even when its place is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    index: u32,
    generation: u32,
}

/// Values in places that are used again.
#[derive(Debug)]
pub(super) struct Slab<T> {
    places: Vec<Entry<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Entry<T> {
    generation: u32,
    is_free: bool,
    /// Of a place that is free, what is left of the one before.
    value: T,
}

impl<T> Slab<T> {
    pub(super) const fn new() -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
        }
    }

    #[cfg(test)]
    pub(super) fn insert(&mut self, value: T) -> Key {
        let value = std::cell::Cell::new(Some(value));
        let take = || value.take().expect("it is put in once");
        self.insert_with(take, |place| *place = take())
    }

    /// A value in a new place, or in one that was used before: to build it there is cheaper.
    pub(super) fn insert_with(
        &mut self,
        new: impl FnOnce() -> T,
        reuse: impl FnOnce(&mut T),
    ) -> Key {
        let Some(index) = self.free.pop() else {
            let index = u32::try_from(self.places.len()).expect("fewer than 2^32 calls at once");
            let (generation, is_free) = (0, false);
            self.places.push(Entry {
                generation,
                is_free,
                value: new(),
            });
            return Key { index, generation };
        };
        let place = &mut self.places[index as usize];
        place.is_free = false;
        reuse(&mut place.value);
        Key {
            index,
            generation: place.generation,
        }
    }

    pub(super) fn get(&self, key: Key) -> Option<&T> {
        let place = self.places.get(key.index as usize)?;
        (place.generation == key.generation).then_some(&place.value)
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let place = self.places.get_mut(key.index as usize)?;
        (place.generation == key.generation).then_some(&mut place.value)
    }

    /// Gives the place of a value back. What is not taken from it is dropped when the place is used
    /// again.
    pub(super) fn remove(&mut self, key: Key) -> Option<&mut T> {
        let place = self.places.get_mut(key.index as usize)?;
        if place.generation != key.generation {
            return None;
        }
        place.generation = place.generation.wrapping_add(1);
        place.is_free = true;
        self.free.push(key.index);
        Some(&mut place.value)
    }

    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        let taken = self.places.iter_mut().filter(|place| !place.is_free);
        taken.map(|place| &mut place.value)
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
        assert_eq!(slab.remove(a), Some(&mut 'a'));
        assert_eq!(slab.remove(a), None);
        assert_eq!((slab.get(a), slab.len()), (None, 1));
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
                        prop_assert_eq!(slab.remove(*key).copied(), there.take());
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
