//! Start reading here: a [`Client`] is a handle on the state that its calls and connections
//! share. The way of a call: [`Call`] is awaited, [`Flight`](crate::retry::Flight) decides,
//! [`Mux`] holds the request until the driver in `io` writes it and brings the reply back.

use std::{
    borrow::Cow,
    fmt,
    future::poll_fn,
    sync::{Arc, Mutex, PoisonError},
    task::Waker,
    time::Instant,
};

use redial_protocol::{Dialect, Method, MethodKind};
use serde::Serialize;
use serde_json::Value;
use tokio::{runtime, task::AbortHandle};

use crate::{
    call::{Call, Notification},
    clock,
    config::{CallLimits, Config},
    connect::{Connector, Tcp},
    error::{BuildError, ConnectError},
    io::{Drivers, dial},
    keeper::{Keepers, keep_time},
    mux::{Key, Mux},
    random::rng,
    resolve::Resolve,
    retry::{
        Policy,
        budget::{Bucket, RetryBudget},
        hedge::{Hedge, Latency},
    },
    token::CallToken,
    woken::Woken,
};

/// Calls the methods of a server. Cheap to clone, and to be shared by any number of tasks.
///
/// It connects again by itself. When the last clone is dropped, its connections are closed.
/// Calls must be awaited on a tokio runtime with time and, for TCP, I/O enabled; they may be
/// awaited on several.
///
/// ```no_run
/// # async fn f() -> Result<(), Box<dyn std::error::Error>> {
/// use redial_client::Client;
///
/// let client = Client::connect("127.0.0.1:7077").await?;
/// let value = client.request("inc", serde_json::json!({"key": "k"})).await?;
/// println!("{value}");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client {
    handle: Arc<Handle>,
}

/// What the last clone of a client ends.
struct Handle {
    shared: Arc<Shared>,
}

/// What calls and drivers share.
pub(crate) struct Shared {
    state: Mutex<State>,
    pub(crate) config: Config,
    pub(crate) peer: Arc<str>,
    drivers: Box<dyn Drivers>,
}

/// What is behind the lock.
pub(crate) struct State {
    pub(crate) mux: Mux,
    pub(crate) policy: Policy,
    /// The tasks of the connections, one place per link.
    tasks: Vec<Option<AbortHandle>>,
    /// Those that wake calls when their time has come, one per runtime that calls are awaited on.
    keepers: Keepers,
    is_closed: bool,
}

/// How a client is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Calls that are not over.
    pub in_flight: usize,
    /// Connections that were made, from the first on.
    pub connects: u64,
    /// Replies to no call of this client, or to one that is over.
    pub unmatched_replies: u64,
    /// Sessions that servers opened for this client. More than one means that a session was
    /// lost, or that half of its window was taken by calls without outcome.
    pub sessions_opened: u64,
    /// Sessions that a server no longer knew: it was restarted, or is another one, or the lease
    /// ended. Each may have left calls *unknown*.
    pub sessions_lost: u64,
    /// Calls without outcome whose record the server keeps because a token of them lives.
    pub held_numbers: usize,
    /// Copies that were sent because a call took long ([`Hedge`]).
    pub hedges: u64,
}

impl Client {
    /// Connects over TCP with the default [`Config`].
    ///
    /// # Errors
    ///
    /// [`BuildError`] if the first connection can't be made. Later ones are made as needed.
    pub async fn connect(address: impl ToString) -> Result<Self, BuildError> {
        Self::builder().connect(address).await
    }

    /// Chooses limits, dialect and the like before connecting.
    #[must_use]
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// Prepares a call of a method that server and client share as a type. Nothing is sent
    /// before the call is awaited.
    pub fn call<M: Method>(&self, params: M::Params) -> Call<M::Output> {
        Call::new(self, M::NAME.into(), &params, M::KIND)
    }

