//! A database for each test, whose handlers add to counters.

use std::{any::Any, net::TcpListener, path::PathBuf, sync::Arc};

use redial_server::{
    Abort, Context,
    store::{Recovered, Store, TransactionMethod},
};
use redial_store_postgres::{
    HandlerFuture, PostgresOptions, PostgresStore, Transaction, batched_method, tokio_postgres,
    transaction_method,
};
use redial_store_tests::{
    Effect, End, Rig,
    pgbouncer::bouncer,
    postgres::{Cluster, cluster},
};
use tokio::runtime::Runtime;
use tokio_postgres::{Client, Config, NoTls, config::Host};

const COUNTERS: &str =
    "CREATE TABLE IF NOT EXISTS counter (key text PRIMARY KEY, value bigint NOT NULL)";

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Isolation {
    ReadCommitted,
    Serializable,
}

/// SQL by hand.
pub(crate) struct Sql {
    runtime: Runtime,
    client: Client,
}

impl Sql {
    pub(crate) fn connect(url: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let connected = runtime.block_on(tokio_postgres::connect(url, NoTls));
        let (client, connection) = connected.unwrap();
        drop(runtime.spawn(connection));
        Self { runtime, client }
    }

    pub(crate) fn run(&self, sql: &str) {
        self.runtime
            .block_on(self.client.batch_execute(sql))
            .unwrap();
    }

    /// One number, or 0 where there is no row.
    pub(crate) fn number(&self, sql: &str) -> i64 {
        let row = self.client.query_typed_opt(sql, &[]);
        self.runtime
            .block_on(row)
            .unwrap()
            .map_or(0, |row| row.get(0))
    }
}

/// A database that goes with its test.
pub(crate) struct Database {
    cluster: &'static Cluster,
    name: String,
    pub(crate) sql: Sql,
}

impl Database {
    pub(crate) fn new(isolation: Isolation) -> Option<Self> {
        let cluster = cluster()?;
        let name = cluster.new_name();
        let admin = Sql::connect(&cluster.url("postgres"));
        admin.run(&format!("CREATE DATABASE {name}"));
        if isolation == Isolation::Serializable {
            admin.run(&format!(
                "ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'"
            ));
        }
        let sql = Sql::connect(&cluster.url(&name));
        Some(Self { cluster, name, sql })
    }

    pub(crate) fn url(&self) -> String {
        self.cluster.url(&self.name)
    }

    /// Whether one session has said goodbye, now or within some seconds.
    pub(crate) fn has_dead_session(&self) -> bool {
        let dead =
            "SELECT count(*) FROM redial.session, pg_sleep(0.1) WHERE dead_since IS NOT NULL";
        (0..200).any(|_| self.sql.number(dead) == 1)
    }

    /// Another one, with all that is in this one, to which nothing else is connected.
    pub(crate) fn copy(&self) -> Self {
        let name = self.cluster.new_name();
        let admin = Sql::connect(&self.cluster.url("postgres"));
        admin.run(&format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'",
            self.name
        ));
        admin.run(&format!("CREATE DATABASE {name} TEMPLATE {}", self.name));
        let sql = Sql::connect(&self.cluster.url(&name));
        Self {
            cluster: self.cluster,
            name,
            sql,
        }
    }

    /// By way of pgbouncer, if there is one.
    pub(crate) fn bounced_url(&self) -> Option<String> {
        Some(bouncer(self.cluster)?.url(&self.name))
    }

    /// A listener for a proxy of this database's, the socket that the database listens on, and the connection string
    /// of the proxy.
    pub(crate) fn port_before(&self) -> Option<(TcpListener, PathBuf, String)> {
        let config: Config = self.url().parse().unwrap();
        let [Host::Unix(folder)] = config.get_hosts() else {
            println!("skipped: no PostgreSQL of its own");
            return None;
        };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let url = format!("postgres://postgres@127.0.0.1:{port}/{}", self.name);
        Some((listener, folder.join(".s.PGSQL.5432"), url))
    }

    /// Every server that was there counts as gone.
    pub(crate) fn end_leases(&self) {
        if self
            .sql
            .number("SELECT count(*) FROM pg_tables WHERE schemaname = 'redial'")
            > 0
        {
            self.sql
                .run("UPDATE redial.server SET expires = '-infinity'");
        }
    }

    pub(crate) fn counter(&self, key: &str) -> i64 {
        self.sql
            .number(&format!("SELECT value FROM counter WHERE key = '{key}'"))
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // It would cost a checkpoint, and goes with a cluster of its own.
        if self.cluster.is_own() {
            return;
        }
        let admin = Sql::connect(&self.cluster.url("postgres"));
        let drop_it = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        drop(admin.runtime.block_on(admin.client.batch_execute(&drop_it)));
    }
}

