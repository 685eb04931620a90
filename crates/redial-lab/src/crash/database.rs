//! The effects in a PostgreSQL database, read with `psql`.

use std::{collections::HashMap, process::Command};

use anyhow::{Context, Result, ensure};
use redial_store_tests::postgres::binaries;
use serde::Deserialize;

use super::effects::{Effect, Effects};

/// The tables `effects` and `counters` of the counters' database.
pub(crate) fn effects(url: &str) -> Result<Effects> {
    #[derive(Deserialize)]
    struct Counter {
        key: String,
        value: i64,
    }
    let mut effects = Effects::default();
    let select = "SELECT row_to_json(e) FROM (SELECT id, key, delta FROM effects) e";
    for line in rows(url, select)? {
        let effect: Effect = serde_json::from_str(&line)?;
        // All servers write to one table, so it says no more than that there was one.
        effects.push(1, effect)?;
    }
    let counters = rows(url, "SELECT row_to_json(c) FROM counters c")?;
    let counters = counters
        .iter()
        .map(|line| serde_json::from_str(line).map(|Counter { key, value }| (key, value)));
    effects.compare(&counters.collect::<Result<HashMap<_, _>, _>>()?);
    Ok(effects)
}

/// The lines that a statement has, of one column.
pub(crate) fn rows(url: &str, sql: &str) -> Result<Vec<String>> {
    let psql = binaries().map_or_else(|| "psql".into(), |folder| folder.join("psql"));
    let output = Command::new(psql)
        .args(["-X", "-A", "-t", "-c", sql, url])
        .output()
        .context("psql can't be started")?;
    ensure!(
        output.status.success(),
        "psql: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout)?;
    Ok(text.lines().map(str::to_owned).collect())
}
