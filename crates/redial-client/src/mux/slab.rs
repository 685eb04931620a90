//! A slab: values in entries that are found without hashing and are used again.

/// The key of a value. It is never used again, although its entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    index: u32,
    generation: u32,
}

impl Key {
    /// The entry's index, which the keys of later values have, too.
    pub(super) fn slot(self) -> usize {
        self.index as usize
    }
}

/// Values in entries that are used again.
#[derive(Debug)]
pub(super) struct Slab<T> {
    entries: Vec<Entry<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Entry<T> {
    generation: u32,
    is_free: bool,
    /// In a free entry, what is left of the value before.
    value: T,
}

impl<T> Slab<T> {
    pub(super) const fn new() -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
        }
    }

    /// Puts a value into a free entry, or a new one. It is built where it stays.
    #[inline]
    pub(super) fn insert_with(&mut self, new: impl FnOnce() -> T) -> Key {
        let Some(index) = self.free.pop() else {
            let index = u32::try_from(self.entries.len()).expect("fewer than 2^32 calls at once");
            let (generation, is_free) = (0, false);
            self.entries.push(Entry {
                generation,
                is_free,
                value: new(),
            });
            return Key { index, generation };
        };
        let entry = &mut self.entries[index as usize];
        entry.is_free = false;
        entry.value = new();
        Key {
            index,
            generation: entry.generation,
        }
    }

    pub(super) fn get(&self, key: Key) -> Option<&T> {
        let entry = self.entries.get(key.index as usize)?;
        (entry.generation == key.generation).then_some(&entry.value)
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let entry = self.entries.get_mut(key.index as usize)?;
        (entry.generation == key.generation).then_some(&mut entry.value)
    }

    /// The value that is in the entry now, whatever its key.
    pub(super) fn get_slot_mut(&mut self, slot: usize) -> Option<&mut T> {
        let entry = self.entries.get_mut(slot)?;
        (!entry.is_free).then_some(&mut entry.value)
    }

    /// Frees the entry of a value. What is not taken out of it is dropped when the entry is used
    /// again.
    pub(super) fn remove(&mut self, key: Key) -> Option<&mut T> {
        let entry = self.entries.get_mut(key.index as usize)?;
        if entry.generation != key.generation {
            return None;
        }
        entry.generation = entry.generation.wrapping_add(1);
        entry.is_free = true;
        self.free.push(key.index);
        Some(&mut entry.value)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        let taken = self.entries.iter().filter(|entry| !entry.is_free);
        taken.map(|entry| &entry.value)
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        let taken = self.entries.iter_mut().filter(|entry| !entry.is_free);
        taken.map(|entry| &mut entry.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_entry_is_used_again_and_its_key_is_not() {
        let mut slab = Slab::new();
        let (a, b) = (slab.insert_with(|| 'a'), slab.insert_with(|| 'b'));
        assert_eq!(slab.remove(a), Some(&mut 'a'));
        assert_eq!(slab.remove(a), None);
        assert_eq!((slab.get(a), slab.len()), (None, 1));
        let c = slab.insert_with(|| 'c');
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
                    _ => all.push((slab.insert_with(|| value), Some(value))),
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
