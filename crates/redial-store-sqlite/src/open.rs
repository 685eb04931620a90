//! How a file is opened: what is refused, what is made, and how SQLite is set.

use std::{
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};

use crate::{
    error::{OpenError, no_room},
    guard::Guard,
    options::SqliteOptions,
    schema::{self, APPLICATION_ID, VERSION},
};

/// How long the writer waits while another program writes to the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// How many prepared statements of handlers are kept.
const KEPT_STATEMENTS: usize = 128;

/// How SQLite is set for the writer. `fullfsync` matters on macOS only, where `fsync` alone does not
/// reach the disk.
const SETUP: &str = "
    PRAGMA foreign_keys = ON;
    PRAGMA temp_store = MEMORY;
    PRAGMA cache_size = -16384;
    PRAGMA journal_size_limit = 16777216;
    PRAGMA fullfsync = ON;
    PRAGMA checkpoint_fullfsync = ON;
    PRAGMA trusted_schema = OFF;
";

/// The writer's connection.
pub(crate) struct Writable {
    pub(crate) connection: Connection,
    pub(crate) guard: Guard,
    /// The name of the table of calls.
    pub(crate) table: String,
}

/// The file's whole name, so that a change of the working folder changes nothing.
pub(crate) fn resolve(path: &Path) -> Result<PathBuf, OpenError> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if !folder.is_dir() {
        return Err(OpenError::NoFolder(folder.to_owned()));
    }
    // Two names of one file are one lock.
    if let Ok(whole) = fs::canonicalize(path) {
        return Ok(whole);
    }
    let whole = fs::canonicalize(folder).map_err(|error| OpenError::io(folder, error))?;
    Ok(whole.join(path.file_name().unwrap_or_default()))
}

/// Opens the file for writing, and makes it if it is missing. The lock is held.
pub(crate) fn open(path: &Path, options: &mut SqliteOptions) -> Result<Writable, OpenError> {
    let is_new = fs::metadata(path).map_or(true, |metadata| metadata.len() == 0);
    check_names(path)?;
    if is_new {
        check_log_of_none(path)?;
    } else {
        check_application(path)?;
        sync_log(path, options)?;
    }
    create_private(path).map_err(|error| OpenError::io(path, error))?;
    let mut connection = connect(path, OpenFlags::SQLITE_OPEN_CREATE)?;
    set_up(&connection, path, options)?;
    let sqlite = |error| OpenError::sqlite(path, error);
    let guard = Guard::install(&mut connection).map_err(sqlite)?;
    if schema::read_meta(&connection).map_err(sqlite)?.is_none() {
        make(&connection, path)?;
    }
    if is_new {
        let folder = path.parent().unwrap_or(Path::new("."));
        sync_folder(folder).map_err(|error| OpenError::io(folder, error))?;
    }
    upgrade(&connection, path)?;
    let table = check_version(&connection, path)?;
    migrate(&connection, &guard, path, options)?;
    Ok(Writable {
        connection,
        guard,
        table,
    })
}

/// Makes an empty file that only its owner reads, unless there is one: outcomes are their callers' alone.
/// SQLite gives its log the same permissions.
fn create_private(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Opens a file that was open before, to find out whether it can be used again. It is never made anew.
pub(crate) fn reopen(path: &Path, options: &SqliteOptions) -> Result<Writable, OpenError> {
    check_application(path)?;
    let mut connection = connect(path, OpenFlags::empty())?;
    set_up(&connection, path, options)?;
    let sqlite = |error| OpenError::sqlite(path, error);
    let guard = Guard::install(&mut connection).map_err(sqlite)?;
    let table = check_version(&connection, path)?;
    Ok(Writable {
        connection,
        guard,
        table,
    })
}

fn connect(path: &Path, more: OpenFlags) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | more;
    let opened = Connection::open_with_flags(path, flags).and_then(|connection| {
        connection.busy_timeout(BUSY_TIMEOUT)?;
        let is_read_only = connection.is_readonly("main")?;
        Ok((connection, is_read_only))
    });
    match opened {
        Ok((connection, false)) => Ok(connection),
        Ok((_, true)) => Err(OpenError::ReadOnly {
            path: path.to_owned(),
            why: "read-only file".to_owned(),
        }),
        Err(error) => Err(OpenError::sqlite(path, error)),
    }
}

/// Refuses a file with several names (hard links): each name has a lock and a log of its own, so that two stores
/// could write it, or one that finds it by the other name would miss what the log holds.
fn check_names(path: &Path) -> Result<(), OpenError> {
    #[cfg(unix)]
    if let Ok(metadata) = fs::metadata(path) {
        use std::os::unix::fs::MetadataExt;
        let names = metadata.nlink();
        if names > 1 {
            return Err(OpenError::SeveralNames {
                path: path.to_owned(),
                names,
            });
        }
    }
    Ok(())
}

/// Refuses an empty file that has a log: it was emptied, and SQLite would remove the log unread. A store that
/// is being made has no log until its file has a page.
fn check_log_of_none(path: &Path) -> Result<(), OpenError> {
    let log = log_path(path);
    if fs::metadata(&log).is_ok_and(|metadata| metadata.len() > 0) {
        return Err(OpenError::Damaged {
            path: path.to_owned(),
            why: format!(
                "it is empty or missing, and its log {} is not; to begin anew, remove that, too",
                log.display()
            ),
        });
    }
    Ok(())
}

fn log_path(path: &Path) -> PathBuf {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    log.into()
}

