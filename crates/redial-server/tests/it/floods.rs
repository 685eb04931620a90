//! Kind of fault: what is due at some time never comes, since there is always something to be read before.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use redial_server::{Config, Server};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    task::{coop, yield_now},
    time::advance,
};

use crate::common::{Names, Service};

/// A peer that sends the same without end, and takes no time for that.
struct Flood {
    frame: Vec<u8>,
    at: usize,
    /// How much of it there is at once.
    piece: usize,
    /// Whether a task may read from it as often as it likes.
    is_unlimited: bool,
}

impl Flood {
    /// Of notifications, which are never answered.
    fn new(piece: usize, is_unlimited: bool) -> Self {
        let body = format!(
            r#"{{"jsonrpc":"2.0","method":"get","params":{{"key":"k"}}{:4096}}}"#,
            ""
        );
        let mut frame = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
        frame.extend_from_slice(body.as_bytes());
        Self {
            frame,
            at: 0,
            piece,
            is_unlimited,
        }
    }
}

impl AsyncRead for Flood {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.is_unlimited {
            ready!(coop::poll_proceed(cx)).made_progress();
        }
        let mut count = self.piece.min(buffer.remaining());
        while count > 0 {
            let end = self.frame.len().min(self.at + count);
            buffer.put_slice(&self.frame[self.at..end]);
            count -= end - self.at;
            self.at = end % self.frame.len();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Flood {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Whether the server ends the connection of such a peer within that time.
async fn ends_within(server: &Server, flood: Flood, limit: Duration) -> bool {
    let server = server.clone();
    let served = tokio::spawn(async move { server.serve_connection(flood).await });
    let step = Duration::from_millis(100);
    for _ in 0..limit.as_millis() / step.as_millis() {
        advance(step).await;
        yield_now().await;
    }
    served.is_finished()
}

/// Instance: a stranger that sends without pause has all the time in the world to show a token.
#[tokio::test(start_paused = true)]
async fn a_stranger_that_never_stops_sending_is_closed_in_time() {
    let builder = Service::default().builder().authenticate(Names);
    let server = builder.build().unwrap();
    let patience = Config::default().auth_timeout;
    // As much as fits, in small pieces, and as from a transport that knows nothing of tasks.
    for (piece, is_unlimited) in [(1 << 16, false), (16, false), (1 << 16, true)] {
        let flood = Flood::new(piece, is_unlimited);
        let is_over = ends_within(&server, flood, patience + 3 * Duration::from_secs(1)).await;
        assert!(is_over, "{piece} bytes at once, unlimited: {is_unlimited}");
    }
}

/// The neighbour: a connection of a limited age.
#[tokio::test(start_paused = true)]
async fn a_connection_that_never_stops_sending_ends_at_its_age() {
    let age = Duration::from_secs(5);
    let server = Service::default().server(Config {
        max_connection_age: Some(age),
        drain_timeout: age,
        ..Config::default()
    });
    for piece in [1 << 16, 16] {
        let flood = Flood::new(piece, false);
        assert!(
            ends_within(&server, flood, 3 * age).await,
            "{piece} bytes at once"
        );
    }
}
