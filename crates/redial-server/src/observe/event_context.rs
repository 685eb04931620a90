//! What the events of an attempt say that is answered when its request is gone. Made only where something
//! observes.

use std::{net::SocketAddr, sync::Arc};

use redial_protocol::{ErrorCode, SessionId};

use super::{Event, EventKind};
use crate::caller::Known;

/// Of an attempt that is answered later.
#[derive(Clone, Debug, Default)]
pub(crate) struct EventContext {
    pub(crate) connection: Option<u64>,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) known: Option<Arc<Known>>,
    pub(crate) session: Option<SessionId>,
    pub(crate) traceparent: Option<Box<str>>,
}

impl EventContext {
    /// An event of the attempt, without the attempt's own name.
    pub(crate) fn event(&self, kind: EventKind) -> Event<'_> {
        Event {
            connection: self.connection,
            peer: self.peer,
            principal: self
                .known
                .as_ref()
                .and_then(|known| known.principal.as_ref()),
            session: self.session,
            traceparent: self.traceparent.as_deref(),
            ..Event::of(kind)
        }
    }
}

/// The code of an outcome that is an error, as it was encoded.
pub(crate) fn error_of(outcome: &[u8]) -> Option<ErrorCode> {
    let rest = outcome.strip_prefix(br#""error":{"code":"#)?;
    let is_of_number = |byte: &u8| byte.is_ascii_digit() || *byte == b'-';
    let end = rest.iter().position(|byte| !is_of_number(byte))?;
    let number: i32 = std::str::from_utf8(&rest[..end]).ok()?.parse().ok()?;
    Some(number.into())
}

#[cfg(test)]
mod tests {
    use redial_protocol::{ErrorObject, encode_error, encode_result};

    use super::*;

    /// Kind: an outcome that is taken for another. Instance: a result whose text begins as an error does.
    #[test]
    fn the_code_of_an_outcome_is_that_which_it_was_encoded_with() {
        for code in [-32000, -32603, 7, 0, i32::MIN, i32::MAX] {
            let mut outcome = Vec::new();
            encode_error(&mut outcome, &ErrorObject::raised(code.into(), "why"));
            assert_eq!(error_of(&outcome), Some(code.into()));
        }
        let mut outcome = Vec::new();
        encode_result(&mut outcome, &r#""error":{"code":7}"#).unwrap();
        assert_eq!(error_of(&outcome), None);
    }
}