/// With the counters' table.
pub(crate) fn options() -> PostgresOptions {
    PostgresStore::options()
        .migrate(COUNTERS)
        .max_connections(8)
}

/// Adds to a counter, and ends as the effect says.
pub(crate) async fn add(effect: &Effect, transaction: &mut Transaction) -> Result<i64, Abort> {
    let row = transaction
        .query_one(
            "INSERT INTO counter AS c VALUES ($1, $2)
             ON CONFLICT (key) DO UPDATE SET value = c.value + excluded.value RETURNING value",
            &[&effect.key, &effect.delta],
        )
        .await?;
    effect.finish(row.get(0))
}

type Params = (String, i64, u8);

/// A method that does what an [`Effect`] says.
pub(crate) fn method() -> Arc<dyn TransactionMethod> {
    transaction_method(run)
}

/// The same whose calls share transactions.
pub(crate) fn batched() -> Arc<dyn TransactionMethod> {
    batched_method(run)
}

fn run(
    (key, delta, end): Params,
    transaction: &mut Transaction,
    _: Context,
) -> HandlerFuture<'_, i64> {
    Box::pin(async move {
        let end = [End::Return, End::Fail, End::Panic, End::NoEffect][usize::from(end)];
        add(&Effect { key, delta, end }, transaction).await
    })
}

pub(crate) fn prepare(method: &Arc<dyn TransactionMethod>, effect: Effect) -> Box<dyn Any + Send> {
    let params = (effect.key, effect.delta, effect.end as u8);
    let params = serde_json::to_string(&params).unwrap();
    method.prepare(Some(&params), Context::default()).unwrap()
}

pub(crate) struct PostgresRig {
    pub(crate) database: Database,
    /// Where the store connects to.
    url: String,
    method: Arc<dyn TransactionMethod>,
}

impl PostgresRig {
    pub(crate) fn new(isolation: Isolation) -> Option<Self> {
        let database = Database::new(isolation)?;
        Some(Self {
            url: database.url(),
            database,
            method: method(),
        })
    }

    /// Whose calls share transactions.
    pub(crate) fn batched() -> Option<Self> {
        let rig = Self::new(Isolation::ReadCommitted)?;
        Some(Self {
            method: batched(),
            ..rig
        })
    }

    /// By way of pgbouncer.
    pub(crate) fn bounced() -> Option<Self> {
        let rig = Self::new(Isolation::ReadCommitted)?;
        let url = rig.database.bounced_url()?;
        Some(Self { url, ..rig })
    }
}

impl Rig for PostgresRig {
    fn open(&self) -> Arc<dyn Store> {
        self.database.end_leases();
        Arc::new(options().open(&self.url).unwrap())
    }

    fn recovered(&self, store: &dyn Store) -> Vec<Recovered> {
        let store = (store as &dyn Any).downcast_ref::<PostgresStore>();
        store.unwrap().read_all().unwrap()
    }

    fn prepare(&self, effect: Effect) -> Box<dyn Any + Send> {
        prepare(&self.method, effect)
    }

    fn counter(&self, key: &str) -> i64 {
        self.database.counter(key)
    }

    fn claims_plain_ids(&self) -> bool {
        true
    }

    fn is_ordered(&self) -> bool {
        false
    }
}
