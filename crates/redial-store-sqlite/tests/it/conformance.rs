//! What every store has to pass, with crashes after which only what was written is there.

use crate::rig::SqliteRig;

redial_store_tests::conformance!(SqliteRig::new);
