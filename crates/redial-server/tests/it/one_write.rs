//! The replies to all requests of one read leave in one write.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
};

use crate::common::{Peer, Service, uuid};
use redial_server::Config;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};

/// A pipe that counts the writes to it.
struct CountingPipe {
    pipe: DuplexStream,
    writes: Arc<AtomicUsize>,
}

impl AsyncRead for CountingPipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_read(cx, buf)
    }
}

impl AsyncWrite for CountingPipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.writes.fetch_add(1, SeqCst);
        Pin::new(&mut self.pipe).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(cx)
    }
}

/// Sends 100 requests in one piece, and returns how many writes the 100 replies took.
async fn writes_for_100(request: impl Fn(u32) -> String) -> usize {
    let server = Service::default().server(Config::default());
    let (io, pipe) = tokio::io::duplex(1024 * 1024);
    let writes = Arc::new(AtomicUsize::new(0));
    let transport = CountingPipe {
        pipe,
        writes: Arc::clone(&writes),
    };
    tokio::spawn(async move { server.serve_connection(transport).await });
    let mut peer = Peer { io };
    let mut all = Vec::new();
    for number in 0..100 {
        let request = request(number);
        all.extend_from_slice(&u32::try_from(request.len()).unwrap().to_be_bytes());
        all.extend_from_slice(request.as_bytes());
    }
    peer.io.write_all(&all).await.unwrap();
    for _ in 0..100 {
        assert!(peer.receive().await.unwrap().contains("result"));
    }
    writes.load(SeqCst)
}

#[tokio::test]
async fn replies_that_are_ready_at_once_leave_in_one_write() {
    let inc = |number| format!(r#"{{"id":"{}","method":"inc"}}"#, uuid(number));
    assert_eq!(writes_for_100(inc).await, 1);
}

#[tokio::test(start_paused = true)]
async fn replies_that_become_ready_together_leave_together() {
    let slow_inc = |number| {
        let id = uuid(number);
        format!(r#"{{"id":"{id}","method":"slow_inc","params":{{"ms":50}}}}"#)
    };
    assert!(writes_for_100(slow_inc).await <= 2);
}
