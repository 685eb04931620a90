//! How a database is opened: the pool, the schema, and an epoch for this server.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use tokio_postgres::{Client, Config, Error, NoTls, types::Type};

use crate::{
    connection::Style, direct::is_direct, error::OpenError, hosts::Hosts, options::PostgresOptions,
    schema::migrate, store::Shared, url::Target,
};

const MANAGER: ManagerConfig = ManagerConfig {
    recycling_method: RecyclingMethod::Fast,
};

/// What a store connects with.
pub(crate) struct Pools {
    pub(crate) work: Pool,
    /// One connection, by which the lease is renewed however long handlers hold all others.
    pub(crate) lease: Pool,
    /// Whether what is prepared on a connection stays there.
    pub(crate) keeps_statements: Arc<AtomicBool>,
}

impl Pools {
    /// Connects to nothing yet.
    pub(crate) fn new(url: &str, options: &PostgresOptions) -> Result<Self, OpenError> {
        let keeps_statements = options.keeps_statements != Some(false);
        let keeps_statements = Arc::new(AtomicBool::new(keeps_statements));
        let pool = |size| pool(url, options, size, &keeps_statements);
        Ok(Self {
            work: pool(options.max_connections - 1)?,
            lease: pool(1)?,
            keeps_statements,
        })
    }

    pub(crate) fn close(&self) {
        self.work.close();
        self.lease.close();
    }
}

fn pool(
    url: &str,
    options: &PostgresOptions,
    size: usize,
    keeps_statements: &Arc<AtomicBool>,
) -> Result<Pool, OpenError> {
    let target = Target::parse(url);
    let config = target.url.parse::<Config>();
    let mut config = config.map_err(|error| OpenError::Url(error.to_string()))?;
    let timeout = *config
        .get_connect_timeout()
        .unwrap_or(&options.connect_timeout);
    config.connect_timeout(timeout);
    // One that takes a connection and says nothing is given as long once more.
    let mut pool = Pool::builder(manager(config, &target, options)?)
        .max_size(size)
        .runtime(Runtime::Tokio1)
        .create_timeout(Some(timeout * 2));
    if options.keeps_statements.is_none() {
        pool = pool.post_create(look_for_pooler(keeps_statements));
    }
    let pool = pool.build();
    pool.map_err(|error| OpenError::Connect(error.to_string()))
}

/// Looks at each new connection before it is used.
fn look_for_pooler(keeps_statements: &Arc<AtomicBool>) -> Hook {
    let keeps_statements = Arc::clone(keeps_statements);
    Hook::async_fn(move |client, _| {
        let keeps_statements = Arc::clone(&keeps_statements);
        Box::pin(async move {
            if keeps_statements.load(Relaxed)
                && !is_direct(client).await.map_err(HookError::Backend)?
            {
                keeps_statements.store(false, Relaxed);
            }
            Ok(())
        })
    })
}

#[cfg(feature = "tls")]
fn manager(
    mut config: Config,
    target: &Target,
    options: &PostgresOptions,
) -> Result<Manager, OpenError> {
    if !target.is_encrypted && options.tls.is_none() {
        let hosts = Hosts::new(&config, NoTls)?;
        return Ok(Manager::from_connect(config, hosts, MANAGER));
    }
    config.ssl_mode(tokio_postgres::config::SslMode::Require);
    let encryption = crate::tls::Encryption::new(options.tls.clone(), &target.trust)?;
    let hosts = Hosts::new(&config, encryption)?;
    Ok(Manager::from_connect(config, hosts, MANAGER))
}

#[cfg(not(feature = "tls"))]
fn manager(config: Config, target: &Target, _: &PostgresOptions) -> Result<Manager, OpenError> {
    if target.is_encrypted {
        let without = "this program was built without the feature `tls` of redial-store-postgres";
        return Err(OpenError::Tls(without.to_owned()));
    }
    let hosts = Hosts::new(&config, NoTls)?;
    Ok(Manager::from_connect(config, hosts, MANAGER))
}

pub(crate) async fn open(pools: Pools, options: PostgresOptions) -> Result<Shared, OpenError> {
    let connection = match pools.lease.get().await {
        Ok(connection) => connection,
        Err(deadpool_postgres::PoolError::Backend(error)) => return Err(error.into()),
        Err(error) => return Err(OpenError::Connect(error.to_string())),
    };
    let table = migrate(&connection, options.migration.as_deref()).await?;
    let style = Style::of(&connection, options.server_lease).await?;
    let lease = options.server_lease.as_secs_f64();
    let epoch = new_epoch(&connection, &style, lease).await?;
    drop(connection);
    Ok(Shared::new(pools, style, options, table, epoch))
}

/// For a lease in seconds.
const NEW_EPOCH: &str = "INSERT INTO redial.server (expires) \
    VALUES (clock_timestamp() + make_interval(secs => $1)) RETURNING epoch";

/// As durable as what is recorded in it: one that a crash undoes would be given to another server, too.
pub(crate) async fn new_epoch(client: &Client, style: &Style, lease: f64) -> Result<i64, Error> {
    let params = [(&lease as _, Type::FLOAT8)];
    let (begun, row, committed) = tokio::join!(
        client.batch_execute(&style.begin),
        client.query_typed_one(NEW_EPOCH, &params),
        client.batch_execute("COMMIT"),
    );
    begun?;
    let row = row?;
    committed?;
    Ok(row.get(0))
}
