//! The server's side: handshakes with what is in use at the moment.

use std::{fmt, io, sync::Arc, time::Duration};

use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    error::TlsError,
    reload::Reloading,
    server_builder::{ServerSources, ServerTlsBuilder},
    stream::TlsStream,
};

/// How long a handshake may take by default.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How often files are looked at by default.
pub(crate) const CHECK_FILES_EVERY: Duration = Duration::from_secs(1);

/// Whether clients have to show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientCertificates {
    /// They are not asked for one.
    #[default]
    None,
    /// They may; one that can't be verified is refused.
    Optional,
    /// They have to: every client that connects has a certificate that was verified.
    Required,
}

/// A server's TLS. Cheap to clone; all clones are the same, and see the same reloads.
#[derive(Clone)]
pub struct ServerTls {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) sources: Option<ServerSources>,
    pub(crate) config: Reloading<Arc<ServerConfig>>,
    pub(crate) client_certificates: ClientCertificates,
    pub(crate) handshake_timeout: Duration,
    pub(crate) check_files_every: Duration,
    pub(crate) on_reload: Option<OnReload>,
}

pub(crate) type OnReload = Box<dyn Fn(Result<(), &TlsError>) + Send + Sync>;

impl ServerTls {
    /// Starts a builder without certificates.
    pub fn builder() -> ServerTlsBuilder {
        ServerTlsBuilder::default()
    }

    /// Takes a configuration of the program's own as it is, with its provider, its ALPN names and
    /// its verifier, of which `client_certificates` says what it asks for. Nothing is reloaded.
    #[must_use]
    pub fn from_config(config: Arc<ServerConfig>, client_certificates: ClientCertificates) -> Self {
        Self::new(Inner {
            sources: None,
            config: Reloading::fixed(config),
            client_certificates,
            handshake_timeout: HANDSHAKE_TIMEOUT,
            check_files_every: CHECK_FILES_EVERY,
            on_reload: None,
        })
    }

    pub(crate) fn new(inner: Inner) -> Self {
        let inner = Arc::new(inner);
        Self { inner }
    }

    /// Whether clients have to show a certificate.
    #[must_use]
    pub fn client_certificates(&self) -> ClientCertificates {
        self.inner.client_certificates
    }

    /// What the next handshake goes by.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        self.inner.config.current()
    }

    /// Shakes hands with a client.
    ///
    /// # Errors
    ///
    /// If the client does not speak TLS, or no version of it that is spoken here, shows no
    /// certificate that can be verified where it has to, or takes longer than the handshake timeout
    /// (default 10 s).
    pub async fn accept<IO>(&self, io: IO) -> io::Result<TlsStream<IO>>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let limit = self.inner.handshake_timeout;
        let handshake = TlsAcceptor::from(self.config()).accept(io);
        match timeout(limit, handshake).await {
            Ok(stream) => Ok(TlsStream::new(stream?.into())),
            Err(_) => {
                let text = format!("no handshake within {limit:?}");
                Err(io::Error::new(io::ErrorKind::TimedOut, text))
            }
        }
    }

    /// Reads all files again. Connections that are open go on as they are; sessions from before can't
    /// be resumed, since a client's certificate may have been revoked meanwhile. It blocks while it
    /// reads.
    ///
    /// # Errors
    ///
    /// [`TlsError`] if the files can't be used; what was in use stays in use.
    pub fn reload(&self) -> Result<(), TlsError> {
        let Some(sources) = &self.inner.sources else {
            return Ok(());
        };
        let loaded = self.inner.config.load(|| sources.load());
        self.say(&loaded);
        loaded
    }

    /// Looks at the files again and again (every second by default), and reloads when they have
    /// changed. It never ends; a server that serves TLS does it by itself.
    pub async fn watch(&self) {
        loop {
            tokio::time::sleep(self.inner.check_files_every).await;
            let tls = self.clone();
            let checked = tokio::task::spawn_blocking(move || tls.reload_if_changed());
            // It fails if the callback panics, which is that callback's affair.
            let _: Result<(), _> = checked.await;
        }
    }

    fn reload_if_changed(&self) {
        let Some(sources) = &self.inner.sources else {
            return;
        };
        if let Some(loaded) = self.inner.config.load_if_changed(|| sources.load()) {
            self.say(&loaded);
        }
    }

    fn say(&self, loaded: &Result<(), TlsError>) {
        if let Some(on_reload) = &self.inner.on_reload {
            on_reload(loaded.as_ref().copied());
        }
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls")
            .field("sources", &self.inner.config)
            .field("client_certificates", &self.inner.client_certificates)
            .finish_non_exhaustive()
    }
}
