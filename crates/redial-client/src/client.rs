//! Start reading here: a [`Client`] is a handle on the state that its calls and connections share.
//! The way of a call: a [`Call`] is awaited, [`Retrier`](crate::retry::Retrier) decides,
//! [`Mux`](crate::mux::Mux) holds the request until the driver in `io` writes it, and finds the
//! call that a reply belongs to.

use std::{borrow::Cow, fmt, future::poll_fn, sync::Arc};

use redial_protocol::{Method, MethodKind};
use serde::Serialize;
use serde_json::Value;

use crate::{
    call::{Call, Notification},
    clock,
    endpoint_stats::EndpointStats,
    handle::ClientHandle,
    layer::Layers,
    meter::Meter,
    resolve::Resolve,
    retry_stats::RetryStats,
    shared::Shared,
    token::CallToken,
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
    handle: Arc<ClientHandle>,
}

/// What a client has done and is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Calls that have begun and not ended.
    pub in_flight: usize,
    /// Connections that were made, the first included.
    pub connects: u64,
    /// Replies to no call in flight: late ones to calls that had ended, and those to ids of other
    /// clients.
    pub unmatched_replies: u64,
    /// Requests and notifications that servers sent. They are ignored, since a client has no
    /// methods; requests are answered with -32601, but under no id that a reply to this client could
    /// have.
    pub peer_requests: u64,
    /// Frames from servers that held no message: not JSON, or neither an id nor a method in it.
    /// They are ignored up to [`max_protocol_errors`](crate::Config::max_protocol_errors).
    pub protocol_errors: u64,
    /// Sessions that servers opened for this client. More than one means that a session was
    /// lost, or that tokens retained half of its window.
    pub sessions_opened: u64,
    /// Sessions that a server no longer knew: it was restarted, or is another one, or the lease
    /// ended. Each may have left calls *unknown*.
    pub sessions_lost: u64,
    /// Ended calls whose record the server keeps because a [`CallToken`] of them lives.
    pub retained_calls: usize,
    /// Copies that were sent because a call took long ([`Hedge`](crate::Hedge)).
    pub hedges: u64,
    /// Attempts that were handed to a connection, hedges and retries included.
    pub attempts: u64,
    /// The retries among them, and what kept others from being made.
    pub retries: RetryStats,
}

impl Client {
    /// A client with layers around its calls, or with a meter where that would be the only one.
    pub(crate) fn new(shared: Arc<Shared>, layers: Option<Layers>, meter: Meter) -> Self {
        Self {
            handle: Arc::new(ClientHandle {
                shared,
                layers: layers.map(Arc::new),
                meter,
            }),
        }
    }

    /// Prepares a call of a method that server and client share as a type. Nothing is sent
    /// before the call is awaited.
    pub fn call<M: Method>(&self, params: M::Params) -> Call<M::Output> {
        Call::new(&self.handle, M::NAME.into(), &params, M::KIND)
    }

    /// Prepares a call of a method by its name. `params` must be an object, an array or nothing
    /// (`()` or `null`) as JSON: one positional param is a tuple, `(1,)`. The method is taken for a
    /// mutation.
    ///
    /// The result is a [`Value`]; [`returning`](Call::returning) reads it as a type. A method that is
    /// a type itself goes with [`call`](Self::call), and needs neither.
    ///
    /// ```no_run
    /// # async fn f(client: redial_client::Client) -> Result<(), redial_client::CallError> {
    /// #[derive(serde::Serialize)]
    /// struct IncParams {
    ///     key: String,
    ///     delta: i64,
    /// }
    ///
    /// #[derive(serde::Deserialize)]
    /// struct Counter {
    ///     value: i64,
    /// }
    ///
    /// let params = IncParams { key: "k".into(), delta: 2 };
    /// let counter = client.request("inc", params).returning::<Counter>().await?;
    /// println!("{}", counter.value);
    /// let total = client.request("add", (2,)).returning::<i64>().await?;
    /// println!("{total}");
    /// # Ok(())
    /// # }
    /// ```
    pub fn request(
        &self,
        method: impl Into<Cow<'static, str>>,
        params: impl Serialize,
    ) -> Call<Value> {
        Call::new(&self.handle, method.into(), &params, MethodKind::Mutation)
    }

