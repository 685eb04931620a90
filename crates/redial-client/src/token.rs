//! Tokens: what identifies a call beyond the life of its future, and of its process.

use std::sync::{
    Arc, Weak,
    atomic::{AtomicBool, Ordering},
};

use redial_protocol::{SessionCall, deserialize_object};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::shared::Shared;

/// Identifies a call beyond the life of its future and its process: what it takes to ask for its
/// outcome ([`Client::resolve`](crate::Client::resolve)) or to send the very same call again
/// ([`Client::resume`](crate::Client::resume)). It can be kept as JSON, before the call is sent
/// ([`Call::token`](crate::Call::token)) or after it ended as *unknown*.
///
/// While a token of a call without outcome lives, the server keeps its record of the call, for as
/// long as the session lives. When the last clone is dropped, or the call has an outcome, the
/// record goes.
///
/// **Serialising a token keeps the record**, whatever happens to the call, because the token then
/// lives where this process doesn't see it: a program that dies after the call has ended and before
/// it has stored the outcome asks again when it restarts, and gets the same answer. The record goes
/// with [`Client::forget`](crate::Client::forget), or with the session's lease.
///
/// A token names the [table](crate::EndpointStats::table) that knows its call: a client of several
/// addresses asks no other server.
///
/// Records are kept for so many tokens as
/// [`Config::max_retained_calls`](crate::Config::max_retained_calls) says. Beyond that the call that
/// ended first is let go, even if a token of it lives: resolving it ends as *unknown*.
#[derive(Clone, Debug)]
pub struct CallToken {
    /// The call's id.
    pub id: Uuid,
    /// The method's name.
    pub method: String,
    /// The params, byte for byte: the server compares a fingerprint of them.
    pub params: Option<Box<RawValue>>,
    /// The table that knows the call, if that is known.
    pub(crate) table: Option<Box<str>>,
    pub(crate) retention: Option<Arc<Retention>>,
}

/// What [`CallError::Unknown`](crate::CallError::Unknown) holds.
impl From<Box<CallToken>> for CallToken {
    fn from(token: Box<CallToken>) -> Self {
        *token
    }
}

impl Serialize for CallToken {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Members<'a> {
            id: Uuid,
            method: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            params: Option<&'a RawValue>,
            #[serde(skip_serializing_if = "Option::is_none")]
            table: Option<&'a str>,
        }
        if let Some(retention) = &self.retention {
            retention.is_exported.store(true, Ordering::Relaxed);
        }
        let members = Members {
            id: self.id,
            method: &self.method,
            params: self.params.as_deref(),
            table: self.table.as_deref(),
        };
        members.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for CallToken {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Members {
            id: Uuid,
            method: String,
            #[serde(default)]
            params: Option<Box<RawValue>>,
            #[serde(default)]
            table: Option<Box<str>>,
        }
        let Members {
            id,
            method,
            params,
            table,
        } = deserialize_object(deserializer)?;
        Ok(Self {
            id,
            method,
            params,
            table,
            retention: None,
        })
    }
}

/// Keeps the number of a call from being acknowledged while a token of the call lives.
#[derive(Debug)]
pub(crate) struct Retention {
    shared: Weak<Shared>,
    call: SessionCall,
    is_exported: AtomicBool,
}

impl Retention {
    /// Retains a number in a session of this client; `is_exported` if its token has been serialised
    /// before. Not to be dropped under the client's lock.
    pub(crate) fn new(shared: &Arc<Shared>, call: SessionCall, is_exported: bool) -> Arc<Self> {
        Arc::new(Self {
            shared: Arc::downgrade(shared),
            call,
            is_exported: is_exported.into(),
        })
    }

    /// Whether a token was serialised, so that the record is kept until the program forgets it.
    pub(crate) fn is_exported(&self) -> bool {
        self.is_exported.load(Ordering::Relaxed)
    }

    /// Whether there are other tokens than the one that holds this reference.
    pub(crate) fn has_others(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) > 1 || self.is_exported()
    }
}

impl Drop for Retention {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.with(|state| {
                let is_exported = self.is_exported();
                state.mux.drop_token(self.call, is_exported);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Foreign objects read by position.
    #[test]
    fn a_stored_token_is_an_object() {
        let id = "12345678-9abc-8def-8000-000000000007";
        let token = format!(r#"{{"id":"{id}","method":"inc","params":[1, 2]}}"#);
        let token: CallToken = serde_json::from_str(&token).unwrap();
        assert_eq!(token.params.unwrap().get(), "[1, 2]");
        let array = format!(r#"["{id}","inc",[1, 2]]"#);
        let error = serde_json::from_str::<CallToken>(&array).unwrap_err();
        assert!(error.to_string().contains("expected an object"), "{error}");
    }
}
