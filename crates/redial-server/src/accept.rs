//! How connections come in: each is entered among those that are open, if need be in place of another,
//! and served until it ends.

use std::{future::Future, sync::Arc};

use redial_protocol::{ErrorCode, ErrorObject, Id};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    caller::Caller,
    connection::Connection,
    connection_events::ConnectionEvents,
    connections::{Registration, Standing},
    listener::Accept,
    outbox::Outbox,
    recovery,
    refusal::{self, ConnectionLimit},
    reserve::{Accepted, Reserve},
    server::Server,
    waiter::write_unasked_error,
};

/// How a connection is served that has its slot.
pub(crate) trait ServeConnection<Io>: Clone + Send + Sync + 'static {
    /// Serves it to its end.
    fn serve(
        self,
        server: Server,
        io: Io,
        slot: ConnectionSlot,
        caller: Caller,
    ) -> impl Future<Output = ()> + Send;

    /// Whether a peer without a slot can hear why.
    const SPEAKS_AT_ONCE: bool;
}

/// A connection's slot among those that may be open.
pub(crate) struct ConnectionSlot {
    pub(crate) outbox: Arc<Outbox>,
    _registration: Registration,
    /// Behind the registration, so that what sees the end sees the slot free.
    _events: Option<ConnectionEvents>,
}

impl ConnectionSlot {
    pub(crate) fn new(
        outbox: Arc<Outbox>,
        registration: Registration,
        events: Option<ConnectionEvents>,
    ) -> Self {
        Self {
            outbox,
            _registration: registration,
            _events: events,
        }
    }
}

/// Requests come at once.
#[derive(Clone, Copy)]
pub(crate) struct Plainly;

impl<Io: AsyncRead + AsyncWrite + Unpin + Send + 'static> ServeConnection<Io> for Plainly {
    const SPEAKS_AT_ONCE: bool = true;

    async fn serve(self, server: Server, io: Io, slot: ConnectionSlot, caller: Caller) {
        server.run(io, slot, caller).await;
    }
}

impl Server {
    /// Accepts connections until the server shuts down, and waits for its end.
    pub(crate) async fn accept_all<L: Accept>(
        &self,
        listener: L,
        transport: impl ServeConnection<L::Io>,
    ) {
        let listening = self.shared.listeners.token();
        let mut reserve = Reserve::default();
        loop {
            tokio::select! {
                biased;
                () = self.shared.draining.cancelled() => break,
                accepted = reserve.accept(&listener) => {
                    let Accepted { io, caller, is_last } = accepted;
                    if is_last {
                        self.accept_last::<L, _>(io, caller, transport.clone());
                    } else {
                        self.accept(io, caller, transport.clone());
                    }
                }
            }
        }
        drop(reserve);
        // Peers whose requests lie there hear that the server shuts down, where the end of the
        // listener would reset their connections.
        let max = self.shared.config.max_connections;
        listener.accept_rest(max, |io, caller| self.accept(io, caller, transport.clone()));
        drop(listening);
        self.shared.closed.cancelled().await;
    }

