//! The thread that owns the connection that writes: it takes what was handed in, runs it in batches,
//! and calls back what is durable.

use std::{path::PathBuf, sync::Arc, time::Duration};

use redial_server::store::{StoreError, together};
use rusqlite::{Connection, ffi};

use crate::{
    batch::{Batch, MAX_JOBS, Replies, Trouble, Witness},
    error::{OpenError, describe, nothing_done, waits_for_room},
    lock::Lock,
    memory::Memory,
    open::{self, Writable},
    options::SqliteOptions,
    owned::Owned,
    queue::{Job, WriterMode},
    recover,
    statements::Statements,
    store::Shared,
};

/// How soon, and how seldom at last, a file that has failed is tried again.
const RETRY: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// The writer's state, which outlives its connections.
pub(crate) struct Writer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) path: PathBuf,
    pub(crate) options: SqliteOptions,
    pub(crate) memory: Memory,
    pub(crate) owned: Owned,
    /// Released when the thread ends, and the file is closed.
    pub(crate) lock: Lock,
}

/// Why the writer is through with a connection.
enum Exit {
    Ended,
    /// The storage has failed. These jobs wait for their answers, if it isn't known whether they are
    /// durable.
    Failed(Option<Unsettled>),
}

struct Unsettled {
    jobs: Vec<Job>,
    replies: Replies,
    witness: Option<Witness>,
}

/// The end of the writer's thread, after which each job is refused.
struct Leave(Arc<Shared>);

impl Drop for Leave {
    fn drop(&mut self) {
        self.0.readers.close();
        self.0.queue.end(WriterMode::Abandon);
        let mut left = Vec::new();
        self.0.queue.take(&mut left, Duration::MAX, None);
        abandon(&mut left);
    }
}

impl Writer {
    /// Runs until the store is closed.
    pub(crate) fn run(mut self, first: Option<Writable>) {
        // Also if a defect of this crate makes it panic.
        let _leave = Leave(Arc::clone(&self.shared));
        let mut todo = Vec::new();
        let mut next = first.or_else(|| self.recover(None, &mut todo));
        while let Some(writable) = next.take() {
            let exit = self.serve(&writable, &mut todo);
            drop(writable);
            match exit {
                Exit::Ended => break,
                Exit::Failed(unsettled) => next = self.recover(unsettled, &mut todo),
            }
        }
        drop(self.lock);
    }

    /// Runs batches until the storage fails or the store is closed.
    fn serve(&mut self, writable: &Writable, todo: &mut Vec<Job>) -> Exit {
        let mut statements = match Statements::new(&writable.connection, self.owned.epoch) {
            Ok(statements) => statements,
            Err(error) => return self.failed(error),
        };
        let mut replies = Replies::new();
        loop {
            // What was left over by the batch before is first.
            if todo.is_empty() {
                let due = self.memory.plain.due();
                let input = self.shared.queue.take(todo, due, None);
                match input.mode {
                    WriterMode::On => {}
                    WriterMode::Abandon => {
                        abandon(todo);
                        return Exit::Ended;
                    }
                    WriterMode::Close if todo.is_empty() => {
                        return self.close(&mut statements, writable);
                    }
                    WriterMode::Close => {}
                }
                let awake = todo.iter().filter_map(Job::awake).chain(input.awake).max();
                self.memory.plain.tell(awake);
            }
            if let Err(error) = self.owned.look(&writable.connection) {
                return self.failed(error);
            }
            let mut batch = Batch {
                connection: &writable.connection,
                statements: &mut statements,
                guard: &writable.guard,
                memory: &mut self.memory,
                witness: None,
            };
            match batch.run(todo, &mut replies) {
                Ok(count) => {
                    self.owned.note_length();
                    if let Some(watcher) = self.shared.commits.get() {
                        watcher(count);
                    }
                    together(|| {
                        for (job, reply) in todo.drain(..count).zip(replies.drain(..)) {
                            job.end(reply);
                        }
                    });
                }
                Err(trouble) => {
                    let witness = batch.witness.take();
                    return self.unsettled(trouble, todo, replies, witness);
                }
            }
        }
    }

    /// After a failure: answers what can be answered, and says what is wrong.
    fn unsettled(
        &self,
        trouble: Trouble,
        todo: &mut Vec<Job>,
        mut replies: Replies,
        witness: Option<Witness>,
    ) -> Exit {
        self.shared
            .set_problem(Some(nothing_done(&self.path, &trouble.error)));
        if trouble.is_uncertain {
            let jobs = todo.drain(..replies.len()).collect();
            return Exit::Failed(Some(Unsettled {
                jobs,
                replies,
                witness,
            }));
        }
        replies.clear();
        let count = todo.len().min(MAX_JOBS);
        for job in todo.drain(..count) {
            job.end(Err(nothing_done(&self.path, &trouble.error)));
        }
        Exit::Failed(None)
    }

    fn failed(&self, error: rusqlite::Error) -> Exit {
        self.shared
            .set_problem(Some(nothing_done(&self.path, &error)));
        Exit::Failed(None)
    }

