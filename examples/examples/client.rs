//! A client in five lines: `cargo run -p redial-examples --example client`, once a server runs.

use redial_client::Client;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::connect("127.0.0.1:7077").await?;
    let value = client
        .request("inc", serde_json::json!({"key": "k"}))
        .await?;
    println!("{value}");
    Ok(())
}