    /// Prepares a call of a method without effect by its name. As [`request`](Self::request), but
    /// it may be sent again for as long as its limits allow, since a second execution does no harm.
    ///
    /// ```no_run
    /// # async fn f(client: redial_client::Client) -> Result<(), redial_client::CallError> {
    /// let names = client.query("names", ()).returning::<Vec<String>>().await?;
    /// println!("{}", names.join(", "));
    /// # Ok(())
    /// # }
    /// ```
    pub fn query(
        &self,
        method: impl Into<Cow<'static, str>>,
        params: impl Serialize,
    ) -> Call<Value> {
        Call::new(&self.handle, method.into(), &params, MethodKind::Query)
    }

    /// Prepares a notification: a request without an id, never answered and never deduplicated.
    pub fn notify(
        &self,
        method: impl Into<Cow<'static, str>>,
        params: impl Serialize,
    ) -> Notification {
        Notification::new(Call::new(
            &self.handle,
            method.into(),
            &params,
            MethodKind::Mutation,
        ))
    }

    /// Prepares a question for the outcome of a call that ended as *unknown*, in this process or
    /// in another one. A server that has no record of the call fences it, so that it is never
    /// executed, and answers [`Resolution::Never`](crate::Resolution::Never).
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
        Resolve::new(&self.handle, token.into())
    }

    /// Lets the server forget a call whose token was serialised: its outcome is kept where it is
    /// needed, and will not be asked for again. A call that is still on its way is not executed any
    /// more. Without this the server keeps its record until the session's lease ends.
    ///
    /// The acknowledgement is sent when there is a connection, and this doesn't wait for it. If it
    /// is lost, the record costs the server memory for longer, and nothing else.
    ///
    /// Does nothing while the call is in flight in this client.
    pub fn forget(&self, token: impl Into<CallToken>) {
        let token = token.into();
        let (id, table) = (token.id, token.table.as_deref());
        self.shared().with(|state| state.mux.acknowledge(id, table));
    }

    /// Prepares the same call again, whose outcome was unknown. It ends as `NotExecuted` only if
    /// the server has fenced it, because it answered [`resolve`](Self::resolve) with *never*: every
    /// other refusal says nothing about the attempts before.
    ///
    /// A server knows a call of a session again for as long as the session lives, in whatever
    /// process the call began. Of a call with a plain id it must still have the record: once that
    /// has expired, it takes this for a new call.
    pub fn resume(&self, token: impl Into<CallToken>) -> Call<Value> {
        Call::resumed(&self.handle, token.into())
    }

    /// Closes the connections after the last acknowledgements have been written, so that the server
    /// keeps no records for this client. Dropping the last clone does the same, but without waiting
    /// for it; a program that is about to end should wait. It takes at most a second, and does
    /// nothing while other clones of this client, or calls of it, are alive.
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
            peer_requests: state.mux.peer_requests,
            protocol_errors: state.mux.protocol_errors,
            sessions_opened: state.mux.sessions_opened(),
            sessions_lost: state.mux.sessions_lost(),
            retained_calls: state.mux.retained_calls(),
            hedges: state.retry.hedges,
            attempts: state.mux.attempts(),
            retries: state.mux.retries,
        })
    }

    /// How each address is doing that the client calls.
    ///
    /// ```no_run
    /// # async fn f() -> Result<(), redial_client::BuildError> {
    /// use redial_client::Client;
    ///
    /// let client = Client::connect("10.0.0.1:7077,10.0.0.2:7077").await?;
    /// for endpoint in client.endpoints() {
    ///     println!("{}: {:?}, {} in flight", endpoint.address, endpoint.health, endpoint.in_flight);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn endpoints(&self) -> Vec<EndpointStats> {
        let now = clock::now();
        self.shared().with(|state| state.mux.endpoint_stats(now))
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let peers = self.shared().with(|state| state.mux.peers());
        f.debug_struct("Client")
            .field("peers", &peers)
            .finish_non_exhaustive()
    }
}
