//! What every store of `redial-server` has to pass, and a store in memory that passes it.
//!
//! The tests of a store implement [`Rig`] and write
//! `redial_store_tests::conformance!(|| MyRig::new());`, which makes a module of `#[test]`s. A rig's
//! counters are the effects by which the tests see what a handler has done.

use std::{any::Any, sync::Arc};

use redial_server::store::{Recovered, Store};

pub mod cases;
pub mod client;
mod in_memory;
pub mod model;
pub mod pgbouncer;
pub mod postgres;
mod processes;
pub mod replicas;

pub use in_memory::{InMemoryRig, InMemoryStore};

/// What the tests need to know of a store.
pub trait Rig {
    /// Opens the store as it was left: at first it is new. The handles of the time before are dropped,
    /// without [`close`](Store::close) if there was a crash.
    fn open(&self) -> Arc<dyn Store>;

    /// What is on record as the store was opened: what it hands over, or the same by other means where it is
    /// shared and hands over nothing.
    ///
    /// # Panics
    ///
    /// If it can't be read.
    fn recovered(&self, store: &dyn Store) -> Vec<Recovered> {
        let mut recovered = Vec::new();
        let read = store.recover(&mut |one| recovered.push(one));
        read.expect("the store can be read");
        recovered
    }

    /// A call of a `transaction` method that has this effect, as [`Store::execute`] takes it. Its result
    /// is the counter's new value.
    fn prepare(&self, effect: Effect) -> Box<dyn Any + Send>;

    /// The counter as a query sees it; 0 if it was never added to.
    fn counter(&self, key: &str) -> i64;

    /// Whether a plain id's record is known to [`Store::execute`] after its call has ended. A store that
    /// one server owns may leave that to the table in front.
    fn claims_plain_ids(&self) -> bool;

    /// Whether steps take place in the order in which they were handed in. Where many run at once, the tests
    /// hand in the next when the one before has ended.
    fn is_ordered(&self) -> bool {
        true
    }
}

/// What a handler of the tests does.
#[derive(Clone, Debug)]
pub struct Effect {
    /// The counter.
    pub key: String,
    /// What it adds to it.
    pub delta: i64,
    /// How it ends, after it has added.
    pub end: End,
}

/// How a handler of the tests ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With the counter's new value.
    Return,
    /// With [`Abort::failed`](redial_server::Abort::failed).
    Fail,
    /// With a panic.
    Panic,
    /// With [`Abort::no_effect`](redial_server::Abort::no_effect).
    NoEffect,
}

impl Effect {
    /// Adds to a counter, and returns its new value.
    #[must_use]
    pub fn add(key: &str, delta: i64) -> Self {
        Self {
            key: key.to_owned(),
            delta,
            end: End::Return,
        }
    }

    /// The same with another end.
    #[must_use]
    pub fn then(self, end: End) -> Self {
        Self { end, ..self }
    }

    /// How the handler ends that has added.
    ///
    /// # Errors
    ///
    /// As `end` says.
    ///
    /// # Panics
    ///
    /// If that is how it ends.
    pub fn finish(&self, value: i64) -> Result<i64, redial_server::Abort> {
        match self.end {
            End::Return => Ok(value),
            End::Fail => Err(redial_server::Abort::failed("on purpose").code(7)),
            End::Panic => panic!("on purpose"),
            End::NoEffect => Err(redial_server::Abort::no_effect("on purpose")),
        }
    }
}

/// Makes a test of each case, for the rigs that a function makes, and of the model with random batches.
/// After `cases:` stands of how many, and after `optional:` a function that makes a rig where there is what it
/// takes.
#[macro_export]
macro_rules! conformance {
    (optional: $make:expr, cases: $cases:expr) => {
        $crate::conformance!(@each $make,
            an_id_is_claimed_once
            a_duplicate_in_the_same_batch_gets_the_outcome
            another_fingerprint_is_refused
            what_is_acknowledged_is_refused
            an_acknowledgement_that_is_lost_does_no_harm
            an_unknown_session_is_refused
            a_forgotten_session_is_unknown
            a_fenced_call_never_runs
            a_call_on_record_is_not_fenced
            a_failure_is_recorded_and_its_writes_are_undone
            a_panic_is_recorded_and_its_writes_are_undone
            no_effect_frees_the_id
            a_failure_in_a_batch_undoes_nothing_of_the_others
            an_interrupted_call_is_recovered_as_started
            a_resumable_call_starts_again
            a_finished_mutation_is_replayed
            a_mutation_without_effect_frees_its_id
            a_mutation_whose_session_is_gone_ends_quietly
            a_call_without_a_name_leaves_no_record
            plain_ids_are_recovered
            the_same_plain_id_of_another_principal_is_another_call
            a_session_stays_its_principals
            a_session_that_is_shared_is_found_by_its_owner_alone
            a_goodbye_costs_no_outcome_of_a_session_that_is_shared
            a_mutation_with_a_plain_id_is_recovered
            sessions_and_outcomes_survive_a_close
            outcomes_are_the_same_bytes_after_a_crash
            what_was_not_flushed_ends_when_the_store_is_dropped
            a_large_outcome_says_so
            slots_are_used_again_and_mean_one_call_each
        );

        #[test]
        fn random_batches_and_crashes_agree_with_a_naive_model() {
            $crate::model::check($cases, $make);
        }
    };
    ($make:expr) => {
        $crate::conformance!(optional: || Some(($make)()), cases: $crate::model::CASES);
    };
    (@each $make:expr, $($case:ident)*) => {
        $(#[test]
        fn $case() {
            if let Some(rig) = ($make)() {
                $crate::cases::$case(&rig);
            }
        })*
    };
}

#[cfg(test)]
mod tests {
    crate::conformance!(crate::InMemoryRig::default);
}
