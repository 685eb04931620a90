//! A client in five lines. Start `counter-server` first.

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
