//! TLS to the database. Where it is asked for, the server is verified: its certificate has to be signed by
//! an authority that is trusted here, for the name that the connection goes to.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use redial_tls::ClientTls;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_rustls::{
    TlsConnector, client,
    rustls::{ClientConfig, pki_types::ServerName},
};

use crate::{error::OpenError, url::Trust};

/// What PostgreSQL speaks, to those who ask (RFC 7301).
const ALPN: &[u8] = b"postgresql";

/// How connections are encrypted.
#[derive(Clone)]
pub(crate) struct Encryption(ClientTls);

impl Encryption {
    pub(crate) fn new(own: Option<ClientTls>, trust: &Trust) -> Result<Self, OpenError> {
        if let Some(own) = own {
            return Ok(Self(own));
        }
        let builder = ClientTls::builder();
        let builder = match trust {
            Trust::System => builder.native_roots(),
            Trust::File(path) => builder.roots_file(path),
        };
        let tls = builder.build();
        Ok(Self(
            tls.map_err(|error| OpenError::Tls(error.to_string()))?,
        ))
    }

    /// As it is now: files are read again when they change.
    fn config(&self) -> Arc<ClientConfig> {
        let mut config = ClientConfig::clone(&self.0.config());
        config.alpn_protocols = vec![ALPN.to_vec()];
        Arc::new(config)
    }
}

impl<S> MakeTlsConnect<S> for Encryption
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = Encrypted<S>;
    type TlsConnect = Handshake;
    type Error = io::Error;

    fn make_tls_connect(&mut self, host: &str) -> io::Result<Handshake> {
        let name = ServerName::try_from(host.to_owned());
        Ok(Handshake {
            connector: TlsConnector::from(self.config()),
            name: name.map_err(io::Error::other)?,
        })
    }
}

/// A handshake that is about to begin.
pub(crate) struct Handshake {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl<S> TlsConnect<S> for Handshake
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = Encrypted<S>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Encrypted<S>>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        Box::pin(async move {
            let connected = self.connector.connect(self.name, stream).await?;
            Ok(Encrypted(connected))
        })
    }
}

/// An encrypted connection.
pub(crate) struct Encrypted<S>(client::TlsStream<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Encrypted<S> {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Encrypted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Encrypted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
