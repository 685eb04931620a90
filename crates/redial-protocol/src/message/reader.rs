//! A reader that has seen the messages before.

use super::{Incoming, Rejection, text};
use crate::{
    limits::Limits,
    scan::{self, RequestTemplate},
};

/// Reads the messages of one peer. As [`Incoming::parse`], and quicker where messages are spelled
/// like those before, as the requests of one program mostly are.
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
    habit: RequestTemplate,
}

impl RequestReader {
    /// A reader that has seen no message yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            habit: RequestTemplate::default(),
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
        if let Some(request) = self.habit.request(text, self.limits.max_depth) {
            return Ok(Incoming::Request(request));
        }
        self.read_otherwise(text)
    }

    #[inline(never)]
    fn read_otherwise<'a>(&mut self, text: &'a str) -> Result<Incoming<'a>, Rejection<'a>> {
        match scan::request(text, self.limits.max_depth) {
            Some(request) => {
                self.habit.learn(text, &request, self.limits.max_depth);
                Ok(Incoming::Request(request))
            }
            None => Incoming::parse_unusual(text, &self.limits),
        }
    }
}
