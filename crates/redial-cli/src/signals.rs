//! The signals that ask a program to stop.

/// The signals that stop the program: Ctrl-C and, on Unix, SIGTERM.
#[cfg(unix)]
#[derive(Debug)]
pub struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    /// From now on the signals no longer end the program by themselves.
    ///
    /// # Errors
    ///
    /// If the system takes no handler for them.
    pub fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for the next of them.
    pub async fn stop_requested(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// The signal that stops the program: Ctrl-C.
#[cfg(not(unix))]
#[derive(Debug)]
pub struct Signals;

#[cfg(not(unix))]
impl Signals {
    /// Ctrl-C is listened for when it is waited for.
    ///
    /// # Errors
    ///
    /// Never.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self)
    }

    /// Waits for the next of them.
    pub async fn stop_requested(&mut self) {
        // If Ctrl-C cannot be handled, it ends the program.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
