//! TLS before the first request: a handshake has a connection's place from its beginning, and ends with
//! it.

use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
};

use redial_protocol::{Id, Principal};
use redial_tls::{ClientCertificates, ServerTls, TlsStream};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    accept::{Open, Place, frame},
    caller::Caller,
    connection::Connection,
    error::ServeError,
    exposure::Exposure,
    listener::{Listener, ListenerKind},
    observe::EventKind,
    refusal,
    send_buffer::SendBuffer,
    server::Server,
};

/// Requests come after a handshake.
#[derive(Clone)]
struct Encrypted(ServerTls);

impl Server {
    /// Accepts connections with TLS and serves them until [`shutdown`](Self::shutdown) has finished;
    /// see [`serve`](Self::serve). Files of certificates that change are read again meanwhile.
    ///
    /// A connection counts from the first byte of its handshake. Where clients show a certificate, what
    /// it calls them is who calls: `cert:NAME`, its first DNS name or else its first URI. One that has
    /// neither, or one that is no [`Principal`], is refused, unless the server asks for tokens: clients
    /// that have nothing in common but their authority would have one another's records.
    ///
    /// ```no_run
    /// # async fn f(server: redial_server::Server) -> Result<(), Box<dyn std::error::Error>> {
    /// use redial_server::ServerTls;
    ///
    /// let tls = ServerTls::builder()
    ///     .certificate_files("counter.pem", "counter-key.pem")
    ///     .client_ca_file("clients-ca.pem")
    ///     .build()?;
    /// let listener = server.bind("0.0.0.0:7077").await?;
    /// server.serve_tls(listener, tls).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ServeError::NotLoopback`] if other machines could connect, clients need neither a certificate
    /// nor a token, and [`Config::insecure`](crate::Config::insecure) is not set.
    pub async fn serve_tls(
        &self,
        listener: impl Into<Listener>,
        tls: ServerTls,
    ) -> Result<(), ServeError> {
        let listener = listener.into();
        let exposure = Exposure {
            has_tls: true,
            authenticates: self.shared.authentication.is_some()
                || tls.client_certificates() == ClientCertificates::Required,
        };
        self.check(&listener, exposure)?;
        let (open, watching) = (Encrypted(tls.clone()), tls.watch());
        let accepting = async {
            match listener.0 {
                ListenerKind::Tcp(listener) => self.accept_all(listener, open).await,
                #[cfg(unix)]
                ListenerKind::Unix(listener) => self.accept_all(listener, open).await,
            }
        };
        tokio::select! {
            biased;
            () = accepting => {}
            () = watching => {}
        }
        Ok(())
    }
}

impl<Io> Open<Io> for Encrypted
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // What is said before the handshake is no TLS.
    const SPEAKS_AT_ONCE: bool = false;

    async fn serve(self, server: Server, io: Io, place: Place, caller: Caller) {
        // Apart from the connection, so that its room is free afterwards.
        let Some(stream) = Box::pin(shake_hands(&self.0, &server, io, &place)).await else {
            return;
        };
        let caller = match principal(&stream) {
            Some(principal) => caller.with_principal(principal),
            None if stream.peer_certificates().is_some()
                && server.shared.authentication.is_none() =>
            {
                return server.refuse_nameless(stream).await;
            }
            None => caller,
        };
        let (shared, outbox) = (Arc::clone(&server.shared), Arc::clone(&place.outbox));
        let mut connection = Connection::new(stream, shared, outbox, caller);
        connection.run().await;
        connection.end();
    }
}

/// `None` if there is no handshake, or the connection's place is another's meanwhile. A server that
/// shuts down still waits for it: the client may have sent its requests with its last word.
async fn shake_hands<Io>(
    tls: &ServerTls,
    server: &Server,
    io: Io,
    place: &Place,
) -> Option<TlsStream<Io>>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let mut handshake = pin!(tls.accept(io));
    let shaken = poll_fn(|cx| {
        // Whatever it holds can't be said before the handshake.
        let is_cut = place.outbox.collect(&mut SendBuffer::default(), cx.waker());
        if is_cut || server.shared.is_closing() {
            return Poll::Ready(None);
        }
        handshake.as_mut().poll(cx).map(Some)
    })
    .await;
    match shaken {
        Some(Ok(stream)) => Some(stream),
        Some(Err(_)) => {
            server.shared.counters.count_failed_handshake();
            None
        }
        None => None,
    }
}

impl Server {
    /// Refuses a client whose certificate doesn't say who it is.
    async fn refuse_nameless<Io>(&self, stream: TlsStream<Io>)
    where
        Io: AsyncRead + AsyncWrite + Unpin,
    {
        let error = refusal::nameless_certificate();
        let (kind, id) = (EventKind::Refused(error.code), Id::NULL.raw());
        self.shared.emit(kind, Some(id), 1, "");
        self.shared.goodbyes.say(stream, &frame(&error)).await;
    }
}

/// A name that is no principal's gives none.
fn principal<Io>(stream: &TlsStream<Io>) -> Option<Principal> {
    let name = stream.peer_name()?;
    Principal::new(&format!("cert:{name}")).ok()
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Connection<TlsStream<Io>> {
    /// Says that the stream ends here, as far as there is room for it.
    fn end(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        let _: Poll<io::Result<()>> = Pin::new(self.io_mut()).poll_shutdown(&mut cx);
    }
}
