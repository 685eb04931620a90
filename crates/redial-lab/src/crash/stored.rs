//! The effects in a server's store, read as any program reads an SQLite file.

use std::{collections::HashMap, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use rusqlite::{Connection, OpenFlags};
use serde::Serialize;

use super::{
    effects::{Effect, Effects},
    excuse::Excuse,
};
/// What kind of method `inc` is on a server with a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum IncKind {
    /// The counters lie in the store: effect and record are one transaction
    #[default]
    Transaction,
    /// The counters lie outside: a call that a kill interrupts is not run again, and its caller hears so
    Mutation,
    /// The counters lie outside and honour the call's id: an interrupted call is run again
    Resumable,
}

impl IncKind {
    /// Its name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Transaction => "transaction",
            Self::Mutation => "mutation",
            Self::Resumable => "resumable",
        }
    }

    /// What may keep a call with this deadline from being settled.
    pub(crate) fn excuse(self, deadline: Duration) -> Excuse {
        match self {
            Self::Transaction | Self::Resumable => Excuse::Deadline(deadline),
            Self::Mutation => Excuse::Interrupted(deadline),
        }
    }
}

/// Reads the tables `effects` and `counters` of a store whose server has ended.
pub(super) fn effects(file: &Path) -> Result<Effects> {
    read(file).with_context(|| format!("the store {}", file.display()))
}

fn read(file: &Path) -> Result<Effects> {
    // Not read-only: what a killed server has left in the `-wal` belongs to the file.
    let store = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let check: String = store.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
    ensure!(check == "ok", "it is damaged: {check}");
    let mut effects = Effects::default();
    let mut rows = store.prepare("SELECT id, key, delta FROM effects")?;
    let rows = rows.query_map([], |row| {
        Ok(Effect {
            id: row.get(0)?,
            key: row.get(1)?,
            delta: row.get(2)?,
        })
    })?;
    for effect in rows {
        // All lives write to one table, so it says no more than that there was one.
        effects.push(1, effect?)?;
    }
    let mut rows = store.prepare("SELECT key, value FROM counters")?;
    let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    effects.compare(&rows.collect::<Result<HashMap<_, _>, _>>()?);
    Ok(effects)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Deviations between the two tables, and an id that counted twice, whatever the callers heard.
    #[test]
    fn a_counter_that_is_not_the_sum_of_its_effects_is_caught() {
        let folder = std::env::temp_dir().join(format!("redial-lab-stored-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("c.db");
        let store = Connection::open(&file).unwrap();
        let sql = "CREATE TABLE counters (key TEXT PRIMARY KEY, value INTEGER NOT NULL);
             CREATE TABLE effects (id TEXT, key TEXT, delta INTEGER, value INTEGER);
             INSERT INTO counters VALUES ('a', 1), ('b', 1), ('c', 1);
             INSERT INTO effects VALUES ('1', 'a', 1, 1), ('2', 'b', 1, 1), ('3', 'c', 1, 1);";
        store.execute_batch(sql).unwrap();
        let exact = effects(&file).unwrap();
        assert_eq!((exact.count(), exact.violations), (3, Vec::new()));
        let sql =
            "DELETE FROM effects WHERE key = 'a'; UPDATE counters SET value = 2 WHERE key = 'b';
             INSERT INTO effects VALUES ('3', 'c', 1, 1);";
        store.execute_batch(sql).unwrap();
        let mut found: Vec<_> = effects(&file).unwrap().violations;
        found.sort_by_key(ToString::to_string);
        let found: Vec<_> = found.iter().map(ToString::to_string).collect();
        let expected = [
            "3: the id of more effects than one",
            "a: the counter is 1, and has 0 effects",
            "b: the counter is 2, and has 1 effects",
            "c: the counter is 1, and has 2 effects",
        ];
        assert_eq!(found, expected);
        drop(store);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
