//! A plain id as the table looks it up: with its hash.

use std::hash::{BuildHasher, Hash, Hasher, RandomState};

use redial_protocol::CallKey;

/// A call's name with its hash, which is computed once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PlainKey {
    pub(super) hash: u64,
    pub(super) key: CallKey,
}

impl PlainKey {
    /// The hash is keyed, so that a peer can't choose ids that collide. Of a UUID its 16 bytes are
    /// hashed and nothing else; keys of other kinds with the same bytes differ when compared.
    pub(super) fn new(hasher: &RandomState, key: CallKey) -> Self {
        let mut state = hasher.build_hasher();
        match &key {
            CallKey::Uuid(bytes) => state.write(bytes),
            key => key.hash(&mut state),
        }
        Self {
            hash: state.finish(),
            key,
        }
    }

    /// The call's name.
    pub(crate) fn name(&self) -> &CallKey {
        &self.key
    }

    /// What a record keeps of the hash: the part that did not choose the shard.
    pub(super) fn short_hash(&self) -> u32 {
        self.hash as u32
    }
}
