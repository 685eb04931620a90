//! What is kept of each call, and written as one line of JSON.

use redial_client::Executed;
use serde::Serialize;

/// What became of one call.
#[derive(Clone, Debug, Serialize)]
pub struct CallRecord {
    /// Which call, from 0.
    pub call: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// When it began, in microseconds of Unix time.
    pub start_us: u64,
    /// When it ended, in microseconds of Unix time.
    pub end_us: u64,
    /// The counter's value as the call left it.
    pub value: Option<i64>,
    /// Whether it had been recorded for an earlier attempt, if the server says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replayed: Option<bool>,
    /// Why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// How often it was sent.
    #[serde(skip)]
    pub sendings: usize,
    /// How many of them were copies that went out because the call took long.
    #[serde(skip)]
    pub hedges: u32,
    /// Every sending, in order; left empty where nobody is to read them.
    pub attempts: Vec<AttemptRecord>,
}

/// What became of one attempt.
#[derive(Clone, Debug, Serialize)]
pub struct AttemptRecord {
    /// The id that it carried.
    pub id: String,
    /// Which attempt of that id, from 1.
    pub attempt: u32,
    /// Whether it was a copy that went out because the call took long.
    pub hedge: bool,
    /// When it was sent, in microseconds of Unix time.
    pub sent_us: u64,
    /// When it was no longer waited for in particular, in microseconds of Unix time.
    pub end_us: u64,
    /// Why not, as `AttemptEnd::name` has it.
    pub end: &'static str,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// With a value.
    Ok,
    /// Certainly without effect.
    NotExecuted,
    /// With the handler's own error.
    Failed,
    /// Nobody knows.
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
