//! TLS over the connections of any connector.

use std::{io, time::Duration};

use redial_tls::{ClientTls, TlsStream};
use tokio::time::timeout_at;

use crate::{
    clock::{self, after},
    connector::Connector,
    error::BuildError,
};

/// Encrypts the connections that another connector makes. Connecting and shaking hands have the
/// [`connect_timeout`](crate::Config::connect_timeout) together.
#[derive(Clone, Debug)]
pub struct Tls<C> {
    inner: C,
    tls: ClientTls,
    /// The name that the server's certificate has to be for, unless `tls` says another.
    host: String,
}

impl<C: Connector> Tls<C> {
    /// Encrypts what `inner` connects to.
    ///
    /// # Errors
    ///
    /// [`BuildError::NoServerName`] if neither `inner` nor `tls` knows the name that the server's
    /// certificate has to be for.
    pub fn new(inner: C, tls: ClientTls) -> Result<Self, BuildError> {
        let host = match inner.host() {
            Some(host) => host,
            None if tls.has_server_name() => String::new(),
            None => return Err(BuildError::NoServerName(inner.peer())),
        };
        Ok(Self { inner, tls, host })
    }
}

impl<C: Connector> Connector for Tls<C> {
    type Io = TlsStream<C::Io>;

    async fn connect(&self) -> io::Result<Self::Io> {
        let io = self.inner.connect().await?;
        self.tls.connect(&self.host, io).await
    }

    async fn connect_within(&self, limit: Duration) -> io::Result<Self::Io> {
        let deadline = after(clock::now(), limit);
        let io = self.inner.connect_within(limit).await?;
        let shaking = self.tls.connect(&self.host, io);
        timeout_at(deadline.into(), shaking)
            .await
            .unwrap_or_else(|_| {
                let text = format!("connected, but no TLS handshake within {limit:?}");
                Err(io::Error::new(io::ErrorKind::TimedOut, text))
            })
    }

    fn peer(&self) -> String {
        self.inner.peer()
    }

    /// `TLS`, and over what, if that is no TCP.
    fn name(&self) -> Option<String> {
        Some(match self.inner.name() {
            Some(name) if name != "TCP" => format!("TLS over {name}"),
            _ => "TLS".to_owned(),
        })
    }

    fn host(&self) -> Option<String> {
        Some(self.host.clone())
    }
}