    /// The connection has its slot when this returns: the next one may need it.
    fn accept<Io, O: ServeConnection<Io>>(&self, io: Io, caller: Caller, transport: O)
    where
        Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        match self.enter(
            &caller,
            self.standing(&caller, O::SPEAKS_AT_ONCE),
            self.most_connections(),
        ) {
            Ok(slot) => {
                tokio::spawn(transport.serve(self.clone(), io, slot, caller));
            }
            Err(error) if O::SPEAKS_AT_ONCE => {
                // A shutdown waits for it.
                let (server, refusing) = (self.clone(), self.shared.listeners.token());
                tokio::spawn(async move {
                    server.shared.goodbyes.say(io, &frame(&error)).await;
                    drop(refusing);
                });
            }
            Err(_) => {}
        }
    }

    /// Accepts a connection that has the last descriptor: either another one makes room for it, as in a
    /// server with so many connections as are open, or it is closed at once.
    fn accept_last<L: Accept, O: ServeConnection<L::Io>>(
        &self,
        io: L::Io,
        caller: Caller,
        transport: O,
    ) {
        let limit = ConnectionLimit::Descriptors(self.shared.connections.len());
        match self.enter(&caller, self.standing(&caller, O::SPEAKS_AT_ONCE), limit) {
            Ok(slot) => {
                tokio::spawn(transport.serve(self.clone(), io, slot, caller));
            }
            Err(error) if O::SPEAKS_AT_ONCE => L::dismiss(io, &frame(&error)),
            Err(_) => {}
        }
    }

    /// Serves a connection that the program has made.
    pub(crate) async fn serve_one<Io>(&self, io: Io, caller: Caller)
    where
        Io: AsyncRead + AsyncWrite + Unpin,
    {
        let standing = self.standing(&caller, true);
        match self.enter(&caller, standing, self.most_connections()) {
            Ok(slot) => self.run(io, slot, caller).await,
            Err(error) => self.shared.goodbyes.say(io, &frame(&error)).await,
        }
    }

    async fn run<Io>(&self, io: Io, slot: ConnectionSlot, caller: Caller)
    where
        Io: AsyncRead + AsyncWrite + Unpin,
    {
        let (shared, outbox) = (Arc::clone(&self.shared), Arc::clone(&slot.outbox));
        // Not moved into `run`, whose future would then have room for it twice.
        let mut connection = Connection::new(io, shared, outbox, caller);
        connection.run().await;
    }

    fn most_connections(&self) -> ConnectionLimit {
        ConnectionLimit::Configured(self.shared.config.max_connections)
    }

    /// What is known of a connection that comes in this way.
    fn standing(&self, caller: &Caller, speaks_at_once: bool) -> Standing {
        let asks = self.shared.authentication.is_some() && caller.principal().is_none();
        if asks || !speaks_at_once {
            Standing::Stranger
        } else {
            Standing::Known
        }
    }

    /// Gives a connection its slot, if need be that of another.
    fn enter(
        &self,
        caller: &Caller,
        standing: Standing,
        limit: ConnectionLimit,
    ) -> Result<ConnectionSlot, ErrorObject> {
        let shared = &self.shared;
        shared.start_sweeping();
        recovery::resume(shared);
        let outbox = Arc::new(Outbox::default());
        shared.note_arrival(&outbox);
        let (ConnectionLimit::Configured(max) | ConnectionLimit::Descriptors(max)) = limit;
        let newcomer = (&caller.peer(), standing);
        let (registration, displaced) =
            shared
                .connections
                .open(&outbox, newcomer, max, &shared.awake);
        if let Some(displaced) = &displaced {
            displaced.send_last(&frame(&refusal::connection_displaced(limit)));
        }
        if displaced.is_some() || registration.is_none() {
            shared.emit_refusal(ErrorCode::OVERLOADED, Id::NULL.raw(), None);
        }
        let registration = registration.ok_or_else(|| refusal::connections_full(limit))?;
        let events = ConnectionEvents::open(shared, outbox.number(), caller);
        Ok(ConnectionSlot::new(outbox, registration, events))
    }
}

/// An error that answers no request, in its frame.
pub(crate) fn frame(error: &ErrorObject) -> Vec<u8> {
    let mut frame = Vec::new();
    write_unasked_error(&mut frame, error);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kind: a decision about connections that looks at a list to which they come later. Instance: a
    /// server takes many at once out of its backlog, the last of which gets the last descriptor, and
    /// finds no other one that could make room.
    #[tokio::test]
    async fn a_connection_has_its_place_before_the_next_one_is_accepted() {
        let server = Server::builder().build().unwrap();
        for number in 1..=3 {
            let (_peer, io) = tokio::io::duplex(64);
            server.accept(io, Caller::default(), Plainly);
            assert_eq!(server.stats().connections, number);
        }
    }
}
