//! A server in about ten lines: `cargo run -p redial-examples --example server`.

use redial_examples::counters::Counters;
use redial_server::Server;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let server = Counters::default().register(Server::builder()).build()?;
    let listener = server.bind("127.0.0.1:7077").await?;
    println!("listening on {}", listener.local_addr()?);
    Ok(server.serve(listener).await?)
}
