//! The answer to a message that is refused.

use std::fmt;

use crate::{
    dialect::Dialect,
    error::{ErrorCode, ErrorObject},
    id::Id,
    text::cut,
};

/// A message that is refused, and what to answer. Nothing was executed.
#[derive(Debug)]
pub struct Rejection<'a> {
    /// How to spell the answer: as JSON-RPC 2.0 if the message doesn't show its dialect.
    pub dialect: Dialect,
    /// The id to answer with; null if none could be read.
    pub id: Id<'a>,
    /// The answer.
    pub error: ErrorObject,
    /// The message is a reply to what was not asked. It is not answered: a peer that has a call of its
    /// own in flight under that id would take the answer for the reply to it.
    pub is_reply: bool,
}

impl<'a> Rejection<'a> {
    /// -32700 with `detail`: what is wrong, and what was expected.
    pub(crate) fn parse_error(detail: impl fmt::Display) -> Self {
        Self::new(ErrorCode::PARSE_ERROR, detail)
    }

    /// -32600 with `detail`: what is wrong, and what was expected.
    pub(crate) fn invalid(detail: impl fmt::Display) -> Self {
        Self::new(ErrorCode::INVALID_REQUEST, detail)
    }

    /// A reply in the place of a request.
    pub(crate) fn reply() -> Self {
        Self {
            is_reply: true,
            ..Self::invalid("it is a reply, and nothing was asked; expected a request")
        }
    }

    /// What serde_json says of a text that is not JSON, or is JSON of another kind.
    pub(crate) fn not_json(error: &serde_json::Error) -> Self {
        if error.is_data() {
            Self::invalid(cut(&error.to_string()))
        } else {
            Self::parse_error(format_args!("not JSON: {}", cut(&error.to_string())))
        }
    }

    fn new(code: ErrorCode, detail: impl fmt::Display) -> Self {
        Self {
            dialect: Dialect::JsonRpc2,
            id: Id::NULL,
            error: ErrorObject::raised(code, detail),
            is_reply: false,
        }
    }

    /// The same rejection, spelled for this message.
    pub(crate) fn answered_as(mut self, dialect: Dialect, id: Option<Id<'a>>) -> Self {
        self.dialect = dialect;
        self.id = id.unwrap_or(Id::NULL);
        self
    }
}
