//! A program that may be killed at any moment and still counts exactly once.
//!
//! Before it sends a call it writes the call's token to a file. When it is started again and finds
//! the file, it asks the server what became of that call: its outcome, or that it was not executed
//! and never will be, in which case it is made anew.

use std::{fs, io::Write, path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::Parser;
use redial_client::{CallToken, Client, Resolution};
use redial_examples::methods::{Counter, Inc, IncParams};

/// Adds 1 to a counter, exactly once, however often this is killed and started again.
///
/// Prints what became of the call of a life before, if there was one, and then the counter's value.
#[derive(Debug, Parser)]
#[command(name = "crash-safe", version)]
struct Args {
    /// The server's address, HOST:PORT
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:50777")]
    connect: String,
    /// Which counter
    #[arg(long, value_name = "K", default_value = "k")]
    key: String,
    /// Where the token of the call is kept as long as its outcome is not known
    #[arg(long, value_name = "FILE")]
    token: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> anyhow::Result<()> {
    let client = Client::connect(&args.connect).await?;
    let value = match resolve(&client, args).await? {
        Some(value) => value,
        None => count(&client, args).await?,
    };
    // What to do with the value comes before the token is forgotten.
    println!("the counter is {value}");
    fs::remove_file(&args.token).context("the token's file can't be removed")
}

/// What became of the call of a life before; `None` if there was none, or if it never ran.
async fn resolve(client: &Client, args: &Args) -> anyhow::Result<Option<i64>> {
    let Ok(text) = fs::read_to_string(&args.token) else {
        return Ok(None);
    };
    let file = args.token.display();
    let token: CallToken = serde_json::from_str(&text)
        .with_context(|| format!("{file} holds no token of a call; expected what this wrote"))?;
    Ok(match client.resolve(token).returning::<Counter>().await? {
        Resolution::Value(counter) => {
            say("the call of the life before was executed")?;
            Some(counter.value)
        }
        Resolution::Never => {
            say("the call of the life before was not executed, and never will be")?;
            None
        }
    })
}

/// Makes the call, once its token is safe.
async fn count(client: &Client, args: &Args) -> anyhow::Result<i64> {
    let (key, delta) = (args.key.clone(), 1);
    let mut call = client.call::<Inc>(IncParams { key, delta });
    let token = serde_json::to_string(&call.token().await?)?;
    let mut file = fs::File::create(&args.token)
        .with_context(|| format!("{} can't be written", args.token.display()))?;
    file.write_all(token.as_bytes())?;
    file.sync_all()?;
    say("the token is safe")?;
    Ok(call.await?.value)
}

/// Says it at once, even into a pipe.
fn say(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}
