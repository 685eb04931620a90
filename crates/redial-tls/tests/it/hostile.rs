//! Peers that waste a handshake: silence, dripping, garbage, certificates without end.

use std::time::Duration;

use redial_test_ca::TestCa;
use redial_tls::{ClientTls, ServerTls};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use crate::common::{HOST, client, disagree, server};

#[tokio::test(start_paused = true)]
async fn a_handshake_ends_in_time_however_it_drips() {
    let ca = TestCa::new("slow");
    let pair = ca.sign(&[HOST]);
    let builder = ServerTls::builder().certificate_pem(pair.certificate, pair.key);
    let limit = Duration::from_millis(300);
    let server = builder.handshake_timeout(limit).build().unwrap();
    // Silence, and a record header that promises the most, a byte at a time.
    for drips in [false, true] {
        let (mut near, far) = duplex(1024);
        let dripping = async move {
            let _ = near.write_all(&[0x16, 3, 1, 0x40, 0]).await;
            while drips && near.write_all(&[1]).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            accepted = server.accept(far) => {
                let error = accepted.expect_err("no handshake").to_string();
                assert_eq!(error, "no handshake within 300ms");
            }
            () = dripping => unreachable!("it goes on"),
        }
    }
}

#[tokio::test]
async fn garbage_ends_a_handshake_at_once() {
    let server = server(&TestCa::new("garbage"));
    let mut random = 7_u64;
    for round in 0..200 {
        let (mut near, far) = duplex(64 * 1024);
        let mut bytes = vec![0; 1 + round * 20];
        for byte in &mut bytes {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            *byte = (random >> 56) as u8;
        }
        if round % 3 == 0 && bytes.len() > 5 {
            // As far as the header goes it is a handshake.
            bytes[..5].copy_from_slice(&[0x16, 3, 3, 0, 4]);
        }
        near.write_all(&bytes).await.unwrap();
        near.shutdown().await.unwrap();
        assert!(server.accept(far).await.is_err());
    }
}

/// What a plain peer sends is no TLS, and neither is what a plain server answers.
#[tokio::test]
async fn a_plain_peer_is_told_apart_on_both_ends() {
    let ca = TestCa::new("plain");
    let (mut near, far) = duplex(1024);
    near.write_all(b"\0\0\0\x1e{\"id\":1,\"method\":\"rpc.ping\"}")
        .await
        .unwrap();
    let error = server(&ca)
        .accept(far)
        .await
        .expect_err("plain")
        .to_string();
    assert!(error.contains("InvalidContentType"), "{error}");
    let mut alert = Vec::new();
    near.read_to_end(&mut alert).await.unwrap();
    assert_eq!(alert.first(), Some(&0x15), "an alert");

    let (near, mut far) = duplex(1024);
    far.write_all(b"\0\0\0\x1e{\"id\":null,\"error\":{}}")
        .await
        .unwrap();
    let error = client(&ca)
        .connect(HOST, near)
        .await
        .expect_err("plain")
        .to_string();
    assert!(error.ends_with("does the server speak TLS?"), "{error}");
}

#[tokio::test]
async fn a_chain_of_certificates_without_end_is_refused() {
    let ca = TestCa::new("long");
    let pair = ca.sign(&[HOST]);
    let builder = ServerTls::builder().certificate_pem(pair.certificate, pair.key);
    let server = builder.client_ca_pem(ca.pem()).build().unwrap();
    // Longer than 64 KiB: many certificates, and one with many names.
    let client = ca.sign(&["a.example"]);
    let many = client.certificate.repeat(400);
    let names: Vec<String> = (0..1_500)
        .map(|n| format!("name-{n}.example.example"))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let wide = ca.sign(&names);
    for (certificate, key) in [(many, client.key), (wide.certificate.repeat(2), wide.key)] {
        let client = ClientTls::builder().roots_pem(ca.pem());
        let client = client.certificate_pem(certificate, key).build().unwrap();
        disagree(&server, &client, HOST).await;
    }
}
