//! Revoked clients: refused from the next handshake on, though they have a session to resume.

use redial_test_ca::{Pair, TestCa, replace};
use redial_tls::{ClientTls, ServerTls, rustls};

use crate::common::{Folder, HOST, agree, disagree};

fn showing(ca: &TestCa, pair: &Pair) -> ClientTls {
    let builder = ClientTls::builder().roots_pem(ca.pem());
    let builder = builder.certificate_pem(&*pair.certificate, &*pair.key);
    builder.build().unwrap()
}

fn server(ca: &TestCa) -> redial_tls::ServerTlsBuilder {
    let pair = ca.sign(&[HOST]);
    let builder = ServerTls::builder().certificate_pem(pair.certificate, pair.key);
    builder.client_ca_pem(ca.pem())
}

/// The same client, of one version of TLS.
fn of_version(client: &ClientTls, ca: &TestCa, pair: &Pair, tls12: bool) -> ClientTls {
    if !tls12 {
        return client.clone();
    }
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(ca.pem().as_bytes()).unwrap();
    roots.add(root).unwrap();
    let certificate = CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate], key)
        .unwrap();
    ClientTls::from_config(config.into())
}

#[tokio::test]
async fn a_client_that_is_revoked_while_it_has_a_session_to_resume_is_refused() {
    for tls12 in [false, true] {
        let (folder, ca) = (Folder::new(), TestCa::new("revoking"));
        let (kept, revoked) = (ca.sign(&["kept.example"]), ca.sign(&["gone.example"]));
        let list = folder.write("list.pem", ca.revoke(&[]));
        let server = server(&ca).client_crl_file(&list).build().unwrap();
        let kept = of_version(&showing(&ca, &kept), &ca, &kept, tls12);
        let gone = of_version(&showing(&ca, &revoked), &ca, &revoked, tls12);
        for client in [&kept, &gone] {
            agree(&server, client).await;
            let (served, called) = agree(&server, client).await;
            assert!(called.is_resumed());
            assert!(
                served.peer_name().is_some(),
                "it is known without its certificate"
            );
        }
        replace(&list, &ca.revoke(&[revoked.serial])).unwrap();
        server.reload().unwrap();
        let (served, _) = disagree(&server, &gone, HOST).await;
        assert!(served.contains("Revoked"), "{served}");
        agree(&server, &kept).await;
    }
}

#[tokio::test]
async fn a_client_of_an_authority_without_a_list_is_refused_once_there_is_one() {
    let (ca, other) = (TestCa::new("listed"), TestCa::new("unlisted"));
    let builder = server(&ca).client_ca_pem(other.pem());
    let both = builder.build().unwrap();
    let foreign = other.sign(&["a.example"]);
    let foreign = ClientTls::builder()
        .roots_pem(ca.pem())
        .certificate_pem(foreign.certificate, foreign.key)
        .build()
        .unwrap();
    agree(&both, &foreign).await;
    let listed = server(&ca).client_ca_pem(other.pem());
    let listed = listed.client_crl_pem(ca.revoke(&[])).build().unwrap();
    let (served, _) = disagree(&listed, &foreign, HOST).await;
    assert!(served.contains("UnknownRevocationStatus"), "{served}");
    agree(&listed, &showing(&ca, &ca.sign(&["a.example"]))).await;
}
