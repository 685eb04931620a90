//! The flags that say where a program listens or connects, and how each end shows who it is.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::Context;
use redial_cli::doors::{Doors, TlsFiles};
use redial_client::{Addresses, Client, ClientBuilder};
use redial_protocol::{Address, unmapped};
use redial_server::{Exposure, Listener, ServeError, Server, ServerBuilder, ServerTls, TokenFile};
#[cfg(unix)]
use tokio::net::TcpSocket;

use crate::supervisor;

/// How many connections the system keeps that are not accepted yet, as usual.
#[cfg(unix)]
const BACKLOG: u32 = 1024;

/// How clients come in.
#[derive(Clone, Debug, clap::Args)]
pub struct ServerDoors {
    /// Address to listen on: IP:PORT, where port 0 lets the system choose, unix:/path, or unix:@name
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7077", value_parser = listen_address)]
    pub listen: Address,
    /// Allow an address that other machines can reach, without TLS or without authentication
    #[arg(long)]
    pub insecure: bool,
    /// Let other servers listen on the same address, so that a new one can take over from this one
    #[arg(long, help_heading = "Doors")]
    pub reuse_port: bool,
    /// Who may connect to a Unix socket, in octal: 600 its owner, 660 its group, 666 all users
    #[arg(long, value_name = "MODE", default_value = "600", value_parser = mode, help_heading = "Doors")]
    pub socket_mode: u32,
    /// Speak TLS, with this certificate and those that signed it (PEM); read again when it changes, and
    /// on SIGHUP
    #[arg(
        long,
        value_name = "FILE",
        requires = "tls_key",
        help_heading = "Doors"
    )]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's private key (PEM)
    #[arg(
        long,
        value_name = "FILE",
        requires = "tls_cert",
        help_heading = "Doors"
    )]
    pub tls_key: Option<PathBuf>,
    /// Clients have to show a certificate that one of these authorities has signed (PEM)
    #[arg(
        long,
        value_name = "FILE",
        requires = "tls_cert",
        help_heading = "Doors"
    )]
    pub tls_client_ca: Option<PathBuf>,
    /// Certificates that these authorities have revoked (PEM)
    #[arg(
        long,
        value_name = "FILE",
        requires = "tls_client_ca",
        help_heading = "Doors"
    )]
    pub tls_client_crl: Option<PathBuf>,
    /// Clients have to show a token whose hash is in this file, or a certificate: lines NAME SHA256;
    /// read again when it changes
    #[arg(long, value_name = "FILE", help_heading = "Doors")]
    pub tokens: Option<PathBuf>,
}

/// How the server is reached.
#[derive(Clone, Debug, clap::Args)]
pub struct ClientDoors {
    /// The server's address: HOST:PORT, unix:/path, or unix:@name; or those of several servers, with
    /// commas in between
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7077", value_parser = crate::flags::addresses)]
    pub connect: Addresses,
    /// Take the addresses of the name in --connect for a server each, and look them up again every 30 s
    /// and when connections fail
    #[arg(long, help_heading = "Doors")]
    pub dns: bool,
    /// Speak TLS, with a server that one of these authorities has signed (PEM)
    #[arg(long, value_name = "FILE", help_heading = "Doors")]
    pub tls_ca: Option<PathBuf>,
    /// Show this certificate to the server (PEM)
    #[arg(long, value_name = "FILE", requires_all = ["tls_key", "tls_ca"], help_heading = "Doors")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's private key (PEM)
    #[arg(
        long,
        value_name = "FILE",
        requires = "tls_cert",
        help_heading = "Doors"
    )]
    pub tls_key: Option<PathBuf>,
    /// The name that the server's certificate has to be for [default: the host of --connect]
    #[arg(long, value_name = "NAME", requires = "tls_ca", help_heading = "Doors")]
    pub tls_name: Option<String>,
    /// Show the token in this file, which is read again whenever the server asks for one
    #[arg(long, value_name = "FILE", help_heading = "Doors")]
    pub token_file: Option<PathBuf>,
}

impl ServerDoors {
    /// Checks what the flags mean together, before anything is bound, whose port would be in the
    /// error.
    ///
    /// # Errors
    ///
    /// Says what to give.
    pub fn check(&self) -> anyhow::Result<()> {
        let is_unix = self.listen.unix_path().is_some();
        anyhow::ensure!(
            !(is_unix && self.tls_cert.is_some()),
            "--tls-cert is for connections from other machines, and --listen is a Unix socket; \
             expected IP:PORT, or no --tls-cert"
        );
        let address = match self.listen.as_str().parse() {
            Ok(address) if !unmapped(address).ip().is_loopback() => address,
            _ => return Ok(()),
        };
        let exposure = Exposure {
            has_tls: self.tls_cert.is_some(),
            authenticates: self.tls_client_ca.is_some() || self.tokens.is_some(),
        };
        if self.insecure || exposure.has_tls && exposure.authenticates {
            return Ok(());
        }
        let missing = match (exposure.has_tls, exposure.authenticates) {
            (false, false) => "--tls-cert and --tls-key, and --tls-client-ca or --tokens",
            (false, true) => "--tls-cert and --tls-key",
            (true, _) => "--tls-client-ca or --tokens",
        };
        let error = ServeError::NotLoopback { address, exposure };
        anyhow::bail!(
            "--listen: {error}; to serve it, add {missing}; to allow it as it is, add --insecure"
        )
    }

