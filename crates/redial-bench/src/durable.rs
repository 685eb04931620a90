//! What a durable call is compared to: the same job without a server, in batches that are made
//! durable with one sync each, and another server that keeps a log.

pub mod log;
pub mod redis;
pub mod sqlite;

use std::time::Duration;

use anyhow::Result;
use redial_protocol::SessionId;

use crate::{
    clock,
    slices::Slices,
    summary::{Cpu, Summary, histogram},
};

/// Runs a batch of so many calls until it is durable.
pub trait Subject {
    /// # Errors
    ///
    /// If it isn't.
    fn run(&mut self, batch: usize) -> Result<()>;
}

/// How long it takes, in batches of so many calls.
///
/// # Errors
///
/// If a batch fails.
pub fn measure(
    subject: &mut dyn Subject,
    batch: usize,
    [warmup, length]: [Duration; 2],
    watch: Option<u32>,
) -> Result<Summary> {
    let start = clock::now();
    while clock::now().duration_since(start) < warmup {
        subject.run(batch)?;
    }
    let mut latencies = histogram();
    let mut slices = Slices::of(length);
    let (before, from) = (Cpu::now(watch)?, clock::now());
    let mut now = from;
    while now.duration_since(from) < length {
        subject.run(batch)?;
        let then = std::mem::replace(&mut now, clock::now());
        let took = now.duration_since(then).as_nanos() as u64;
        latencies.saturating_record_n(took, batch as u64);
        slices.add(now.duration_since(from), batch as u64);
    }
    let after = Cpu::now(watch)?;
    let elapsed = now.duration_since(from);
    Ok(Summary::new(&latencies, slices, elapsed, [before, after]))
}

/// What is recorded of each call.
struct Record {
    number: u64,
    /// As random as a UUID.
    id: [u8; 16],
    fingerprint: [u8; 16],
}

/// The counter that all calls add to: one, as in the load on a server.
const KEY: &str = "bench-0";

/// Records of calls one after the other.
struct Records {
    session: SessionId,
    number: u64,
}

impl Records {
    fn new() -> Self {
        Self {
            session: SessionId::from_bits(0x0123_4567_89ab_cdef),
            number: 0,
        }
    }

    fn next(&mut self) -> Record {
        /// The fractional part of the golden ratio, which spreads the bits.
        const SPREAD: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;
        self.number += 1;
        let id = u128::from(self.number).wrapping_mul(SPREAD) ^ u128::from(self.session.bits());
        Record {
            number: self.number,
            id: id.to_be_bytes(),
            fingerprint: id.wrapping_mul(SPREAD).to_be_bytes(),
        }
    }
}

/// The outcome of `inc`, as it is recorded.
fn outcome(value: i64) -> String {
    format!(r#""result":{{"key":"{KEY}","value":{value}}}"#)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing(usize);

    impl Subject for Nothing {
        fn run(&mut self, batch: usize) -> Result<()> {
            self.0 += batch;
            std::thread::yield_now();
            Ok(())
        }
    }

    #[test]
    fn calls_are_counted_in_batches_after_the_warm_up() {
        let mut nothing = Nothing(0);
        let times = [Duration::from_millis(2), Duration::from_millis(20)];
        let summary = measure(&mut nothing, 16, times, None).unwrap();
        assert!(summary.calls > 0 && summary.calls.is_multiple_of(16));
        assert!((nothing.0 as u64) > summary.calls);
    }

    #[test]
    fn no_two_records_have_one_id() {
        let mut records = Records::new();
        let ids: std::collections::HashSet<_> = (0..1000).map(|_| records.next().id).collect();
        assert_eq!(ids.len(), 1000);
    }
}
