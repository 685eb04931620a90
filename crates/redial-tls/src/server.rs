//! The server's side: handshakes with what is in use at the moment.

use std::{fmt, io, sync::Arc, time::Duration};

use rustls::{
    ServerConfig,
    pki_types::CertificateDer,
    server::{Acceptor, danger::ClientCertVerifier},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_rustls::LazyConfigAcceptor;

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
    inner: Arc<ServerInner>,
}

pub(crate) struct ServerInner {
    pub(crate) sources: Option<ServerSources>,
    pub(crate) in_use: Reloading<InUse>,
    pub(crate) client_certificates: ClientCertificates,
    pub(crate) handshake_timeout: Duration,
    pub(crate) check_files_every: Duration,
    pub(crate) on_reload: Option<OnReload>,
}

/// What handshakes go by.
#[derive(Clone)]
pub(crate) struct InUse {
    pub(crate) config: Arc<ServerConfig>,
    /// What judges the certificate of a client that takes up an earlier session, which rustls doesn't;
    /// `None` where the program has brought a configuration, which doesn't say.
    pub(crate) verifier: Option<Arc<dyn ClientCertVerifier>>,
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
        Self::new(ServerInner {
            sources: None,
            in_use: Reloading::fixed(InUse {
                config,
                verifier: None,
            }),
            client_certificates,
            handshake_timeout: HANDSHAKE_TIMEOUT,
            check_files_every: CHECK_FILES_EVERY,
            on_reload: None,
        })
    }

    pub(crate) fn new(inner: ServerInner) -> Self {
        let inner = Arc::new(inner);
        Self { inner }
    }

    /// Whether clients have to show a certificate.
    #[must_use]
    pub fn client_certificates(&self) -> ClientCertificates {
        self.inner.client_certificates
    }

    /// How long a handshake may take.
    #[must_use]
    pub fn handshake_timeout(&self) -> Duration {
        self.inner.handshake_timeout
    }

    /// What the next handshake goes by.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        self.inner.in_use.current().config
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
        self.accept_when(io, async || Ok(())).await
    }

    /// The same, but for a `turn` that comes when the client has said hello and nothing has been done for
    /// that yet: what follows costs a thousand times as much. If the turn fails, so does the handshake.
    ///
    /// # Errors
    ///
    /// As of [`accept`](Self::accept), and the turn's.
    pub async fn accept_when<IO>(
        &self,
        io: IO,
        turn: impl AsyncFnOnce() -> io::Result<()>,
    ) -> io::Result<TlsStream<IO>>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let limit = self.inner.handshake_timeout;
        match timeout(limit, self.shake_hands(io, turn)).await {
            Ok(stream) => stream,
            Err(_) => {
                let text = format!("no handshake within {limit:?}");
                Err(io::Error::new(io::ErrorKind::TimedOut, text))
            }
        }
    }

    async fn shake_hands<IO>(
        &self,
        io: IO,
        turn: impl AsyncFnOnce() -> io::Result<()>,
    ) -> io::Result<TlsStream<IO>>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let hello = LazyConfigAcceptor::new(Acceptor::default(), io).await?;
        turn().await?;
        let in_use = self.inner.in_use.current();
        let stream = hello.into_stream(Arc::clone(&in_use.config)).await?;
        let stream = TlsStream::new(stream.into());
        if let Some(chain) = stream.peer_certificates().filter(|_| stream.is_resumed()) {
            in_use.judge(chain)?;
        }
        Ok(stream)
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
        let loaded = self.inner.in_use.load(|| sources.load());
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
        if let Some(loaded) = self.inner.in_use.load_if_changed(|| sources.load()) {
            self.say(&loaded);
        }
    }

    fn say(&self, loaded: &Result<(), TlsError>) {
        if let Some(on_reload) = &self.inner.on_reload {
            on_reload(loaded.as_ref().copied());
        }
    }
}

