//! Why a store can't be opened, and how SQLite's errors are distinguished.

use std::{
    error::Error,
    fmt, io,
    path::{Path, PathBuf},
};

use redial_server::store::StoreError;
use rusqlite::{ErrorCode, ffi};
use thiserror::Error;

/// Why a store can't be opened. Each message names the file and says what to do.
#[derive(Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The folder of the file does not exist.
    #[error("{}: no such folder; create it, or name a file in another one", .0.display())]
    NoFolder(PathBuf),
    /// The folder or the file can't be written.
    #[error("{}: {why}; the store needs to write this file and others beside it, so make both writable, or name a file elsewhere", .path.display())]
    ReadOnly {
        /// The file that can't be written.
        path: PathBuf,
        /// What the system says.
        why: String,
    },
    /// Another store has the file open.
    #[error("{}: in use by {owner}; stop that one first, or name another file", .path.display())]
    InUse {
        /// The store's file.
        path: PathBuf,
        /// Who has it open.
        owner: Owner,
    },
    /// The file has other names (hard links), under which another store could open it.
    #[error("{}: the file has {names} names (hard links), and each has a log of its own; nothing was changed; remove the other names, or copy the file to one of its own", .path.display())]
    SeveralNames {
        /// The store's file.
        path: PathBuf,
        /// How many it has.
        names: u64,
    },
    /// The file system has no locks, as some network file systems don't, or no shared memory.
    #[error("{}: the file system can't lock this file ({why}), so two servers could write it; name a file on a local disk", .path.display())]
    NoLocks {
        /// The store's file.
        path: PathBuf,
        /// What the system says.
        why: String,
    },
    /// The disk has no room for the file, or for those that SQLite needs beside it.
    #[error("{}: {why}; make room on its disk, and start again; nothing in it was lost", .path.display())]
    NoRoom {
        /// The store's file, or the one beside it.
        path: PathBuf,
        /// What there is no room for.
        why: String,
    },
    /// The file is of another program.
    #[error("{}: {why}; nothing was changed; name another file, or move this one away", .path.display())]
    Foreign {
        /// The store's file.
        path: PathBuf,
        /// How it is known.
        why: String,
    },
    /// A newer version of this crate has written the file.
    #[error("{}: its tables have version {found}, and this program knows version {known}; nothing was changed; use the newer program, or restore a backup", .path.display())]
    Newer {
        /// The store's file.
        path: PathBuf,
        /// The version of its tables.
        found: i64,
        /// The version that this crate writes.
        known: i64,
    },
    /// The file is damaged.
    #[error("{}: damaged ({why}); restore a backup, or save what can be saved with `sqlite3 FILE .recover`", .path.display())]
    Damaged {
        /// The store's file.
        path: PathBuf,
        /// What SQLite says.
        why: String,
    },
    /// The program's own [`migrate`](crate::SqliteOptions::migrate) has failed; nothing that it did was kept.
    #[error("{}: the program's migration failed, and nothing of it was kept: {source}", .path.display())]
    Migration {
        /// The store's file.
        path: PathBuf,
        /// What it failed with.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The system can't do what is needed.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// SQLite can't do what is needed.
    #[error("{}: {source}", .path.display())]
    Sqlite {
        /// The store's file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
}

/// As its sentence, which is what a `main` that returns it prints.
impl fmt::Debug for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Who has a store's file open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A process.
    Process(u32),
    /// Another store of this process.
    ThisProcess,
    /// Its process has not written its number yet.
    Unknown,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process(id) => write!(f, "process {id}"),
            Self::ThisProcess => f.write_str("another store of this process"),
            Self::Unknown => f.write_str("another process"),
        }
    }
}

impl OpenError {
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        use io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
        let path = path.to_owned();
        let why = source.to_string();
        match source.kind() {
            PermissionDenied | ReadOnlyFilesystem => Self::ReadOnly { path, why },
            StorageFull | QuotaExceeded => Self::NoRoom { path, why },
            _ => Self::Io { path, source },
        }
    }

    pub(crate) fn sqlite(path: &Path, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        if let Some(why) = no_room(&source) {
            return Self::NoRoom { path, why };
        }
        match source.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => Self::Foreign {
                path,
                why: "not an SQLite database".to_owned(),
            },
            Some(ErrorCode::DatabaseCorrupt) => Self::Damaged {
                path,
                why: source.to_string(),
            },
            Some(ErrorCode::ReadOnly) => Self::ReadOnly {
                path,
                why: source.to_string(),
            },
            _ => Self::Sqlite { path, source },
        }
    }
}

