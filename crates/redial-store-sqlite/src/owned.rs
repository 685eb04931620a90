//! Whether the file is still this store's own: the one under its name, which no other store has opened since.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rusqlite::{Connection, Error, Result, ffi};

use crate::clock;

/// How often it is looked whether the files are where they were. Calls that are acknowledged in between are
/// in the file that was moved, or lost with the one that was removed.
const LOOK: Duration = Duration::from_millis(100);

/// Which file a name stands for. On other systems than Unix, only that there is one.
type Identity = Option<(u64, u64)>;

/// The lock keeps other stores out as long as the lock file is where it was. After that the epoch does: each
/// store draws one when it opens the file, and commits nothing once there is another.
#[derive(Debug)]
pub(crate) struct Owned {
    path: PathBuf,
    /// `None` until it could be written.
    pub(crate) epoch: Option<i64>,
    file: Identity,
    /// The greatest length of the file so far, in bytes. A checkpoint may lengthen it, and nothing makes it
    /// shorter: a handler can't vacuum.
    len: u64,
    /// How it was cut short. What it has lost is lost, also when it grows again.
    cut: Option<String>,
    /// SQLite gives room back by itself, in a file that was made so before it was a store's.
    may_shrink: bool,
    /// The log and its index, as the present connection has them open.
    log: [Identity; 2],
    next_look: Instant,
}

impl Owned {
    /// For a file that has just been opened, and is locked.
    pub(crate) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            epoch: None,
            file: identity(path),
            len: length(path),
            cut: None,
            may_shrink: false,
            log: log(path),
            next_look: clock::now() + LOOK,
        }
    }

    /// Takes the file away from any store that still has it open.
    pub(crate) fn claim(&mut self, connection: &Connection) -> Result<()> {
        let vacuum: i64 = connection.pragma_query_value(None, "auto_vacuum", |row| row.get(0))?;
        self.may_shrink = vacuum != 0;
        if self.epoch.is_none() {
            // Random, for a counter would be the same in two copies. The low bits count probes.
            let draw = "UPDATE redial_meta SET probes = (random() & 0x7ffffffff) << 20 \
                        RETURNING probes >> 20";
            // In a transaction, whose commit says whether it was written: that of a statement alone is hidden
            // in its end, and a disk that is full would leave an epoch that the file does not have.
            let transaction = connection.unchecked_transaction()?;
            let epoch = transaction.query_row(draw, [], |row| row.get(0))?;
            transaction.commit()?;
            self.epoch = Some(epoch);
        }
        Ok(())
    }

    /// A commit may have lengthened the file. Noted before it is acknowledged, so that no later cut hides it.
    pub(crate) fn note_length(&mut self) {
        self.len = self.len.max(length(&self.path));
    }

    /// Whether the file is where it was, and whole.
    pub(crate) fn look_at_file(&mut self) -> Result<()> {
        if self.file.is_none() || identity(&self.path) != self.file {
            let why = "moved, removed or replaced while it was open";
            return Err(failure(ffi::SQLITE_READONLY_DBMOVED, why));
        }
        let (before, len) = (self.len, length(&self.path));
        if len < before && !self.may_shrink && self.cut.is_none() {
            self.cut = Some(format!(
                "cut from {before} to {len} bytes while it was open"
            ));
        }
        self.len = before.max(len);
        match &self.cut {
            Some(why) => Err(failure(ffi::SQLITE_CORRUPT, why)),
            None => Ok(()),
        }
    }

    /// The file was opened again, and has another log.
    pub(crate) fn reopened(&mut self) {
        self.log = log(&self.path);
    }

    /// Looks from time to time. After an error the connection has to be closed.
    pub(crate) fn look(&mut self, connection: &Connection) -> Result<()> {
        let now = clock::now();
        if now < self.next_look {
            return Ok(());
        }
        self.next_look = now + LOOK;
        self.look_at_file()?;
        if log(&self.path) == self.log || !saves_log(connection)? {
            return Ok(());
        }
        let why = "its -wal or -shm was removed while it was open; all that it held is saved";
        Err(failure(ffi::SQLITE_READONLY_DBMOVED, why))
    }
}

/// Moves all that the log holds to the file, as long as no old read is in the way.
fn saves_log(connection: &Connection) -> Result<bool> {
    let sql = "PRAGMA wal_checkpoint(PASSIVE)";
    connection.query_row(sql, [], |row| {
        Ok(row.get::<_, i64>(1)? == row.get::<_, i64>(2)?)
    })
}

/// Another store has drawn an epoch.
pub(crate) fn taken() -> Error {
    let why = "another store has opened it, by another name or because its lock file was removed";
    failure(ffi::SQLITE_READONLY_CANTLOCK, why)
}

fn failure(code: i32, why: &str) -> Error {
    Error::SqliteFailure(ffi::Error::new(code), Some(why.to_owned()))
}

fn log(path: &Path) -> [Identity; 2] {
    ["-wal", "-shm"].map(|end| {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        identity(Path::new(&name))
    })
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

fn identity(path: &Path) -> Identity {
    fs::metadata(path).ok().as_ref().map(number)
}

#[cfg(unix)]
fn number(metadata: &fs::Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    (metadata.dev(), metadata.ino())
}

#[cfg(not(unix))]
fn number(_: &fs::Metadata) -> (u64, u64) {
    (0, 0)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_cut_short_stays_lost_also_when_it_is_as_long_again() {
        let path = std::env::temp_dir().join(format!("redial-owned-{}", std::process::id()));
        let set_len = |len| {
            fs::File::create(&path)
                .and_then(|file| file.set_len(len))
                .unwrap()
        };
        set_len(8192);
        let mut owned = Owned::new(&path);
        owned.look_at_file().unwrap();
        set_len(20_000);
        owned.look_at_file().unwrap();
        for len in [19_999, 0, 20_000, 90_000] {
            set_len(len);
            let error = owned.look_at_file().unwrap_err().to_string();
            assert!(error.contains("from 20000 to 19999 bytes"), "{error}");
        }
        fs::remove_file(&path).unwrap();
    }
}
