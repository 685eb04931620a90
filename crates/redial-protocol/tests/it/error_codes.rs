//! The table of error codes in PROTOCOL.md, held against what the codes say.

use std::collections::BTreeMap;

use redial_protocol::{ErrorCode, ErrorObject, Executed};

/// One row: whether the call was executed, and whether a client may try again.
#[derive(Debug)]
struct Row {
    executed: Executed,
    is_retryable: bool,
    /// It is the row of those errors of its code that have `data.retry_after_ms`.
    has_pause: bool,
}

/// The rows of each code, in their order.
fn rows() -> BTreeMap<i32, Vec<Row>> {
    let page = include_str!("../../PROTOCOL.md");
    let mut rows = BTreeMap::<i32, Vec<Row>>::new();
    for line in page.lines().filter(|line| line.starts_with("| -32")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, code, when, executed, _, retry, _] = cells[..] else {
            continue;
        };
        let Ok(code) = code.parse() else {
            assert!(when.starts_with("reserved"), "{line}");
            continue;
        };
        let executed = match executed.split(' ').next() {
            Some("no") => Executed::No,
            Some("yes") => Executed::Yes,
            Some("unknown") => Executed::Unknown,
            _ => panic!("{line}"),
        };
        let is_retryable = retry.starts_with("yes");
        rows.entry(code).or_default().push(Row {
            executed,
            is_retryable,
            has_pause: when.starts_with("with `retry_after_ms`"),
        });
    }
    rows
}

#[test]
fn every_code_says_of_execution_and_retries_what_its_first_row_says() {
    let rows = rows();
    assert!(rows.len() >= 13, "the table is not found any more");
    for (code, rows) in rows {
        let (code, row) = (ErrorCode::from(code), &rows[0]);
        assert_eq!(code.executed(), row.executed, "{code:?}");
        assert_eq!(code.is_retryable(), row.is_retryable, "{code:?}");
        assert_eq!(ErrorObject::raised(code, "").executed(), row.executed);
    }
}

/// What other rows say of the same code is said by `data.executed`, or by the pause that the server asks for.
#[test]
fn the_other_rows_of_a_code_need_data() {
    for (code, rows) in rows() {
        for row in &rows[1..] {
            let mut error = ErrorObject::raised(code.into(), "").with_executed(row.executed);
            if row.has_pause {
                error = error.with_retry_after_ms(1);
            }
            let read_back = (error.executed(), error.retry_after_ms().is_some());
            assert_ne!(read_back, (rows[0].executed, rows[0].has_pause), "{code}");
            assert_eq!(read_back.0, row.executed, "{code}");
        }
    }
}
