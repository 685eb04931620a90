//! How a step tells what it came to.

use redial_server::store::{Done, StoreError};

/// Calls back once, whatever happens to the task.
pub(crate) struct Answer<T>(Option<Done<T>>);

impl<T> Answer<T> {
    pub(crate) fn new(done: Done<T>) -> Self {
        Self(Some(done))
    }

    pub(crate) fn give(mut self, result: Result<T, StoreError>) {
        if let Some(done) = self.0.take() {
            done(result);
        }
    }
}

impl<T> Drop for Answer<T> {
    fn drop(&mut self) {
        if let Some(done) = self.0.take() {
            done(Err(StoreError::uncertain("the store was closed meanwhile")));
        }
    }
}
