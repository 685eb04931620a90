//! The records of a session, with a clock that is moved by hand.

mod acknowledging;
mod model;
mod room;
mod rows;
mod starting;

use redial_protocol::SessionCall;

use super::*;
use crate::{
    clock,
    table::call::{AckedWaiters, Fingerprint},
};

const WINDOW: usize = 4;
const LIMITS: SessionLimits = SessionLimits {
    lease: Duration::from_secs(1),
    window: WINDOW,
    max_sessions: 10,
    max_bytes: 100_000,
    max_total_bytes: 1_000_000,
    max_joined: 2,
    is_shared: false,
};

const ROOM: Room<'_> = Room {
    limits: &LIMITS,
    is_full: false,
};

/// Where all sessions together keep as much as they may.
const FULL: Room<'_> = Room {
    limits: &LIMITS,
    is_full: true,
};

type SlotDecision = Decision<(), &'static str>;

/// Records with a clock that is moved by hand. A waiter is a number; 0 is one that is gone.
struct RecordsWorld {
    records: Records<u32>,
    now: Instant,
}

impl RecordsWorld {
    fn new() -> Self {
        Self {
            records: Records::default(),
            now: clock::now(),
        }
    }

    fn attempt(&self, params: &str, number: u32) -> Attempt<'static> {
        Attempt {
            fingerprint: Fingerprint::new(1, params),
            deadline: None,
            now: self.now,
            number,
            is_numbered: true,
            ack: None,
            deferred: None,
        }
    }

    fn begin_with(
        &mut self,
        number: u64,
        attempt: Attempt<'_>,
        admitted: Result<bool, &'static str>,
    ) -> (SlotDecision, Vec<u8>) {
        let mut replay = Vec::new();
        let admit = || {
            admitted.map(|starts_now| Admitted {
                ticket: (),
                starts_now,
            })
        };
        let begin = self
            .records
            .begin(number, &attempt, ROOM, admit, || 7, &mut replay);
        (begin, replay)
    }

    fn begin(&mut self, number: u64) -> SlotDecision {
        let attempt = self.attempt("p", 1);
        self.begin_with(number, attempt, Ok(true)).0
    }

    fn run(&mut self, number: u64) {
        assert_eq!(self.begin(number), Decision::Start(()));
        assert_eq!(self.records.finish(number, b"done"), Vec::<u32>::new());
    }

    fn acknowledge_below(&mut self, number: u64) -> AckedWaiters<u32> {
        let mut waiters = None;
        self.records.acknowledge_below(number, &mut waiters);
        waiters.unwrap_or_default()
    }

    fn acknowledge(&mut self, from: u64, to: u64) -> bool {
        let mut waiters = None;
        self.records.acknowledge(from..to, WINDOW, &mut waiters)
    }

    fn resolve(&mut self, number: u64) -> (Resolved, Vec<u8>) {
        let mut replay = Vec::new();
        let resolved = self.records.resolve(number, ROOM, || 9, &mut replay);
        (resolved, replay)
    }

    fn cancel(&mut self, number: u64) -> Cancelled<u32> {
        self.records.cancel(number, ROOM)
    }
}
