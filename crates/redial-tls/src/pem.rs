//! PEM read into what rustls takes. What a file holds besides is passed over, as everywhere.

use rustls::{
    RootCertStore,
    pki_types::{
        CertificateDer, CertificateRevocationListDer, PrivateKeyDer,
        pem::{Error, PemObject},
    },
};

#[cfg(feature = "native-roots")]
use crate::error::Origin;
use crate::{error::TlsError, files::Source};

pub(crate) const CERTIFICATE: &str = "certificate";
pub(crate) const KEY: &str = "private key";
pub(crate) const ROOTS: &str = "certificate authorities";
pub(crate) const REVOKED: &str = "revocation list";

/// A chain of certificates, the end entity's first. At least one.
pub(crate) fn certificates(
    source: &Source,
    what: &'static str,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = source.read(what)?;
    all(CertificateDer::pem_slice_iter(&pem), source, what)
}

pub(crate) fn key(source: &Source) -> Result<PrivateKeyDer<'static>, TlsError> {
    let pem = source.read(KEY)?;
    let unusable = |reason: &str| TlsError::unusable(KEY, &source.origin(), reason);
    PrivateKeyDer::from_pem_slice(&pem).map_err(|error| match error {
        Error::NoItemsFound if holds(&pem, b"-----BEGIN ENCRYPTED") => {
            unusable("it is encrypted; expected a key without a passphrase")
        }
        Error::NoItemsFound => unusable(
            "no key in it; expected PEM with PRIVATE KEY, RSA PRIVATE KEY or EC PRIVATE KEY",
        ),
        error => unusable(&error.to_string()),
    })
}

/// Certificate authorities to trust. At least one, and all of them can be read.
pub(crate) fn add_roots(roots: &mut RootCertStore, source: &Source) -> Result<(), TlsError> {
    for certificate in certificates(source, ROOTS)? {
        let added = roots.add(certificate);
        added.map_err(|error| TlsError::unusable(ROOTS, &source.origin(), error.to_string()))?;
    }
    Ok(())
}

pub(crate) fn revocation_lists(
    source: &Source,
) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let pem = source.read(REVOKED)?;
    all(
        CertificateRevocationListDer::pem_slice_iter(&pem),
        source,
        REVOKED,
    )
}

fn all<T>(
    items: impl Iterator<Item = Result<T, Error>>,
    source: &Source,
    what: &'static str,
) -> Result<Vec<T>, TlsError> {
    let unusable = |reason: String| TlsError::unusable(what, &source.origin(), reason);
    let items: Result<Vec<T>, _> = items.collect();
    let items = items.map_err(|error| unusable(error.to_string()))?;
    if items.is_empty() {
        let (name, label) = match what {
            REVOKED => ("list", "X509 CRL"),
            _ => ("certificate", "CERTIFICATE"),
        };
        return Err(unusable(format!(
            "no {name} in it; expected PEM with {label}"
        )));
    }
    Ok(items)
}

fn holds(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// The certificate authorities that the system trusts.
#[cfg(feature = "native-roots")]
pub(crate) fn add_native_roots(roots: &mut RootCertStore) -> Result<(), TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added > 0 {
        return Ok(());
    }
    let errors = found.errors.iter().map(ToString::to_string);
    let errors = errors.collect::<Vec<_>>().join("; ");
    let reason = if errors.is_empty() {
        "the system trusts none"
    } else {
        &errors
    };
    Err(TlsError::unusable(ROOTS, &Origin::System, reason))
}
