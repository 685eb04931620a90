//! PEM as it is given, in a file or in memory, and whether a file has changed since it was read.

use std::{
    fmt,
    fs::{self, File},
    io::{self, Read},
    path::PathBuf,
    sync::Arc,
    time::SystemTime,
};

use zeroize::Zeroizing;

use crate::error::{Origin, TlsError};

/// The largest file that is read: lists of revoked certificates can be long.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// Where to read PEM.
#[derive(Clone)]
pub(crate) enum Source {
    File(PathBuf),
    Memory(Arc<Zeroizing<Vec<u8>>>),
}

/// What tells one state of a file from another. A file that is replaced (`mv`, a symbolic link that
/// is moved on) is another file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stamp {
    modified: Option<SystemTime>,
    bytes: Option<u64>,
    inode: Option<u64>,
}

impl Source {
    pub(crate) fn memory(pem: impl Into<Vec<u8>>) -> Self {
        Self::Memory(Arc::new(Zeroizing::new(pem.into())))
    }

    pub(crate) fn origin(&self) -> Origin {
        match self {
            Self::File(path) => Origin::File(path.clone()),
            Self::Memory(_) => Origin::Memory,
        }
    }

    /// All of it, which is overwritten when it is dropped, since it may be a key.
    pub(crate) fn read(&self, what: &'static str) -> Result<Arc<Zeroizing<Vec<u8>>>, TlsError> {
        let path = match self {
            Self::Memory(bytes) => return Ok(Arc::clone(bytes)),
            Self::File(path) => path,
        };
        let read = || {
            // To open anything else may take for ever: a pipe waits for its other end.
            if !fs::metadata(path)?.is_file() {
                let text = "it is no regular file";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
            let file = File::open(path)?;
            // With room for all, so that no copy is left behind where a buffer grew.
            let bytes = file.metadata()?.len().min(MAX_BYTES);
            let room = usize::try_from(bytes).unwrap_or(0) + 1;
            let mut pem = Zeroizing::new(Vec::with_capacity(room));
            file.take(MAX_BYTES + 1).read_to_end(&mut pem)?;
            if pem.len() as u64 > MAX_BYTES {
                let reason = format!("it has more than {} MiB", MAX_BYTES / 1024 / 1024);
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, reason));
            }
            Ok(pem)
        };
        let read = read().map(Arc::new);
        read.map_err(|reason| TlsError::Unreadable {
            what,
            origin: self.origin(),
            reason: Arc::new(reason),
        })
    }

    pub(crate) fn stamp(&self) -> Stamp {
        let Self::File(path) = self else {
            return Stamp::default();
        };
        let Ok(metadata) = fs::metadata(path) else {
            return Stamp::default();
        };
        Stamp {
            modified: metadata.modified().ok(),
            bytes: Some(metadata.len()),
            inode: inode(&metadata),
        }
    }
}

/// Nothing of what is in memory.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({})", self.origin())
    }
}

#[cfg(unix)]
fn inode(metadata: &fs::Metadata) -> Option<u64> {
    Some(std::os::unix::fs::MetadataExt::ino(metadata))
}

#[cfg(not(unix))]
fn inode(_: &fs::Metadata) -> Option<u64> {
    None
}
