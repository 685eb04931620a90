//! What can be wrong with certificates, keys and lists: each error names the file and the reason.

use std::{fmt, io, path::PathBuf, sync::Arc};

use thiserror::Error;

/// Where PEM came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file.
    File(PathBuf),
    /// The program's memory.
    Memory,
    /// The system's store of certificate authorities.
    System,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Memory => f.write_str("in memory"),
            Self::System => f.write_str("of the system"),
        }
    }
}

/// Why there is no TLS, or why a reload was refused.
#[derive(Clone, Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file can't be read.
    #[error("can't read the {what} {origin}: {reason}")]
    Unreadable {
        /// What it should hold, such as "private key".
        what: &'static str,
        /// Which file.
        origin: Origin,
        /// What the system said.
        reason: Arc<io::Error>,
    },
    /// It does not hold what it should.
    #[error("the {what} {origin} can't be used: {reason}")]
    Unusable {
        /// What it should hold.
        what: &'static str,
        /// Where it came from.
        origin: Origin,
        /// What was found, and what was expected.
        reason: String,
    },
    /// The key belongs to another certificate.
    #[error(
        "the private key {key} belongs to another certificate than the first one of {certificate}; \
         expected a pair"
    )]
    Mismatch {
        /// Where the certificate came from.
        certificate: Origin,
        /// Where the key came from.
        key: Origin,
    },
    /// The builder was not given what it needs.
    #[error("{0}")]
    Missing(&'static str),
    /// rustls refuses all of it together.
    #[error("TLS can't be configured: {0}")]
    Refused(String),
}

/// As its sentence, which is what a `main` that returns it prints.
impl fmt::Debug for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TlsError {
    pub(crate) fn unusable(what: &'static str, source: &Origin, reason: impl Into<String>) -> Self {
        Self::Unusable {
            what,
            origin: source.clone(),
            reason: reason.into(),
        }
    }

    pub(crate) fn refused(reason: impl fmt::Display) -> Self {
        Self::Refused(reason.to_string())
    }
}
