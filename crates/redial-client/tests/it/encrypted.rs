//! TLS: what can't be verified, does not speak it, or does not answer is no connection, and the error
//! says which.

use std::time::Duration;

use redial_client::{BuildError, Client, ClientTls, Config, connect::once};
use redial_test_ca::TestCa;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

fn tls(ca: &TestCa) -> ClientTls {
    ClientTls::builder().roots_pem(ca.pem()).build().unwrap()
}

/// A server that answers whatever comes with these bytes, or with nothing.
async fn answering(bytes: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let mut open = Vec::new();
        loop {
            let (mut io, _) = listener.accept().await.unwrap();
            let _ = io.read(&mut [0; 4096]).await;
            if !bytes.is_empty() {
                let _ = io.write_all(bytes).await;
            }
            open.push(io);
        }
    });
    address
}

async fn refused(address: &str) -> String {
    let config = Config {
        connect_timeout: Duration::from_millis(200),
        ..Config::default()
    };
    let builder = Client::builder()
        .config(config)
        .tls(tls(&TestCa::new("ours")));
    let error = builder.connect(address).await.unwrap_err().to_string();
    let expected = format!("cannot connect to {address} over TLS: ");
    assert!(error.contains(&expected), "{error}");
    error
}

#[tokio::test]
async fn a_server_that_is_silent_has_the_time_of_a_connection() {
    let error = refused(&answering(b"").await).await;
    assert!(
        error.contains("connected, but no TLS handshake within 200ms"),
        "{error}"
    );
}

#[tokio::test]
async fn a_server_without_tls_is_called_that() {
    let error = refused(&answering(b"\0\0\0\x02{}").await).await;
    assert!(error.contains("does the server speak TLS?"), "{error}");
}

#[tokio::test]
async fn without_a_name_there_is_nothing_to_verify() {
    let (near, _far) = tokio::io::duplex(1024);
    let builder = Client::builder().tls(tls(&TestCa::new("ours")));
    let error = builder.connect_with(once(near)).await.unwrap_err();
    assert!(matches!(error, BuildError::NoServerName(_)), "{error}");
}
