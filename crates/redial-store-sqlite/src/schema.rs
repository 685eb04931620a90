//! Redial's own tables, and which version of them this crate knows.

use rusqlite::{Connection, OptionalExtension};

/// `RDL1` in the file's header, by which `file` and this crate know it.
pub(crate) const APPLICATION_ID: i64 = 0x5244_4c31;

/// The version of the tables. It lies in `redial_meta`, since `user_version` belongs to the program.
/// Version 2 has the principals of sessions and of plain ids.
pub(crate) const VERSION: i64 = 2;

/// How many tables there are for the records of plain ids.
pub(crate) const GENERATIONS: usize = 16;

/// The states of a record as the tables have them.
pub(crate) const STARTED: i64 = 1;
pub(crate) const FINISHED: i64 = 2;
pub(crate) const FENCED: i64 = 3;

const TABLES: &str = "
    CREATE TABLE redial_meta (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        version INTEGER NOT NULL,
        table_id TEXT NOT NULL,
        -- Above 20 bits, what the store that has the file drew when it opened it. Below, how often it has
        -- found out whether its disk works again.
        probes INTEGER NOT NULL
    ) STRICT;
    -- Every number below `below` is acknowledged, but for those in `open`, a JSON array.
    CREATE TABLE redial_session (
        id INTEGER PRIMARY KEY,
        below INTEGER NOT NULL,
        open TEXT NOT NULL,
        -- Whose it is; NULL if it is that of callers without a principal.
        principal TEXT
    ) STRICT;
    -- A slot is used again when its call is acknowledged. So a row counts only if its session is there,
    -- and has not acknowledged its number.
    CREATE TABLE redial_record (
        slot INTEGER PRIMARY KEY,
        session INTEGER NOT NULL,
        number INTEGER NOT NULL,
        state INTEGER NOT NULL,
        fingerprint BLOB NOT NULL,
        outcome BLOB,
        method TEXT,
        params TEXT
    ) STRICT;
";

/// What people look at.
const VIEWS: &str = "
    CREATE VIEW redial_calls (id, session, number, state, outcome, method, params, principal) AS
    SELECT printf('%08x-%04x-8%03x-%04x-%012x', session >> 28, session >> 12 & 0xffff,
            session & 0xfff, number >> 48 | 0x8000, number & 0xffffffffffff),
        printf('%015x', session), number,
        CASE state WHEN 1 THEN 'started' WHEN 2 THEN 'finished' ELSE 'fenced' END,
        CAST(outcome AS TEXT), method, params, principal
    FROM redial_record AS record JOIN redial_session AS known ON known.id = record.session
    WHERE number >= below OR number IN (SELECT value FROM json_each(known.open))
";

/// The version and the table's id, if Redial's tables are there.
pub(crate) fn read_meta(connection: &Connection) -> rusqlite::Result<Option<(i64, String)>> {
    let sql = "SELECT 1 FROM sqlite_schema WHERE name = 'redial_meta'";
    if !connection.prepare(sql)?.exists([])? {
        return Ok(None);
    }
    connection
        .query_row("SELECT version, table_id FROM redial_meta", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()
}

/// Makes Redial's tables, in the transaction that is open, and a name for the table of calls that no
/// other has.
pub(crate) fn create(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    connection.execute_batch(TABLES)?;
    for generation in 0..GENERATIONS {
        connection.execute_batch(&format!(
            "CREATE TABLE redial_plain_{generation} (
                id INTEGER PRIMARY KEY,
                key BLOB NOT NULL,
                state INTEGER NOT NULL,
                fingerprint BLOB NOT NULL,
                outcome BLOB,
                method TEXT,
                params TEXT
            ) STRICT"
        ))?;
    }
    connection.execute_batch(&views())?;
    connection.execute(
        "INSERT INTO redial_meta VALUES (1, ?1, lower(hex(randomblob(16))), 0)",
        [VERSION],
    )?;
    Ok(())
}

/// Brings the tables of an older version up to date, in the transaction that is open.
pub(crate) fn upgrade(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch("ALTER TABLE redial_session ADD COLUMN principal TEXT")?;
    connection.execute_batch("DROP VIEW redial_calls")?;
    connection.execute_batch(&views())?;
    connection.execute("UPDATE redial_meta SET version = ?1", [VERSION])?;
    Ok(())
}

fn views() -> String {
    let mut views = VIEWS.to_owned();
    for generation in 0..GENERATIONS {
        views.push_str(&format!(
            " UNION ALL SELECT
                CASE WHEN substr(key, 1, 1) IN (x'01', x'11') THEN lower(printf('%s-%s-%s-%s-%s',
                    hex(substr(key, 2, 4)), hex(substr(key, 6, 2)), hex(substr(key, 8, 2)),
                    hex(substr(key, 10, 2)), hex(substr(key, 12, 6))))
                WHEN instr(key, x'ff') THEN CAST(substr(key, 2, instr(key, x'ff') - 2) AS TEXT)
                ELSE CAST(substr(key, 2) AS TEXT) END,
                NULL, NULL,
                CASE state WHEN 1 THEN 'started' WHEN 2 THEN 'finished' ELSE 'fenced' END,
                CAST(outcome AS TEXT), method, params,
                CASE WHEN substr(key, 1, 1) = x'11' THEN CAST(substr(key, 19) AS TEXT)
                WHEN substr(key, 1, 1) > x'11'
                    THEN CAST(substr(key, instr(key, x'ff') + 1) AS TEXT) END
            FROM redial_plain_{generation}"
        ));
    }
    views
}
