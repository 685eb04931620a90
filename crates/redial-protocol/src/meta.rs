//! Redial's own member of a message, `"redial"`: absent when it has nothing to say, so that peers who
//! have never heard of it don't see it.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize};

use crate::{
    json::{object::objects, string},
    metadata::{Metadata, MetadataRef},
    priority::Priority,
};

objects! {
    /// The `redial` member of a request.
    ///
    /// ```
    /// use redial_protocol::RequestMeta;
    ///
    /// let meta = RequestMeta { attempt: 2, ..RequestMeta::default() };
    /// assert_eq!(serde_json::to_string(&meta)?, r#"{"attempt":2}"#);
    /// assert!(RequestMeta::default().is_empty());
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    #[derive(Clone, Debug, PartialEq, Eq, Serialize)]
    pub struct RequestMeta<'a> {
        /// Which sending of the call this is, from 1; left out for the first.
        #[serde(default = "first", skip_serializing_if = "is_first")]
        pub attempt: u32,
        /// What is left of the caller's deadline, in milliseconds. Relative, so that the clocks of
        /// two machines are never compared.
        #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
        pub timeout_ms: Option<u64>,
        /// Every call below this number, of the session that the id belongs to, has been delivered to
        /// its caller.
        #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
        pub ack: Option<u64>,
        /// How much it matters that the call is served where not all can be; left out if it is the
        /// default.
        #[serde(default, skip_serializing_if = "Priority::is_default")]
        pub priority: Priority,
        /// The trace that the call belongs to (W3C Trace Context, section 3.2).
        #[serde(default, borrow, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
        pub traceparent: Option<Cow<'a, str>>,
        /// What the caller says beside the params.
        #[serde(default, borrow, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
        pub meta: Option<MetadataRef<'a>>,
    }
}

impl Default for RequestMeta<'_> {
    fn default() -> Self {
        Self {
            attempt: first(),
            timeout_ms: None,
            ack: None,
            priority: Priority::Default,
            traceparent: None,
            meta: None,
        }
    }
}

impl RequestMeta<'_> {
    /// Whether there is nothing to say, so that the member is left out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self {
            attempt,
            timeout_ms,
            ack,
            priority,
            traceparent,
            meta,
        } = self;
        is_first(attempt)
            && timeout_ms.is_none()
            && ack.is_none()
            && priority.is_default()
            && traceparent.is_none()
            && meta.is_none()
    }

    /// Appends it as `serde_json` would, which takes three times as long.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let mut separator = b'{';
        if self.attempt != first() {
            write_number(out, &mut separator, *br#" "attempt":"#, self.attempt.into());
        }
        if let Some(timeout_ms) = self.timeout_ms {
            write_number(out, &mut separator, *br#" "timeout_ms":"#, timeout_ms);
        }
        if let Some(ack) = self.ack {
            write_number(out, &mut separator, *br#" "ack":"#, ack);
        }
        if self.traceparent.is_some() || self.meta.is_some() || !self.priority.is_default() {
            self.write_texts(out, &mut separator);
        }
        if separator == b'{' {
            out.push(b'{');
        }
        out.push(b'}');
    }

    /// Out of line, since few requests have any.
    #[cold]
    fn write_texts(&self, out: &mut Vec<u8>, separator: &mut u8) {
        if !self.priority.is_default() {
            write_name(out, separator, *br#" "priority":"#);
            string::write(out, self.priority.name());
        }
        if let Some(traceparent) = &self.traceparent {
            write_name(out, separator, *br#" "traceparent":"#);
            string::write(out, traceparent);
        }
        if let Some(meta) = self.meta {
            write_name(out, separator, *br#" "meta":"#);
            write_metadata(out, &meta.to_metadata());
        }
    }
}

fn write_metadata(out: &mut Vec<u8>, metadata: &Metadata) {
    let mut separator = b'{';
    for (key, value) in metadata.iter() {
        out.push(std::mem::replace(&mut separator, b','));
        string::write(out, key);
        out.push(b':');
        string::write(out, value);
    }
    if metadata.is_empty() {
        out.push(b'{');
    }
    out.push(b'}');
}

/// Appends a member's name, whose first byte stands for the brace or the comma before it. Inline, so
/// that its length is known.
#[inline(always)]
fn write_name<const N: usize>(out: &mut Vec<u8>, separator: &mut u8, mut name: [u8; N]) {
    name[0] = std::mem::replace(separator, b',');
    out.extend_from_slice(&name);
}

#[inline(always)]
fn write_number<const N: usize>(out: &mut Vec<u8>, separator: &mut u8, name: [u8; N], number: u64) {
    write_name(out, separator, name);
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

objects! {
    /// The `redial` member of a reply.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
    pub struct ReplyMeta {
        /// The reply was recorded by an earlier attempt and is sent again. Left out if the server
        /// doesn't say, which is not the same as no.
        #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
        pub replayed: Option<bool>,
        /// Which attempt of a session's call is refused, so that a refusal that comes twice is not
        /// taken for that of a later attempt. Left out of all other replies.
        #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
        pub attempt: Option<u32>,
    }
}

/// A member that is there has a value: `null` is of the wrong type.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

fn first() -> u32 {
    1
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_first(attempt: &u32) -> bool {
    *attempt == first()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_written_as_serde_json_writes_it(
            attempt: u32,
            timeout_ms: Option<u64>,
            ack: Option<u64>,
            priority in prop::sample::select(&Priority::ALL[..]),
            traceparent in prop::option::of(".{0,9}"),
            entries in prop::option::of(prop::collection::vec((".{1,9}", ".{0,9}"), 0..4)),
        ) {
            let meta = entries.map(|entries| {
                let mut metadata = Metadata::new();
                for (key, value) in entries {
                    metadata.insert(&key, &value).unwrap();
                }
                metadata
            });
            let meta = meta.as_ref().map(MetadataRef::from);
            let attempt = attempt % 3;
            let traceparent = traceparent.map(Cow::Owned);
            let meta = RequestMeta { attempt, timeout_ms, ack, priority, traceparent, meta };
            let mut out = Vec::new();
            meta.write(&mut out);
            let expected = serde_json::to_string(&meta).unwrap();
            prop_assert_eq!(std::str::from_utf8(&out).unwrap(), expected);
            if attempt > 0 {
                prop_assert_eq!(serde_json::from_slice::<RequestMeta<'_>>(&out).unwrap(), meta);
            }
        }
    }
}
