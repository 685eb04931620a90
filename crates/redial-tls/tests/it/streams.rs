//! What a stream says of its bytes: those that TLS has taken may have been sent, and an end without a
//! last word is an end.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use redial_test_ca::TestCa;
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex,
};

use crate::common::{HOST, client, server};

/// A transport that fails after so many writes.
struct Failing {
    io: DuplexStream,
    writes: Arc<Mutex<Option<usize>>>,
}

impl AsyncRead for Failing {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Failing {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Some(writes) = &mut *self.writes.lock().unwrap() {
            if *writes == 0 {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            *writes -= 1;
        }
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// A client that takes such bytes for unwritten would call what it sent *not executed*.
#[tokio::test]
async fn bytes_that_were_sent_in_part_before_the_transport_failed_count_as_written() {
    let ca = TestCa::new("failing");
    let (near, far) = duplex(1024 * 1024);
    let server = server(&ca);
    let serving = tokio::spawn(async move {
        let mut stream = server.accept(far).await.unwrap();
        let mut got = vec![0; 1024];
        stream.read(&mut got).await.unwrap()
    });
    let writes = Arc::default();
    let transport = Failing {
        io: near,
        writes: Arc::clone(&writes),
    };
    let mut stream = client(&ca).connect(HOST, transport).await.unwrap();
    stream.flush().await.unwrap();
    // The records of 40 KiB leave in several writes, of which the first one succeeds.
    *writes.lock().unwrap() = Some(1);
    let bytes = vec![b'x'; 40 * 1024];
    assert_eq!(stream.write(&bytes).await.unwrap(), bytes.len());
    let error = stream.write(&bytes).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    assert!(serving.await.unwrap() > 0, "a part has arrived");
}

#[tokio::test]
async fn a_stream_without_a_last_word_has_ended() {
    let ca = TestCa::new("ends");
    for closes in [true, false] {
        let (near, far) = duplex(1024);
        let (server, client) = (server(&ca), client(&ca));
        let (served, called) = tokio::join!(server.accept(far), client.connect(HOST, near));
        let (mut served, mut called) = (served.unwrap(), called.unwrap());
        served.write_all(b"last").await.unwrap();
        served.flush().await.unwrap();
        if closes {
            served.shutdown().await.unwrap();
        }
        drop(served);
        let mut read = Vec::new();
        called.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, b"last");
    }
}
