//! What is left of a storm, for tables and pictures.

use serde::Serialize;

use super::{call_ledger::Count, figures::Figure, fleet::Fleet, series::Series};

/// What is left of a storm.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StormRecord {
    /// Which storm it was.
    pub letter: char,
    /// What happened in it.
    pub title: &'static str,
    /// To whom.
    pub fleet: Fleet,
    /// What decided everything random.
    pub seed: u64,
    /// How long it lasted, in its own time, until nothing ran any more.
    pub lasted_s: f64,
    /// What happened when.
    pub marks: Vec<Mark>,
    /// What it is judged by.
    pub figures: Vec<Figure>,
    /// What its calls came to.
    pub count: Count,
    /// What the oracle found wrong.
    pub violations: Vec<String>,
    /// How it went.
    pub series: Series,
}

/// Something that happened for a while.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Mark {
    /// Its beginning, in seconds since that of the storm.
    pub from_s: f64,
    /// Its end.
    pub until_s: f64,
    /// What happened.
    pub text: String,
}
