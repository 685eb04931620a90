//! The ways in which a client can name its calls.

use anyhow::{Result, ensure};
use clap::ValueEnum;
use serde::Serialize;

use crate::report::series::Series;

/// A way to name calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// Every attempt of a call carries its number in the client's session.
    Session,
    /// Every attempt of a call carries the same random id.
    Plain,
    /// Every attempt carries a fresh id, so the server can't know that it is a retry.
    Naive,
}

impl Mode {
    /// `session`, `plain` or `naive`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Plain => "plain",
            Self::Naive => "naive",
        }
    }

    /// The same in words, as in "3 effects too many, naively".
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Session => "with a session",
            Self::Plain => "with plain ids",
            Self::Naive => "naively",
        }
    }

    /// What is drawn of it.
    pub(crate) fn series(self) -> Series {
        match self {
            Self::Session => Series::Session,
            Self::Plain => Series::Plain,
            Self::Naive => Series::Naive,
        }
    }

    /// Checks the `sessions` of a client's summary: that it named its calls in this way.
    pub(crate) fn check(self, sessions: Option<bool>) -> Result<()> {
        let expected = self == Self::Session;
        ensure!(
            sessions == Some(expected),
            "a client that was to name its calls {}: sessions {sessions:?}, not {expected}",
            self.text()
        );
        Ok(())
    }

    /// The flag that makes a `counter-client` name its calls so.
    pub(crate) fn flag(self) -> Option<&'static str> {
        match self {
            Self::Session => None,
            Self::Plain => Some("--no-sessions"),
            Self::Naive => Some("--naive"),
        }
    }
}
