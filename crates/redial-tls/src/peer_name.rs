//! What a client's certificate calls it.

use rustls::pki_types::CertificateDer;

/// The first DNS name among the subject's alternative names, or else the first URI, such as a SPIFFE
/// id. The common name is not looked at: it may hold anything.
pub(crate) fn peer_name(chain: &[CertificateDer<'_>]) -> Option<String> {
    let certificate = webpki::EndEntityCert::try_from(chain.first()?).ok()?;
    let name = certificate.valid_dns_names().next();
    let name = name.or_else(|| certificate.valid_uri_names().next())?;
    (!name.is_empty()).then(|| name.to_owned())
}
