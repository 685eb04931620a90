//! The signals that ask the program to end: Ctrl-C and, on Unix, SIGTERM, which `timeout` and
//! containers send.

use std::io;

/// Waits for the next of them. From the first wait on they no longer end the program by themselves.
#[cfg(unix)]
pub(crate) async fn stop_requested() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        pressed = tokio::signal::ctrl_c() => pressed,
        _ = terminate.recv() => Ok(()),
    }
}

/// Waits for the next Ctrl-C.
#[cfg(not(unix))]
pub(crate) async fn stop_requested() -> io::Result<()> {
    tokio::signal::ctrl_c().await
}
