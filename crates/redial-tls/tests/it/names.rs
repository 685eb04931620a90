//! Several certificates: each client gets the one for the name that it asks for.

use redial_test_ca::TestCa;
use redial_tls::{ClientTls, ServerTls};

use crate::common::{client, shake};

#[tokio::test]
async fn a_client_gets_the_certificate_for_its_name() {
    let ca = TestCa::new("names");
    let mut builder = ServerTls::builder();
    for names in [
        &["first.example", "127.0.0.1"][..],
        &["exact.wild.example"],
        &["*.wild.example", "Upper.Example"],
        &["exact.wild.example", "second.example"],
    ] {
        let pair = ca.sign(names);
        builder = builder.certificate_pem(pair.certificate, pair.key);
    }
    let server = builder.build().unwrap();
    let client = client(&ca);
    for host in [
        "first.example",
        "FIRST.example",
        "exact.wild.example",
        "any.wild.example",
        "upper.example",
        "second.example",
        // No name is sent for an address, so it gets the first.
        "127.0.0.1",
    ] {
        let (_, called) = shake(&server, &client, host).await;
        called.unwrap_or_else(|error| panic!("{host}: {error}"));
    }
    // A wildcard is one label, and for other names the first certificate doesn't do either.
    for host in ["a.b.wild.example", "wild.example", "unknown.example"] {
        let (_, called) = shake(&server, &client, host).await;
        let error = called.expect_err(host).to_string();
        assert!(error.contains("not valid for name"), "{error}");
    }
}

fn with_alpn(ca: &TestCa, names: &[&str]) -> ClientTls {
    let mut config = (*client(ca).config()).clone();
    config.alpn_protocols = names.iter().map(|name| name.as_bytes().to_vec()).collect();
    ClientTls::from_config(config.into())
}

/// What was meant for another protocol is not taken for ours (ALPACA).
#[tokio::test]
async fn a_client_of_another_protocol_is_refused_and_one_that_names_none_is_welcome() {
    let ca = TestCa::new("protocols");
    let server = crate::common::server(&ca);
    let host = crate::common::HOST;
    for names in [&[][..], &["redial/1"], &["h2", "redial/1"]] {
        let (served, _) = shake(&server, &with_alpn(&ca, names), host).await;
        assert_eq!(served.unwrap().is_alpn_agreed(), !names.is_empty());
    }
    let (served, called) = shake(&server, &with_alpn(&ca, &["h2", "http/1.1"]), host).await;
    assert!(served.is_err());
    let error = called.unwrap_err().to_string();
    assert!(error.contains("NoApplicationProtocol"), "{error}");
}
