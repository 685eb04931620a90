//! Your own method, shared by both ends as a type, with your own error:
//! `cargo run -p redial-examples --example custom_method`.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use redial_client::{CallError, Client};
use redial_server::{Abort, Method, MethodKind, Server};
use serde::{Deserialize, Serialize};

enum Transfer {}

#[derive(Serialize, Deserialize)]
struct Order {
    from: String,
    to: String,
    cents: u64,
}

impl Method for Transfer {
    const NAME: &'static str = "transfer";
    const KIND: MethodKind = MethodKind::Mutation;
    type Params = Order;
    type Output = u64;
}

/// Codes from -32768 to -32000 belong to JSON-RPC; this one is ours.
const INSUFFICIENT_FUNDS: i32 = 1;

fn transfer(accounts: &mut BTreeMap<String, u64>, order: Order) -> Result<u64, Abort> {
    let balance = accounts.get(&order.from).copied().unwrap_or(0);
    let rest = balance.checked_sub(order.cents).ok_or_else(|| {
        Abort::failed(format!("{} has only {balance}", order.from)).code(INSUFFICIENT_FUNDS)
    })?;
    accounts.insert(order.from, rest);
    *accounts.entry(order.to).or_default() += order.cents;
    Ok(rest)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let accounts = Arc::new(Mutex::new(BTreeMap::from([("ann".to_owned(), 100)])));
    let server = Server::builder()
        .method::<Transfer>(move |order| {
            let accounts = Arc::clone(&accounts);
            async move { transfer(&mut accounts.lock().expect("no handler panics"), order) }
        })
        .build()?;
    let listener = server.bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { server.serve(listener).await });

    let client = Client::connect(address).await?;
    let order = |cents| Order {
        from: "ann".into(),
        to: "bob".into(),
        cents,
    };
    println!("ann has {} left", client.call::<Transfer>(order(70)).await?);
    match client.call::<Transfer>(order(70)).await {
        Err(error @ CallError::Failed { .. }) => println!("as expected: {error}"),
        other => anyhow::bail!("expected the handler's own error, not {other:?}"),
    }
    Ok(())
}