/// What there is no room for on the disk, if that is what the error is about. SQLite takes a full disk for an
/// error of it where the index of the log is to grow.
pub(crate) fn no_room(error: &rusqlite::Error) -> Option<String> {
    if error.sqlite_error_code() == Some(ErrorCode::DiskFull) {
        return Some(error.to_string());
    }
    let code = error.sqlite_error()?.extended_code;
    (code == ffi::SQLITE_IOERR_SHMSIZE).then(|| format!("no room for its -shm file ({error})"))
}

/// What there is no room for, where the store tries again by itself.
pub(crate) fn waits_for_room(path: &Path, why: &str) -> String {
    format!(
        "{}: {why}; make room on its disk; the store then goes on by itself",
        path.display()
    )
}

/// What failed, with the file's name and what to do.
pub(crate) fn describe(path: &Path, error: &rusqlite::Error) -> String {
    if let Some(why) = no_room(error) {
        return waits_for_room(path, &why);
    }
    let code = error.sqlite_error().map(|error| error.extended_code);
    let advice = match error.sqlite_error_code() {
        _ if code == Some(ffi::SQLITE_READONLY_CANTLOCK) => "stop this server",
        _ if code == Some(ffi::SQLITE_READONLY_DBMOVED) => {
            "put it back, and the store goes on by itself; or restart the server"
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            "it is damaged: stop the server and restore a backup"
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            "another program writes to it: stop that one; the store then goes on by itself"
        }
        _ => "look at its disk; the store tries again by itself",
    };
    format!("{}: {error}; {advice}", path.display())
}

/// An error of a step that was rolled back for certain.
pub(crate) fn nothing_done(path: &Path, error: &rusqlite::Error) -> StoreError {
    StoreError::nothing_done(describe(path, error))
}

/// SQLite's own words for what is no fault of the handler that met it.
const STORAGE_FAILURES: [&str; 8] = [
    "database or disk is full",
    "disk I/O error",
    "database disk image is malformed",
    "attempt to write a readonly database",
    "unable to open database file",
    "database is locked",
    "out of memory",
    "file is not a database",
];

/// Whether a handler's error is about the storage. The text is all that is left of it: a handler may
/// have wrapped the error of SQLite in one of its own. Its own words may hold SQLite's, as may a caller's
/// that it repeats, so that those count alone, or at the end behind a colon.
pub(crate) fn is_storage_failure(outcome: &[u8]) -> bool {
    let text = std::str::from_utf8(outcome).unwrap_or_default();
    if text.starts_with("\"error\":{\"code\":-32603,") {
        // Of a panic, such as that of an `unwrap`, it is all in there.
        return STORAGE_FAILURES.iter().any(|words| text.contains(words));
    }
    let message = message(text);
    STORAGE_FAILURES.iter().any(|words| {
        let before = message.strip_suffix(words);
        before.is_some_and(|before| before.is_empty() || before.ends_with(": "))
    })
}

/// The message of an error as it stands in its JSON, which begins with the code and the message.
fn message(outcome: &str) -> &str {
    let (_, rest) = outcome.split_once("\"message\":\"").unwrap_or_default();
    let mut is_escaped = false;
    let end = rest.find(|one: char| {
        let is_end = one == '"' && !is_escaped;
        is_escaped = one == '\\' && !is_escaped;
        is_end
    });
    end.map_or(rest, |end| &rest[..end])
}

#[cfg(test)]
mod tests {
    use redial_server::{Abort, store::Outcome};

    use super::*;

    fn is_failure(handler: impl FnOnce() -> Result<(), Abort>) -> bool {
        is_storage_failure(Outcome::of(1 << 20, handler).bytes())
    }

    #[test]
    fn the_words_of_sqlite_count_alone_or_behind_those_of_a_wrapper() {
        let says = |text: &str| is_failure(|| Err(Abort::failed(text)));
        assert!(says("database or disk is full"));
        assert!(says("can't \"order\": disk I/O error"));
        assert!(is_failure(|| Err(
            Abort::failed("database is locked").code(7)
        )));
        let full = rusqlite::Error::SqliteFailure(
            ffi::Error::new(ffi::SQLITE_FULL),
            Some("database or disk is full".to_owned()),
        );
        // As an `unwrap` says it.
        assert!(is_failure(|| panic!("{full:?}")));
        assert!(!says("the item \"out of memory\" is unknown"));
        assert!(!says("unknown item \"out of memory\""));
        assert!(!says("out of memory: all 3 modules are sold"));
        assert!(!says("no such item\", \"message\":\"database is locked"));
        assert!(!is_failure(|| {
            let abort = Abort::failed("sold out").data(&"out of memory");
            Err(abort.unwrap())
        }));
    }
}