    /// Prepares a call of a method by its name. `params` must be an object, an array or nothing
    /// (`()` or `null`) as JSON; they count as a mutation's.
    pub fn request(
        &self,
        method: impl Into<Cow<'static, str>>,
        params: impl Serialize,
    ) -> Call<Value> {
        Call::new(self, method.into(), &params, MethodKind::Mutation)
    }

    /// Prepares a call of a method without effect by its name. As [`request`](Self::request), but
    /// it may be sent again for as long as its limits allow, since a server that has forgotten it
    /// does no harm.
    pub fn query(
        &self,
        method: impl Into<Cow<'static, str>>,
        params: impl Serialize,
    ) -> Call<Value> {
        Call::new(self, method.into(), &params, MethodKind::Query)
    }

    /// Prepares a notification: a request without an id, never answered and never deduplicated.
    pub fn notify(
        &self,
        method: impl Into<Cow<'static, str>>,
        params: impl Serialize,
    ) -> Notification {
        Notification::new(Call::new(
            self,
            method.into(),
            &params,
            MethodKind::Mutation,
        ))
    }

    /// Prepares a question for the outcome of a call that ended as *unknown*, in this process or
    /// in another one. If the server has no record of the call it makes sure that the call is
    /// never executed, and says so: [`Resolution::Never`](crate::Resolution::Never).
    ///
    /// ```no_run
    /// # async fn f(client: redial_client::Client, text: &str) -> Result<(), Box<dyn std::error::Error>> {
    /// use redial_client::{CallToken, Resolution};
    ///
    /// let token: CallToken = serde_json::from_str(text)?;
    /// match client.resolve(token).await? {
    ///     Resolution::Value(value) => println!("it was done: {value}"),
    ///     Resolution::Never => println!("it was not done, and never will be"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn resolve(&self, token: CallToken) -> Resolve<Value> {
        Resolve::new(self, token)
    }

    /// The outcome of a call whose token was serialised is kept where it is needed, and nobody will
    /// ask for it again: the server may forget it. Should the call still be on its way, it is not
    /// executed any more. Without this the server keeps its record until the session's lease ends.
    ///
    /// This only makes a note of it, which is sent when there is a connection; should that be lost,
    /// or the program end before, nothing is lost but the server's memory.
    ///
    /// Does nothing while the call is in flight in this client.
    pub fn forget(&self, token: CallToken) {
        let id = token.id;
        self.shared().with(|state| state.mux.acknowledge(id));
    }

    /// Prepares the very same call again, whose outcome was unknown. It ends as `NotExecuted` only
    /// if the server has fenced the call, because somebody was told that it never will be executed:
    /// everything else says nothing about the attempts before.
    ///
    /// A call of a session is known again for as long as the session stands, in whatever process
    /// it began. Of a call with a plain id the server must still have its record: if it has
    /// dropped it, as it does after a while, it takes this for a new call.
    pub fn resume(&self, token: CallToken) -> Call<Value> {
        Call::resumed(self, token)
    }

    /// Ends the client in good order: tells the server what this client is done with, so that it
    /// keeps nothing for it, and closes the connections. Dropping the last clone does the same, but
    /// nobody waits for it then; a program that is about to end had better wait. It takes no longer
    /// than a second, and calls that are in flight in clones of this client go on.
    pub async fn close(self) {
        let Some(handle) = Arc::into_inner(self.handle) else {
            return;
        };
        let shared = handle.shared.clone();
        drop(handle);
        poll_fn(|context| shared.with(|state| state.mux.poll_closed(context.waker()))).await;
    }

    /// How the client is doing.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared().with(|state| Stats {
            in_flight: state.mux.in_flight(),
            connects: state.mux.connects,
            unmatched_replies: state.mux.unmatched_replies,
            sessions_opened: state.mux.sessions_opened(),
            sessions_lost: state.mux.sessions_lost(),
            held_numbers: state.mux.held_numbers(),
            hedges: state.policy.hedges,
        })
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("peer", &self.shared().peer)
            .finish_non_exhaustive()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let tasks = self.shared.with(|state| {
            state.is_closed = true;
            let mut tasks = std::mem::take(&mut state.tasks);
            let keepers = std::mem::take(&mut state.keepers);
            if let Some(speaking) = state.mux.say_goodbye() {
                // It ends by itself, and soon.
                tasks[speaking] = None;
            }
            tasks.extend(keepers.into_tasks());
            tasks
        });
        tasks.into_iter().flatten().for_each(|task| task.abort());
    }
}

