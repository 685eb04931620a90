//! The client's side: whom it trusts, what it shows, and its handshakes.

use std::{fmt, io, path::PathBuf, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    client::ResolvesClientCert,
    pki_types::ServerName,
    sign::{CertifiedKey, SingleCertAndKey},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use crate::{
    ALPN, certificate::PairSource, error::TlsError, files::Source, pem, provider,
    reload::Reloading, stream::TlsStream,
};

/// A client's TLS. Cheap to clone; all clones are the same, and share the sessions that they resume.
///
/// The server's certificate is verified, always: for whom no public authority signs, there are
/// roots of one's own. Files that change are read again before the next connection.
#[derive(Clone)]
pub struct ClientTls {
    inner: Arc<ClientInner>,
}

struct ClientInner {
    sources: Option<ClientSources>,
    config: Reloading<Arc<ClientConfig>>,
    server_name: Option<ServerName<'static>>,
}

/// Puts a [`ClientTls`] together.
///
/// ```no_run
/// # fn f() -> Result<(), redial_tls::TlsError> {
/// use redial_tls::ClientTls;
///
/// let tls = ClientTls::builder().roots_file("ca.pem").server_name("counter.example").build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
#[must_use]
pub struct ClientTlsBuilder {
    sources: ClientSources,
    server_name: Option<String>,
}

#[derive(Clone, Debug, Default)]
struct ClientSources {
    roots: Vec<Source>,
    pair: Option<PairSource>,
    has_native_roots: bool,
}

impl ClientTls {
    /// Starts a builder that trusts no authority.
    pub fn builder() -> ClientTlsBuilder {
        ClientTlsBuilder::default()
    }

    /// Takes a configuration of the program's own as it is, with its provider, its verifier and its
    /// ALPN names. The name that a certificate has to be for is that of the address.
    #[must_use]
    pub fn from_config(config: Arc<ClientConfig>) -> Self {
        Self::new(ClientInner {
            sources: None,
            config: Reloading::fixed(config),
            server_name: None,
        })
    }

    fn new(inner: ClientInner) -> Self {
        let inner = Arc::new(inner);
        Self { inner }
    }

    /// What the next handshake goes by.
    #[must_use]
    pub fn config(&self) -> Arc<ClientConfig> {
        self.inner.config.current()
    }

    /// Whether the name that the server's certificate has to be for is set, so that an address needs
    /// none.
    #[must_use]
    pub fn has_server_name(&self) -> bool {
        self.inner.server_name.is_some()
    }

    /// Shakes hands with the server at the other end of `io`. Its certificate has to be for `host`,
    /// a name or an IP address, unless [`server_name`](ClientTlsBuilder::server_name) says another.
    ///
    /// # Errors
    ///
    /// If the server does not speak TLS, its certificate can't be verified, or it refuses this
    /// client. There is no time limit here.
    pub async fn connect<IO>(&self, host: &str, io: IO) -> io::Result<TlsStream<IO>>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let name = match &self.inner.server_name {
            Some(name) => name.clone(),
            None => server_name(host).map_err(io::Error::other)?,
        };
        self.reload_if_changed().await;
        let connected = TlsConnector::from(self.config()).connect(name, io).await;
        match connected {
            Ok(stream) => Ok(TlsStream::new(stream.into())),
            Err(error) => Err(explained(error)),
        }
    }

    /// Reads all files again. It blocks while it does.
    ///
    /// # Errors
    ///
    /// [`TlsError`] if the files can't be used; what was in use stays in use.
    pub fn reload(&self) -> Result<(), TlsError> {
        match &self.inner.sources {
            None => Ok(()),
            Some(sources) => self.inner.config.load(|| sources.load()),
        }
    }

    /// What can't be used is not, and the server judges what is in use.
    async fn reload_if_changed(&self) {
        let tls = self.clone();
        let check = move || {
            let sources = tls.inner.sources.as_ref()?;
            tls.inner.config.load_if_changed(|| sources.load())
        };
        let _: Result<_, _> = tokio::task::spawn_blocking(check).await;
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls")
            .field("sources", &self.inner.config)
            .field("server_name", &self.inner.server_name)
            .finish_non_exhaustive()
    }
}

