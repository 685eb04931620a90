//! What a client's certificate calls it.

use rustls::pki_types::CertificateDer;

/// The first DNS name among the subject's alternative names, or else the first URI, such as a SPIFFE
/// id. One without a scheme is passed over: it could be the DNS name of another. The common name is not
/// looked at: it may hold anything.
pub(crate) fn peer_name(chain: &[CertificateDer<'_>]) -> Option<String> {
    let certificate = webpki::EndEntityCert::try_from(chain.first()?).ok()?;
    let name = certificate.valid_dns_names().next();
    let mut uris = certificate.valid_uri_names();
    let name = name.or_else(|| uris.find(|uri| uri.contains(':')))?;
    (!name.is_empty()).then(|| name.to_owned())
}
