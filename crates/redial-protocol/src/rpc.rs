//! The methods of the protocol itself: their names, params and results.
//!
//! Any JSON-RPC client may call them; Redial's does so by itself.

mod sight;

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize, de::Error};
use serde_json::value::RawValue;

pub use self::sight::{
    DRAINING, HEALTH, Health, MethodTimes, Refusals, STATS, STORE_FAILING, ServerStats,
};
use crate::{
    auth_token::AuthToken, error::ErrorObject, json::object::objects, session::SessionId, text::cut,
};

/// Answers `"pong"`, past every queue.
pub const PING: &str = "rpc.ping";

/// Answers an OpenRPC document of the server's methods.
pub const DISCOVER: &str = "rpc.discover";

/// Looks at the fault rules of a server and changes them, where its program lets the caller: takes
/// `{"clear": bool, "add": [rule, ...]}`, answers `{"rules": [rule, ...]}`.
pub const FAULTS: &str = "rpc.faults";

/// Opens a session, or attaches a connection to one: takes [`HelloParams`], answers [`Hello`].
/// A peer that answers -32601 has no sessions.
pub const HELLO: &str = "rpc.hello";

/// Shows who calls: takes [`AuthParams`], answers [`Authenticated`]. A peer that answers -32601 doesn't
/// ask for tokens.
pub const AUTH: &str = "rpc.auth";

/// Acknowledges calls outside a request: takes [`AckParams`], answers `true`. Meant to be a
/// notification.
pub const ACK: &str = "rpc.ack";

/// Says that a session is needed no longer: takes [`GoodbyeParams`], answers `true`. Meant to be a
/// notification.
pub const GOODBYE: &str = "rpc.goodbye";

/// Asks for the outcome of a call: takes [`CallParams`], answers [`Resolution`].
pub const RESOLVE: &str = "rpc.resolve";

/// Cancels a call whose handler has not begun: takes [`CallParams`], answers [`Cancellation`]. Meant
/// to be a notification.
pub const CANCEL: &str = "rpc.cancel";

/// A server that shuts down says so, in a notification to connections that said hello: takes
/// [`GoAway`].
pub const GOAWAY: &str = "rpc.goaway";

objects! {
    /// What `rpc.goaway` takes.
    ///
    /// ```
    /// use redial_protocol::rpc::GoAway;
    ///
    /// let params: GoAway = serde_json::from_str(r#"{"last":true}"#)?;
    /// assert!(params.last);
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
    pub struct GoAway {
        /// This is the last frame of the connection, and every request that was read from it has
        /// been answered: one that has no reply was not read.
        #[serde(default)]
        pub last: bool,
        /// Of each session of the connection, the calls that the server knows all the same, since
        /// copies of them came on other connections. The others are not executed.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pub known: Vec<KnownCalls>,
    }

    /// Calls of a session that run or have run.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize)]
    pub struct KnownCalls {
        /// The session.
        pub session: SessionId,
        /// From the first number of a pair up to, but not including, the second; they ascend.
        #[serde(default)]
        pub calls: Vec<(u64, u64)>,
    }

    /// What `rpc.hello` takes. Without a session it asks for one.
    ///
    /// ```
    /// use redial_protocol::rpc::HelloParams;
    ///
    /// let open: HelloParams = serde_json::from_str("{}")?;
    /// assert_eq!(open.session, None);
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
    pub struct HelloParams #[serde(deny_unknown_fields)] {
        /// The session to attach the connection to. An unknown one is answered with -32004.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub session: Option<SessionId>,
        /// Shows who calls, where the server asks for that.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub token: Option<AuthToken>,
    }
}

objects! {
    /// What `rpc.auth` takes.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize)]
    pub struct AuthParams #[serde(deny_unknown_fields)] {
        /// Shows who calls.
        pub token: AuthToken,
    }
}

objects! {
    /// What `rpc.auth` answers.
    ///
    /// ```
    /// use redial_protocol::rpc::Authenticated;
    ///
    /// let text = r#"{"principal":"token:billing","expires_ms":60000}"#;
    /// let authenticated: Authenticated = serde_json::from_str(text)?;
    /// assert_eq!(authenticated.principal, "token:billing");
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    #[derive(Clone, Debug, PartialEq, Eq, Serialize)]
    pub struct Authenticated<'a> {
        /// Who the caller is to the server.
        #[serde(borrow)]
        pub principal: Cow<'a, str>,
        /// How long the token counts, in milliseconds, if it expires.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub expires_ms: Option<u64>,
    }
}

objects! {
    /// What `rpc.goodbye` takes: a session that its client needs no longer. It is forgotten with all
    /// its records when its last connection ends, and not only with its lease.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
    pub struct GoodbyeParams #[serde(deny_unknown_fields)] {
        /// The session.
        pub session: SessionId,
    }
}

