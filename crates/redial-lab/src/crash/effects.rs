//! The effects that the lives of a server have left behind: in ledgers, or in a store.

use std::collections::{HashMap, HashSet};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::check::Violation;

/// The lives, counted from 1, in which each key was counted up, one for each effect.
#[derive(Default)]
pub(crate) struct Effects {
    pub(super) lives: HashMap<String, Vec<usize>>,
    /// The ids of the calls that had them, where they carry ids.
    ids: HashSet<String>,
    /// What is wrong about them, whatever the callers have heard.
    pub(super) violations: Vec<Violation>,
    count: u64,
}

/// One effect.
#[derive(Deserialize)]
pub(crate) struct Effect {
    pub(super) id: Option<String>,
    pub(super) key: String,
    pub(super) delta: i64,
}

impl Effects {
    /// Adds the ledger of one more life.
    pub(super) fn add(&mut self, life: usize, text: &str) -> Result<()> {
        // The kill may have come in the middle of a write. Then the counter had not changed yet, and
        // no caller had heard of it.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        for line in whole.lines() {
            let effect = serde_json::from_str(line).with_context(|| line.to_owned())?;
            self.push(life, effect)?;
        }
        Ok(())
    }

    /// Adds one effect of this life.
    pub(crate) fn push(&mut self, life: usize, effect: Effect) -> Result<()> {
        let Effect { id, key, delta } = effect;
        ensure!(delta == 1, "an effect of {delta} under {key}");
        if let Some(id) = id
            && !self.ids.insert(id.clone())
        {
            self.violations.push(Violation::SameId(id));
        }
        self.lives.entry(key).or_default().push(life);
        self.count += 1;
        Ok(())
    }

    /// Compares the counters with them: each has to be the sum of its effects.
    pub(crate) fn compare(&mut self, counters: &HashMap<String, i64>) {
        for (key, lives) in &self.lives {
            let value = counters.get(key).copied().unwrap_or(0);
            if usize::try_from(value) != Ok(lives.len()) {
                let violation = Violation::Sum(key.clone(), value, lives.len());
                self.violations.push(violation);
            }
        }
        let strays = counters
            .iter()
            .filter(|(key, _)| !self.lives.contains_key(*key))
            .map(|(key, value)| Violation::Sum(key.clone(), *value, 0));
        self.violations.extend(strays);
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }
}