impl InUse {
    /// Judges a certificate as a handshake from the beginning would: it may have expired since.
    fn judge(&self, chain: &[CertificateDer<'_>]) -> io::Result<()> {
        let Some((verifier, (first, others))) = self.verifier.as_ref().zip(chain.split_first())
        else {
            return Ok(());
        };
        let now = self.config.time_provider.current_time();
        let now = now.ok_or(rustls::Error::FailedToGetCurrentTime);
        let verified = now.and_then(|now| verifier.verify_client_cert(first, others, now));
        let refused = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        verified.map(drop).map_err(refused)
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls")
            .field("sources", &self.inner.in_use)
            .field("client_certificates", &self.inner.client_certificates)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use redial_test_ca::TestCa;
    use rustls::{pki_types::UnixTime, time_provider::TimeProvider};

    use super::*;
    use crate::{ClientTls, server_builder::ServerTlsBuilder};

    const HOST: &str = "counter.example";

    /// A year after all certificates of the test's authority have expired.
    #[derive(Debug)]
    struct Later;

    impl TimeProvider for Later {
        fn current_time(&self) -> Option<UnixTime> {
            let years = Duration::from_secs(366 * 24 * 60 * 60) * (2201 - 1970);
            Some(UnixTime::since_unix_epoch(years))
        }
    }

    /// The same server, with its sessions, at another time.
    fn later(server: &ServerTls) -> ServerTls {
        let InUse { config, verifier } = server.inner.in_use.current();
        let mut config = ServerConfig::clone(&config);
        config.time_provider = Arc::new(Later);
        ServerTls::new(ServerInner {
            sources: None,
            in_use: Reloading::fixed(InUse {
                config: Arc::new(config),
                verifier,
            }),
            client_certificates: ClientCertificates::Required,
            handshake_timeout: HANDSHAKE_TIMEOUT,
            check_files_every: CHECK_FILES_EVERY,
            on_reload: None,
        })
    }

    /// A handshake, and a byte from the server, behind which TLS 1.3 has its sessions.
    async fn meet(server: &ServerTls, client: &ClientTls) -> Result<bool, String> {
        let (left, right) = tokio::io::duplex(1 << 16);
        let served = async {
            let mut served = server
                .accept(left)
                .await
                .map_err(|error| error.to_string())?;
            tokio::io::AsyncWriteExt::write_all(&mut served, b"x")
                .await
                .unwrap();
            tokio::io::AsyncWriteExt::flush(&mut served).await.unwrap();
            Ok((served.is_resumed(), served))
        };
        let called = async {
            let mut called = client.connect(HOST, right).await.unwrap();
            let mut byte = [0; 1];
            let _ = tokio::io::AsyncReadExt::read(&mut called, &mut byte).await;
        };
        let (served, ()) = tokio::join!(served, called);
        served.map(|(is_resumed, _)| is_resumed)
    }

    /// Kind: a door that was opened once lets in what it would not let in now. Instance: a certificate
    /// that has expired, whose holder takes up an earlier session, which shows none.
    #[tokio::test]
    async fn a_certificate_that_has_expired_is_refused_though_it_has_a_session_to_resume() {
        let ca = TestCa::new("expired");
        for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
            let (pair, mine) = (ca.sign(&[HOST]), ca.sign(&["a.example"]));
            let server = ServerTlsBuilder::default()
                .certificate_pem(pair.certificate, pair.key)
                .client_ca_pem(ca.pem())
                .build()
                .unwrap();
            let client = client(&ca, &mine, version);
            assert_eq!(meet(&server, &client).await, Ok(false));
            assert_eq!(meet(&server, &client).await, Ok(true));
            let refused = meet(&later(&server), &client).await.unwrap_err();
            assert!(refused.contains("certificate expired"), "{refused}");
            assert_eq!(meet(&server, &client).await, Ok(true), "of its time");
        }
    }

    fn client(
        ca: &TestCa,
        pair: &redial_test_ca::Pair,
        version: &'static rustls::SupportedProtocolVersion,
    ) -> ClientTls {
        use rustls::pki_types::{PrivateKeyDer, pem::PemObject};
        let certificate =
            |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate");
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate(ca.pem())).unwrap();
        let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
        let config = rustls::ClientConfig::builder_with_provider(crate::provider())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![certificate(&pair.certificate)], key)
            .unwrap();
        ClientTls::from_config(config.into())
    }
}