objects! {
    /// What `rpc.hello` answers.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize)]
    pub struct Hello<'a> {
        /// The session.
        pub session: SessionId,
        /// Which table of calls it is a session of: another text after a restart of a server whose
        /// table is in memory.
        #[serde(borrow)]
        pub table: Cow<'a, str>,
        /// How long the session outlives its last connection, in milliseconds.
        pub lease_ms: u64,
        /// The largest frame that the server takes, in bytes without its header.
        pub max_frame: u64,
        /// How many calls of the session may be unacknowledged at once: the window.
        pub max_in_flight: u64,
        /// How long the token counts that came with the hello, in milliseconds, if it expires.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub expires_ms: Option<u64>,
    }
}

objects! {
    /// What `rpc.ack` takes: which calls of a session their caller acknowledges, for good.
    ///
    /// A request carries `ack` itself, as `"redial": {"ack": n}`. `above` is for calls that are
    /// acknowledged before an earlier one is, so that one slow call does not pin the records of all that
    /// came after it.
    ///
    /// ```
    /// use redial_protocol::rpc::AckParams;
    ///
    /// let text = r#"{"session":"123456789abcdef","ack":7,"above":[[8,512]]}"#;
    /// let params: AckParams = serde_json::from_str(text)?;
    /// assert_eq!((params.ack, params.above), (7, vec![(8, 512)]));
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    #[derive(Clone, Debug, PartialEq, Eq, Serialize)]
    pub struct AckParams #[serde(deny_unknown_fields)] {
        /// The session.
        pub session: SessionId,
        /// Every call below this number.
        #[serde(default)]
        pub ack: u64,
        /// And every call from the first number of a pair up to, but not including, the second. The pairs
        /// ascend and don't overlap. A pair that begins beyond the window is refused with -32001, and so
        /// are those after it; those before it count.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pub above: Vec<(u64, u64)>,
    }
}

objects! {
    /// What `rpc.resolve` and `rpc.cancel` take: the id of the call, if it is a string. An id that is an
    /// integer is given as an integer.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize)]
    pub struct CallParams<'a> #[serde(deny_unknown_fields)] {
        /// The id.
        #[serde(borrow)]
        pub id: Cow<'a, str>,
    }
}

objects! {
    /// What `rpc.resolve` answers. It waits for a call that is running.
    ///
    /// ```
    /// use redial_protocol::rpc::{Resolution, State};
    ///
    /// let text = r#"{"state":"done","result":{"value":1}}"#;
    /// let resolution: Resolution = serde_json::from_str(text)?;
    /// assert_eq!(resolution.state, State::Done);
    /// assert_eq!(resolution.result.unwrap().get(), r#"{"value":1}"#);
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    #[derive(Clone, Debug, Serialize)]
    pub struct Resolution {
        /// What happened to the call; never [`Running`](State::Running).
        pub state: State,
        /// If it is done: the result, as it was recorded.
        #[serde(
            default,
            deserialize_with = "present",
            skip_serializing_if = "Option::is_none"
        )]
        pub result: Option<Box<RawValue>>,
        /// If it is done: the handler's error, as it was recorded.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub error: Option<ErrorObject>,
    }
}

objects! {
    /// What `rpc.cancel` answers.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
    pub struct Cancellation {
        /// What happened to the call.
        pub state: State,
    }
}

/// What happened to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It was executed, and its outcome is on record.
    Done,
    /// Its handler has begun, and goes on.
    Running,
    /// It was not executed and never will be: its id is fenced.
    Never,
}

impl<'de> Deserialize<'de> for State {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // A derived deserialiser would take `{"never":null}`, too.
        match &*Cow::<str>::deserialize(deserializer)? {
            "done" => Ok(Self::Done),
            "running" => Ok(Self::Running),
            "never" => Ok(Self::Never),
            other => Err(D::Error::unknown_variant(
                cut(other),
                &["done", "running", "never"],
            )),
        }
    }
}

/// A member that is `null` is present: a result may be `null`.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Deserialize::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_null_is_a_result() {
        let read = |text| serde_json::from_str::<Resolution>(text).unwrap();
        let null = read(r#"{"state":"done","result":null}"#);
        assert_eq!(null.result.unwrap().get(), "null");
        let never = read(r#"{"state":"never"}"#);
        assert!((never.state, never.result.is_none()) == (State::Never, true));
        let error = read(r#"{"state":"done","error":{"code":-32000,"message":"no"}}"#);
        assert_eq!(i32::from(error.error.unwrap().code), -32000);
    }

    #[test]
    fn a_misspelt_param_is_named() {
        let error = serde_json::from_str::<HelloParams>(r#"{"sesion":"1"}"#).unwrap_err();
        assert!(error.to_string().contains("sesion"), "{error}");
    }
}
