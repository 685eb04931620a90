//! A batch: jobs that become durable in one transaction, with one sync.
//!
//! Calls run without savepoints at first. When one fails after it has written something, nothing of
//! the batch can be kept but by running it again, each call in a savepoint of its own. What breaks a
//! transaction as a whole (`ON CONFLICT ROLLBACK`, a deferred constraint) is found and run alone.

use std::time::{Duration, Instant};

use redial_server::{
    Abort,
    store::{Outcome, OutcomeKind, StoreError},
};
use rusqlite::{Connection, ErrorCode};

use crate::{
    clock,
    guard::Guard,
    memory::Memory,
    queue::{Job, Reply},
    statements::Statements,
};

mod steps;

/// The most jobs in one transaction: a bound on what a batch that has to run again costs.
pub(crate) const MAX_JOBS: usize = 1024;

/// For how long handlers may keep the calls of their batch waiting for its commit.
const MAX_TIME: Duration = Duration::from_millis(20);

/// How often the clock is read, in jobs.
const CLOCK_STEP: usize = 16;

/// What came of a job, once its batch is durable.
pub(crate) type Replies = Vec<Result<Reply, StoreError>>;

/// Runs jobs.
pub(crate) struct Batch<'a, 'c> {
    pub(crate) connection: &'c Connection,
    pub(crate) statements: &'a mut Statements<'c>,
    pub(crate) guard: &'a Guard,
    pub(crate) memory: &'a mut Memory,
    /// The first thing that this batch has written.
    pub(crate) witness: Option<Witness>,
}

/// What shows whether a batch is in the file: a batch is there as a whole or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Witness {
    /// The record of a session's call, as it is after the batch.
    Slot {
        slot: i64,
        call: redial_protocol::SessionCall,
        state: i64,
    },
    /// The slot has no row.
    NoSlot(i64),
    /// A row for a plain id, with this fingerprint and state.
    Plain {
        generation: usize,
        row: i64,
        state: i64,
        fingerprint: u128,
    },
    /// The row is deleted.
    NoPlain { generation: usize, row: i64 },
    /// The session has a row, or has none.
    Session {
        id: redial_protocol::SessionId,
        is_there: bool,
    },
}

/// The storage has failed.
pub(crate) struct Trouble {
    pub(crate) error: rusqlite::Error,
    /// Whether the batch may be durable all the same.
    pub(crate) is_uncertain: bool,
}

/// Whether each call has a savepoint.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// Those of methods that often fail have one.
    Bare,
    Savepoints,
}

/// Why a batch can't be committed as it is.
enum BatchError {
    Storage(rusqlite::Error),
    /// A call has to be undone and has no savepoint.
    NeedsSavepoints,
    /// A call has broken the whole transaction.
    Breaks(Breach),
}

/// How a call breaks its transaction.
enum Breach {
    /// The transaction is rolled back, and the handler came to this.
    RolledBack(Outcome),
    /// The handler has met a failure of the storage, and says so.
    Storage(Outcome),
}

impl Witness {
    /// Whether the batch is in the file.
    pub(crate) fn is_there(&self, statements: &mut Statements<'_>) -> rusqlite::Result<bool> {
        Ok(match *self {
            Self::Slot { slot, call, state } => {
                let stored = statements.get(slot)?;
                stored.is_some_and(|stored| stored.call == call && stored.state == state)
            }
            Self::NoSlot(slot) => statements.get(slot)?.is_none(),
            Self::Plain {
                generation,
                row,
                state,
                fingerprint,
            } => statements.get_plain(generation, row)? == Some((state, fingerprint)),
            Self::NoPlain { generation, row } => statements.get_plain(generation, row)?.is_none(),
            Self::Session { id, is_there } => statements.has_session(id)? == is_there,
        })
    }
}

impl From<rusqlite::Error> for BatchError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Storage(error)
    }
}

