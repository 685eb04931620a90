//! The counters in a PostgreSQL database, which several servers may share.

use redial_server::{Abort, Context, ServerBuilder};
use redial_store_postgres::{
    OpenError, PostgresMethods, PostgresOptions, PostgresStore, Transaction,
};

use crate::{
    counters::Counters,
    methods::{Counter, Get, GetParams, Inc, IncParams},
    stored::IncKind,
};

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS counters (key text PRIMARY KEY, value bigint NOT NULL);
CREATE TABLE IF NOT EXISTS effects (
    id text NOT NULL, key text NOT NULL, delta bigint NOT NULL, value bigint NOT NULL);
";

const INC: &str = "INSERT INTO counters AS c VALUES ($1, $2) \
    ON CONFLICT (key) DO UPDATE SET value = c.value + excluded.value RETURNING value";

/// Whether `--store` names a database, and not a file.
#[must_use]
pub fn is_url(store: &str) -> bool {
    store.starts_with("postgres://") || store.starts_with("postgresql://")
}

/// Opens the database, with the tables of the counters in it.
///
/// # Errors
///
/// What is wrong with it, and what to do about it.
pub fn open(url: &str, options: PostgresOptions) -> Result<PostgresStore, OpenError> {
    options.migrate(TABLES).open(url)
}

/// What `inc` is.
#[derive(Clone, Copy, Debug, Default)]
pub struct How {
    /// Its kind.
    pub kind: IncKind,
    /// Whether each effect is a row of the table `effects`, too, in the same transaction.
    pub keep_effects: bool,
    /// Whether calls that wait together share a transaction.
    pub is_batched: bool,
}

/// Registers `inc` and `get` with a server that has the store.
#[must_use]
pub fn register(
    server: ServerBuilder,
    store: &PostgresStore,
    how: How,
    counters: &Counters,
) -> ServerBuilder {
    let server = server.store(store.clone());
    let keep_effects = how.keep_effects;
    match how.kind {
        IncKind::Mutation => counters.register(server),
        IncKind::Resumable => counters.register_by_id(server).resumable("inc"),
        IncKind::Transaction => {
            let store = store.clone();
            let server = if how.is_batched {
                server.batched::<Inc, _>(move |params, transaction: &mut Transaction, context| {
                    Box::pin(inc(params, transaction, context, keep_effects))
                })
            } else {
                server.transaction::<Inc, _>(
                    move |params, transaction: &mut Transaction, context| {
                        Box::pin(inc(params, transaction, context, keep_effects))
                    },
                )
            };
            server.method::<Get>(move |params| get(store.clone(), params))
        }
    }
}

async fn inc(
    params: IncParams,
    transaction: &mut Transaction,
    context: Context,
    keep_effects: bool,
) -> Result<Counter, Abort> {
    let IncParams { key, delta } = params;
    let row = transaction.query_one(INC, &[&key, &delta]).await?;
    let value: i64 = row.get(0);
    if keep_effects {
        let id = context.call_id().unwrap_or_default();
        let insert = "INSERT INTO effects VALUES ($1, $2, $3, $4)";
        transaction
            .execute(insert, &[&id, &key, &delta, &value])
            .await?;
    }
    Ok(Counter { key, value })
}

async fn get(store: PostgresStore, params: GetParams) -> Result<Counter, Abort> {
    let select = "SELECT value FROM counters WHERE key = $1";
    let rows = store
        .read(select, vec![Box::new(params.key.clone())])
        .await?;
    Ok(Counter {
        key: params.key,
        value: rows.first().map_or(0, |row| row.get(0)),
    })
}
