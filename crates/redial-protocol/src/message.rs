//! What a frame to a server holds: a request, a notification or a batch, in either dialect.
//!
//! The rules are those of JSON-RPC 2.0 and, beyond it, of Redial: an [`Id`](crate::Id) is a string,
//! an integer or null, duplicate members are refused, nesting is bounded, and a request without a
//! `jsonrpc` member is one of the notebook dialect.

use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::{
    json::{self, template::RequestTemplate},
    limits::Limits,
    rejection::Rejection,
    request::Request,
    text::cut,
};

/// What one frame holds.
#[derive(Debug)]
pub enum Incoming<'a> {
    /// One request or notification.
    Request(Request<'a>),
    /// An array of them.
    Batch(Batch<'a>),
}

impl<'a> Incoming<'a> {
    /// Reads one frame. For many frames of one peer, [`RequestReader`] is quicker.
    ///
    /// ```
    /// use redial_protocol::{ErrorCode, Incoming, Limits};
    ///
    /// let frame = br#"{"jsonrpc":"2.0","id":1.5,"method":"get"}"#;
    /// let rejection = Incoming::parse(frame, &Limits::default()).unwrap_err();
    /// assert_eq!(rejection.error.code, ErrorCode::INVALID_REQUEST);
    /// ```
    ///
    /// # Errors
    ///
    /// [`Rejection`] with -32700 if the frame is not JSON in UTF-8 or nests too deep, and with
    /// -32600 if it is JSON but neither a request nor a batch of 1 to
    /// [`max_batch_entries`](Limits::max_batch_entries) entries.
    pub fn parse(frame: &'a [u8], limits: &Limits) -> Result<Self, Rejection<'a>> {
        let text = text(frame)?;
        match json::request::read(text, limits.max_depth) {
            Some(request) => Ok(Self::Request(request)),
            None => Self::parse_slowly(text, limits),
        }
    }

    /// Reads a message of any spelling, or says what is wrong.
    fn parse_slowly(text: &'a str, limits: &Limits) -> Result<Self, Rejection<'a>> {
        if !json::depth::is_within(text, limits.max_depth) {
            return Err(Rejection::parse_error(format_args!(
                "nested more than {0} deep; at most {0} levels are allowed",
                limits.max_depth
            )));
        }
        match text.trim_ascii_start().as_bytes().first() {
            Some(b'{') => Request::parse(text).map(Self::Request),
            Some(b'[') => Batch::parse(text, limits).map(Self::Batch),
            _ => Err(not_a_message(text)),
        }
    }
}

#[inline]
fn text(frame: &[u8]) -> Result<&str, Rejection<'_>> {
    simdutf8::basic::from_utf8(frame).map_err(|_| {
        // This error doesn't say where.
        let at = std::str::from_utf8(frame).map_or_else(|error| error.valid_up_to(), str::len);
        Rejection::parse_error(format_args!(
            "not UTF-8 at byte {at}; expected JSON in UTF-8"
        ))
    })
}

fn not_a_message(text: &str) -> Rejection<'_> {
    match serde_json::from_str::<IgnoredAny>(text) {
        Ok(_) => Rejection::invalid(format_args!(
            "the message is {}; expected an object or an array of objects",
            cut(text)
        )),
        Err(error) => Rejection::not_json(&error),
    }
}

/// An array of requests. Each entry is read on its own, so that a bad one spoils only itself.
#[derive(Debug)]
pub struct Batch<'a> {
    entries: Vec<&'a RawValue>,
}

impl<'a> Batch<'a> {
    fn parse(text: &'a str, limits: &Limits) -> Result<Self, Rejection<'a>> {
        let entries: Vec<&RawValue> =
            serde_json::from_str(text).map_err(|error| Rejection::not_json(&error))?;
        let max = limits.max_batch_entries;
        match entries.len() {
            0 => Err(Rejection::invalid(
                "an empty batch; expected 1 or more requests",
            )),
            found if found > max => Err(Rejection::invalid(format_args!(
                "a batch of {found} requests; at most {max} are allowed"
            ))),
            _ => Ok(Self { entries }),
        }
    }

    /// How many entries there are; never 0.
    #[must_use]
    #[expect(
        clippy::len_without_is_empty,
        reason = "an empty batch is refused, so none exists"
    )]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The entries in their order: each a request, or what to answer to an entry that isn't one.
    pub fn requests(&self) -> impl Iterator<Item = Result<Request<'a>, Rejection<'a>>> {
        self.entries
            .iter()
            .map(|entry| match entry.get().as_bytes() {
                [b'{', ..] => Request::parse(entry.get()),
                _ => Err(Rejection::invalid(format_args!(
                    "an entry of the batch is {}; expected an object",
                    cut(entry.get())
                ))),
            })
    }
}

/// Reads the messages of one client: as [`Incoming::parse`], and quicker where a request is spelled
/// like the one before it, as the requests of one program mostly are.
///
/// ```
/// use redial_protocol::{Incoming, Limits, RequestReader};
///
/// let mut reader = RequestReader::new(Limits::default());
/// for key in ["a", "b"] {
///     let frame = format!(r#"{{"id":7,"method":"get","params":["{key}"]}}"#);
///     let Ok(Incoming::Request(request)) = reader.read(frame.as_bytes()) else { panic!() };
///     assert_eq!(request.method, "get");
/// }
/// ```
#[derive(Clone, Debug)]
pub struct RequestReader {
    limits: Limits,
    template: RequestTemplate,
}

impl RequestReader {
    /// A reader that has seen no message yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            template: RequestTemplate::default(),
        }
    }

    /// Reads one frame.
    ///
    /// # Errors
    ///
    /// As [`Incoming::parse`].
    #[inline]
    pub fn read<'a>(&mut self, frame: &'a [u8]) -> Result<Incoming<'a>, Rejection<'a>> {
        let text = text(frame)?;
        if let Some(request) = self.template.read(text, self.limits.max_depth) {
            return Ok(Incoming::Request(request));
        }
        self.read_other(text)
    }

    #[inline(never)]
    fn read_other<'a>(&mut self, text: &'a str) -> Result<Incoming<'a>, Rejection<'a>> {
        let max_depth = self.limits.max_depth;
        match json::request::read(text, max_depth) {
            Some(request) => {
                self.template.learn(text, &request, max_depth);
                Ok(Incoming::Request(request))
            }
            None => Incoming::parse_slowly(text, &self.limits),
        }
    }
}

#[cfg(test)]
mod tests;
