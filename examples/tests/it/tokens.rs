//! A client that shows who it is by tokens: to servers that ask for them and to those that don't, with
//! tokens that expire, change, are rejected, or are not to be had.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use redial_client::{AuthToken, CallError, Client, ClientBuilder, Config, Dialect};
use redial_server::{Context, Principal, Server, ServerBuilder, Verified, Verifier, VerifyError};
use serde_json::{Value, json};

/// Takes the tokens `{round}` from the current round on; they expire after `life`.
#[derive(Clone)]
struct Rounds {
    current: Arc<AtomicU32>,
    verified: Arc<AtomicU32>,
    /// Of how many the verifier is not to be had.
    unavailable: Arc<AtomicU32>,
    life: Option<Duration>,
}

impl Rounds {
    fn new(life: Option<Duration>) -> Self {
        Self {
            current: Arc::default(),
            verified: Arc::default(),
            unavailable: Arc::default(),
            life,
        }
    }
}

impl Verifier for Rounds {
    async fn verify(&self, token: &str, _: Option<SocketAddr>) -> Result<Verified, VerifyError> {
        tokio::time::sleep(Duration::from_millis(5)).await;
        self.verified.fetch_add(1, SeqCst);
        let is_down = self
            .unavailable
            .try_update(SeqCst, SeqCst, |left| left.checked_sub(1));
        if is_down.is_ok() {
            let retry_after = Duration::from_millis(30);
            return Err(VerifyError::Unavailable { retry_after });
        }
        let round: u32 = token.parse().map_err(|_| VerifyError::Rejected)?;
        if round < self.current.load(SeqCst) {
            return Err(VerifyError::Rejected);
        }
        Ok(Verified {
            principal: Principal::new("token:client").unwrap(),
            expires: self.life,
        })
    }
}

/// With a handler that counts its effects.
fn server(effects: &Arc<AtomicU64>) -> ServerBuilder {
    let effects = Arc::clone(effects);
    Server::builder()
        .mutation("inc", move |(): (), context: Context| {
            let effects = Arc::clone(&effects);
            async move {
                effects.fetch_add(1, SeqCst);
                Ok(context.principal().map(Principal::to_string))
            }
        })
        .query("who", async |(): (), context: Context| {
            Ok(context.principal().map(Principal::to_string))
        })
}

/// Each way to call: in sessions, without, and in the notebook dialect.
fn configs() -> [Config; 4] {
    let config = |dialect, sessions, assume_plain| Config {
        dialect,
        sessions,
        assume_plain,
        ..Config::default()
    };
    [
        config(Dialect::JsonRpc2, true, false),
        config(Dialect::JsonRpc2, false, false),
        config(Dialect::Notebook, true, false),
        config(Dialect::Notebook, true, true),
    ]
}

async fn connect(server: &Server, builder: ClientBuilder) -> Client {
    let server = server.clone();
    let connector = move || {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let server = server.clone();
        tokio::spawn(async move { server.serve_connection(far).await });
        std::future::ready(Ok(near))
    };
    builder
        .connect_with(connector)
        .await
        .expect("a pipe connects")
}

/// Gives the tokens 0, 1, 2...
fn counting(asked: &Arc<AtomicU32>) -> ClientBuilder {
    let asked = Arc::clone(asked);
    Client::builder().token_provider(move || {
        let token = asked.fetch_add(1, SeqCst).to_string();
        async move {
            tokio::time::sleep(Duration::from_millis(3)).await;
            Ok::<_, String>(AuthToken::from(token))
        }
    })
}

async fn inc(client: &Client) -> Result<Value, CallError> {
    client.request("inc", ()).await
}

