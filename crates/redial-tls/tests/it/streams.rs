//! What a stream says of its bytes: those that TLS has taken may have been sent, an end without a last
//! word is an end, and one read takes all that is there.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use redial_test_ca::TestCa;
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex,
};

use crate::common::{HOST, client, server};

/// A transport that fails after so many writes, counts its reads, and can be written to by others.
#[derive(Clone)]
struct Scripted {
    io: Arc<Mutex<DuplexStream>>,
    writes: Arc<Mutex<Option<usize>>>,
    reads: Arc<AtomicUsize>,
}

impl Scripted {
    fn new(io: DuplexStream) -> Self {
        Self {
            io: Arc::new(Mutex::new(io)),
            writes: Arc::default(),
            reads: Arc::default(),
        }
    }
}

impl AsyncRead for Scripted {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.reads.fetch_add(1, Relaxed);
        Pin::new(&mut *self.io.lock().unwrap()).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Scripted {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Some(writes) = &mut *self.writes.lock().unwrap() {
            if *writes == 0 {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            *writes -= 1;
        }
        Pin::new(&mut *self.io.lock().unwrap()).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.io.lock().unwrap()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.io.lock().unwrap()).poll_shutdown(cx)
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
    let transport = Scripted::new(near);
    let writes = Arc::clone(&transport.writes);
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

/// Kind: a step costs as much for one byte as for many, and is taken for few. Instance: rustls reads 4 KiB
/// at a time, and tokio-rustls hands out record by record.
#[tokio::test]
async fn one_read_of_the_transport_hands_out_all_records_that_are_there() {
    let ca = TestCa::new("bulk");
    let (near, far) = duplex(1024 * 1024);
    let transport = Scripted::new(near);
    let reads = Arc::clone(&transport.reads);
    let (server, client) = (server(&ca), client(&ca));
    let (served, called) = tokio::join!(server.accept(far), client.connect(HOST, transport));
    let (mut served, mut called) = (served.unwrap(), called.unwrap());
    let mut sent = Vec::new();
    for number in 0..100_u8 {
        sent.extend([number; 600]);
        served.write_all(&[number; 600]).await.unwrap();
        served.flush().await.unwrap();
    }
    let before = reads.load(Relaxed);
    let mut read = vec![0; 64 * 1024];
    let count = called.read(&mut read).await.unwrap();
    assert_eq!(reads.load(Relaxed) - before, 1);
    assert_eq!(&read[..count], sent);
}

/// Whatever the sizes of records, of the transport's buffer and of the reads, the bytes are the same.
#[tokio::test]
async fn bytes_come_in_their_order_however_little_room_there_is_for_them() {
    let ca = TestCa::new("sizes");
    let (server, client) = (server(&ca), client(&ca));
    for (write, pipe, read) in [
        (1, 64, 1),
        (3, 100_000, 1),
        (100, 50, 7),
        (5_000, 1_000_000, 1_000),
        (40_000, 1_000_000, 333),
        (40_000, 700, 64 * 1024),
        (200_000, 1_000_000, 64 * 1024),
    ] {
        let (near, far) = duplex(pipe);
        let sent: Vec<u8> = (0..write * 20).map(|at| (at % 251) as u8).collect();
        let (bytes, server) = (sent.clone(), server.clone());
        let sending = tokio::spawn(async move {
            let mut served = server.accept(far).await.unwrap();
            for part in bytes.chunks(write) {
                served.write_all(part).await.unwrap();
                served.flush().await.unwrap();
            }
            served.shutdown().await.unwrap();
        });
        let mut called = client.connect(HOST, near).await.unwrap();
        let (mut got, mut part) = (Vec::new(), vec![0; read]);
        loop {
            let count = called.read(&mut part).await.unwrap();
            got.extend_from_slice(&part[..count]);
            if count == 0 {
                break;
            }
        }
        assert!(
            got == sent,
            "writes of {write}, a pipe of {pipe}, reads of {read}"
        );
        assert_eq!(called.read(&mut part).await.unwrap(), 0, "it stays ended");
        sending.await.unwrap();
    }
}

/// Kind: what is wrong takes along what was right before it. Instance: a reply, and then something that is
/// no TLS, in one read.
#[tokio::test]
async fn what_came_before_garbage_is_handed_out_first() {
    let ca = TestCa::new("garbage");
    let (near, far) = duplex(64 * 1024);
    let (server, client, far) = (server(&ca), client(&ca), Scripted::new(far));
    let mut raw = far.clone();
    let accepting = server.accept(far);
    let (served, called) = tokio::join!(accepting, client.connect(HOST, near));
    let (mut served, mut called) = (served.unwrap(), called.unwrap());
    served.write_all(b"last").await.unwrap();
    served.flush().await.unwrap();
    raw.write_all(b"\x17\x03\x03\0\x20").await.unwrap();
    raw.write_all(&[0; 32]).await.unwrap();
    let mut read = [0; 100];
    assert_eq!(called.read(&mut read).await.unwrap(), 4);
    assert_eq!(&read[..4], b"last");
    for _ in 0..2 {
        let error = called.read(&mut read).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
        // It says so for good.
        raw.write_all(b"more").await.unwrap();
    }
    let heard = served.read(&mut read).await.unwrap_err().to_string();
    assert!(heard.contains("BadRecordMac"), "{heard}");
}
