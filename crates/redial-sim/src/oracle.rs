//! The oracle: what must be true of a record, said without a line of the client's or the server's
//! code. It knows what callers were told, what the handlers did, and what went over the wires.
//!
//! Calls with plain ids have a smaller promise, and are judged by it: the server knows them again
//! for its TTL after their end and within one of its lives, and what was refused may run if
//! something copies requests. Calls of sessions are judged without exception.

mod acks;
mod answers;
mod books;
mod claims;
mod once;
mod order;
mod replies;

use std::fmt;

use self::books::Books;
use crate::world::Run;

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which rule.
    pub rule: &'static str,
    /// Which call, if it is one call's.
    pub tag: Option<u32>,
    /// What was found.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.rule)?;
        if let Some(tag) = self.tag {
            write!(f, "call {tag}: ")?;
        }
        f.write_str(&self.detail)
    }
}

/// Says what was wrong in a world; nothing, if it kept all promises.
#[must_use]
pub fn judge(run: &Run) -> Vec<Violation> {
    let books = Books::new(run);
    let mut found: Vec<_> = run.panics.iter().map(|panic| panicked(panic)).collect();
    once::check(&books, &mut found);
    claims::check(&books, &mut found);
    replies::check(&books, &mut found);
    order::check(&books, &mut found);
    acks::check(&books, &mut found);
    answers::check(&books, &mut found);
    found
}

fn panicked(panic: &str) -> Violation {
    Violation {
        rule: "nothing panics",
        tag: None,
        detail: panic.to_owned(),
    }
}

fn violation(rule: &'static str, tag: u32, detail: impl Into<String>) -> Violation {
    Violation {
        rule,
        tag: Some(tag),
        detail: detail.into(),
    }
}

#[cfg(test)]
mod tests;
