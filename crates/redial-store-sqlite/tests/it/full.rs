//! The kind of fault: the disk is full, and a call is lost, done halfway, or recorded as failed.

use redial_server::{
    Abort,
    store::{OutcomeKind, Store},
};
use redial_store_sqlite::Transaction;

use crate::{
    rig::options,
    workbench::{Workbench, wait},
};

fn fill(transaction: &Transaction<'_>, bytes: usize) -> Result<usize, Abort> {
    let add = "INSERT INTO counter VALUES (hex(randomblob(?1)), 1)";
    Ok(transaction
        .prepare_cached(add)?
        .execute([bytes as i64 / 2])?)
}

#[test]
fn what_no_longer_fits_is_not_executed_and_the_rest_goes_on() {
    let mut bench = Workbench::new(options().max_bytes(1 << 20));
    let mut filled = 0;
    let refused = loop {
        match bench.run(|transaction| fill(transaction, 100_000)) {
            Ok(outcome) => assert_eq!(outcome.kind(), OutcomeKind::Result, "{outcome:?}"),
            Err(error) => break error,
        }
        filled += 1;
        assert!(filled < 20, "the file grows beyond its limit");
    };
    assert!(!refused.is_uncertain, "{refused}");
    assert!(refused.message.contains("full"), "{refused}");
    // In one batch with others.
    let before = bench.hand_in(|transaction| fill(transaction, 10));
    let too_large = bench.hand_in(|transaction| fill(transaction, 100_000));
    let after = bench.hand_in(|transaction| fill(transaction, 10));
    bench.store.flush();
    assert_eq!(wait(&before).unwrap().kind(), OutcomeKind::Result);
    assert!(wait(&too_large).is_err_and(|error| !error.is_uncertain));
    assert_eq!(wait(&after).unwrap().kind(), OutcomeKind::Result);
    assert_eq!(bench.number("SELECT count(*) FROM counter"), filled + 2);
    // Room is made, and it goes on.
    bench
        .run(|transaction| Ok(transaction.execute("DELETE FROM counter", [])?))
        .unwrap();
    bench.run(|transaction| fill(transaction, 100_000)).unwrap();
    assert_eq!(bench.number("SELECT count(*) FROM counter"), 1);
    assert_eq!(bench.store.problem(), None);
}
