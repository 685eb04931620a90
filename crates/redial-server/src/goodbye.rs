//! The refusal of a connection that there is no room for: it hears why, and when to come back,
//! before it is closed. Only so many hear that at a time; the others are closed without a word.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How many connections beyond `max_connections` hear why at a time.
const MAX_AT_A_TIME: usize = 64;

/// How long a peer has to take note and to close its side: what is closed with unread bytes is
/// reset, and the words are lost.
const PATIENCE: Duration = Duration::from_secs(1);

/// How much of what the peer sends meanwhile is read, in portions of [`DISCARD_BYTES`].
const DISCARDED_READS: usize = 64;
const DISCARD_BYTES: usize = 1024;

/// How many goodbyes are being said.
#[derive(Debug, Default)]
pub(crate) struct Goodbyes(AtomicUsize);

impl Goodbyes {
    /// Sends the frame and closes, unless too many are being sent.
    pub(crate) async fn say<S>(&self, mut io: S, frame: &[u8])
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let one_more = |taken: usize| (taken < MAX_AT_A_TIME).then_some(taken + 1);
        if self.0.try_update(Relaxed, Relaxed, one_more).is_err() {
            return;
        }
        let _permit = GoodbyePermit(self);
        let _: Result<io::Result<()>, _> =
            tokio::time::timeout(PATIENCE, say(&mut io, frame)).await;
    }
}

struct GoodbyePermit<'g>(&'g Goodbyes);

impl Drop for GoodbyePermit<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}

async fn say<S: AsyncRead + AsyncWrite + Unpin>(io: &mut S, frame: &[u8]) -> io::Result<()> {
    let mut rest = frame;
    while !rest.is_empty() {
        let count = poll_fn(|cx| Pin::new(&mut *io).poll_write(cx, rest)).await?;
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        rest = &rest[count..];
    }
    poll_fn(|cx| Pin::new(&mut *io).poll_flush(cx)).await?;
    poll_fn(|cx| Pin::new(&mut *io).poll_shutdown(cx)).await?;
    for _ in 0..DISCARDED_READS {
        let mut discarded = [0; DISCARD_BYTES];
        let mut buffer = ReadBuf::new(&mut discarded);
        poll_fn(|cx| Pin::new(&mut *io).poll_read(cx, &mut buffer)).await?;
        if buffer.filled().is_empty() {
            break;
        }
    }
    Ok(())
}
