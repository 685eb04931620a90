//! How a client of several endpoints comes about.

use std::{future::poll_fn, io, sync::Arc};

#[cfg(feature = "tls")]
use crate::connect::Tls;
#[cfg(unix)]
use crate::connect::Unix;
use crate::{
    builder::ClientBuilder,
    client::Client,
    connect::Tcp,
    connector::Connector,
    discovery::{self, Discovery, Transport},
    endpoints::{Endpoint, Endpoints},
    error::BuildError,
    io::Spawner,
    shared::SpawnDriver,
};

impl ClientBuilder {
    /// Connects to the servers of a service, as `endpoints` says where they are: [`Addresses`] that
    /// stay, those of a name ([`Dns`]), or discovery of the program's own.
    ///
    /// It gives a client as soon as one connection stands, and connects to the others meanwhile. Each
    /// endpoint has as many connections as [`Config::connections`] says.
    ///
    /// [`Addresses`]: crate::Addresses
    /// [`Dns`]: crate::Dns
    /// [`Config::connections`]: crate::Config::connections
    ///
    /// # Errors
    ///
    /// [`BuildError`] if the configuration makes no sense, if the endpoints can't be found, or if
    /// none of them can be connected to.
    pub async fn connect_endpoints(self, endpoints: impl Endpoints) -> Result<Client, BuildError> {
        let client = self.connect_endpoints_lazy(endpoints)?;
        connected(client).await
    }

    /// The same without waiting for a connection: they are made when the first call needs one.
    ///
    /// # Errors
    ///
    /// [`BuildError`] if the configuration makes no sense.
    pub fn connect_endpoints_lazy(self, endpoints: impl Endpoints) -> Result<Client, BuildError> {
        let builder = self.clone();
        let transport = Box::new(move |endpoint: &Endpoint| by_address(&builder, endpoint));
        self.discover(endpoints, transport)
    }

    /// Connects to each endpoint by other means: `connector` makes what connects to one of them.
    ///
    /// ```no_run
    /// # async fn f() -> Result<(), redial_client::BuildError> {
    /// use redial_client::{Addresses, Client, Endpoint};
    /// use tokio::net::TcpStream;
    ///
    /// let servers = Addresses::from("10.0.0.1:7077,10.0.0.2:7077");
    /// let client = Client::builder()
    ///     .connect_endpoints_with(servers, |endpoint: &Endpoint| {
    ///         let address = endpoint.address().to_string();
    ///         move || TcpStream::connect(address.clone())
    ///     })
    ///     .await?;
    /// # drop(client);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`connect_endpoints`](Self::connect_endpoints).
    pub async fn connect_endpoints_with<C: Connector>(
        self,
        endpoints: impl Endpoints,
        connector: impl Fn(&Endpoint) -> C + Send + Sync + 'static,
    ) -> Result<Client, BuildError> {
        let client = self.connect_endpoints_lazy_with(endpoints, connector)?;
        connected(client).await
    }

    /// The same without waiting for a connection: they are made when the first call needs one.
    ///
    /// # Errors
    ///
    /// [`BuildError`] if the configuration makes no sense.
    pub fn connect_endpoints_lazy_with<C: Connector>(
        self,
        endpoints: impl Endpoints,
        connector: impl Fn(&Endpoint) -> C + Send + Sync + 'static,
    ) -> Result<Client, BuildError> {
        let builder = self.clone();
        let transport =
            Box::new(move |endpoint: &Endpoint| encrypted(&builder, connector(endpoint)));
        self.discover(endpoints, transport)
    }

    fn discover(
        self,
        endpoints: impl Endpoints,
        transport: Transport,
    ) -> Result<Client, BuildError> {
        self.build(Some(Discovery {
            endpoints: Box::new(endpoints),
            transport,
        }))
    }
}

/// The client, when some connection of it stands.
async fn connected(client: Client) -> Result<Client, BuildError> {
    let shared = client.shared();
    discovery::start(shared);
    poll_fn(|context| shared.with(|state| state.mux.poll_connected(context.waker()))).await?;
    Ok(client)
}

/// What connects to an address.
fn by_address(builder: &ClientBuilder, endpoint: &Endpoint) -> io::Result<Arc<dyn SpawnDriver>> {
    #[cfg(unix)]
    if let Some(path) = endpoint.address().unix_path() {
        return encrypted(builder, Unix::new(path));
    }
    encrypted(builder, Tcp::to(endpoint.clone()))
}

/// The same over TLS, if the client speaks that.
fn encrypted(
    builder: &ClientBuilder,
    connector: impl Connector,
) -> io::Result<Arc<dyn SpawnDriver>> {
    #[cfg(feature = "tls")]
    if let Some(tls) = builder.tls.clone() {
        let connector = Tls::new(connector, tls).map_err(io::Error::other)?;
        return Ok(Arc::new(Spawner(Arc::new(connector))));
    }
    let _ = builder;
    Ok(Arc::new(Spawner(Arc::new(connector))))
}
