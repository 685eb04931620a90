//! A certificate chain with its key, checked to be a pair.

use std::sync::Arc;

use rustls::{
    Error, InconsistentKeys, crypto::CryptoProvider, pki_types::CertificateDer, sign::CertifiedKey,
};

use crate::{
    error::TlsError,
    files::Source,
    pem::{self, CERTIFICATE, KEY},
};

/// Where a chain and its key are read.
#[derive(Clone, Debug)]
pub(crate) struct PairSource {
    pub(crate) certificate: Source,
    pub(crate) key: Source,
}

impl PairSource {
    pub(crate) fn load(&self, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, TlsError> {
        let chain = pem::certificates(&self.certificate, CERTIFICATE)?;
        let key = pem::key(&self.key)?;
        let key = provider.key_provider.load_private_key(key);
        let key =
            key.map_err(|error| TlsError::unusable(KEY, &self.key.origin(), error.to_string()))?;
        self.check_name(&chain)?;
        let pair = CertifiedKey::new(chain, key);
        match pair.keys_match() {
            // Keys that don't say which they are belong to hardware, not to files.
            Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(Arc::new(pair)),
            Err(Error::InconsistentKeys(_)) => Err(TlsError::Mismatch {
                certificate: self.certificate.origin(),
                key: self.key.origin(),
            }),
            Err(error) => Err(self.unusable(error.to_string())),
        }
    }

    /// That the first certificate can be read at all.
    fn check_name(&self, chain: &[CertificateDer<'_>]) -> Result<(), TlsError> {
        let read = webpki::EndEntityCert::try_from(&chain[0]);
        read.map(drop)
            .map_err(|error| self.unusable(error.to_string()))
    }

    fn unusable(&self, reason: impl Into<String>) -> TlsError {
        TlsError::unusable(CERTIFICATE, &self.certificate.origin(), reason)
    }
}