    /// Listens, unless a supervisor has handed over a socket.
    ///
    /// # Errors
    ///
    /// If the system refuses it, or that socket doesn't listen.
    pub async fn bind(&self, server: &Server) -> anyhow::Result<Listener> {
        if let Some(listener) = supervisor::handed_over()? {
            return Ok(listener);
        }
        #[cfg(unix)]
        if let Some(path) = self.listen.unix_path() {
            return Ok(server.bind_unix_with_mode(path, self.socket_mode).await?);
        }
        #[cfg(unix)]
        if self.reuse_port {
            let reason = || format!("cannot share --listen {}", self.listen);
            return self.share_port().with_context(reason);
        }
        Ok(server.listen(self.listen.clone()).await?)
    }

    #[cfg(unix)]
    fn share_port(&self) -> anyhow::Result<Listener> {
        let address: SocketAddr = self.listen.as_str().parse()?;
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        socket.set_reuseaddr(true)?;
        socket.set_reuseport(true)?;
        socket.bind(address)?;
        Ok(socket.listen(BACKLOG)?.into())
    }

    /// Has the server ask for tokens, if it is to.
    ///
    /// # Errors
    ///
    /// Names the file and the reason.
    pub fn authenticate(&self, builder: ServerBuilder) -> anyhow::Result<ServerBuilder> {
        Ok(match &self.tokens {
            None => builder,
            Some(path) => builder.authenticate(TokenFile::open(path).context("--tokens")?),
        })
    }

    /// What encrypts, if anything is to.
    ///
    /// # Errors
    ///
    /// Names the file and the reason.
    pub fn tls(
        &self,
        log: impl Fn(&str) + Send + Sync + 'static,
    ) -> anyhow::Result<Option<ServerTls>> {
        let (Some(certificate), Some(key)) = (&self.tls_cert, &self.tls_key) else {
            return Ok(None);
        };
        let mut builder = ServerTls::builder().certificate_files(certificate, key);
        if let Some(path) = &self.tls_client_ca {
            builder = builder.client_ca_file(path);
        }
        if let Some(path) = &self.tls_client_crl {
            builder = builder.client_crl_file(path);
        }
        let builder = builder.on_reload(move |reloaded| match reloaded {
            Ok(()) => log("the certificates were read again"),
            Err(error) => log(&format!(
                "the certificates from before stay in use: {error}"
            )),
        });
        let tls = builder.build().context("--tls-cert and its like")?;
        Ok(Some(tls))
    }
}

impl ClientDoors {
    /// Connects.
    ///
    /// # Errors
    ///
    /// Names the file that can't be used, or why there is no connection.
    pub async fn connect(&self, builder: ClientBuilder) -> anyhow::Result<Client> {
        let certificate = self.tls_cert.clone().zip(self.tls_key.clone());
        let tls = self.tls_ca.clone().map(|roots| TlsFiles {
            roots: Some(roots),
            certificate,
            name: self.tls_name.clone(),
        });
        let doors = Doors {
            addresses: self.connect.clone(),
            dns: self.dns,
            tls,
            token_file: self.token_file.clone(),
        };
        doors.connect(builder).await
    }
}

fn listen_address(text: &str) -> Result<Address, String> {
    let address = Address::from(text);
    if address.unix_path().is_some() {
        return address
            .check()
            .map(|()| address)
            .map_err(|error| error.to_string());
    }
    let expected =
        "expected an IP address and a port, such as 127.0.0.1:7077 or [::1]:0, or unix:/path";
    let parsed = text.parse::<SocketAddr>();
    parsed.map(Address::from).map_err(|_| expected.to_owned())
}

fn mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok();
    let mode = mode.filter(|mode| (0o1..=0o777).contains(mode) && text.len() <= 4);
    mode.ok_or_else(|| "expected a mode in octal, such as 600 or 660".to_owned())
}

/// Reads the certificates again, if there are any, and does what more is to be done, when SIGHUP asks for it;
/// what is said of it comes by another way.
#[cfg(unix)]
pub async fn reload_on_hangup(tls: Option<ServerTls>, more: impl Fn()) {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut hangups) = signal(SignalKind::hangup()) else {
        return;
    };
    while hangups.recv().await.is_some() {
        if let Some(tls) = tls.clone() {
            let _ = tokio::task::spawn_blocking(move || tls.reload()).await;
        }
        more();
    }
}

/// Nothing: there is no such signal.
#[cfg(not(unix))]
pub async fn reload_on_hangup(_: Option<ServerTls>, _: impl Fn()) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_listens_on_ip_addresses_and_unix_sockets() {
        for right in ["127.0.0.1:0", "[::1]:7077", "unix:/run/a.sock"] {
            assert_eq!(listen_address(right), Ok(right.into()));
        }
        for wrong in ["localhost:1", "unix:a", "127.0.0.1", ""] {
            let error = listen_address(wrong).unwrap_err();
            assert!(error.starts_with("expected an IP address"), "{error}");
        }
        assert!(listen_address("unix:@").is_err());
        assert_eq!((mode("600"), mode("0660")), (Ok(0o600), Ok(0o660)));
        for wrong in ["", "0", "900", "1000", "rw", "+660000"] {
            assert!(mode(wrong).is_err(), "{wrong}");
        }
    }
}
