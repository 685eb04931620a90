//! The counters behind a durable store: in the store itself, or outside it under the call's id.

use std::{path::Path, time::Duration};

use anyhow::Context as _;
use clap::ValueEnum;
use redial_server::{Abort, Context, ServerBuilder};
use redial_store_sqlite::{
    SqliteMethods, SqliteStore, Transaction,
    rusqlite::{Connection, OptionalExtension, types::ValueRef},
};

use crate::{
    counters::Counters,
    methods::{Counter, Get, GetParams, Inc, IncParams},
};

/// What kind of method `inc` is on a server with a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum IncKind {
    /// The counters lie in the store: effect and record are one transaction
    #[default]
    Transaction,
    /// The counters lie outside: a call that a crash interrupts ends as interrupted
    Mutation,
    /// The counters lie outside, and honour the call's id: an interrupted call is run again
    Resumable,
}

/// Opens the store, with the tables of the counters in it. Unsynced it loses acknowledged calls in a power cut.
///
/// # Errors
///
/// What is wrong with the file, and what to do about it.
pub fn open(path: &Path, ttl: Duration, is_synced: bool) -> anyhow::Result<SqliteStore> {
    let mut options = SqliteStore::options();
    if !is_synced {
        options = options.dangerously_without_sync();
    }
    let store = options
        .ttl(ttl)
        .migrate(|connection| {
            connection.execute_batch(
                "CREATE TABLE IF NOT EXISTS counters (
                     key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
                 CREATE TABLE IF NOT EXISTS effects (
                     id TEXT NOT NULL, key TEXT NOT NULL, delta INTEGER NOT NULL,
                     value INTEGER NOT NULL)",
            )?;
            Ok(())
        })
        .open(path);
    store.with_context(|| format!("cannot open --store {}", path.display()))
}

/// Registers `inc` and `get` with a server that has the store. With `keep_effects` each effect is a row
/// of the table `effects`, too, in the same transaction.
#[must_use]
pub fn register(
    server: ServerBuilder,
    store: &SqliteStore,
    kind: IncKind,
    counters: &Counters,
    keep_effects: bool,
) -> ServerBuilder {
    let server = server.store(store.clone());
    match kind {
        IncKind::Transaction => server
            .transaction::<Inc>(move |params, transaction, context| {
                inc(&params, transaction, &context, keep_effects)
            })
            .read::<Get>(store, get),
        IncKind::Mutation => counters.register_with_ids(server),
        IncKind::Resumable => counters.register_by_id(server).resumable("inc"),
    }
}

fn inc(
    params: &IncParams,
    transaction: &mut Transaction<'_>,
    context: &Context,
    keep_effects: bool,
) -> Result<Counter, Abort> {
    let IncParams { key, delta } = params;
    let mut upsert = transaction.prepare_cached(
        "INSERT INTO counters VALUES (?1, ?2)
         ON CONFLICT (key) DO UPDATE SET value = value + ?2 RETURNING value",
    )?;
    // SQLite turns a sum that overflows into a floating-point number.
    let sum = upsert.query_row((key, delta), |row| match row.get_ref(0)? {
        ValueRef::Integer(value) => Ok(Some(value)),
        _ => Ok(None),
    })?;
    let Some(value) = sum else {
        return Err(Abort::failed(format!(
            "the counter plus {delta} does not fit into 64 bits; nothing was changed"
        )));
    };
    if keep_effects {
        let id = context.call_id().unwrap_or_default();
        let mut insert =
            transaction.prepare_cached("INSERT INTO effects VALUES (?1, ?2, ?3, ?4)")?;
        insert.execute((id, key, delta, value))?;
    }
    Ok(Counter {
        key: key.clone(),
        value,
    })
}

fn get(params: GetParams, connection: &Connection) -> Result<Counter, Abort> {
    let mut select = connection.prepare_cached("SELECT value FROM counters WHERE key = ?1")?;
    let value = select
        .query_row([&params.key], |row| row.get(0))
        .optional()?;
    Ok(Counter {
        key: params.key,
        value: value.unwrap_or(0),
    })
}
