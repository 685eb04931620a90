//! An order service that may be killed at any moment: each order takes its goods out of stock exactly
//! once, in the SQL tables of the program and in one commit with the call's record.
//!
//! ```console
//! $ cargo run --example orders -- orders.db
//! listening on 127.0.0.1:7077
//! ```

use std::error::Error;

use redial_client::Client;
use redial_protocol::{Method, MethodKind};
use redial_server::{Abort, Server};
use redial_store_sqlite::{SqliteMethods, SqliteStore};
use serde::{Deserialize, Serialize};

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS stock (item TEXT PRIMARY KEY, count INTEGER NOT NULL CHECK (count >= 0));
    CREATE TABLE IF NOT EXISTS orders (
        number INTEGER PRIMARY KEY, item TEXT NOT NULL, count INTEGER NOT NULL, call TEXT NOT NULL);
    INSERT OR IGNORE INTO stock VALUES ('tea', 100), ('rice', 50);";

/// `place_order {item, count}` takes goods out of stock, and returns the order's number.
enum PlaceOrder {}

#[derive(Serialize, Deserialize)]
struct NewOrder {
    item: String,
    count: u32,
}

impl Method for PlaceOrder {
    const NAME: &'static str = "place_order";
    const KIND: MethodKind = MethodKind::Mutation;
    type Params = NewOrder;
    type Output = i64;
}

/// `in_stock [item]` returns how much is left.
enum InStock {}

impl Method for InStock {
    const NAME: &'static str = "in_stock";
    const KIND: MethodKind = MethodKind::Query;
    type Params = (String,);
    type Output = i64;
}

/// Waits for what stops a program: Ctrl-C at a terminal, SIGTERM from systemd, Docker or Kubernetes.
async fn stop_requested() -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            pressed = tokio::signal::ctrl_c() => pressed,
            _ = terminate.recv() => Ok(()),
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await
}

fn server(path: &str) -> Result<Server, Box<dyn Error>> {
    let store = SqliteStore::options()
        .migrate(|connection| {
            connection.execute_batch(SCHEMA)?;
            Ok(())
        })
        .open(path)?;
    let server = Server::builder()
        .store(store.clone())
        // The handler's SQL and the call's record are one commit. An error undoes what it wrote.
        .transaction::<PlaceOrder>(|order, transaction, context| {
            let taken = transaction.execute(
                "UPDATE stock SET count = count - ?2 WHERE item = ?1 AND count >= ?2",
                (&order.item, order.count),
            )?;
            if taken == 0 {
                return Err(Abort::failed(format!("not enough {} in stock", order.item)).code(7));
            }
            transaction.execute(
                "INSERT INTO orders (item, count, call) VALUES (?1, ?2, ?3)",
                (&order.item, order.count, context.call_id()),
            )?;
            Ok(transaction.last_insert_rowid())
        })
        // A query sees what is durable.
        .read::<InStock>(&store, |(item,), connection| {
            let mut count = connection.prepare_cached("SELECT count FROM stock WHERE item = ?1")?;
            Ok(count.query_row([item], |row| row.get(0))?)
        })
        .build()?;
    Ok(server)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args()
        .nth(1)
        .ok_or("expected the path of a file for the orders")?;
    let server = server(&path)?;
    let listener = server.bind("127.0.0.1:7077").await?;
    println!("listening on {}", listener.local_addr()?);
    let mut serving = tokio::spawn({
        let server = server.clone();
        async move { server.serve(listener).await }
    });

    // A client elsewhere: whatever becomes of the server meanwhile, the order is placed once.
    let client = Client::connect("127.0.0.1:7077").await?;
    let order = NewOrder {
        item: "tea".to_owned(),
        count: 2,
    };
    match client.call::<PlaceOrder>(order).await {
        Ok(number) => println!("order {number} is placed"),
        Err(error) => println!("{error}"),
    }
    let left = client.call::<InStock>(("tea".to_owned(),)).await?;
    println!("{left} tea in stock");
    client.close().await;

    // A server that can't serve ends at once, and says why.
    tokio::select! {
        ended = &mut serving => return Ok(ended??),
        stop = stop_requested() => stop?,
    }
    server.shutdown().await;
    Ok(serving.await??)
}