impl State {
    /// The call is to be woken then, by the keeper of the runtime. Says which keeper is to be
    /// started for that, if there is none yet.
    pub(crate) fn wake_at(&mut self, runtime: runtime::Id, key: Key, at: Instant) -> Option<usize> {
        let (keeper, is_new) = self.keepers.of(runtime);
        self.mux.wake_at(keeper, key, at);
        is_new.then_some(keeper)
    }

    /// A keeper is gone, with its runtime.
    pub(crate) fn dismiss_keeper(&mut self, keeper: usize) {
        self.keepers.dismiss(keeper);
        self.mux.dismiss_keeper(keeper);
    }
}

impl Shared {
    /// The one way to the state: under the lock, then outside it those are woken who are to be.
    pub(crate) fn with<T>(&self, access: impl FnOnce(&mut State) -> T) -> T {
        // A panic under the lock is a bug, but not one to hang every other call for.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let result = access(&mut state);
        if state.mux.woken.is_empty() {
            return result;
        }
        let woken = Woken::take(&mut state.mux.woken);
        drop(state);
        woken.wake();
        result
    }

    /// The same for those who wake many, and have a list for them that is used again.
    pub(crate) fn with_many<T>(
        &self,
        woken: &mut Vec<Waker>,
        access: impl FnOnce(&mut State) -> T,
    ) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let result = access(&mut state);
        std::mem::swap(&mut state.mux.woken, woken);
        drop(state);
        woken.drain(..).for_each(Waker::wake);
        result
    }

    /// Starts the driver of a link that has work and no driver.
    pub(crate) fn start_driver(self: &Arc<Self>, link: usize) {
        let task = self.drivers.start(self.clone(), link);
        self.keep(link, task);
    }

    /// Starts the keeper that the calls of this runtime need.
    pub(crate) fn start_keeper(self: &Arc<Self>, keeper: usize) {
        let mut task = Some(keep_time(self.clone(), keeper));
        self.with(|state| state.keepers.set_task(keeper, &mut task));
        task.inspect(AbortHandle::abort);
    }

    /// Remembers a driver's task, for the day the client is dropped.
    pub(crate) fn keep(&self, link: usize, task: AbortHandle) {
        let too_late = self.with(|state| match state.is_closed {
            true => Some(task),
            false => {
                state.tasks[link] = Some(task);
                None
            }
        });
        too_late.inspect(AbortHandle::abort);
    }
}

/// Chooses how a [`Client`] behaves. What has no method of its own here is a field of
/// [`Config`].
///
/// ```no_run
/// # async fn f() -> Result<(), redial_client::BuildError> {
/// use redial_client::{Client, Config, Dialect};
///
/// let client = Client::builder()
///     .config(Config { connections: 2, ..Config::default() })
///     .dialect(Dialect::Notebook)
///     .connect("127.0.0.1:7077")
///     .await?;
/// # drop(client);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct ClientBuilder {
    config: Config,
}

impl ClientBuilder {
    /// Sets everything.
    #[must_use]
    pub fn config(self, config: Config) -> Self {
        Self { config }
    }

    /// Sets how requests are spelled. Default JSON-RPC 2.0.
    #[must_use]
    pub fn dialect(mut self, dialect: Dialect) -> Self {
        self.config.dialect = dialect;
        self
    }

    /// Sets whether requests may carry Redial's own member. Default true.
    #[must_use]
    pub fn extensions(mut self, extensions: bool) -> Self {
        self.config.extensions = extensions;
        self
    }

