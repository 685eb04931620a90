//! A descriptor in reserve: a server that has none left still sees who knocks, and can make room for
//! them.

use std::{io, time::Duration};

use tokio::net::TcpSocket;

use crate::{caller::Caller, listener::Accept};

/// How long accepting pauses when the system gives no descriptor.
const PAUSE: Duration = Duration::from_millis(50);

/// `EMFILE` and `ENFILE`, which have the same numbers on all Unix systems, and what Windows says
/// instead (`WSAEMFILE`).
const OUT_OF_DESCRIPTORS: [i32; 3] = [24, 23, 10024];

/// An unbound socket, which is given up to accept a connection. None is accepted without one at hand,
/// so that the first descriptor that is free again becomes the next reserve.
#[derive(Debug, Default)]
pub(crate) struct Reserve(Option<TcpSocket>);

/// A connection that was accepted.
#[derive(Debug)]
pub(crate) struct Accepted<Io> {
    pub(crate) io: Io,
    pub(crate) caller: Caller,
    /// It has the last descriptor: another connection has to go, or this one.
    pub(crate) is_last: bool,
}

impl Reserve {
    /// Accepts a connection, as soon as there is a descriptor for it. Cancel safe.
    pub(crate) async fn accept<L: Accept>(&mut self, listener: &L) -> Accepted<L::Io> {
        loop {
            if !self.refill() {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            match listener.accept().await {
                Ok(accepted) => return Accepted::new(accepted, false),
                Err(error) if is_out_of_descriptors(&error) && self.0.take().is_some() => {
                    // Its peer may have gone meanwhile, and a later one be accepted.
                    if let Ok(accepted) = listener.accept().await {
                        let is_last = !self.refill();
                        return Accepted::new(accepted, is_last);
                    }
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// Whether there is a reserve, or could never be one.
    fn refill(&mut self) -> bool {
        if self.0.is_some() {
            return true;
        }
        match TcpSocket::new_v4() {
            Ok(socket) => {
                self.0 = Some(socket);
                true
            }
            Err(error) => !is_out_of_descriptors(&error),
        }
    }
}

impl<Io> Accepted<Io> {
    fn new((io, caller): (Io, Caller), is_last: bool) -> Self {
        Self {
            io,
            caller,
            is_last,
        }
    }
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    let number = error.raw_os_error();
    number.is_some_and(|number| OUT_OF_DESCRIPTORS.contains(&number))
}
