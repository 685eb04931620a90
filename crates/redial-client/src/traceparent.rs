//! The `traceparent` of W3C Trace Context: its form, and those that the client names itself.

/// Whether it has the form of W3C Trace Context.
pub(crate) fn is_traceparent(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let is_hex = |part: &str| {
        part.bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    parts.iter().map(|part| part.len()).eq([2, 32, 16, 2]) && parts.iter().all(|part| is_hex(part))
}

#[cfg(feature = "tracing")]
pub(crate) use self::trace::{Trace, draw_span_id};

#[cfg(feature = "tracing")]
mod trace {
    use rand::Rng;

    /// The trace that a call is in.
    pub(crate) struct Trace {
        pub(crate) id: String,
        flags: String,
        /// The span that the call is below, if it is in the trace of another.
        pub(crate) parent: Option<String>,
    }

    impl Trace {
        /// The one that a `traceparent` names, or a new one.
        pub(crate) fn of(traceparent: Option<&str>, ids: &mut impl Rng) -> Self {
            let mut parts = traceparent.unwrap_or_default().split('-').skip(1);
            match (parts.next(), parts.next(), parts.next()) {
                (Some(id), Some(parent), Some(flags)) => Self {
                    id: id.to_owned(),
                    flags: flags.to_owned(),
                    parent: Some(parent.to_owned()),
                },
                _ => {
                    let high = u128::from(ids.next_u64().max(1));
                    Self {
                        id: format!("{:032x}", high << 64 | u128::from(ids.next_u64())),
                        flags: "01".to_owned(),
                        parent: None,
                    }
                }
            }
        }

        /// The `traceparent` of a span in it.
        pub(crate) fn traceparent(&self, span: &str) -> String {
            format!("00-{}-{span}-{}", self.id, self.flags)
        }
    }

    /// An id for a span.
    pub(crate) fn draw_span_id(ids: &mut impl Rng) -> String {
        format!("{:016x}", ids.next_u64().max(1))
    }
}
