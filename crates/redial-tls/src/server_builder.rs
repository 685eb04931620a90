//! What a server's TLS is made of, and how it is read.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring::Ticketer,
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};

use crate::{
    ALPN,
    certificate::PairSource,
    error::TlsError,
    files::Source,
    names::ByName,
    pem, provider,
    reload::Reloading,
    server::{
        CHECK_FILES_EVERY, ClientCertificates, HANDSHAKE_TIMEOUT, InUse, OnReload, ServerInner,
        ServerTls,
    },
};

/// Puts a [`ServerTls`] together. Files are read by [`build`](Self::build), and again when they
/// change.
///
/// ```no_run
/// # fn f() -> Result<(), redial_tls::TlsError> {
/// use redial_tls::ServerTls;
///
/// let tls = ServerTls::builder()
///     .certificate_files("counter.pem", "counter-key.pem")
///     .certificate_files("other-name.pem", "other-name-key.pem")
///     .client_ca_file("clients-ca.pem")
///     .client_crl_file("clients-ca.crl.pem")
///     .on_reload(|reloaded| if let Err(error) = reloaded { eprintln!("{error}") })
///     .build()?;
/// # Ok(())
/// # }
/// ```
#[must_use]
pub struct ServerTlsBuilder {
    sources: ServerSources,
    handshake_timeout: Duration,
    check_files_every: Duration,
    on_reload: Option<OnReload>,
}

/// Everything that is read.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServerSources {
    pairs: Vec<PairSource>,
    client_roots: Vec<Source>,
    revoked: Vec<Source>,
    is_optional: bool,
    requires_fresh_lists: bool,
}

impl Default for ServerTlsBuilder {
    fn default() -> Self {
        Self {
            sources: ServerSources::default(),
            handshake_timeout: HANDSHAKE_TIMEOUT,
            check_files_every: CHECK_FILES_EVERY,
            on_reload: None,
        }
    }
}

impl ServerTlsBuilder {
    /// Adds a certificate chain, the server's own certificate first, and its key: PEM files. With
    /// several, a client gets the first one that is for the name it asks for, `*.` included, and
    /// the very first if it asks for no name or for one that none is for.
    pub fn certificate_files(
        mut self,
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Self {
        self.sources.pairs.push(PairSource {
            certificate: Source::File(certificate.into()),
            key: Source::File(key.into()),
        });
        self
    }

    /// The same from memory. The key's text is overwritten when the last user of it is gone.
    pub fn certificate_pem(
        mut self,
        certificate: impl Into<Vec<u8>>,
        key: impl Into<Vec<u8>>,
    ) -> Self {
        self.sources.pairs.push(PairSource {
            certificate: Source::memory(certificate),
            key: Source::memory(key),
        });
        self
    }

    /// Clients have to show a certificate that one of these authorities has signed.
    pub fn client_ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.sources.client_roots.push(Source::File(path.into()));
        self
    }

    /// The same from memory.
    pub fn client_ca_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.sources.client_roots.push(Source::memory(pem));
        self
    }

    /// Certificates that these lists (CRLs) revoke are refused. Once there is a list, each authority
    /// of a client's chain needs one: a certificate whose state is not known is refused, too.
    pub fn client_crl_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.sources.revoked.push(Source::File(path.into()));
        self
    }

    /// The same from memory.
    pub fn client_crl_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.sources.revoked.push(Source::memory(pem));
        self
    }

    /// Refuses all clients of an authority whose list should have been replaced by now (its
    /// `nextUpdate`). Default off: an old list still revokes what is in it.
    pub fn require_fresh_crls(mut self) -> Self {
        self.sources.requires_fresh_lists = true;
        self
    }

    /// Lets in clients that show no certificate, too. One that is shown is still verified.
    pub fn client_certificates_optional(mut self) -> Self {
        self.sources.is_optional = true;
        self
    }

    /// How long a handshake may take. Default 10 s; then the connection is closed.
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.handshake_timeout = timeout;
        self
    }

    /// How often the files are looked at for changes. Default 1 s, at a `stat` for each.
    pub fn check_files_every(mut self, interval: Duration) -> Self {
        self.check_files_every = interval;
        self
    }

    /// Called after each reload, and once for each reason why the files can't be used any more;
    /// until they can, what was in use stays in use.
    pub fn on_reload(
        mut self,
        callback: impl Fn(Result<(), &TlsError>) + Send + Sync + 'static,
    ) -> Self {
        self.on_reload = Some(Box::new(callback));
        self
    }

    /// Reads everything.
    ///
    /// # Errors
    ///
    /// [`TlsError`] with the file and the reason.
    pub fn build(self) -> Result<ServerTls, TlsError> {
        let sources = self.sources;
        let in_use = Reloading::new(sources.all(), || sources.load())?;
        Ok(ServerTls::new(ServerInner {
            client_certificates: sources.client_certificates(),
            sources: Some(sources),
            in_use,
            handshake_timeout: self.handshake_timeout,
            check_files_every: self.check_files_every,
            on_reload: self.on_reload,
        }))
    }
}

