//! How a program reaches a server: at which addresses, with TLS or without, and what it shows there.

use std::path::{Path, PathBuf};

use anyhow::Context;
use redial_client::{Addresses, AuthToken, Client, ClientBuilder, ClientTls, Dns};

/// Where the servers are, and how they are reached.
#[derive(Clone, Debug)]
pub struct Doors {
    /// The address of a server, or those of several.
    pub addresses: Addresses,
    /// The only address is a name that stands for several servers, to be looked up again and again.
    pub dns: bool,
    /// What encrypts, if anything is to.
    pub tls: Option<TlsFiles>,
    /// The file whose first line is a token to show.
    pub token_file: Option<PathBuf>,
}

/// Whom TLS trusts, and what it shows.
#[derive(Clone, Debug, Default)]
pub struct TlsFiles {
    /// The authorities to trust; `None` for those that the system trusts.
    pub roots: Option<PathBuf>,
    /// A certificate to show, and its key.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// The name that the server's certificate has to be for, if it is not the host of the address.
    pub name: Option<String>,
}

impl Doors {
    /// Connects.
    ///
    /// # Errors
    ///
    /// Names the file that can't be used, or why there is no connection.
    pub async fn connect(&self, builder: ClientBuilder) -> anyhow::Result<Client> {
        let builder = self.prepare(builder)?;
        Ok(self.connect_prepared(builder).await?)
    }

    /// Reads the files, and checks what the settings mean together.
    ///
    /// # Errors
    ///
    /// Names the file, or the setting, and the reason.
    pub fn prepare(&self, mut builder: ClientBuilder) -> anyhow::Result<ClientBuilder> {
        if self.dns && self.name().is_none() {
            anyhow::bail!("--dns is for one name; expected one address, HOST:PORT, with it");
        }
        if let Some(tls) = &self.tls {
            builder = builder.tls(tls.build()?);
        }
        if let Some(path) = &self.token_file {
            // Now, so that a file that isn't there is said at once.
            read_token(path)?;
            let path = path.clone();
            builder = builder.token_provider(move || std::future::ready(read_token(&path)));
        }
        Ok(builder)
    }

    /// Connects with what [`prepare`](Self::prepare) gave.
    ///
    /// # Errors
    ///
    /// [`BuildError`](redial_client::BuildError), if there is no connection.
    pub async fn connect_prepared(
        &self,
        builder: ClientBuilder,
    ) -> Result<Client, redial_client::BuildError> {
        match self.name() {
            Some(name) if self.dns => builder.connect_endpoints(Dns::new(name.clone())).await,
            _ => builder.connect(self.addresses.clone()).await,
        }
    }

    /// The address, if it is the only one and no Unix socket's.
    fn name(&self) -> Option<&redial_client::Address> {
        let mut names = self.addresses.iter();
        match (names.next(), names.next()) {
            (Some(name), None) if name.unix_path().is_none() => Some(name),
            _ => None,
        }
    }
}

impl TlsFiles {
    fn build(&self) -> anyhow::Result<ClientTls> {
        let builder = ClientTls::builder();
        let mut builder = match &self.roots {
            Some(roots) => builder.roots_file(roots),
            None => builder.native_roots(),
        };
        if let Some((certificate, key)) = &self.certificate {
            builder = builder.certificate_files(certificate, key);
        }
        if let Some(name) = &self.name {
            builder = builder.server_name(name);
        }
        let flag = if self.roots.is_some() {
            "--tls-ca"
        } else {
            "--tls"
        };
        builder
            .build()
            .with_context(|| format!("{flag} and its like"))
    }
}

/// The first line of the file, without the blanks around it.
fn read_token(path: &Path) -> anyhow::Result<AuthToken> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read --token-file {}", path.display()))?;
    let token = text.lines().next().unwrap_or_default().trim();
    anyhow::ensure!(
        !token.is_empty(),
        "--token-file {} is empty",
        path.display()
    );
    Ok(AuthToken::from(token))
}
