//! What systemd, or another supervisor that speaks its protocol, gives to a server and hears from it.

use redial_server::Listener;

/// The first socket that was handed over (`LISTEN_FDS`), if there is one.
///
/// # Errors
///
/// If it is not a TCP or Unix socket that listens.
#[cfg(unix)]
pub fn handed_over() -> anyhow::Result<Option<Listener>> {
    use anyhow::Context;
    let mut sockets = listenfd::ListenFd::from_env();
    if sockets.len() == 0 {
        return Ok(None);
    }
    let what = "the socket in LISTEN_FDS; expected one that listens, of TCP or Unix";
    if let Ok(Some(listener)) = sockets.take_tcp_listener(0) {
        listener.set_nonblocking(true).context(what)?;
        let listener = tokio::net::TcpListener::from_std(listener).context(what)?;
        return Ok(Some(listener.into()));
    }
    let listener = sockets.take_unix_listener(0).context(what)?;
    let listener = listener.context(what)?;
    listener.set_nonblocking(true).context(what)?;
    let listener = tokio::net::UnixListener::from_std(listener).context(what)?;
    Ok(Some(listener.into()))
}

/// Without Unix there is no such protocol.
///
/// # Errors
///
/// Never.
#[cfg(not(unix))]
pub fn handed_over() -> anyhow::Result<Option<Listener>> {
    Ok(None)
}

/// Tells the supervisor that the server listens (`READY=1`). Without one it does nothing.
pub fn notify_ready() {
    #[cfg(target_os = "linux")]
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
}

/// Tells it that the server drains (`STOPPING=1`).
pub fn notify_stopping() {
    #[cfg(target_os = "linux")]
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
}
