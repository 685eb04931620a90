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

use redial_protocol::{Method, MethodKind};
use serde::Serialize;
use serde_json::Value;
use tokio::{runtime, task::AbortHandle};

use crate::{
    call::{Call, Notification},
    config::Config,
    io::Drivers,
    keeper::{Keepers, keep_time},
    mux::{Key, Mux},
    resolve::Resolve,
    retry::Policy,
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
    pub(crate) handle: Arc<Handle>,
}

/// What the last clone of a client ends.
pub(crate) struct Handle {
    pub(crate) shared: Arc<Shared>,
}

/// What calls and drivers share.
pub(crate) struct Shared {
    pub(crate) state: Mutex<State>,
    pub(crate) config: Config,
    pub(crate) peer: Arc<str>,
    pub(crate) drivers: Box<dyn Drivers>,
}

/// What is behind the lock.
pub(crate) struct State {
    pub(crate) mux: Mux,
    pub(crate) policy: Policy,
    /// The tasks of the connections, one place per link.
    pub(crate) tasks: Vec<Option<AbortHandle>>,
    /// Those that wake calls when their time has come, one per runtime that calls are awaited on.
    pub(crate) keepers: Keepers,
    pub(crate) is_closed: bool,
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
    pub retained_calls: usize,
    /// Copies that were sent because a call took long ([`Hedge`]).
    pub hedges: u64,
}

impl Client {
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
    pub fn resolve(&self, token: impl Into<CallToken>) -> Resolve<Value> {
        Resolve::new(self, token.into())
    }

    /// The outcome of a call whose token was serialised is kept where it is needed, and nobody will
    /// ask for it again: the server may forget it. Should the call still be on its way, it is not
    /// executed any more. Without this the server keeps its record until the session's lease ends.
    ///
    /// This only makes a note of it, which is sent when there is a connection; should that be lost,
    /// or the program end before, nothing is lost but the server's memory.
    ///
    /// Does nothing while the call is in flight in this client.
    pub fn forget(&self, token: impl Into<CallToken>) {
        let id = token.into().id;
        self.shared().with(|state| state.mux.acknowledge(id));
    }

    /// Prepares the very same call again, whose outcome was unknown. It ends as `NotExecuted` only
    /// if the server has fenced the call, because somebody was told that it never will be executed:
    /// everything else says nothing about the attempts before.
    ///
    /// A call of a session is known again for as long as the session stands, in whatever process
    /// it began. Of a call with a plain id the server must still have its record: if it has
    /// dropped it, as it does after a while, it takes this for a new call.
    pub fn resume(&self, token: impl Into<CallToken>) -> Call<Value> {
        Call::resumed(self, token.into())
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
            retained_calls: state.mux.retained_calls(),
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
