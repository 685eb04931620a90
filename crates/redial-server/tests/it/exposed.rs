//! What other machines reach needs TLS and authentication, or consent, and the refusal says what to give.

use std::time::Duration;

use redial_server::{Config, ServeError, Server};

use crate::common::Service;

fn server(insecure: bool) -> Server {
    Service::default().server(Config {
        insecure,
        ..Config::default()
    })
}

/// What `serve` says within a moment; nothing if it serves.
async fn said(serving: impl Future<Output = Result<(), ServeError>>) -> String {
    let served = tokio::time::timeout(Duration::from_millis(20), serving).await;
    served.map_or_else(|_| String::new(), |served| served.unwrap_err().to_string())
}

#[tokio::test]
async fn an_address_beyond_loopback_needs_consent() {
    for (address, insecure, serves) in [
        ("127.0.0.1:0", false, true),
        ("0.0.0.0:0", false, false),
        ("0.0.0.0:0", true, true),
    ] {
        let server = server(insecure);
        let listener = server.bind(address).await.unwrap();
        let text = said(server.serve(listener)).await;
        assert_eq!(text.is_empty(), serves, "{address} {insecure}: {text}");
        if !serves {
            assert!(
                text.ends_with(
                    "can be reached from other machines, without TLS and without authentication; \
                     expected both (`serve_tls`, and client certificates or `authenticate`), a loopback \
                     address, a Unix socket, or `insecure` in the configuration"
                ),
                "{text}"
            );
        }
    }
    let nonsense = server(false).bind("nowhere").await.unwrap_err();
    assert!(nonsense.to_string().contains("nowhere"), "{nonsense}");
}

#[cfg(feature = "tls")]
#[tokio::test]
async fn tls_alone_does_not_say_who_calls() {
    use redial_server::ServerTls;
    let ca = redial_test_ca::TestCa::new("exposed");
    let pair = ca.sign(&["counter.example"]);
    let tls = || ServerTls::builder().certificate_pem(&*pair.certificate, &*pair.key);
    let optional = || tls().client_ca_pem(ca.pem()).client_certificates_optional();
    for (tls, insecure, serves) in [
        (tls(), false, false),
        (optional(), false, false),
        (tls().client_ca_pem(ca.pem()), false, true),
        (tls(), true, true),
    ] {
        let server = server(insecure);
        let listener = server.bind("0.0.0.0:0").await.unwrap();
        let text = said(server.serve_tls(listener, tls.build().unwrap())).await;
        assert_eq!(text.is_empty(), serves, "{text}");
        let expected = "by anyone who connects; expected client certificates or `authenticate`";
        assert!(serves || text.contains(expected), "{text}");
    }
}
