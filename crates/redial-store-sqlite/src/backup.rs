//! A copy of the file, written while the store goes on.

use std::{
    fs::{self, File, OpenOptions},
    path::Path,
};

use rusqlite::{
    Connection, Result,
    backup::{Backup, StepResult},
    ffi,
};

use crate::{open::sync_folder, readers::Readers};

/// Writes the copy and syncs it.
pub(crate) fn write(readers: &Readers, path: &Path) -> Result<()> {
    let made = OpenOptions::new().write(true).create_new(true).open(path);
    made.map_err(|error| failed(path, &error.to_string()))?;
    let copied = readers.read_without_snapshot(|source| copy(source, path));
    if copied.is_err() {
        // Half a copy is of no use. That it can't be removed either says nothing new.
        drop(fs::remove_file(path));
    }
    copied?;
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let synced = File::open(path).and_then(|file| file.sync_all());
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
