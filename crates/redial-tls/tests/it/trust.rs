//! Who is let in: each end takes only certificates that were signed by those it trusts, for the name
//! that was asked for.

use redial_test_ca::TestCa;
use redial_tls::{ClientCertificates, ClientTls, ServerTls};

use crate::common::{HOST, agree, client, disagree, server};

fn mutual(ca: &TestCa, clients: &TestCa) -> ServerTls {
    let pair = ca.sign(&[HOST]);
    let builder = ServerTls::builder().certificate_pem(pair.certificate, pair.key);
    builder.client_ca_pem(clients.pem()).build().unwrap()
}

fn showing(ca: &TestCa, clients: &TestCa, names: &[&str]) -> ClientTls {
    let pair = clients.sign(names);
    let builder = ClientTls::builder().roots_pem(ca.pem());
    let builder = builder.certificate_pem(pair.certificate, pair.key);
    builder.build().unwrap()
}

#[tokio::test]
async fn both_ends_agree_on_the_protocol_and_resume_their_session() {
    let ca = TestCa::new("both");
    let (server, client) = (server(&ca), client(&ca));
    let (served, called) = agree(&server, &client).await;
    assert!(served.is_alpn_agreed() && called.is_alpn_agreed());
    assert!(!called.is_resumed());
    let (_, called) = agree(&server, &client).await;
    assert!(called.is_resumed());
}

#[tokio::test]
async fn a_server_that_no_trusted_authority_has_signed_or_for_another_name_is_refused() {
    let (ca, other) = (TestCa::new("ours"), TestCa::new("theirs"));
    let server = server(&ca);
    let (_, called) = disagree(&server, &client(&other), HOST).await;
    assert!(
        called.contains("no root that this client trusts"),
        "{called}"
    );
    for host in ["other.example", "127.0.0.1"] {
        let (_, called) = disagree(&server, &client(&ca), host).await;
        assert!(called.contains("not valid for name"), "{called}");
    }
    // The name that counts is the one that the program says.
    let named = ClientTls::builder()
        .roots_pem(ca.pem())
        .server_name("x.example");
    let (_, called) = disagree(&server, &named.build().unwrap(), HOST).await;
    assert!(called.contains("not valid for name"), "{called}");
}

#[tokio::test]
async fn a_client_has_to_show_a_certificate_of_the_right_authority_where_one_is_asked_for() {
    let (ca, clients) = (TestCa::new("servers"), TestCa::new("clients"));
    let server = mutual(&ca, &clients);
    assert_eq!(server.client_certificates(), ClientCertificates::Required);
    let (served, _) = agree(&server, &showing(&ca, &clients, &["billing.example"])).await;
    assert_eq!(served.peer_name().as_deref(), Some("billing.example"));
    let (served, called) = disagree(&server, &client(&ca), HOST).await;
    assert!(served.contains("no certificates"), "{served}");
    assert!(called.contains("CertificateRequired"), "{called}");
    // The server's own authority is not the clients'.
    let (served, _) = disagree(&server, &showing(&ca, &ca, &["billing.example"]), HOST).await;
    assert!(served.contains("UnknownIssuer"), "{served}");
}

#[tokio::test]
async fn an_optional_certificate_is_verified_where_it_is_shown() {
    let (ca, clients) = (TestCa::new("servers"), TestCa::new("clients"));
    let pair = ca.sign(&[HOST]);
    let builder = ServerTls::builder().certificate_pem(pair.certificate, pair.key);
    let builder = builder.client_ca_pem(clients.pem());
    let server = builder.client_certificates_optional().build().unwrap();
    assert_eq!(server.client_certificates(), ClientCertificates::Optional);
    let (served, _) = agree(&server, &client(&ca)).await;
    assert_eq!(served.peer_name(), None);
    let (served, _) = agree(&server, &showing(&ca, &clients, &["a.example"])).await;
    assert_eq!(served.peer_name().as_deref(), Some("a.example"));
    disagree(&server, &showing(&ca, &ca, &["a.example"]), HOST).await;
}

#[tokio::test]
async fn a_client_is_called_by_its_first_dns_name_or_else_by_its_first_uri() {
    let ca = TestCa::new("all");
    let server = mutual(&ca, &ca);
    for (names, expected) in [
        (&["one.example", "two.example"][..], Some("one.example")),
        (&["spiffe://corp/billing"], Some("spiffe://corp/billing")),
        (
            &["spiffe://corp/x", "10.0.0.1", "d.example"],
            Some("d.example"),
        ),
        (&["10.0.0.1"], None),
        (&[], None),
    ] {
        let (served, _) = agree(&server, &showing(&ca, &ca, names)).await;
        assert_eq!(served.peer_name().as_deref(), expected, "{names:?}");
    }
}

#[tokio::test]
async fn a_client_that_has_expired_or_is_not_valid_yet_is_refused() {
    let ca = TestCa::new("all");
    let server = mutual(&ca, &ca);
    for (from, to) in [(2000, 2001), (2150, 2160)] {
        let pair = ca.sign_with(&["late.example"], |params| {
            params.not_before = params.not_before.replace_year(from).unwrap();
            params.not_after = params.not_after.replace_year(to).unwrap();
        });
        let client = ClientTls::builder().roots_pem(ca.pem());
        let client = client.certificate_pem(pair.certificate, pair.key).build();
        disagree(&server, &client.unwrap(), HOST).await;
    }
}

/// A configuration of the program's own is taken as it is.
#[tokio::test]
async fn a_configuration_of_the_programs_own() {
    let ca = TestCa::new("own");
    let (theirs, ours) = (server(&ca), client(&ca));
    let server = ServerTls::from_config(theirs.config(), ClientCertificates::None);
    agree(&server, &ClientTls::from_config(ours.config())).await;
    server.reload().unwrap();
}

/// What `openssl req -x509` makes by default signs itself as an authority.
#[tokio::test]
async fn an_authoritys_own_certificate_is_no_servers_and_the_error_says_so() {
    let ca = TestCa::new("roots");
    let pair = ca.sign_with(&[HOST], |params| {
        params.is_ca = redial_test_ca::authority();
    });
    let server = ServerTls::builder().certificate_pem(pair.certificate, pair.key);
    let (_, called) = disagree(&server.build().unwrap(), &client(&ca), HOST).await;
    assert!(
        called.contains("it is a certificate authority's"),
        "{called}"
    );
}
