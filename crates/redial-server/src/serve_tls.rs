//! TLS before the first request: a handshake has a connection's slot from its beginning, and ends with
//! it.

use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use redial_protocol::{Id, Principal};
use redial_tls::{ClientCertificates, ServerTls, TlsStream};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    accept::{ConnectionSlot, ServeConnection, frame},
    caller::Caller,
    clock,
    connection::Connection,
    error::ServeError,
    exposure::Exposure,
    listener::{Listener, ListenerKind},
    meter::Meter,
    peer::Peer,
    refusal,
    send_buffer::SendBuffer,
    server::Server,
    shared::Shared,
};

/// After how long an address may begin one handshake more.
const HANDSHAKE_PERIOD: Duration = Duration::from_millis(10);

/// Requests come after a handshake.
#[derive(Clone)]
struct Encrypted(ServerTls);

impl Server {
    /// Accepts connections with TLS and serves them until [`shutdown`](Self::shutdown) has finished;
    /// see [`serve`](Self::serve). Files of certificates that change are read again meanwhile.
    ///
    /// A connection counts from the first byte of its handshake, and towards its address until it is known
    /// whose it is. Where clients show a certificate, what it calls them is who calls: `cert:NAME`, its
    /// first DNS name or else its first URI. A client whose certificate has neither, or only one that no
    /// [`Principal`] can have, is refused, unless the server asks for tokens: clients that have nothing in
    /// common but their authority would have one another's records.
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
        let (transport, watching) = (Encrypted(tls.clone()), tls.watch());
        let accepting = async {
            match listener.0 {
                ListenerKind::Tcp(listener) => self.accept_all(listener, transport).await,
                #[cfg(unix)]
                ListenerKind::Unix(listener) => self.accept_all(listener, transport).await,
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

impl<Io> ServeConnection<Io> for Encrypted
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // What is said before the handshake is no TLS.
    const SPEAKS_AT_ONCE: bool = false;

    async fn serve(self, server: Server, io: Io, slot: ConnectionSlot, caller: Caller) {
        // Apart from the connection, so that its room is free afterwards.
        let peer = caller.peer();
        let shaken = Box::pin(shake_hands(&self.0, &server, io, (&peer, &slot))).await;
        let Some(stream) = shaken else {
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
        let (shared, outbox) = (Arc::clone(&server.shared), Arc::clone(&slot.outbox));
        if caller.principal().is_some() || shared.authentication.is_none() {
            // From now on it takes its principal's shares, and no longer those of its address.
            shared.connections.make_known(&caller.peer(), &outbox);
        }
        let mut connection = Connection::new(stream, shared, outbox, caller);
        connection.run().await;
        connection.end();
    }
}

/// `None` if there is no handshake, or the connection's slot is another's meanwhile. A server that
/// shuts down still waits for it: the client may have sent its requests with its last word.
async fn shake_hands<Io>(
    tls: &ServerTls,
    server: &Server,
    io: Io,
    (peer, slot): (&Peer, &ConnectionSlot),
) -> Option<TlsStream<Io>>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    // The rest of the time is for the handshake itself.
    let patience = tls.handshake_timeout() / 2;
    let turn = async || server.shared.handshake_turn(peer, patience).await;
    let mut handshake = pin!(tls.accept_when(io, turn));
    let shaken = poll_fn(|cx| {
        // Whatever it holds can't be said before the handshake.
        let is_cut = slot.outbox.collect(&mut SendBuffer::default(), cx.waker());
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

impl Shared {
    /// Waits until a handshake of this peer may go on: what comes now costs more than all else that a
    /// stranger can cause.
    async fn handshake_turn(&self, peer: &Peer, patience: Duration) -> io::Result<()> {
        let (now, burst) = (clock::now(), self.config.max_peer_handshakes);
        let meter = || Meter::new(HANDSHAKE_PERIOD, burst, now);
        let taken = self.handshakes.get_or_init(meter).take(peer, now, patience);
        match taken {
            Ok(Duration::ZERO) => {}
            Ok(wait) => tokio::time::sleep(wait).await,
            Err(_) => return Err(io::Error::other("too many handshakes from this address")),
        }
        Ok(())
    }
}

impl Server {
    /// Refuses a client whose certificate doesn't say who it is.
    async fn refuse_nameless<Io>(&self, stream: TlsStream<Io>)
    where
        Io: AsyncRead + AsyncWrite + Unpin,
    {
        let error = refusal::nameless_certificate();
        self.shared.emit_refusal(error.code, Id::NULL.raw(), None);
        self.shared.goodbyes.say(stream, &frame(&error)).await;
    }
}

/// Who the client's certificate says it is, if that is a name that a principal can have.
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

#[cfg(test)]
mod tests {
    use redial_test_ca::TestCa;
    use redial_tls::ClientTls;
    use tokio::io::DuplexStream;

    use super::*;
    use crate::{
        config::Config,
        connections::{Connections, Standing},
        outbox::Outbox,
    };

    const HOST: &str = "counter.example";
    const BURST: u32 = 4;

    /// Half of the handshake timeout.
    const PATIENCE_MS: u64 = 5_000;

    struct World {
        server: Server,
        tls: ServerTls,
        client: ClientTls,
    }

    impl World {
        fn new() -> Self {
            let ca = TestCa::new("server");
            let pair = ca.sign(&[HOST]);
            let config = Config {
                max_peer_handshakes: BURST,
                ..Config::default()
            };
            let tls = ServerTls::builder().certificate_pem(pair.certificate, pair.key);
            let client = ClientTls::builder().roots_pem(ca.pem());
            Self {
                server: Server::builder().config(config).build().unwrap(),
                tls: tls.build().unwrap(),
                client: client.build().unwrap(),
            }
        }

        /// Serves one end of a pipe as a connection from this address; says how long the handshake took,
        /// if there was one.
        fn serve(&self, address: &str, io: DuplexStream) -> tokio::task::JoinHandle<Option<u64>> {
            let caller = Caller::at(format!("{address}:1").parse().unwrap());
            let (server, tls) = (self.server.clone(), self.tls.clone());
            tokio::spawn(async move {
                let begun = clock::now();
                let (peer, outbox) = (caller.peer(), Arc::new(Outbox::default()));
                let newcomer = (&peer, Standing::Stranger);
                let (registration, _) =
                    Connections::default().open(&outbox, newcomer, 10, &server.shared.awake);
                let slot = ConnectionSlot::new(outbox, registration.unwrap(), None);
                let shaken = shake_hands(&tls, &server, io, (&peer, &slot)).await;
                let took = clock::now() - begun;
                shaken.map(|_| took.as_millis() as u64)
            })
        }

        async fn shake(&self, address: &str) -> Option<u64> {
            let (near, far) = tokio::io::duplex(1 << 16);
            let served = self.serve(address, far);
            let connected = self.client.connect(HOST, near).await;
            let served = served.await.unwrap();
            assert_eq!(connected.is_ok(), served.is_some());
            served
        }
    }

    /// Kind: what costs the server most is free for strangers. Instance: handshakes, of which one address
    /// begins as many as it likes.
    #[tokio::test(start_paused = true)]
    async fn handshakes_of_one_address_have_a_rate_and_those_of_others_have_theirs() {
        let world = World::new();
        // What only connects takes no turn of those that shake hands.
        let silent: Vec<_> = (0..20)
            .map(|_| {
                let (near, far) = tokio::io::duplex(1 << 16);
                (near, world.serve("192.0.2.1", far))
            })
            .collect();
        let at_once = || async {
            let mut took = Vec::new();
            for shaken in [(); 8].map(|()| world.shake("192.0.2.1")) {
                took.push(shaken.await);
            }
            took
        };
        assert_eq!(
            at_once().await,
            [0, 0, 0, 0, 10, 10, 10, 10].map(Some),
            "a burst, and then one each 10 ms"
        );
        assert_eq!(world.shake("192.0.2.2").await, Some(0));
        // Those that would wait for too long are closed at once, and the others have their turn.
        let mut flood = Vec::new();
        for _ in 0..700 {
            let (near, far) = tokio::io::duplex(1 << 16);
            let client = world.client.clone();
            let connecting = tokio::spawn(async move { client.connect(HOST, near).await });
            flood.push((connecting, world.serve("192.0.2.1", far)));
        }
        let mut took = Vec::new();
        for (_connecting, served) in &mut flood {
            took.extend(served.await.unwrap());
        }
        assert!((490..=510).contains(&took.len()), "{}", took.len());
        assert!(took.iter().all(|took| *took <= PATIENCE_MS), "{took:?}");
        drop(silent);
    }
}
