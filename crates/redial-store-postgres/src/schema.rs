//! The tables in the schema `redial`, and how an older version of them becomes this one.

use tokio_postgres::{
    Client,
    error::SqlState,
    types::{ToSql, Type},
};

use crate::error::OpenError;

/// What each version adds to the one before. A version that was released is never changed.
const VERSIONS: [&str; 2] = [VERSION_1, VERSION_2];

/// The slots of a session, by a call's number: a call whose slot holds another that is not acknowledged
/// lies in one of its own, behind these.
pub(crate) const SLOTS: u64 = 1024;

/// No index but the keys, and room in each page, so that a record is changed where it lies (HOT).
const VERSION_1: &str = "
CREATE TABLE redial.session (
    id bigint PRIMARY KEY,
    owner text,
    below bigint NOT NULL DEFAULT 0,
    open bigint[] NOT NULL DEFAULT '{}',
    touched timestamptz NOT NULL DEFAULT clock_timestamp(),
    dead_since timestamptz
) WITH (fillfactor = 50);
CREATE TABLE redial.slot (
    session bigint NOT NULL,
    slot bigint NOT NULL,
    seq bigint NOT NULL,
    spill bigint NOT NULL DEFAULT -1,
    fingerprint bytea NOT NULL,
    state smallint NOT NULL,
    owner bigint NOT NULL,
    method text,
    params text,
    reply bytea,
    PRIMARY KEY (session, slot)
) WITH (fillfactor = 50);
CREATE TABLE redial.plain (
    id bytea PRIMARY KEY,
    fingerprint bytea NOT NULL,
    state smallint NOT NULL,
    owner bigint NOT NULL,
    method text,
    params text,
    reply bytea,
    since timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX plain_since ON redial.plain (since);
CREATE TABLE redial.server (
    epoch bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    expires timestamptz NOT NULL
) WITH (fillfactor = 50);
";

/// Which database the tables were made in. Not a column of `meta`: to change that table takes a lock on it,
/// while servers that start at the same time hold one, too, and wait for its row.
const VERSION_2: &str = "CREATE TABLE redial.place (place text NOT NULL);";

const META: &str = "
CREATE SCHEMA IF NOT EXISTS redial;
CREATE TABLE IF NOT EXISTS redial.meta (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    version integer NOT NULL,
    table_name text NOT NULL
);
";

/// How often two servers that make the schema at once may get in each other's way.
const ATTEMPTS: u32 = 20;

/// Brings the schema up to date, and then the program's own tables. Returns the name of the table.
pub(crate) async fn migrate(client: &Client, program: Option<&str>) -> Result<String, OpenError> {
    let mut attempt = 0;
    loop {
        let made = match make_meta(client).await {
            Ok(()) => upgrade(client, program).await,
            Err(error) => Err(error.into()),
        };
        match made {
            Err(OpenError::Database(error)) if attempt < ATTEMPTS && is_collision(&error) => {
                drop(client.batch_execute("ROLLBACK").await);
                attempt += 1;
            }
            Err(error) => {
                drop(client.batch_execute("ROLLBACK").await);
                return Err(error);
            }
            Ok(name) => return Ok(name),
        }
    }
}

/// `IF NOT EXISTS` fails where two do it at once.
fn is_collision(error: &tokio_postgres::Error) -> bool {
    let codes = [
        SqlState::UNIQUE_VIOLATION,
        SqlState::DUPLICATE_SCHEMA,
        SqlState::DUPLICATE_TABLE,
        SqlState::DUPLICATE_OBJECT,
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::T_R_DEADLOCK_DETECTED,
    ];
    error.code().is_some_and(|code| codes.contains(code))
}

async fn make_meta(client: &Client) -> Result<(), tokio_postgres::Error> {
    let is_there = "SELECT to_regclass('redial.meta') IS NOT NULL";
    let is_there: bool = client.query_typed_one(is_there, &[]).await?.get(0);
    if !is_there {
        client.batch_execute(META).await?;
    }
    let insert = "INSERT INTO redial.meta (version, table_name) \
                  VALUES (0, gen_random_uuid()::text) ON CONFLICT DO NOTHING";
    client.execute_typed(insert, &[]).await?;
    Ok(())
}

/// Under the lock of the one row, which works where advisory locks are not to be had.
async fn upgrade(client: &Client, program: Option<&str>) -> Result<String, OpenError> {
    client
        .batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED")
        .await?;
    let row = client
        .query_typed_one(
            "SELECT version, table_name FROM redial.meta FOR UPDATE",
            &[],
        )
        .await?;
    let version: i32 = row.get(0);
    let found = usize::try_from(version).unwrap_or(usize::MAX);
    if found > VERSIONS.len() {
        return Err(OpenError::Newer {
            found: version,
            known: VERSIONS.len(),
        });
    }
    for step in &VERSIONS[found..] {
        client.batch_execute(step).await?;
    }
    if found < VERSIONS.len() {
        let known = i32::try_from(VERSIONS.len()).unwrap_or(i32::MAX);
        let update = "UPDATE redial.meta SET version = $1";
        client
            .execute_typed(update, &[(&known, Type::INT4)])
            .await?;
    }
    check_place(client).await?;
    if let Some(program) = program {
        let run = client.batch_execute(program).await;
        run.map_err(OpenError::Migration)?;
    }
    client.batch_execute("COMMIT").await?;
    Ok(row.get(1))
}

/// A copy of a database has the table's name and its sessions, and is another table all the same: a call that
/// one of the two has executed would be executed by the other. A standby is no copy in this sense.
async fn check_place(client: &Client) -> Result<(), OpenError> {
    let Some(here) = place(client).await? else {
        return Ok(());
    };
    let row = client
        .query_typed_opt("SELECT place FROM redial.place", &[])
        .await?;
    match row.map(|row| row.get::<_, String>(0)) {
        Some(made) if made != here => Err(OpenError::Copied { made, here }),
        Some(_) => Ok(()),
        None => {
            let insert = "INSERT INTO redial.place VALUES ($1)";
            let place: (&(dyn ToSql + Sync), Type) = (&here, Type::TEXT);
            client.execute_typed(insert, &[place]).await?;
            Ok(())
        }
    }
}

/// What tells this database from a copy of it; `None` where the engine does not say.
async fn place(client: &Client) -> Result<Option<String>, tokio_postgres::Error> {
    let can_ask = "SELECT coalesce(has_function_privilege( \
        to_regproc('pg_catalog.pg_control_system')::oid, 'EXECUTE'), false)";
    if !client
        .query_typed_one(can_ask, &[])
        .await?
        .get::<_, bool>(0)
    {
        return Ok(None);
    }
    let ask = "SELECT c.system_identifier::text || '/' || d.oid::text \
        FROM pg_control_system() c, pg_database d WHERE d.datname = current_database()";
    Ok(client.query_typed_one(ask, &[]).await?.get(0))
}
