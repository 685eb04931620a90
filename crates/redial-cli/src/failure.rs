//! How a command ends, and the exit code that says so.

use std::{io::Write, process::ExitCode};

use redial_client::{BuildError, Executed};

use crate::output::visible;

/// Exit codes, by whether the call was executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All went well.
    Ok = 0,
    /// Executed, and without a value: the handler's own error.
    Failed = 1,
    /// Flags, files or input that make no sense: nothing was sent.
    Usage = 2,
    /// Certainly not executed.
    NotExecuted = 3,
    /// It may have been executed.
    Unknown = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl From<Executed> for Exit {
    fn from(executed: Executed) -> Self {
        match executed {
            Executed::No => Self::NotExecuted,
            Executed::Yes => Self::Failed,
            Executed::Unknown => Self::Unknown,
        }
    }
}

/// What it means that a server was not reached.
pub(crate) const UNREACHED: &str = "nothing was executed";

/// Why a command did not do what it is for.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) error: anyhow::Error,
}

impl Failure {
    pub(crate) fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        let error = error.into();
        Self { exit, error }
    }

    /// Flags or input that make no sense, in words that name them and what would be right.
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::new(Exit::Usage, anyhow::Error::msg(text.into()))
    }

    /// Says it on stderr.
    pub(crate) fn report(&self) -> ExitCode {
        let text = in_flags(&format!("error: {:#}", self.error));
        let _ = writeln!(std::io::stderr(), "{}", visible(&text));
        self.exit.into()
    }
}

/// What the client says of its settings, as the program calls them.
pub(crate) fn in_flags(text: &str) -> String {
    let text = text.replace("`assume_plain`", "--plain");
    if text.contains(" -32005 ") && !text.contains("--token-file") {
        return text + "; expected --token-file or --tls-cert, as the server asks for it";
    }
    text
}

impl From<BuildError> for Failure {
    fn from(error: BuildError) -> Self {
        match &error {
            BuildError::Connect(error) => {
                Self::new(Exit::NotExecuted, anyhow::anyhow!("{error}; {UNREACHED}"))
            }
            _ => Self::new(Exit::Usage, error),
        }
    }
}