#[tokio::test(start_paused = true)]
async fn a_token_is_shown_first_whatever_the_client_speaks() {
    for config in configs() {
        let (effects, rounds) = (Arc::default(), Rounds::new(None));
        let server = server(&effects)
            .authenticate(rounds.clone())
            .build()
            .unwrap();
        let builder = Client::builder().config(config).token("7");
        let client = connect(&server, builder).await;
        for _ in 0..3 {
            assert_eq!(inc(&client).await.unwrap(), "token:client");
            let who: Value = client.request("who", ()).await.unwrap();
            assert_eq!(who, "token:client");
        }
        assert_eq!((effects.load(SeqCst), rounds.verified.load(SeqCst)), (3, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_asks_for_no_token_is_called_as_ever() {
    for config in configs() {
        let effects = Arc::default();
        let server = server(&effects).build().unwrap();
        let client = connect(&server, Client::builder().config(config).token("7")).await;
        assert_eq!(inc(&client).await.unwrap(), Value::Null);
        assert_eq!(effects.load(SeqCst), 1);
    }
}

/// Before it expires, so that no call hears of it.
#[tokio::test(start_paused = true)]
async fn a_token_is_renewed_before_it_expires() {
    for config in configs() {
        let (effects, asked) = (Arc::default(), Arc::default());
        let rounds = Rounds::new(Some(Duration::from_secs(10)));
        let server = server(&effects)
            .authenticate(rounds.clone())
            .build()
            .unwrap();
        let client = connect(&server, counting(&asked).config(config)).await;
        for round in 0..100 {
            rounds
                .current
                .store(asked.load(SeqCst).saturating_sub(1), SeqCst);
            assert_eq!(inc(&client).await.unwrap(), "token:client", "{round}");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        // One for each eight seconds, as it was found out about in time.
        let asked = asked.load(SeqCst);
        assert!((12..=14).contains(&asked), "{asked}");
        assert_eq!(client.stats().connects, 1, "on one connection");
        assert_eq!(effects.load(SeqCst), 100);
    }
}

/// It was revoked: of the connection that showed it, and of one that is made with it.
#[tokio::test(start_paused = true)]
async fn a_token_that_is_rejected_is_replaced_once_and_calls_wait_for_that() {
    for config in configs() {
        let (effects, asked) = (Arc::default(), Arc::default());
        let rounds = Rounds::new(None);
        // The provider's first token is out of date already.
        rounds.current.store(1, SeqCst);
        let server = server(&effects)
            .authenticate(rounds.clone())
            .build()
            .unwrap();
        let client = connect(&server, counting(&asked).config(config)).await;
        let calls = [inc(&client), inc(&client), inc(&client)].map(Box::pin);
        for call in calls {
            assert_eq!(call.await.unwrap(), "token:client");
        }
        assert_eq!((asked.load(SeqCst), effects.load(SeqCst)), (2, 3));
    }
}

/// A server that expires tokens without a word of when.
#[tokio::test(start_paused = true)]
async fn a_call_that_is_refused_for_want_of_a_token_is_sent_once_more() {
    for config in configs() {
        let (effects, asked) = (Arc::default(), Arc::default());
        let rounds = Rounds::new(Some(Duration::from_secs(2)));
        let server = server(&effects)
            .authenticate(rounds.clone())
            .build()
            .unwrap();
        let client = connect(&server, counting(&asked).config(config)).await;
        assert_eq!(inc(&client).await.unwrap(), "token:client");
        // Long enough for the renewal to be late: the provider hangs meanwhile.
        rounds.unavailable.store(3, SeqCst);
        tokio::time::sleep(Duration::from_millis(1_995)).await;
        for _ in 0..20 {
            assert_eq!(inc(&client).await.unwrap(), "token:client");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(effects.load(SeqCst), 21);
    }
}

/// No token is accepted, or the provider has none: a call says so, and that it was not executed.
#[tokio::test(start_paused = true)]
async fn a_call_without_a_valid_token_is_not_executed_and_says_why() {
    for config in configs() {
        let effects = Arc::default();
        let server = server(&effects)
            .authenticate(Rounds::new(None))
            .build()
            .unwrap();
        let wrong = Client::builder()
            .config(config.clone())
            .token("wrong-secret");
        let none = Client::builder()
            .config(config)
            .token_provider(|| async { Err::<AuthToken, _>("the vault is closed") });
        for (builder, words) in [(wrong, "-32005"), (none, "the vault is closed")] {
            let client = connect(&server, builder).await;
            let call = client.request("inc", ()).deadline(Duration::from_secs(8));
            let error = call.await.unwrap_err();
            assert!(matches!(error, CallError::NotExecuted { .. }), "{error:?}");
            assert!(error.to_string().contains(words), "{error}");
            assert!(!format!("{error:?} {error}").contains("wrong-secret"));
        }
        assert_eq!(effects.load(SeqCst), 0);
    }
}

/// The verifier's trouble is no reason to ask the provider, nor to fail.
#[tokio::test(start_paused = true)]
async fn a_token_that_can_not_be_verified_now_is_shown_again() {
    for config in configs() {
        let (effects, asked) = (Arc::default(), Arc::default());
        let rounds = Rounds::new(None);
        rounds.unavailable.store(4, SeqCst);
        let server = server(&effects)
            .authenticate(rounds.clone())
            .build()
            .unwrap();
        let client = connect(&server, counting(&asked).config(config)).await;
        assert_eq!(inc(&client).await.unwrap(), "token:client");
        assert_eq!((asked.load(SeqCst), effects.load(SeqCst)), (1, 1));
        assert_eq!(rounds.verified.load(SeqCst), 5);
    }
}

#[tokio::test(start_paused = true)]
async fn a_saved_call_and_a_clients_debug_output_have_no_token() {
    let effects = Arc::default();
    let server = server(&effects)
        .authenticate(Rounds::new(None))
        .build()
        .unwrap();
    let secret = "0004711";
    let builder = Client::builder().token(secret);
    assert!(!format!("{builder:?}").contains(secret));
    let client = connect(&server, builder).await;
    let mut call = client.request("inc", ());
    let saved = call.token().await.expect("it has an id");
    assert!(!serde_json::to_string(&saved).unwrap().contains(secret));
    let reply = call.with_report().await;
    assert!(!format!("{reply:?} {client:?}").contains(secret));
    assert_eq!(json!(effects.load(SeqCst)), 1);
}
