//! Tokens, and who says whose they are.

use std::{
    future::{Future, poll_fn},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use redial_protocol::{AuthToken, Principal};

use crate::{
    guesses::{GuessPermit, Guesses},
    panics,
};

/// How long the refusal of a token waits, for each one that the connection has shown before it.
const FAILURE_DELAY: Duration = Duration::from_millis(100);

/// When a caller is to come back whose token could not be verified.
const COME_BACK: Duration = Duration::from_secs(1);

/// Says whose a token is. See [`ServerBuilder::authenticate`](crate::ServerBuilder::authenticate).
///
/// ```
/// use std::{net::SocketAddr, time::Duration};
/// use redial_server::{Principal, Verified, Verifier, VerifyError};
///
/// /// Asks another service.
/// struct Introspection;
///
/// impl Verifier for Introspection {
///     async fn verify(&self, token: &str, _: Option<SocketAddr>) -> Result<Verified, VerifyError> {
///         // ... which may take its time, and be down.
///         let name = token.strip_prefix("test-").ok_or(VerifyError::Rejected)?;
///         let principal = Principal::new(&format!("token:{name}"));
///         Ok(Verified {
///             principal: principal.map_err(|_| VerifyError::Rejected)?,
///             expires: Some(Duration::from_secs(3600)),
///         })
///     }
/// }
/// ```
pub trait Verifier: Send + Sync + 'static {
    /// Says whose the token is. Nothing may tell from how long that takes how much of a token was
    /// right. `peer` is where it came from, if the transport has addresses.
    ///
    /// # Errors
    ///
    /// [`VerifyError`].
    fn verify(
        &self,
        token: &str,
        peer: Option<SocketAddr>,
    ) -> impl Future<Output = Result<Verified, VerifyError>> + Send;
}

/// Whose a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Who shows it.
    pub principal: Principal,
    /// How long it counts; `None` if it doesn't expire. Calls are refused after that until their
    /// connection shows another one of the same principal; those that run go on.
    pub expires: Option<Duration>,
}

/// Why a token has shown nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifyError {
    /// It is not valid: -32005. After ten of them
    /// ([`Config::max_auth_failures`](crate::Config::max_auth_failures)) the connection is closed.
    Rejected,
    /// It can't be verified now: -32001.
    Unavailable {
        /// When to come back.
        retry_after: Duration,
    },
}

/// What a verification comes to.
pub(crate) type VerificationResult = Result<Verified, Unverified>;

/// Why a token has shown nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unverified {
    Rejected,
    /// The verifier could not tell.
    Unavailable {
        retry_after: Duration,
    },
    /// Others were guessed from the same address, and this one was not looked at.
    TooManyGuesses {
        retry_after: Duration,
    },
}

pub(crate) type Verification = Pin<Box<dyn Future<Output = VerificationResult> + Send>>;

type Verifying = Pin<Box<dyn Future<Output = Result<Verified, VerifyError>> + Send>>;

/// Who says whose a token is, and how many were wrong.
pub(crate) struct Authentication {
    pub(crate) verifier: Arc<dyn ErasedVerifier>,
    pub(crate) guesses: Guesses,
}

/// A verifier with its type erased.
pub(crate) trait ErasedVerifier: Send + Sync {
    fn verify(self: Arc<Self>, token: AuthToken, peer: Option<SocketAddr>) -> Verifying;
}

impl<V: Verifier> ErasedVerifier for V {
    fn verify(self: Arc<Self>, token: AuthToken, peer: Option<SocketAddr>) -> Verifying {
        Box::pin(async move { Verifier::verify(&*self, token.as_str(), peer).await })
    }
}

impl Authentication {
    /// Verifies a token: in its turn, within `limit`, whatever the verifier does, and more slowly the
    /// more the connection has guessed wrong.
    pub(crate) fn verify(
        self: &Arc<Self>,
        token: AuthToken,
        peer: Option<SocketAddr>,
        permit: Result<GuessPermit, Duration>,
        limit: Duration,
        failures: u32,
    ) -> Verification {
        let this = Arc::clone(self);
        Box::pin(async move {
            let result = match permit {
                Err(retry_after) => Err(Unverified::TooManyGuesses { retry_after }),
                Ok(permit) => {
                    tokio::time::sleep(permit.wait).await;
                    let verifier = Arc::clone(&this.verifier);
                    let result = ask(verifier, token, peer, limit).await;
                    match &result {
                        Ok(_) => this.guesses.was_right(&permit),
                        Err(VerifyError::Rejected) => this.guesses.was_wrong(&permit),
                        Err(VerifyError::Unavailable { .. }) => {
                            this.guesses.could_not_tell(&permit)
                        }
                    }
                    result.map_err(Unverified::from)
                }
            };
            if let Err(Unverified::Rejected | Unverified::TooManyGuesses { .. }) = result {
                tokio::time::sleep(FAILURE_DELAY * (failures + 1)).await;
            }
            result
        })
    }
}

impl From<VerifyError> for Unverified {
    fn from(error: VerifyError) -> Self {
        match error {
            VerifyError::Rejected => Self::Rejected,
            VerifyError::Unavailable { retry_after } => Self::Unavailable { retry_after },
        }
    }
}

/// Asks the verifier, which may hang and panic.
async fn ask(
    verifier: Arc<dyn ErasedVerifier>,
    token: AuthToken,
    peer: Option<SocketAddr>,
    limit: Duration,
) -> Result<Verified, VerifyError> {
    let unavailable = Err(VerifyError::Unavailable {
        retry_after: COME_BACK,
    });
    let begun = panics::catch(|| verifier.verify(token, peer));
    let Ok(verification) = begun else {
        return unavailable;
    };
    let mut verification = Quiet(Some(verification));
    let polled = poll_fn(|cx| {
        let Some(verification) = &mut verification.0 else {
            return Poll::Ready(unavailable.clone());
        };
        let polled = panics::catch(|| verification.as_mut().poll(cx));
        polled.unwrap_or(Poll::Ready(unavailable.clone()))
    });
    let result = tokio::time::timeout(limit, polled).await;
    result.unwrap_or(unavailable)
}

/// What is left of a verification is the program's, and may panic as it goes: at its end, or before, with its
/// connection.
struct Quiet(Option<Verifying>);

impl Drop for Quiet {
    fn drop(&mut self) {
        panics::drop_quietly(self.0.take());
    }
}
