//! The counter server as a program of its own: started, and killed at the latest when its test ends.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

/// A server that listens, on a port of its own unless its flags say which.
pub(crate) struct CounterServer {
    pub(crate) child: Child,
    pub(crate) address: String,
}

impl CounterServer {
    /// On a port that the system chooses.
    pub(crate) fn start(flags: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        Self::spawn(Self::command("127.0.0.1:0").args(flags))
    }

    /// The program with an address, to which flags can be added.
    pub(crate) fn command(address: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_counter-server"));
        command.args(["--listen", address]);
        command
    }

    /// Starts a command that becomes the server, and waits until it listens.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let started = command.stdout(Stdio::piped()).spawn();
        let mut child = started.expect("the server starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("its output is piped");
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ");
        let address = address.expect("its first line").to_owned();
        Self { child, address }
    }
}

impl Drop for CounterServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
