//! Where asynchronous commands run.

use std::{future::Future, process::ExitCode};

use anyhow::Context;

use crate::{
    failure::{Exit, Failure},
    signals::Signals,
};

/// Runs a command that makes few calls at a time, on this thread.
pub(crate) fn run(
    command: impl Future<Output = Result<ExitCode, Failure>>,
) -> Result<ExitCode, Failure> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build();
    let runtime = runtime.context("cannot start a runtime (ulimit -n?)");
    let runtime = runtime.map_err(|error| Failure::new(Exit::NotExecuted, error))?;
    runtime.block_on(command)
}

/// The signals that ask the program to stop, which from now on don't end it by themselves.
pub(crate) fn signals() -> Result<Signals, Failure> {
    let signals = Signals::new().context("cannot wait for signals");
    signals.map_err(|error| Failure::new(Exit::NotExecuted, error))
}
