//! What every store has to pass, at the isolation that PostgreSQL has by default and at the strictest, and by
//! way of pgbouncer.

/// Each case of the model takes a hundred round trips.
const CASES: u32 = 4;

mod read_committed {
    use crate::rig::{Isolation, PostgresRig};

    redial_store_tests::conformance!(
        optional: || PostgresRig::new(Isolation::ReadCommitted), cases: super::CASES
    );
}

mod serializable {
    use crate::rig::{Isolation, PostgresRig};

    redial_store_tests::conformance!(
        optional: || PostgresRig::new(Isolation::Serializable), cases: super::CASES
    );
}

mod batched {
    use crate::rig::PostgresRig;

    redial_store_tests::conformance!(optional: PostgresRig::batched, cases: super::CASES);
}

mod through_pgbouncer {
    use crate::rig::PostgresRig;

    redial_store_tests::conformance!(optional: PostgresRig::bounced, cases: super::CASES);
}
