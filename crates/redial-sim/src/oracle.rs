//! The oracle: the rules of GUARANTEES.md, checked on a journal without a line of the client's or
//! the server's code. It knows what callers heard, what handlers did, and what went over the wires.
//!
//! Calls with plain ids get a smaller promise and are judged by it: one life of the server knows
//! them for its TTL after their end, and a copy of a refused request may run. Calls of sessions are
//! judged without exception.

mod acks;
mod answers;
mod claims;
mod endpoints;
mod goodbyes;
mod history;
mod once;
mod order;
mod replies;
mod sessions;
mod shared;
mod unknown;

use std::fmt;

use self::history::History;
use crate::world::Run;

/// A broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The rule.
    pub rule: &'static str,
    /// The call that it concerns, if it is one.
    pub tag: Option<u32>,
    /// What broke it.
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

/// Returns every broken rule of a world: none, if it kept all promises.
#[must_use]
pub fn judge(run: &Run) -> Vec<Violation> {
    let history = History::new(run);
    let mut found: Vec<_> = run.panics.iter().map(|panic| panicked(panic)).collect();
    once::check(&history, &mut found);
    claims::check(&history, &mut found);
    replies::check(&history, &mut found);
    order::check(&history, &mut found);
    acks::check(&history, &mut found);
    answers::check(&history, &mut found);
    sessions::check(&history, &mut found);
    goodbyes::check(&history, &mut found);
    unknown::check(&history, &mut found);
    shared::check(&history, &mut found);
    endpoints::check(&history, &mut found);
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
