//! The record of a call: one line of JSON in the events file.

use redial_client::Executed;
use serde::Serialize;

/// What happened to one call.
#[derive(Clone, Debug, Serialize)]
pub struct CallRecord {
    /// The number of the call, from 0.
    pub call: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// When it started, in microseconds of Unix time.
    pub start_us: u64,
    /// When it ended, in microseconds of Unix time.
    pub end_us: u64,
    /// The counter's value after the call.
    pub value: Option<i64>,
    /// Whether the reply had been recorded for an earlier attempt, if the server says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replayed: Option<bool>,
    /// Why there is no value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// How often it was sent.
    #[serde(skip)]
    pub sendings: usize,
    /// How many of the attempts were hedges: copies sent because the call took long.
    #[serde(skip)]
    pub hedges: u32,
    /// Every attempt, in order; empty without an events file.
    pub attempts: Vec<AttemptRecord>,
}

/// What happened to one attempt.
#[derive(Clone, Debug, Serialize)]
pub struct AttemptRecord {
    /// Its id.
    pub id: String,
    /// Its number under that id, from 1.
    pub attempt: u32,
    /// Whether it was a hedge: a copy sent because the call took long.
    pub hedge: bool,
    /// When it was sent, in microseconds of Unix time.
    pub sent_us: u64,
    /// When it ended, in microseconds of Unix time.
    pub end_us: u64,
    /// How it ended, as named by `AttemptEnd::name`.
    pub end: &'static str,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// With a value.
    Ok,
    /// Certainly not executed.
    NotExecuted,
    /// With the handler's own error.
    Failed,
    /// Possibly executed.
    Unknown,
}

impl From<Executed> for Outcome {
    fn from(executed: Executed) -> Self {
        match executed {
            Executed::No => Self::NotExecuted,
            Executed::Yes => Self::Failed,
            Executed::Unknown => Self::Unknown,
        }
    }
}