/// Syncs what a process that was killed has written to the log and did not come to sync. This one takes it for
/// durable: SQLite reads it, and outcomes in it are sent.
fn sync_log(path: &Path, options: &SqliteOptions) -> Result<(), OpenError> {
    let log = &log_path(path);
    if !options.is_synced || !log.exists() {
        return Ok(());
    }
    // The locks lie on other files, so that closing this one releases none.
    let synced = OpenOptions::new().write(true).open(log);
    synced
        .and_then(|file| file.sync_all())
        .and_then(|()| sync_folder(path.parent().unwrap_or(Path::new("."))))
        .map_err(|error| OpenError::io(log, error))
}

/// Refuses the files of other programs. A connection that writes would move their log when it is closed, so
/// that one is made only where nothing can be read without: a rollback is due, as after a power cut while
/// the file was made.
fn check_application(path: &Path) -> Result<(), OpenError> {
    let read = |access| {
        let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        let id: i64 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
        let tables = "SELECT count(*) FROM sqlite_schema";
        let tables: i64 = connection.query_row(tables, [], |row| row.get(0))?;
        Ok((id, tables))
    };
    let found = match read(OpenFlags::SQLITE_OPEN_READ_ONLY) {
        Err(rusqlite::Error::SqliteFailure(error, _))
            if error.extended_code == ffi::SQLITE_READONLY_ROLLBACK =>
        {
            read(OpenFlags::SQLITE_OPEN_READ_WRITE)
        }
        found => found,
    };
    let (id, tables) = found.map_err(|error| OpenError::sqlite(path, error))?;
    let why = match (id, tables) {
        (APPLICATION_ID, _) | (0, 0) => return Ok(()),
        (0, _) => "a database of another program, which has tables but none of Redial's".to_owned(),
        (id, _) => format!("a database of another program (its application_id is {id})"),
    };
    Err(OpenError::Foreign {
        path: path.to_owned(),
        why,
    })
}

fn set_up(connection: &Connection, path: &Path, options: &SqliteOptions) -> Result<(), OpenError> {
    let sqlite = |error| OpenError::sqlite(path, error);
    let mode = connection
        .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0))
        .map_err(|error| no_shared_memory(path, error))?;
    if mode != "wal" {
        return Err(OpenError::NoLocks {
            path: path.to_owned(),
            why: format!("SQLite keeps its journal mode at {mode}, and can't switch to wal"),
        });
    }
    connection.execute_batch(SETUP).map_err(sqlite)?;
    let synchronous = if options.is_synced { "FULL" } else { "OFF" };
    connection
        .pragma_update(None, "synchronous", synchronous)
        .map_err(sqlite)?;
    if let Some(bytes) = options.max_bytes {
        let page: u32 = connection
            .pragma_query_value(None, "page_size", |row| row.get(0))
            .map_err(sqlite)?;
        let pages = bytes / u64::from(page).max(1);
        let pages = u32::try_from(pages).unwrap_or(u32::MAX - 2).max(1);
        connection
            .pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
            .map_err(sqlite)?;
    }
    connection.set_prepared_statement_cache_capacity(KEPT_STATEMENTS);
    Ok(())
}

/// A file system without shared memory or locks shows here.
fn no_shared_memory(path: &Path, error: rusqlite::Error) -> OpenError {
    let is_about_locks = matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::FileLockingProtocolFailed | ErrorCode::SystemIoFailure)
    );
    if !is_about_locks || no_room(&error).is_some() {
        return OpenError::sqlite(path, error);
    }
    OpenError::NoLocks {
        path: path.to_owned(),
        why: error.to_string(),
    }
}

fn make(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let made = connection.unchecked_transaction().and_then(|transaction| {
        schema::create(&transaction)?;
        transaction.commit()
    });
    made.map_err(|error| OpenError::sqlite(path, error))
}

/// Brings the tables of an older version up to date. The version before is known no longer then.
fn upgrade(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let meta = schema::read_meta(connection);
    let upgraded = meta.and_then(|meta| match meta {
        Some((1, _)) => {
            let transaction = connection.unchecked_transaction()?;
            schema::upgrade(&transaction)?;
            transaction.commit()
        }
        _ => Ok(()),
    });
    upgraded.map_err(|error| OpenError::sqlite(path, error))
}

/// A new file survives a power cut only if its folder was synced.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

fn check_version(connection: &Connection, path: &Path) -> Result<String, OpenError> {
    let meta = schema::read_meta(connection).map_err(|error| OpenError::sqlite(path, error))?;
    let path = path.to_owned();
    match meta {
        Some((VERSION, table)) => Ok(table),
        Some((found, _)) if found > VERSION => Err(OpenError::Newer {
            path,
            found,
            known: VERSION,
        }),
        _ => Err(OpenError::Damaged {
            path,
            why: "the row of redial_meta is missing or makes no sense".to_owned(),
        }),
    }
}

/// Runs the program's migration in a transaction of its own.
fn migrate(
    connection: &Connection,
    guard: &Guard,
    path: &Path,
    options: &mut SqliteOptions,
) -> Result<(), OpenError> {
    let Some(migration) = options.migration.take() else {
        return Ok(());
    };
    let sqlite = |error| OpenError::sqlite(path, error);
    let transaction = connection.unchecked_transaction().map_err(sqlite)?;
    guard
        .migration(|| migration(&transaction))
        .map_err(|source| OpenError::Migration {
            path: path.to_owned(),
            source,
        })?;
    if transaction.is_autocommit() {
        return Err(OpenError::Migration {
            path: path.to_owned(),
            source: "its SQL has rolled the transaction back".into(),
        });
    }
    transaction.commit().map_err(sqlite)
}
