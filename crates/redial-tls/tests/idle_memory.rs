//! What a connection keeps when there is nothing to be read. A binary of its own: it counts allocations.

use redial_test_ca::TestCa;
use redial_tls::{ClientTls, ServerTls, TlsStream};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt, DuplexStream, ReadBuf, duplex},
    runtime::{Builder, Runtime},
};

const HOST: &str = "counter.example";

type Stream = TlsStream<DuplexStream>;

async fn connected() -> (Stream, Stream) {
    let ca = TestCa::new("idle");
    let pair = ca.sign(&[HOST]);
    let server = ServerTls::builder().certificate_pem(pair.certificate, pair.key);
    let client = ClientTls::builder().roots_pem(ca.pem());
    let (server, client) = (server.build().unwrap(), client.build().unwrap());
    let (near, far) = duplex(1024 * 1024);
    let (served, called) = tokio::join!(server.accept(far), client.connect(HOST, near));
    (served.unwrap(), called.unwrap())
}

/// Reads so much, and finds nothing more.
async fn read_all(stream: &mut Stream, mut bytes: usize, buffer: &mut [u8]) {
    while bytes > 0 {
        bytes -= stream.read(buffer).await.unwrap();
    }
    let nothing = std::future::poll_fn(|cx| {
        let polled = std::pin::Pin::new(&mut *stream).poll_read(cx, &mut ReadBuf::new(buffer));
        std::task::Poll::Ready(polled.is_pending())
    });
    assert!(nothing.await);
}

/// Kind: what a busy moment takes is kept for an idle time. Instance: the room for a record of 16 KiB, of which
/// 4 KiB are enough until the next one.
#[test]
fn an_idle_connection_keeps_no_room_for_the_records_that_it_has_read() {
    let runtime: Runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let (mut served, mut called) = runtime.block_on(connected());
    let mut buffer = vec![0; 64 * 1024];
    for length in [10, 200_000] {
        let sent = vec![1; length];
        runtime.block_on(async {
            served.write_all(&sent).await.unwrap();
            served.flush().await.unwrap();
        });
        let kept = allocation_counter::measure(|| {
            runtime.block_on(read_all(&mut called, length, &mut buffer));
        });
        // The first read takes the thread's buffer, and what a connection keeps.
        assert!(length == 10 || kept.bytes_current < 100, "{kept:?}");
    }
}