impl fmt::Debug for ServerTlsBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ServerTlsBuilder")
            .field(&self.sources)
            .finish()
    }
}

impl ServerSources {
    fn all(&self) -> Vec<Source> {
        let pairs = self.pairs.iter();
        let pairs = pairs.flat_map(|pair| [&pair.certificate, &pair.key]);
        let others = self.client_roots.iter().chain(&self.revoked);
        pairs.chain(others).cloned().collect()
    }

    fn client_certificates(&self) -> ClientCertificates {
        match (self.client_roots.is_empty(), self.is_optional) {
            (true, _) => ClientCertificates::None,
            (false, true) => ClientCertificates::Optional,
            (false, false) => ClientCertificates::Required,
        }
    }

    pub(crate) fn load(&self) -> Result<InUse, TlsError> {
        let provider = provider();
        let pairs = self.pairs.iter().map(|pair| pair.load(&provider));
        let pairs = pairs.collect::<Result<Vec<_>, _>>()?;
        let missing = "no certificate to show to clients; expected one with its private key";
        let by_name = ByName::new(&pairs).ok_or(TlsError::Missing(missing))?;
        let verifier = self.verifier()?;
        let builder = ServerConfig::builder_with_provider(provider);
        let builder = builder
            .with_safe_default_protocol_versions()
            .map_err(TlsError::refused)?
            .with_client_cert_verifier(Arc::clone(&verifier));
        let mut config = builder.with_cert_resolver(Arc::new(by_name));
        config.alpn_protocols = vec![ALPN.to_vec()];
        // New with each reload, as the sessions in memory: what was agreed by other rules is not taken
        // up.
        config.ticketer = Ticketer::new().map_err(TlsError::refused)?;
        Ok(InUse {
            config: Arc::new(config),
            verifier: Some(verifier),
        })
    }

    fn verifier(&self) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
        if self.client_roots.is_empty() {
            return if self.revoked.is_empty() && !self.is_optional {
                Ok(WebPkiClientVerifier::no_client_auth())
            } else {
                Err(TlsError::Missing(
                    "no authority that signs clients' certificates; expected one, since lists of \
                     revoked ones are given or certificates are optional",
                ))
            };
        }
        let mut roots = RootCertStore::empty();
        for source in &self.client_roots {
            pem::add_roots(&mut roots, source)?;
        }
        let mut lists = Vec::new();
        for source in &self.revoked {
            for list in pem::revocation_lists(source)? {
                check_list(&list, source)?;
                lists.push(list);
            }
        }
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
        let mut builder = builder.with_crls(lists);
        if self.is_optional {
            builder = builder.allow_unauthenticated();
        }
        if self.requires_fresh_lists {
            builder = builder.enforce_revocation_expiration();
        }
        builder.build().map_err(TlsError::refused)
    }
}

/// That a list can be read, so that the error names its file.
fn check_list(
    list: &rustls::pki_types::CertificateRevocationListDer<'_>,
    source: &Source,
) -> Result<(), TlsError> {
    match webpki::BorrowedCertRevocationList::from_der(list) {
        Ok(_) => Ok(()),
        Err(error) => Err(TlsError::unusable(
            pem::REVOKED,
            &source.origin(),
            error.to_string(),
        )),
    }
}
