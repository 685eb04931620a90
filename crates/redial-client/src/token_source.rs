//! Where the tokens come from by which the client shows who it is.

use std::{
    error::Error,
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use redial_protocol::AuthToken;

type Fetched = Result<AuthToken, Box<dyn Error + Send + Sync>>;

type TokenFuture = Pin<Box<dyn Future<Output = Fetched> + Send>>;

/// What the program has given, and the token that it gave last.
#[derive(Clone)]
pub(crate) struct TokenSource(Arc<Source>);

struct Source {
    provider: Box<dyn Fn() -> TokenFuture + Send + Sync>,
    latest: Mutex<Latest>,
}

#[derive(Default)]
struct Latest {
    /// Counts the tokens that were fetched.
    generation: u64,
    token: Option<AuthToken>,
}

/// A token, and which of those that were fetched it is.
#[derive(Clone, Debug)]
pub(crate) struct FetchedToken {
    pub(crate) generation: u64,
    pub(crate) token: AuthToken,
}

impl TokenSource {
    pub(crate) fn new<F, Fut, E>(provider: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<AuthToken, E>> + Send + 'static,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        Self(Arc::new(Source {
            provider: Box::new(move || {
                let fetch = provider();
                Box::pin(async move { fetch.await.map_err(Into::into) })
            }),
            latest: Mutex::default(),
        }))
    }

    /// A token that is newer than `stale`, where one is not to be used any more. The provider is asked
    /// if there is no such one yet.
    pub(crate) async fn get(
        &self,
        stale: Option<u64>,
        limit: Duration,
    ) -> Result<FetchedToken, String> {
        if let Some(known) = self.newer_than(stale) {
            return Ok(known);
        }
        let fetched = tokio::time::timeout(limit, (self.0.provider)()).await;
        let fetched = fetched.map_err(|_| format!("no token: none came within {limit:?}"))?;
        let token = fetched.map_err(|error| format!("no token: {error}"))?;
        let mut latest = self.lock();
        latest.generation += 1;
        latest.token = Some(token.clone());
        let generation = latest.generation;
        Ok(FetchedToken { generation, token })
    }

    fn newer_than(&self, stale: Option<u64>) -> Option<FetchedToken> {
        let latest = self.lock();
        let is_usable = stale.is_none_or(|stale| stale < latest.generation);
        let token = latest.token.clone().filter(|_| is_usable)?;
        let generation = latest.generation;
        Some(FetchedToken { generation, token })
    }

    fn lock(&self) -> MutexGuard<'_, Latest> {
        self.0.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// No secret.
impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSource")
    }
}
