//! The lock file: one store on one file, and who it is.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use crate::error::{OpenError, Owner};

/// The lock of a store's file, held until it is dropped, or until its process ends. The lock file stays:
/// to remove it would let two stores lock two files of one name.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    pub(crate) fn take(path: &Path) -> Result<Self, OpenError> {
        let name = lock_path(path);
        let mut options = OpenOptions::new();
        let opened = options.read(true).write(true).create(true).truncate(false);
        let mut file = opened
            .open(&name)
            .map_err(|error| OpenError::io(&name, error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(OpenError::InUse {
                    path: path.to_owned(),
                    owner: owner(&mut file),
                });
            }
            Err(TryLockError::Error(error)) => {
                return Err(OpenError::NoLocks {
                    path: path.to_owned(),
                    why: error.to_string(),
                });
            }
        }
        match sign(&mut file) {
            // The lock holds all the same; a second store is not told whose it is.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {}
            signed => signed.map_err(|error| OpenError::io(&name, error))?,
        }
        Ok(Self { _file: file })
    }
}

fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

fn sign(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())
}

fn owner(file: &mut File) -> Owner {
    let mut text = String::new();
    let read = file.read_to_string(&mut text);
    match read.ok().and_then(|_| text.trim().parse().ok()) {
        Some(id) if id == std::process::id() => Owner::ThisProcess,
        Some(id) => Owner::Process(id),
        None => Owner::Unknown,
    }
}