    /// Opens the file again, until that works or the store is closed.
    fn recover(
        &mut self,
        mut unsettled: Option<Unsettled>,
        todo: &mut Vec<Job>,
    ) -> Option<Writable> {
        let mut wait = RETRY;
        loop {
            match self.try_again(unsettled.as_ref()) {
                Ok((writable, is_there)) => {
                    if let Some(unsettled) = unsettled.take() {
                        self.settle(unsettled, is_there);
                    }
                    self.shared.set_problem(None);
                    return Some(writable);
                }
                Err(why) => {
                    self.shared
                        .set_problem(Some(StoreError::nothing_done(&*why)));
                    if let Some(unsettled) = unsettled.take() {
                        for job in unsettled.jobs {
                            job.end(Err(StoreError::uncertain(&*why)));
                        }
                    }
                    refuse(todo, &why);
                }
            }
            let due = Duration::MAX;
            let input = self.shared.queue.take(todo, due, Some(wait));
            if input.mode != WriterMode::On {
                abandon(todo);
                return None;
            }
            wait = (wait * 2).min(RETRY_MAX);
        }
    }

    /// Opens the file, makes sure that it can be written, and looks whether the batch is in it. What the
    /// error says is for people.
    fn try_again(
        &mut self,
        unsettled: Option<&Unsettled>,
    ) -> Result<(Writable, Option<bool>), String> {
        // Without any connection the file is read anew, and not as it was left in memory.
        self.shared.readers.drop_idle();
        let describe = |error| describe(&self.path, &error);
        self.owned.look_at_file().map_err(describe)?;
        let reopened = open::reopen(&self.path, &self.options);
        let writable = reopened.map_err(|error| match error {
            OpenError::NoRoom { path, why } => waits_for_room(&path, &why),
            error => error.to_string(),
        })?;
        if writable.table != self.shared.table {
            let file = self.path.display();
            return Err(format!(
                "{file}: replaced by another file; restart the server"
            ));
        }
        self.owned.claim(&writable.connection).map_err(describe)?;
        let checked = self.check(&writable.connection, unsettled);
        let is_there = checked.map_err(|error| crate::error::describe(&self.path, &error))?;
        self.owned.reopened();
        Ok((writable, is_there))
    }

    fn check(
        &mut self,
        connection: &Connection,
        unsettled: Option<&Unsettled>,
    ) -> rusqlite::Result<Option<bool>> {
        // What the log holds moves to the file and is synced there. A commit on top then makes sure that
        // what is left of a commit that failed can't come back.
        let is_busy: bool =
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
        if is_busy && unsettled.is_some() {
            return Err(in_use());
        }
        let mut statements = Statements::new(connection, self.owned.epoch)?;
        statements.begin()?;
        statements.probe()?;
        statements.commit()?;
        let is_there = match unsettled.and_then(|unsettled| unsettled.witness.as_ref()) {
            Some(witness) => Some(witness.is_there(&mut statements)?),
            None => None,
        };
        let plain = self.memory.plain.renew();
        let loaded = recover::load(connection, plain)?;
        let before = std::mem::replace(&mut self.memory, loaded);
        self.memory.inherit(&before);
        Ok(is_there)
    }

    /// Answers the calls of a commit that had failed.
    fn settle(&self, unsettled: Unsettled, is_there: Option<bool>) {
        for (job, reply) in unsettled.jobs.into_iter().zip(unsettled.replies) {
            let failed = |is_uncertain| StoreError {
                is_uncertain,
                message: format!(
                    "{}: the commit failed; look at its disk",
                    self.path.display()
                ),
            };
            job.end(match is_there {
                Some(true) => reply,
                Some(false) => Err(failed(false)),
                None => Err(failed(true)),
            });
        }
    }

    /// Writes what may be lost, and leaves one file without a log.
    fn close<'c>(&mut self, statements: &mut Statements<'c>, writable: &'c Writable) -> Exit {
        let mut batch = Batch {
            connection: &writable.connection,
            statements,
            guard: &writable.guard,
            memory: &mut self.memory,
            witness: None,
        };
        // Lost, it costs memory for a while.
        drop(batch.save_all());
        self.shared.readers.close();
        let truncate = "PRAGMA wal_checkpoint(TRUNCATE)";
        drop(writable.connection.query_row(truncate, [], |_| Ok(())));
        Exit::Ended
    }
}

/// A read that lasts keeps the log from being moved, so that what it holds may not be on the disk.
fn in_use() -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(
        ffi::Error::new(ffi::SQLITE_BUSY),
        Some("a read is in the way of a checkpoint".to_owned()),
    )
}

/// The program has dropped the store, or has closed it while it could not be written.
fn abandon(jobs: &mut Vec<Job>) {
    refuse(jobs, "the store is closed");
}

fn refuse(jobs: &mut Vec<Job>, why: &str) {
    for job in jobs.drain(..) {
        job.end(Err(StoreError::nothing_done(why)));
    }
}