impl ClientTlsBuilder {
    /// Trusts these authorities: a PEM file. A certificate that signs itself is its own.
    pub fn roots_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.sources.roots.push(Source::File(path.into()));
        self
    }

    /// The same from memory.
    pub fn roots_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.sources.roots.push(Source::memory(pem));
        self
    }

    /// Trusts the authorities that the system trusts.
    #[cfg(feature = "native-roots")]
    pub fn native_roots(mut self) -> Self {
        self.sources.has_native_roots = true;
        self
    }

    /// The certificate chain to show to servers that ask for one, and its key: PEM files.
    pub fn certificate_files(
        mut self,
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Self {
        self.sources.pair = Some(PairSource {
            certificate: Source::File(certificate.into()),
            key: Source::File(key.into()),
        });
        self
    }

    /// The same from memory.
    pub fn certificate_pem(
        mut self,
        certificate: impl Into<Vec<u8>>,
        key: impl Into<Vec<u8>>,
    ) -> Self {
        self.sources.pair = Some(PairSource {
            certificate: Source::memory(certificate),
            key: Source::memory(key),
        });
        self
    }

    /// The name, or the IP address, that the server's certificate has to be for. Default: the host
    /// of the address that is connected to.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Reads everything.
    ///
    /// # Errors
    ///
    /// [`TlsError`] with the file and the reason.
    pub fn build(self) -> Result<ClientTls, TlsError> {
        let name = self.server_name.as_deref().map(server_name).transpose();
        let server_name = name.map_err(TlsError::Refused)?;
        let sources = self.sources;
        let config = Reloading::new(sources.all(), || sources.load())?;
        Ok(ClientTls::new(ClientInner {
            sources: Some(sources),
            config,
            server_name,
        }))
    }
}

impl ClientSources {
    fn all(&self) -> Vec<Source> {
        let pair = self.pair.iter();
        let pair = pair.flat_map(|pair| [&pair.certificate, &pair.key]);
        pair.chain(&self.roots).cloned().collect()
    }

    fn load(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let provider = provider();
        let mut roots = RootCertStore::empty();
        for source in &self.roots {
            pem::add_roots(&mut roots, source)?;
        }
        #[cfg(feature = "native-roots")]
        if self.has_native_roots {
            pem::add_native_roots(&mut roots)?;
        }
        if self.roots.is_empty() && !self.has_native_roots {
            return Err(TlsError::Missing(
                "no certificate authority to trust; expected one, or the server's own certificate \
                 if it signs itself",
            ));
        }
        let pair = self.pair.as_ref().map(|pair| pair.load(&provider));
        let pair = pair.transpose()?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::refused)?
            .with_root_certificates(roots);
        let mut config = match pair {
            None => builder.with_no_client_auth(),
            Some(pair) => builder.with_client_cert_resolver(resolver(&pair)),
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Arc::new(config))
    }
}

fn resolver(pair: &CertifiedKey) -> Arc<dyn ResolvesClientCert> {
    Arc::new(SingleCertAndKey::from(pair.clone()))
}

fn server_name(name: &str) -> Result<ServerName<'static>, String> {
    let parsed = ServerName::try_from(name.to_owned());
    parsed.map_err(|_| {
        format!(
            "{name:?} is not a name that a certificate can be for; expected a host or an IP address"
        )
    })
}

/// What rustls says, with what there is to do about it.
fn explained(error: io::Error) -> io::Error {
    use rustls::{CertificateError as Bad, Error as Tls, InvalidMessage};
    let cause = error
        .get_ref()
        .and_then(|cause| cause.downcast_ref::<Tls>());
    let hint = match cause {
        Some(Tls::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            "; does the server speak TLS?"
        }
        Some(Tls::InvalidCertificate(Bad::UnknownIssuer)) => {
            "; no root that this client trusts has signed it"
        }
        Some(Tls::InvalidCertificate(Bad::Other(other)))
            if other.to_string().contains("CaUsedAsEndEntity") =>
        {
            "; it is a certificate authority's, and may sign a server's certificate, but be none"
        }
        Some(_) => "",
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            "; the server closed the connection; does it speak TLS?"
        }
        None => "",
    };
    io::Error::new(error.kind(), format!("no TLS handshake: {error}{hint}"))
}
