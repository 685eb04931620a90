//! How a client comes about: its configuration is checked, then it connects, at once or when the
//! first call needs it.

use std::{error::Error, future::Future, sync::Arc};

use redial_protocol::AuthToken;

#[cfg(feature = "tls")]
use crate::connect::Tls;
#[cfg(unix)]
use crate::connect::Unix;
use crate::{
    cause::ConnectError,
    client::Client,
    config::Config,
    connect::Tcp,
    connector::Connector,
    discovery::Discovery,
    endpoints::Addresses,
    error::BuildError,
    io::{Spawner, start},
    layer::{Layer, Layers},
    meter::{Meter, Metered},
    mux::Mux,
    policy::{budget::TokenBucket, latency::Latency},
    random::rng,
    retry::context::RetryContext,
    shared::{Shared, SharedState},
    token_source::TokenSource,
};

impl Client {
    /// Connects to an address such as `"127.0.0.1:7077"` or `"unix:/run/counter.sock"`, or to several, as
    /// in `"10.0.0.1:7077,10.0.0.2:7077"` or in a list, with the default [`Config`].
    ///
    /// Of several addresses each call takes one that works, by the number of calls in flight there and by
    /// whether it is plainly slower than the others. A call that may have reached a server is sent again to
    /// that one alone, or to one which shares its table of calls.
    ///
    /// # Errors
    ///
    /// [`BuildError`] if an address has no port or the first connection can't be made, of several
    /// addresses none. Later connections are made as calls need them, and their failures are the calls'
    /// own errors.
    pub async fn connect(addresses: impl Into<Addresses>) -> Result<Self, BuildError> {
        Self::builder().connect(addresses).await
    }

    /// Chooses a [`Config`], TLS, or another transport, before connecting.
    #[must_use]
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }
}

/// Makes a [`Client`] from a [`Config`] and an address or a [`Connector`].
///
/// ```no_run
/// # async fn f() -> Result<(), redial_client::BuildError> {
/// use redial_client::{Client, Config, Dialect};
///
/// let config = Config { connections: 2, dialect: Dialect::Notebook, ..Config::default() };
/// let client = Client::builder().config(config).connect("127.0.0.1:7077").await?;
/// # drop(client);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct ClientBuilder {
    config: Config,
    layers: Layers,
    /// The one among the layers that records metrics.
    meter: Meter,
    tokens: Option<TokenSource>,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<redial_tls::ClientTls>,
}

