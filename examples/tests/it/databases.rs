//! A database of its own for a test, and what the servers on it have left there.
#![cfg(unix)]

use redial_store_postgres::tokio_postgres::{self, NoTls};
use redial_store_tests::postgres::cluster;

/// Where a new database is. `None` without PostgreSQL, which it says then.
pub(crate) async fn new_database() -> Option<String> {
    let cluster = cluster()?;
    let name = cluster.new_name();
    let create = format!("CREATE DATABASE {name}");
    let admin = sql(&cluster.url("postgres")).await;
    admin.batch_execute(&create).await.unwrap();
    Some(cluster.url(&name))
}

/// Of servers that keep the effects of calls: how many there are, of how many calls, and the sum of all counters.
pub(crate) async fn effects(url: &str) -> [i64; 3] {
    let query = "SELECT count(*), count(DISTINCT id), (SELECT sum(value)::bigint FROM counters) \
                 FROM effects";
    let row = sql(url).await.query_typed_one(query, &[]).await.unwrap();
    std::array::from_fn(|at| row.get(at))
}

pub(crate) async fn sql(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}
