//! A client whose server comes and goes: `cargo run -p redial-examples --example in_trouble`, with or without a
//! server. Stop and start `counter-server` meanwhile.

use std::time::Duration;

use redial_client::{AdaptiveTimeout, CallLimits, Client, Config};
use serde_json::json;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let call = CallLimits {
        adaptive_timeout: Some(AdaptiveTimeout::default()),
        ..CallLimits::default()
    };
    let config = Config {
        call,
        ..Config::default()
    };
    let client = Client::builder()
        .config(config)
        .connect_lazy("127.0.0.1:7077")?;
    for _ in 0..20 {
        // A value that has a substitute is not waited for while the server is down.
        let shown = client.query("get", json!({"key": "k"})).fail_fast(true);
        match shown.await {
            Ok(value) => println!("{value}"),
            Err(error) => println!("an old value, since {error}"),
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    let stats = client.stats();
    println!("{} attempts; {:?}", stats.attempts, stats.retries);
    Ok(())
}