impl ClientBuilder {
    /// Sets every limit and option. Default [`Config::default`].
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Puts a [`Layer`] around all calls of the client, resumed ones and notifications included. The first
    /// layer that is added is the outermost. A client without any pays nothing for it. Some are ready to be
    /// used: see [`layers`](crate::layers).
    ///
    /// ```no_run
    /// # async fn f() -> Result<(), redial_client::BuildError> {
    /// use redial_client::{Client, layers};
    ///
    /// let client = Client::builder()
    ///     .layer(layers::log(|call| println!("{} took {:?}", call.end.method(), call.took)))
    ///     .layer(layers::meta("tenant", |_| "acme".to_owned()))
    ///     .connect("127.0.0.1:7077")
    ///     .await?;
    /// # drop(client);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn layer(mut self, layer: impl Layer) -> Self {
        self.layers.0.push(Arc::new(layer));
        self
    }

    /// Records metrics by way of the facade `metrics`: see [`metrics`](crate::metrics) for their names. To
    /// be called when the program has installed its exporter. It is a [layer](Self::layer): what layers
    /// that are added before it do is not measured.
    #[cfg(feature = "metrics")]
    #[must_use]
    pub fn metrics(self) -> Self {
        let recorder = crate::metrics::Recorder::new();
        let meter = Meter::new(recorder.clone());
        Self {
            meter,
            ..self.layer(recorder)
        }
    }

    /// Gives calls and their attempts spans of `tracing`, and puts them into traces that go on at the
    /// server: a [layer](Self::layer), so it is around those that are added later. See
    /// [`Traces`](crate::Traces).
    #[cfg(feature = "tracing")]
    #[must_use]
    pub fn traces(self, traces: crate::Traces) -> Self {
        self.layer(traces)
    }

    /// Shows the server who calls, by a token, on each connection. It is sent in `rpc.auth`, before
    /// anything else; a server that asks for none says so, and nothing comes of it.
    ///
    /// ```no_run
    /// # async fn f() -> Result<(), Box<dyn std::error::Error>> {
    /// use redial_client::Client;
    ///
    /// let token = std::fs::read_to_string("/run/secrets/counter")?;
    /// let client = Client::builder().token(token.trim()).connect("127.0.0.1:7077").await?;
    /// # drop(client);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn token(self, token: impl Into<AuthToken>) -> Self {
        let token = token.into();
        self.token_provider(move || std::future::ready(Ok::<_, String>(token.clone())))
    }

    /// The same with a token that changes. The provider is asked for the first connection, when four
    /// fifths of a token's time have passed, and once when a token, or a call for want of a valid one, was
    /// refused: the call is then sent again. It has as long as a connection may take to be made
    /// ([`Config::connect_timeout`]); its errors are the calls' own.
    ///
    /// ```no_run
    /// # async fn fetch() -> std::io::Result<String> { Ok(String::new()) }
    /// # async fn f() -> Result<(), redial_client::BuildError> {
    /// use redial_client::{AuthToken, Client};
    ///
    /// let client = Client::builder()
    ///     .token_provider(|| async { fetch().await.map(AuthToken::from) })
    ///     .connect("127.0.0.1:7077")
    ///     .await?;
    /// # drop(client);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn token_provider<F, Fut, E>(mut self, provider: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<AuthToken, E>> + Send + 'static,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        self.tokens = Some(TokenSource::new(provider));
        self
    }

    /// Speaks TLS over whatever it connects to. The server's certificate has to be for the host of the
    /// address, or for the name that `tls` says.
    ///
    /// ```no_run
    /// # async fn f() -> Result<(), Box<dyn std::error::Error>> {
    /// use redial_client::{Client, ClientTls};
    ///
    /// let tls = ClientTls::builder().roots_file("ca.pem").build()?;
    /// let client = Client::builder().tls(tls).connect("counter.example:7077").await?;
    /// # drop(client);
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, tls: redial_tls::ClientTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Connects to an address: TCP, as in `"127.0.0.1:7077"`, or a Unix socket, as in
    /// `"unix:/run/counter.sock"`; or to several, in a list or with commas in between.
    ///
    /// # Errors
    ///
    /// [`BuildError`] if the configuration or an address makes no sense, or if a connection can't
    /// be made: of several addresses, to none.
    pub async fn connect(self, addresses: impl Into<Addresses>) -> Result<Client, BuildError> {
        let addresses = addresses.into();
        addresses.check()?;
        let Some(address) = addresses.only().cloned() else {
            return self.connect_endpoints(addresses).await;
        };
        #[cfg(unix)]
        if let Some(path) = address.unix_path() {
            return self.connect_with(Unix::new(path)).await;
        }
        self.connect_with(Tcp::new(address)).await
    }

    /// Gives a client that connects when the first call needs it.
    ///
    /// # Errors
    ///
    /// [`BuildError`] if the configuration or an address makes no sense.
    pub fn connect_lazy(self, addresses: impl Into<Addresses>) -> Result<Client, BuildError> {
        let addresses = addresses.into();
        addresses.check()?;
        let Some(address) = addresses.only().cloned() else {
            return self.connect_endpoints_lazy(addresses);
        };
        #[cfg(unix)]
        if let Some(path) = address.unix_path() {
            return self.connect_lazy_with(Unix::new(path));
        }
        self.connect_lazy_with(Tcp::new(address))
    }

    /// Connects by other means.
    ///
    /// # Errors
    ///
    /// [`BuildError`] if the configuration makes no sense or a connection can't be made.
    pub async fn connect_with(self, connector: impl Connector) -> Result<Client, BuildError> {
        #[cfg(feature = "tls")]
        if let Some(tls) = self.tls.clone() {
            return self.connect_by(Tls::new(connector, tls)?).await;
        }
        self.connect_by(connector).await
    }

    /// Gives a client that connects by other means when the first call needs it.
    ///
    /// # Errors
    ///
    /// [`BuildError`] if the configuration makes no sense.
    pub fn connect_lazy_with(self, connector: impl Connector) -> Result<Client, BuildError> {
        #[cfg(feature = "tls")]
        if let Some(tls) = self.tls.clone() {
            return self.build_single(Arc::new(Tls::new(connector, tls)?));
        }
        self.build_single(Arc::new(connector))
    }

    async fn connect_by(self, connector: impl Connector) -> Result<Client, BuildError> {
        let connector = Arc::new(connector);
        let client = self.build_single(connector.clone())?;
        let shared = client.shared();
        for link in 0..shared.config.connections {
            let limit = shared.config.connect_timeout;
            let io = connector.connect_within(limit).await;
            let io = io.map_err(|error| ConnectError {
                peer: connector.peer().into(),
                connector: connector.name().map(Into::into),
                reason: Arc::new(error),
            })?;
            if shared.with(|state| state.mux.claim_driver(link)) {
                let task = start(connector.clone(), shared.clone(), link, Some(io));
                shared.set_driver(link, task);
            }
        }
        Ok(client)
    }

    fn build_single<C: Connector>(self, connector: Arc<C>) -> Result<Client, BuildError> {
        let client = self.build(None)?;
        client.shared().with(|state| {
            state.mux.set_peer(0, connector.peer().into());
            state.spawners.push(Arc::new(Spawner(connector)));
        });
        Ok(client)
    }

    /// A client of one endpoint, or of those that discovery finds.
    pub(crate) fn build(self, discovery: Option<Discovery>) -> Result<Client, BuildError> {
        let config = self.config;
        if let Some(problem) = config.problem() {
            return Err(BuildError::Config(problem));
        }
        let retry = RetryContext {
            bucket: TokenBucket::new(config.retry_budget),
            jitter: rng(config.jitter_seed.or(config.seed), 1)?,
            latency: Latency::new(),
            hedges: 0,
            limits: config.call,
        };
        let ids = rng(config.seed, 0)?;
        let mux = match discovery {
            Some(_) => Mux::balanced(&config, ids, rng(config.seed, 2)?),
            None => Mux::new(&config, ids),
        };
        let state = SharedState::new(mux, retry);
        let shared = Shared::new(state, config, self.tokens, discovery);
        // Alone it need not be a layer.
        let is_metered = self.layers.0.len() == 1 && self.meter.metered() != Metered::No;
        let (layers, meter) = match self.layers {
            layers if layers.0.is_empty() => (None, Meter::default()),
            _ if is_metered => (None, self.meter),
            layers => (Some(layers), Meter::default()),
        };
        Ok(Client::new(Arc::new(shared), layers, meter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_a_port_is_refused_before_anything_is_looked_up() {
        let error = Client::builder().connect_lazy("counter.example");
        assert_eq!(
            error.unwrap_err().to_string(),
            r#""counter.example" is not an address: expected host:port, such as 127.0.0.1:7077, or unix:/path"#,
        );
    }
}
