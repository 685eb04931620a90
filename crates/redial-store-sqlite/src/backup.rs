//! A copy of the file, written while the store goes on.

use std::{
    fs::{self, File, OpenOptions},
    io,
    path::Path,
};

use rusqlite::{
    Connection, Result,
    backup::{Backup, StepResult},
    ffi,
};

use crate::{open::sync_folder, readers::Readers};

/// Writes the copy and syncs it. It gets its name when it is whole: of a copy that a crash has cut off there
/// may be an empty file, which would open as a new store.
pub(crate) fn write(readers: &Readers, path: &Path) -> Result<()> {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = Path::new(&part);
    is_free(path)?;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    // Outcomes are their callers' alone.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let made = options.open(part);
    made.map_err(|error| {
        let why = format!("{error}; it belongs to a copy that is being written, or was cut off");
        failed(part, &why)
    })?;
    let whole = readers
        .read_without_snapshot(|source| copy(source, part))
        .and_then(|()| publish(part, path));
    if whole.is_err() {
        // Half a copy is of no use. That it can't be removed either says nothing new.
        drop(fs::remove_file(part));
    }
    whole
}

fn is_free(path: &Path) -> Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(path, &error.to_string())),
        Ok(_) => Err(failed(path, "exists; expected a name that is free")),
    }
}

fn publish(part: &Path, path: &Path) -> Result<()> {
    is_free(path)?;
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let synced = File::open(part).and_then(|file| file.sync_all());
    let synced = synced.and_then(|()| fs::rename(part, path));
    let synced = synced.and_then(|()| sync_folder(folder.unwrap_or(Path::new("."))));
    synced.map_err(|error| failed(path, &error.to_string()))
}

/// All pages in one step, which is one snapshot: the writer goes on meanwhile.
fn copy(source: &Connection, path: &Path) -> Result<()> {
    let mut copy = Connection::open(path)?;
    let backup = Backup::new(source, &mut copy)?;
    match backup.step(-1)? {
        StepResult::Done => Ok(()),
        _ => Err(failed(path, "the copy did not end; try again")),
    }
}

fn failed(path: &Path, why: &str) -> rusqlite::Error {
    let error = ffi::Error::new(ffi::SQLITE_CANTOPEN);
    rusqlite::Error::SqliteFailure(error, Some(format!("{}: {why}", path.display())))
}
