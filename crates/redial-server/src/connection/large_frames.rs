//! Large frames take turns, and a connection that has moved many bytes gives way: what one peer sends and
//! asks for in megabytes costs milliseconds of a thread, in which no other peer is to wait for all of it.

use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::PollSemaphore;

/// A frame of so many bytes waits for a permit.
pub(super) const LARGE_BYTES: usize = 64 * 1024;

/// A connection that has read and written so much lets all others that are ready go first.
pub(super) const MUCH_BYTES: usize = 256 * 1024;

/// A connection's permit to dispatch a large frame.
#[derive(Debug, Default)]
pub(super) enum LargeFramePermit {
    #[default]
    None,
    Awaited(PollSemaphore),
    Held(#[expect(dead_code, reason = "ends when it is dropped")] OwnedSemaphorePermit),
}

impl LargeFramePermit {
    /// Ready when it is there. A permit that is awaited has to be polled or given back when it comes, since
    /// no other comes before.
    pub(super) fn poll(&mut self, all: &Arc<Semaphore>, cx: &mut Context<'_>) -> Poll<()> {
        if let Self::None = self {
            *self = Self::Awaited(PollSemaphore::new(Arc::clone(all)));
        }
        if let Self::Awaited(semaphore) = self {
            match semaphore.poll_acquire(cx) {
                Poll::Ready(Some(permit)) => *self = Self::Held(permit),
                // It is never closed.
                Poll::Ready(None) => *self = Self::None,
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(())
    }

    pub(super) fn is_held(&self) -> bool {
        matches!(self, Self::Held(_))
    }

    /// Gives it back, or does not wait for it any more.
    #[inline]
    pub(super) fn end(&mut self) {
        if !matches!(self, Self::None) {
            *self = Self::None;
        }
    }
}

/// How many large frames are looked at at once: on half of the cores.
pub(crate) fn permits() -> Arc<Semaphore> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Arc::new(Semaphore::new((cores / 2).max(1)))
}

/// Has the task go on after all that are ready, those included that the runtime finds to be ready now.
pub(super) fn give_way(cx: &mut Context<'_>) {
    let _: Poll<()> = pin!(tokio::task::yield_now()).poll(cx);
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, time::Duration};

    use redial_protocol::Principal;
    use serde_json::Value;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
        time::{sleep, timeout},
    };

    use super::*;
    use crate::{
        auth::{Verified, Verifier, VerifyError},
        builder::ServerBuilder,
        config::Config,
        extensions::Extensions,
        server::Server,
    };

    const SECOND: Duration = Duration::from_secs(1);

    /// Takes no token.
    struct NoToken;

    impl Verifier for NoToken {
        async fn verify(&self, _: &str, _: Option<SocketAddr>) -> Result<Verified, VerifyError> {
            Err(VerifyError::Rejected)
        }
    }

    fn builder() -> ServerBuilder {
        Server::builder().query("size", async |(text,): (String,)| Ok(text.len()))
    }

    fn server() -> Server {
        builder().build().unwrap()
    }

    /// All permits, as if large frames of others were looked at.
    async fn take_all(server: &Server) -> OwnedSemaphorePermit {
        let all = Arc::clone(&server.shared.large_frames);
        let count = u32::try_from(all.available_permits()).unwrap();
        all.acquire_many_owned(count).await.unwrap()
    }

    /// A connection of the program's own to the server, with room for so many bytes each way.
    fn connect(server: &Server, bytes: usize) -> DuplexStream {
        let (near, far) = duplex(bytes);
        let mut extensions = Extensions::new();
        extensions.insert(Principal::new("token:known").unwrap());
        let server = server.clone();
        tokio::spawn(async move { server.serve_connection_with(far, extensions).await });
        near
    }

    fn large(members: &str) -> String {
        format!("{{{members}{}}}", " ".repeat(LARGE_BYTES))
    }

    /// A large frame. Everything that can be done at once is done when it was sent.
    async fn send_large(peer: &mut DuplexStream, members: &str) {
        let body = large(members);
        let length = u32::try_from(body.len()).unwrap();
        peer.write_u32(length).await.unwrap();
        peer.write_all(body.as_bytes()).await.unwrap();
        sleep(Duration::from_millis(1)).await;
    }

    async fn receive(peer: &mut DuplexStream) -> Value {
        let length = peer.read_u32().await.unwrap();
        let mut body = vec![0; length as usize];
        peer.read_exact(&mut body).await.unwrap();
        serde_json::from_slice(&body).unwrap()
    }

    const SIZE: &str = r#""id":1,"method":"size","params":["four"]"#;

    /// Kind: a peer is blamed for the time that its connection waits. Instance: the next frame has begun when
    /// a large one waits for its turn, and is not read meanwhile.
    #[tokio::test(start_paused = true)]
    async fn a_frame_that_is_not_read_behind_a_large_one_is_not_late() {
        let server = server();
        let turns = take_all(&server).await;
        let mut peer = connect(&server, 1 << 20);
        // The first bytes of the next frame come in the same read.
        let next = format!("{{{SIZE}}}");
        let length = u32::try_from(next.len()).unwrap().to_be_bytes();
        let large = large(SIZE);
        let mut bytes = u32::try_from(large.len()).unwrap().to_be_bytes().to_vec();
        bytes.extend_from_slice(large.as_bytes());
        bytes.extend_from_slice(&length);
        bytes.extend_from_slice(&next.as_bytes()[..5]);
        peer.write_all(&bytes).await.unwrap();
        sleep(2 * Config::default().frame_timeout).await;
        drop(turns);
        peer.write_all(&next.as_bytes()[5..]).await.unwrap();
        for _ in 0..2 {
            assert_eq!(receive(&mut peer).await["result"], 4);
        }
    }

    /// Kind: what is given to one that does not want it any more is kept from all others. Instance: a stranger
    /// who shows no token in time, and does not read that either, has a large frame that waits.
    #[tokio::test(start_paused = true)]
    async fn a_connection_that_is_closed_while_it_waits_leaves_its_turn_to_others() {
        let server = builder().authenticate(NoToken).build().unwrap();
        let mut turns = take_all(&server).await;
        let (mut stranger, far) = duplex(64);
        let serving = server.clone();
        tokio::spawn(async move { serving.serve_connection(far).await });
        send_large(&mut stranger, SIZE).await;
        let mut known = connect(&server, 1 << 20);
        send_large(&mut known, SIZE).await;
        sleep(Config::default().auth_timeout).await;
        drop(turns.split(1));
        let reply = timeout(SECOND, receive(&mut known)).await;
        assert_eq!(reply.expect("it has no permit")["result"], 4);
    }

    /// Kind: what is rationed is done all the same to find out whether it need be. Instance: a large frame is
    /// parsed, since it might be a ping.
    #[tokio::test(start_paused = true)]
    async fn no_large_frame_is_looked_at_out_of_turn() {
        let server = server();
        let turns = take_all(&server).await;
        let mut peer = connect(&server, 1 << 20);
        send_large(&mut peer, r#""id":1,"method":"rpc.ping""#).await;
        timeout(SECOND, peer.read_u8()).await.unwrap_err();
        drop(turns);
        assert_eq!(receive(&mut peer).await["result"], "pong");
    }
}