    /// Sets whether a server is asked for a session. Default true.
    #[must_use]
    pub fn sessions(mut self, sessions: bool) -> Self {
        self.config.sessions = sessions;
        self
    }

    /// Whether a server that is silent may be taken for one without sessions: see
    /// [`Config::assume_plain_on_silence`].
    #[must_use]
    pub fn assume_plain_on_silence(mut self, guess: bool) -> Self {
        self.config.assume_plain_on_silence = guess;
        self
    }

    /// Sets when copies of calls go out that don't say so themselves. Default never.
    #[must_use]
    pub fn hedge(mut self, hedge: Hedge) -> Self {
        self.config.call.hedge = hedge;
        self
    }

    /// Sets how many connections share the calls. Default 1.
    #[must_use]
    pub fn connections(mut self, connections: usize) -> Self {
        self.config.connections = connections;
        self
    }

    /// Sets the limits of calls that don't set their own.
    #[must_use]
    pub fn limits(mut self, limits: CallLimits) -> Self {
        self.config.call = limits;
        self
    }

    /// Sets how many retries all calls together may make.
    #[must_use]
    pub fn retry_budget(mut self, budget: RetryBudget) -> Self {
        self.config.retry_budget = budget;
        self
    }

    /// Connects over TCP, to an address such as `"127.0.0.1:7077"`.
    ///
    /// # Errors
    ///
    /// [`BuildError`] if the configuration makes no sense or a connection can't be made.
    pub async fn connect(self, address: impl ToString) -> Result<Client, BuildError> {
        self.connect_with(Tcp::new(address)).await
    }

    /// A client that connects over TCP when the first call needs it.
    ///
    /// # Errors
    ///
    /// [`BuildError`] if the configuration makes no sense.
    pub fn connect_lazy(self, address: impl ToString) -> Result<Client, BuildError> {
        self.connect_lazy_with(Tcp::new(address))
    }

    /// Connects by other means.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    pub async fn connect_with(self, connector: impl Connector) -> Result<Client, BuildError> {
        let connector = Arc::new(connector);
        let client = self.build(connector.clone())?;
        let shared = client.shared();
        for link in 0..shared.config.connections {
            let io = dial(&*connector, shared.config.connect_timeout).await;
            let io = io.map_err(|error| ConnectError {
                peer: shared.peer.clone(),
                reason: Arc::new(error),
            })?;
            if shared.with(|state| state.mux.adopt(link)) {
                let task = crate::io::start(connector.clone(), shared.clone(), link, Some(io));
                shared.keep(link, task);
            }
        }
        Ok(client)
    }

    /// A client that connects by other means when the first call needs it.
    ///
    /// # Errors
    ///
    /// As [`connect_lazy`](Self::connect_lazy).
    pub fn connect_lazy_with(self, connector: impl Connector) -> Result<Client, BuildError> {
        self.build(Arc::new(connector))
    }

    fn build<C: Connector>(self, connector: Arc<C>) -> Result<Client, BuildError> {
        let config = self.config;
        if let Some(problem) = config.problem() {
            return Err(BuildError::Config(problem));
        }
        let policy = Policy {
            bucket: Bucket::new(config.retry_budget, clock::now()),
            jitter: rng(config.jitter_seed.or(config.seed), 1)?,
            latency: Latency::new(),
            hedges: 0,
            limits: config.call,
        };
        let state = State {
            mux: Mux::new(&config, rng(config.seed, 0)?),
            policy,
            tasks: vec![None; config.connections],
            keepers: Keepers::default(),
            is_closed: false,
        };
        let shared = Shared {
            state: Mutex::new(state),
            config,
            peer: connector.peer().into(),
            drivers: Box::new(connector),
        };
        Ok(Client {
            handle: Arc::new(Handle {
                shared: Arc::new(shared),
            }),
        })
    }
}
