//! What the program's own SQL may not do: end Redial's transaction, or touch Redial's tables.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering::Relaxed},
};

use rusqlite::{
    Connection,
    hooks::{AuthAction, AuthContext, Authorization},
};

/// Whose SQL the connection runs at present. One thread uses the connection, so that `Relaxed` will do.
#[derive(Clone, Debug, Default)]
pub(crate) struct Guard(Arc<AtomicU8>);

/// Redial's own.
const REDIAL: u8 = 0;
/// A handler's.
const HANDLER: u8 = 1;
/// The program's, at open.
const MIGRATION: u8 = 2;

/// Pragmas that only tell something.
const HARMLESS_PRAGMAS: [&str; 14] = [
    "collation_list",
    "data_version",
    "database_list",
    "foreign_key_check",
    "foreign_key_list",
    "function_list",
    "index_info",
    "index_list",
    "index_xinfo",
    "integrity_check",
    "quick_check",
    "table_info",
    "table_list",
    "table_xinfo",
];

impl Guard {
    /// Installs it once: to set an authorizer makes SQLite prepare every statement anew.
    pub(crate) fn install(connection: &mut Connection) -> rusqlite::Result<Self> {
        let guard = Self::default();
        let asked = guard.clone();
        connection.authorizer(Some(move |context: AuthContext<'_>| asked.judge(&context)))?;
        let asked = guard.clone();
        // After `INSERT OR ROLLBACK` a handler's next statement would commit by itself.
        connection.commit_hook(Some(move || asked.0.load(Relaxed) != REDIAL))?;
        Ok(guard)
    }

    /// Runs a handler, whose panics are caught inside.
    pub(crate) fn handler<T>(&self, step: impl FnOnce() -> T) -> T {
        self.during(HANDLER, step)
    }

    /// Runs the program's migration.
    pub(crate) fn migration<T>(&self, step: impl FnOnce() -> T) -> T {
        self.during(MIGRATION, step)
    }

    fn during<T>(&self, whose: u8, step: impl FnOnce() -> T) -> T {
        /// A panic must not leave Redial's own statements guarded.
        struct Lift<'a>(&'a AtomicU8);
        impl Drop for Lift<'_> {
            fn drop(&mut self) {
                self.0.store(REDIAL, Relaxed);
            }
        }
        self.0.store(whose, Relaxed);
        let _lift = Lift(&self.0);
        step()
    }

    fn judge(&self, context: &AuthContext<'_>) -> Authorization {
        let is_allowed = match self.0.load(Relaxed) {
            REDIAL => true,
            HANDLER => is_allowed(&context.action) && !changes_schema(&context.action),
            _ => is_allowed_at_open(&context.action),
        };
        if is_allowed {
            Authorization::Allow
        } else {
            Authorization::Deny
        }
    }
}

fn is_allowed(action: &AuthAction<'_>) -> bool {
    match *action {
        AuthAction::Transaction { .. }
        | AuthAction::Savepoint { .. }
        | AuthAction::Attach { .. }
        | AuthAction::Detach { .. }
        | AuthAction::Unknown { .. } => false,
        AuthAction::Pragma {
            pragma_name,
            pragma_value,
        } => {
            let is_one_of = |names: &[&str]| {
                let is_it = |name: &&str| name.eq_ignore_ascii_case(pragma_name);
                names.iter().any(is_it)
            };
            is_one_of(&HARMLESS_PRAGMAS)
                || pragma_value.is_none() && is_one_of(&["user_version", "foreign_keys"])
        }
        AuthAction::Read { table_name, .. }
        | AuthAction::Insert { table_name }
        | AuthAction::Update { table_name, .. }
        | AuthAction::Delete { table_name }
        | AuthAction::CreateTable { table_name }
        | AuthAction::CreateIndex { table_name, .. }
        | AuthAction::CreateTrigger { table_name, .. }
        | AuthAction::CreateTempTrigger { table_name, .. }
        | AuthAction::CreateVtable { table_name, .. }
        | AuthAction::DropTable { table_name }
        | AuthAction::DropIndex { table_name, .. }
        | AuthAction::DropTrigger { table_name, .. }
        | AuthAction::AlterTable { table_name, .. } => !is_redials(table_name),
        AuthAction::CreateView { view_name } | AuthAction::DropView { view_name } => {
            !is_redials(view_name)
        }
        _ => true,
    }
}

/// A migration may nest savepoints in its transaction, and keep a version of its own in the file.
fn is_allowed_at_open(action: &AuthAction<'_>) -> bool {
    match *action {
        AuthAction::Savepoint { .. } => true,
        AuthAction::Pragma { pragma_name, .. }
            if pragma_name.eq_ignore_ascii_case("user_version") =>
        {
            true
        }
        _ => is_allowed(action),
    }
}

/// Not in a handler: SQLite counts no changes for these, by which a failed call is known to have
/// nothing to undo, and every statement would have to be prepared anew.
fn changes_schema(action: &AuthAction<'_>) -> bool {
    !matches!(
        action,
        AuthAction::Read { .. }
            | AuthAction::Select
            | AuthAction::Insert { .. }
            | AuthAction::Update { .. }
            | AuthAction::Delete { .. }
            | AuthAction::Function { .. }
            | AuthAction::Recursive
            | AuthAction::Pragma { .. }
    )
}

/// Whether a table, a view or an index is Redial's. SQLite takes names in either case for one.
pub(crate) fn is_redials(name: &str) -> bool {
    let prefix = name.as_bytes().get(..7);
    prefix.is_some_and(|prefix| prefix.eq_ignore_ascii_case(b"redial_"))
}
