//! How a client comes about: its configuration is checked, then it connects, at once or when the
//! first call needs it.

use std::sync::Arc;

use redial_protocol::Address;

use crate::{
    cause::ConnectError,
    client::Client,
    clock,
    config::Config,
    connect::Tcp,
    connector::Connector,
    error::BuildError,
    io::start,
    mux::Mux,
    policy::{budget::TokenBucket, hedge::Latency},
    random::rng,
    retry::context::RetryContext,
    shared::{Shared, SharedState},
};

impl Client {
    /// Connects over TCP, to an address such as `"127.0.0.1:7077"`, with the default [`Config`].
    ///
    /// # Errors
    ///
    /// [`BuildError`] if the address has no port or the first connection can't be made. Later
    /// connections are made as calls need them, and their failures are the calls' own errors.
    pub async fn connect(address: impl Into<Address>) -> Result<Self, BuildError> {
        Self::builder().connect(address).await
    }

    /// Chooses a [`Config`], or another transport than TCP, before connecting.
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
}

impl ClientBuilder {
    /// Sets every limit and option. Default [`Config::default`].
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Connects over TCP, to an address such as `"127.0.0.1:7077"`.
    ///
    /// # Errors
    ///
    /// [`BuildError`] if the configuration or the address makes no sense, or if a connection can't
    /// be made.
    pub async fn connect(self, address: impl Into<Address>) -> Result<Client, BuildError> {
        let address = address.into();
        address.check()?;
        self.connect_with(Tcp::new(address)).await
    }

    /// Gives a client that connects over TCP when the first call needs it.
    ///
    /// # Errors
    ///
    /// [`BuildError`] if the configuration or the address makes no sense.
    pub fn connect_lazy(self, address: impl Into<Address>) -> Result<Client, BuildError> {
        let address = address.into();
        address.check()?;
        self.connect_lazy_with(Tcp::new(address))
    }

    /// Connects by other means than TCP.
    ///
    /// # Errors
    ///
    /// [`BuildError`] if the configuration makes no sense or a connection can't be made.
    pub async fn connect_with(self, connector: impl Connector) -> Result<Client, BuildError> {
        let connector = Arc::new(connector);
        let client = self.build(connector.clone())?;
        let shared = client.shared();
        for link in 0..shared.config.connections {
            let limit = shared.config.connect_timeout;
            let io = connector.connect_within(limit).await;
            let io = io.map_err(|error| ConnectError {
                peer: shared.peer.clone(),
                reason: Arc::new(error),
            })?;
            if shared.with(|state| state.mux.claim_driver(link)) {
                let task = start(connector.clone(), shared.clone(), link, Some(io));
                shared.set_driver(link, task);
            }
        }
        Ok(client)
    }

    /// Gives a client that connects by other means than TCP when the first call needs it.
    ///
    /// # Errors
    ///
    /// [`BuildError`] if the configuration makes no sense.
    pub fn connect_lazy_with(self, connector: impl Connector) -> Result<Client, BuildError> {
        self.build(Arc::new(connector))
    }

    fn build<C: Connector>(self, connector: Arc<C>) -> Result<Client, BuildError> {
        let config = self.config;
        if let Some(problem) = config.problem() {
            return Err(BuildError::Config(problem));
        }
        let retry = RetryContext {
            bucket: TokenBucket::new(config.retry_budget, clock::now()),
            jitter: rng(config.jitter_seed.or(config.seed), 1)?,
            latency: Latency::new(),
            hedges: 0,
            limits: config.call,
        };
        let mux = Mux::new(&config, rng(config.seed, 0)?);
        let state = SharedState::new(mux, retry);
        let shared = Shared::new(state, config, connector.peer(), Box::new(connector));
        Ok(Client::new(Arc::new(shared)))
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
            r#""counter.example" is not an address: expected host:port, such as 127.0.0.1:7077"#,
        );
    }
}