impl Batch<'_, '_> {
    /// Runs jobs from the front, as many as one transaction may hold, and commits them. Returns how many
    /// there were; their replies are in `replies`.
    pub(crate) fn run(
        &mut self,
        jobs: &mut [Job],
        replies: &mut Replies,
    ) -> Result<usize, Trouble> {
        let mut count = jobs.len().min(MAX_JOBS);
        let mut how = How::Bare;
        loop {
            replies.clear();
            self.witness = None;
            let stop = match self.attempt(&mut jobs[..count], how, replies) {
                Ok(()) => match self.statements.commit() {
                    Ok(()) => {
                        self.memory.keep();
                        return Ok(replies.len());
                    }
                    Err(error) if is_constraint(&error) && replies.len() > 1 => {
                        // One of them has broken it. Half of them may be without it.
                        self.roll_back()?;
                        count = replies.len() / 2;
                        continue;
                    }
                    Err(error) if is_constraint(&error) => {
                        self.roll_back()?;
                        return self.fail_first(jobs, replies, &error.to_string());
                    }
                    Err(error) => return Err(self.give_up(error, true)),
                },
                Err(stop) => stop,
            };
            match stop {
                BatchError::Storage(error) => return Err(self.give_up(error, false)),
                BatchError::NeedsSavepoints => how = How::Savepoints,
                BatchError::Breaks(_) if !replies.is_empty() => count = replies.len(),
                BatchError::Breaks(breach) => {
                    self.roll_back()?;
                    return self.end_first(jobs, replies, breach);
                }
            }
            self.roll_back()?;
        }
    }

    /// Runs jobs in one transaction until there are enough.
    fn attempt(
        &mut self,
        jobs: &mut [Job],
        how: How,
        replies: &mut Replies,
    ) -> Result<(), BatchError> {
        self.statements.begin()?;
        if let Some(expired) = self.memory.plain.turn() {
            self.statements.empty(expired)?;
        }
        let start = clock::now();
        for job in jobs {
            let reply = self.step(job, how)?;
            replies.push(reply);
            if replies.len().is_multiple_of(CLOCK_STEP) && is_late(start) {
                break;
            }
        }
        Ok(())
    }

    /// The first call breaks its transaction even alone: it has failed, and what it wrote is undone.
    fn end_first(
        &mut self,
        jobs: &mut [Job],
        replies: &mut Replies,
        breach: Breach,
    ) -> Result<usize, Trouble> {
        match breach {
            Breach::Storage(outcome) => {
                let text = String::from_utf8_lossy(outcome.bytes()).into_owned();
                let error = format!("nothing was recorded, since the storage has failed: {text}");
                replies.push(Err(StoreError::nothing_done(error)));
                Ok(1)
            }
            Breach::RolledBack(outcome) if outcome.kind() == OutcomeKind::Result => self
                .fail_first(
                    jobs,
                    replies,
                    "the handler's SQL has rolled its transaction back",
                ),
            Breach::RolledBack(outcome) => self.record_first(jobs, replies, outcome),
        }
    }

    fn fail_first(
        &mut self,
        jobs: &mut [Job],
        replies: &mut Replies,
        why: &str,
    ) -> Result<usize, Trouble> {
        let why = format!("{why}; nothing that the call wrote was kept");
        let outcome = Outcome::of(usize::MAX, || Err::<(), _>(Abort::failed(why)));
        self.record_first(jobs, replies, outcome)
    }

    /// Records what the first call came to, without running it again.
    fn record_first(
        &mut self,
        jobs: &[Job],
        replies: &mut Replies,
        outcome: Outcome,
    ) -> Result<usize, Trouble> {
        replies.clear();
        let recorded = self.statements.begin().and_then(|()| match &jobs[0] {
            Job::Execute(call, ..) => self.record(call, outcome),
            _ => Ok(Reply::Done),
        });
        match recorded {
            Ok(reply) => replies.push(Ok(reply)),
            Err(error) => return Err(self.give_up(error, false)),
        }
        match self.statements.commit() {
            Ok(()) => {
                self.memory.keep();
                Ok(1)
            }
            Err(error) => Err(self.give_up(error, true)),
        }
    }

    /// Saves all acknowledgements, in a transaction of its own.
    pub(crate) fn save_all(&mut self) -> rusqlite::Result<()> {
        self.statements.begin()?;
        self.save(usize::MAX)?;
        self.statements.commit()
    }

    fn roll_back(&mut self) -> Result<(), Trouble> {
        self.memory.roll_back();
        let rolled_back = self.statements.roll_back();
        rolled_back.map_err(|error| Trouble {
            error,
            is_uncertain: false,
        })
    }

    fn give_up(&mut self, error: rusqlite::Error, is_commit: bool) -> Trouble {
        self.memory.roll_back();
        // Closing the connection would do it, too.
        drop(self.statements.roll_back());
        // A full disk is found before the last page of a commit is written.
        let is_certain = matches!(
            error.sqlite_error_code(),
            Some(ErrorCode::DiskFull | ErrorCode::DatabaseBusy | ErrorCode::OutOfMemory)
        );
        Trouble {
            error,
            is_uncertain: is_commit && !is_certain,
        }
    }
}

fn is_constraint(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation)
}

fn is_late(start: Instant) -> bool {
    clock::now().duration_since(start) >= MAX_TIME
}
