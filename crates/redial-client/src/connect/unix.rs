//! Unix sockets, with or without a file.

use std::{io, path::PathBuf};

use redial_protocol::Address;
use tokio::net::UnixStream;

use crate::connector::Connector;

/// Connects to a Unix socket.
#[derive(Clone, Debug)]
pub struct Unix {
    path: PathBuf,
}

impl Unix {
    /// Connects to the socket of this path; one that begins with NUL is a name in the abstract namespace
    /// of Linux.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self { path }
    }
}

impl Connector for Unix {
    type Io = UnixStream;

    async fn connect(&self) -> io::Result<UnixStream> {
        UnixStream::connect(&self.path).await
    }

    fn peer(&self) -> String {
        Address::from_unix_path(&self.path).to_string()
    }
}
