//! What a handler may want to know about its call.

use std::{any::Any, net::SocketAddr, sync::Arc, time::Instant};

use redial_protocol::{CallKey, Metadata, MetadataRef, Principal, SessionCall, SessionId};

use crate::caller::Known;

/// What a handler may want to know about the call beside its params.
#[derive(Clone, Debug, Default)]
pub struct Context {
    attempt: u32,
    deadline: Option<Instant>,
    peer: Option<SocketAddr>,
    name: ShortName,
    rare: Option<Box<Rare>>,
}

/// A call's name, where it needs no heap: a context is moved for every call.
#[derive(Clone, Copy, Debug, Default)]
enum ShortName {
    #[default]
    None,
    Session(SessionCall),
    Uuid([u8; 16]),
}

/// What few calls have.
#[derive(Clone, Debug, Default)]
struct Rare {
    traceparent: Option<Box<str>>,
    /// The call's name, if its id is another string or an integer.
    name: Option<Box<str>>,
    /// What is known of the caller beside its address.
    known: Option<Arc<Known>>,
    meta: Option<Arc<Metadata>>,
}

/// What most callers say beside the params.
static NOTHING_SAID: Metadata = Metadata::new();

impl Context {
    #[inline]
    pub(crate) fn new(
        attempt: u32,
        deadline: Option<Instant>,
        peer: Option<SocketAddr>,
        traceparent: Option<&str>,
    ) -> Self {
        let rare = traceparent.map(|text| Rare {
            traceparent: Some(text.into()),
            ..Rare::default()
        });
        Self {
            attempt,
            deadline,
            peer,
            name: ShortName::None,
            rare: rare.map(Box::new),
        }
    }

    /// Of a call of a session.
    pub(crate) fn set_session_call(&mut self, call: SessionCall) {
        self.name = ShortName::Session(call);
    }

    /// Of a call with a plain id.
    pub(crate) fn set_name(&mut self, key: &CallKey) {
        self.name = match key {
            CallKey::Session(call) => ShortName::Session(*call),
            CallKey::Uuid(bytes) => ShortName::Uuid(*bytes),
            CallKey::Text(text) | CallKey::Integer(text) => return self.set_long_name(text),
            CallKey::Owned(owned) => return self.set_name(&owned.key),
        };
    }

    #[cold]
    fn set_long_name(&mut self, name: &str) {
        self.rare.get_or_insert_default().name = Some(name.into());
    }

    /// Of a connection of which more is known than its peer's address.
    #[cold]
    pub(crate) fn set_known(&mut self, known: &Arc<Known>) {
        self.rare.get_or_insert_default().known = Some(Arc::clone(known));
    }

    /// Of an attempt that says something beside the params.
    #[cold]
    pub(crate) fn set_meta(&mut self, meta: MetadataRef<'_>) {
        self.rare.get_or_insert_default().meta = Some(Arc::new(meta.to_metadata().into_owned()));
    }

    /// Which sending of the call reached the server first, from 1. Above 1 it means that earlier
    /// ones were lost, never that the handler has run before.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// When the caller stops waiting, if it said so; more than a year counts as a year. The execution is
    /// not cut off then: its outcome is recorded in any case.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The trace that the call belongs to (W3C Trace Context), as the caller sent it.
    #[must_use]
    pub fn traceparent(&self) -> Option<&str> {
        self.rare.as_ref()?.traceparent.as_deref()
    }

    /// What the caller says beside the params, by the attempt that is being run. It is no part of the call:
    /// another attempt may have said something else, and a handler that is run again after a crash
    /// ([`resumable`](crate::ServerBuilder::resumable)) finds nothing here.
    ///
    /// ```
    /// use redial_server::{Context, Server};
    ///
    /// let builder = Server::builder().query("greet", async |(): (), context: Context| {
    ///     Ok(match context.meta().get("locale") {
    ///         Some("fr") => "bonjour",
    ///         _ => "hello",
    ///     })
    /// });
    /// # builder.build()?;
    /// # Ok::<(), redial_server::BuildError>(())
    /// ```
    #[must_use]
    pub fn meta(&self) -> &Metadata {
        let meta = self.rare.as_ref().and_then(|rare| rare.meta.as_deref());
        meta.unwrap_or(&NOTHING_SAID)
    }

    /// The call's id, the same in every attempt and after a restart of the server: what to pass on as
    /// one's own idempotency key. `None` if the call has no id that names it: a notification, `null`,
    /// or an id of JSON-RPC 2.0 that is no UUID. A plain id is its [principal's](Self::principal), and
    /// another principal may have the same: a key that has to differ needs both.
    ///
    /// ```
    /// # use redial_server::{Abort, Context};
    /// # async fn charge(_: &str, _: u64) -> Result<u64, Abort> { Ok(1) }
    /// async fn pay((cents,): (u64,), context: Context) -> Result<u64, Abort> {
    ///     let key = context.call_id().ok_or_else(|| Abort::failed("the call needs an id"))?;
    ///     // A payment service that knows the key charges once, however often it is asked.
    ///     charge(&key, cents).await
    /// }
    /// ```
    #[must_use]
    pub fn call_id(&self) -> Option<String> {
        match self.name {
            ShortName::Session(call) => Some(CallKey::Session(call).to_string()),
            ShortName::Uuid(bytes) => Some(CallKey::Uuid(bytes).to_string()),
            ShortName::None => Some(self.rare.as_ref()?.name.as_ref()?.to_string()),
        }
    }

    /// The session that the call belongs to; `None` for a call with a plain id.
    #[must_use]
    pub fn session(&self) -> Option<SessionId> {
        match self.name {
            ShortName::Session(call) => Some(call.session),
            ShortName::Uuid(_) | ShortName::None => None,
        }
    }

    /// Where the attempt that is being run came from; `None` if the transport has no addresses.
    /// An IPv4 peer of an IPv6 listener has its IPv4 address.
    #[must_use]
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// Who calls: the principal of the connection that brought the attempt which is being run. `None` if
    /// it has none.
    #[must_use]
    pub fn principal(&self) -> Option<&Principal> {
        self.known()?.principal.as_ref()
    }

    /// What the program knows of that connection, by its type; see
    /// [`Server::serve_connection_with`](crate::Server::serve_connection_with).
    #[must_use]
    pub fn extension<T: Any>(&self) -> Option<&T> {
        self.known()?.extensions.as_ref()?.get()
    }

    fn known(&self) -> Option<&Known> {
        self.rare.as_ref()?.known.as_deref()
    }
}
