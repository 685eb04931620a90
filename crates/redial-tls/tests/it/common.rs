//! An authority, both ends of a connection, and files that are gone with their test.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use redial_test_ca::TestCa;
use redial_tls::{ClientTls, ServerTls, TlsStream};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

pub(crate) const HOST: &str = "counter.example";

/// A folder that is gone with its test.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Relaxed);
        let name = format!("redial-tls-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A server with one certificate, for [`HOST`].
pub(crate) fn server(ca: &TestCa) -> ServerTls {
    let pair = ca.sign(&[HOST]);
    let builder = ServerTls::builder().certificate_pem(pair.certificate, pair.key);
    builder.build().unwrap()
}

pub(crate) fn client(ca: &TestCa) -> ClientTls {
    ClientTls::builder().roots_pem(ca.pem()).build().unwrap()
}

pub(crate) type Stream = TlsStream<DuplexStream>;

/// What each end says of a handshake and of one byte in each direction: a client of TLS 1.3 hears only
/// then that the server refuses it.
pub(crate) async fn shake(
    server: &ServerTls,
    client: &ClientTls,
    host: &str,
) -> (io::Result<Stream>, io::Result<Stream>) {
    let (near, far) = duplex(64 * 1024);
    let serving = async {
        let mut stream = server.accept(far).await?;
        let mut byte = [0];
        stream.read_exact(&mut byte).await?;
        stream.write_all(&byte).await?;
        stream.flush().await?;
        Ok(stream)
    };
    let calling = async {
        let mut stream = client.connect(host, near).await?;
        stream.write_all(b"x").await?;
        stream.flush().await?;
        let mut byte = [0];
        stream.read_exact(&mut byte).await?;
        assert_eq!(&byte, b"x");
        Ok(stream)
    };
    tokio::join!(serving, calling)
}

/// Both ends are content.
pub(crate) async fn agree(server: &ServerTls, client: &ClientTls) -> (Stream, Stream) {
    let (served, called) = shake(server, client, HOST).await;
    (served.unwrap(), called.unwrap())
}

/// Neither end comes through; the texts of both errors.
pub(crate) async fn disagree(
    server: &ServerTls,
    client: &ClientTls,
    host: &str,
) -> (String, String) {
    let (served, called) = shake(server, client, host).await;
    (
        served.expect_err("the server took it").to_string(),
        called.expect_err("the client took it").to_string(),
    )
}
