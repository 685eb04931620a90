//! Reading an encrypted connection: all that the transport has in one read, and all that was in it in one
//! call. rustls asks a transport for 4 KiB at a time, and tokio-rustls hands out record by record.

use std::{
    cell::Cell,
    io::{self, Read, Write},
    mem,
    pin::Pin,
    task::{Context, Poll},
};

use rustls::{ConnectionCommon, SideData};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How much is read at once, in bytes: as much as both ends ask for. A thread keeps a buffer of this size.
const READ_BYTES: usize = 64 * 1024;

thread_local! {
    /// Belongs to the thread, so that an idle connection keeps none.
    static READ_BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// What comes after the bytes that were handed out.
pub(crate) enum Receiver {
    /// What was read and found no room, still encrypted: mostly nothing, and then no memory is kept.
    Unread(Vec<u8>),
    /// Something that is no TLS.
    Broken(io::Error),
}

impl Default for Receiver {
    fn default() -> Self {
        Self::Unread(Vec::new())
    }
}

impl Receiver {
    /// Reads into `buffer`. Ready without a byte if the stream has ended, with or without a last word. What
    /// came before an error is handed out first.
    pub(crate) fn poll_read<Io, Side>(
        &mut self,
        (io, session): (&mut Io, &mut ConnectionCommon<Side>),
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>>
    where
        Io: AsyncRead + AsyncWrite + Unpin,
        Side: SideData,
    {
        let room = buffer.remaining();
        let mut is_over = self.receive_unread(session, buffer);
        while !is_over && room > 0 && buffer.remaining() == room {
            let mut bytes = READ_BUFFER.take();
            bytes.resize(READ_BYTES, 0);
            let mut read = ReadBuf::new(&mut bytes);
            let polled = Pin::new(&mut *io).poll_read(cx, &mut read);
            if matches!(polled, Poll::Ready(Ok(()))) {
                is_over = self.receive_read(session, read.filled(), buffer);
            }
            READ_BUFFER.set(bytes);
            match polled {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    // A read that brings nothing has rustls give up the room that a large record took.
                    let _: io::Result<usize> = session.read_tls(&mut NothingYet);
                    return Poll::Pending;
                }
            }
        }
        match mem::take(self) {
            Self::Broken(error) if buffer.remaining() == room => {
                // The alert that says why, as far as there is room for it.
                let mut sink = Sink { io, cx };
                while session.wants_write() && session.write_tls(&mut sink).is_ok() {}
                Poll::Ready(Err(error))
            }
            next => {
                *self = next;
                Poll::Ready(Ok(()))
            }
        }
    }

    /// What an earlier read has left. Says whether nothing comes after what is in the buffer.
    fn receive_unread<Side: SideData>(
        &mut self,
        session: &mut ConnectionCommon<Side>,
        buffer: &mut ReadBuf<'_>,
    ) -> bool {
        let Self::Unread(unread) = self else {
            drain(session, buffer);
            return true;
        };
        let mut rest = &unread[..];
        let decrypted = decrypt(session, &mut rest, buffer);
        match rest.len() {
            0 => *unread = Vec::new(),
            rest => drop(unread.drain(..unread.len() - rest)),
        }
        self.keep(decrypted)
    }

    fn receive_read<Side: SideData>(
        &mut self,
        session: &mut ConnectionCommon<Side>,
        mut read: &[u8],
        buffer: &mut ReadBuf<'_>,
    ) -> bool {
        if read.is_empty() {
            // So rustls knows that the transport has ended. What reads from nothing can't fail.
            let _: io::Result<usize> = session.read_tls(&mut io::empty());
        }
        let decrypted = decrypt(session, &mut read, buffer);
        if let Self::Unread(unread) = self {
            unread.extend_from_slice(read);
        }
        self.keep(decrypted)
    }

    fn keep(&mut self, decrypted: io::Result<bool>) -> bool {
        decrypted.unwrap_or_else(|error| {
            *self = Self::Broken(error);
            true
        })
    }
}

/// What has nothing to read for now.
struct NothingYet;

impl Read for NothingYet {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

/// Where rustls writes to.
struct Sink<'a, 'c, Io> {
    io: &'a mut Io,
    cx: &'a mut Context<'c>,
}

impl<Io: AsyncWrite + Unpin> Write for Sink<'_, '_, Io> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match Pin::new(&mut *self.io).poll_write(self.cx, bytes) {
            Poll::Ready(Ok(0)) => Err(io::ErrorKind::WriteZero.into()),
            Poll::Ready(written) => written,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Decrypts until there is no room, or nothing left. Says whether the stream has ended.
fn decrypt<Side: SideData>(
    session: &mut ConnectionCommon<Side>,
    encrypted: &mut &[u8],
    buffer: &mut ReadBuf<'_>,
) -> io::Result<bool> {
    let mut has_ended = drain(session, buffer);
    while !has_ended && !encrypted.is_empty() && buffer.remaining() > 0 {
        session.read_tls(encrypted)?;
        let processed = session.process_new_packets();
        has_ended = drain(session, buffer);
        processed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    }
    Ok(has_ended)
}

/// Hands out what is decrypted, as far as there is room. Says whether the stream has ended.
fn drain<Side: SideData>(session: &mut ConnectionCommon<Side>, buffer: &mut ReadBuf<'_>) -> bool {
    while buffer.remaining() > 0 {
        match session.reader().read(buffer.initialize_unfilled()) {
            Ok(0) => return true,
            Ok(count) => buffer.advance(count),
            Err(error) => return error.kind() == io::ErrorKind::UnexpectedEof,
        }
    }
    false
}
