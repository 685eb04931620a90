//! What a power cut leaves of the calls whose effects lie outside the store, in a service that loses nothing: the
//! intent of each that has begun, and the outcome of each that was acknowledged.

use std::collections::{HashMap, HashSet};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::{
    check::{Broken, Found},
    record::Acknowledged,
    trace::{FileChange, SystemCall},
};

/// The file that stands for the service.
pub(crate) const LEDGER: &str = "ledger.jsonl";

/// An effect, as the service has it.
pub(crate) struct Outside {
    /// The system call by which it is there.
    pub(crate) at: usize,
    pub(crate) id: String,
}

#[derive(Deserialize)]
struct Line {
    id: Option<String>,
}

/// The effects that all lives have written to the service, in order.
pub(crate) fn effects(events: &[SystemCall]) -> Result<Vec<Outside>> {
    let mut effects = Vec::new();
    for (at, event) in events.iter().enumerate() {
        let FileChange::Append { path, data } = &event.what else {
            continue;
        };
        // A line that a kill has cut off counts for nothing, and a server writes each in one call.
        if path.ends_with(LEDGER) && data.ends_with(b"\n") {
            let line: Line = serde_json::from_slice(data).context("a line of the ledger")?;
            let id = line.id.context("an effect without the id of its call")?;
            effects.push(Outside { at, id });
        }
    }
    Ok(effects)
}

impl Found {
    /// What is broken, if these effects were there when the power was cut, and these calls acknowledged.
    pub(crate) fn broken_outside(
        &self,
        effects: &[Outside],
        acknowledged: &[Acknowledged],
        later: &[Acknowledged],
    ) -> Vec<Broken> {
        let in_use = Self::sessions_of(later);
        let mut broken = self.damage();
        for Acknowledged { id, value, .. } in acknowledged {
            match self.finished.get(id) {
                Some(found) if found == value => {}
                None if self.is_over(id, &in_use) => {}
                found => broken.push(Broken::Lost(id.clone(), found.map(|_| *value))),
            }
        }
        let mut counts: HashMap<&str, i64> = HashMap::new();
        for Outside { id, .. } in effects {
            *counts.entry(id).or_default() += 1;
        }
        for (id, count) in &counts {
            if *count > 1 {
                broken.push(Broken::Doubled((*id).to_owned(), *count));
            }
            if !self.recorded.contains(*id) && !self.is_over(id, &in_use) {
                broken.push(Broken::Unrecorded((*id).to_owned()));
            }
        }
        let ids: HashSet<_> = counts.into_keys().collect();
        let empty = self.finished.keys().filter(|id| !ids.contains(&***id));
        broken.extend(empty.map(|id| Broken::Empty(id.clone())));
        broken
    }
}
