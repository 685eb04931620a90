//! A program that may be killed at any moment and still counts exactly once.
//!
//! Before it sends a call it writes the call's token to a file. When it is started again and finds
//! the file, it asks the server what became of that call: its outcome; or that it was not executed
//! and never will be, in which case it is made anew; or that nobody knows, since the server was
//! restarted, or the program was away for longer than its session's lease. Only when the outcome is
//! where it is needed (here: printed) is the token removed, and then the server told to forget the
//! call: in the other order a death in between would lose the outcome.

use std::{
    fs,
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::Parser;
use redial_client::{CallError, CallToken, Client, Config, Resolution};
use redial_examples::methods::{Counter, Inc, IncParams};

/// Adds 1 to a counter, exactly once, however often this is killed and started again while the
/// server lives.
///
/// Prints what became of the call of a life before, if there was one, and then the counter's value.
/// If nobody can know, because the server was restarted meanwhile, it says so and exits 1.
#[derive(Debug, Parser)]
#[command(name = "crash-safe", version)]
struct Args {
    /// The server's address, HOST:PORT
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7077")]
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
    // Without a session there would be no asking what became of a call.
    let config = Config {
        assume_plain_on_silence: false,
        ..Config::default()
    };
    let client = Client::builder().config(config).connect(&args.connect);
    let client = client.await?;
    let (token, value) = match resolve(&client, args).await? {
        Some(found) => found,
        None => count(&client, args).await?,
    };
    // In this order: the outcome is where it is needed, then nobody will ask for it again.
    say(&format!("the counter is {value}"))?;
    fs::remove_file(&args.token).context("the token's file can't be removed")?;
    client.forget(token);
    client.close().await;
    Ok(())
}

/// What became of the call of a life before; `None` if there was none, or if it never ran.
async fn resolve(client: &Client, args: &Args) -> anyhow::Result<Option<(CallToken, i64)>> {
    let file = args.token.display();
    let text = match fs::read_to_string(&args.token) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("{file} can't be read")),
    };
    let token: CallToken = serde_json::from_str(&text)
        .with_context(|| format!("{file} holds no token of a call; expected what this wrote"))?;
    match client.resolve(token.clone()).returning::<Counter>().await {
        Ok(Resolution::Value(counter)) => {
            say("the call of the life before was executed")?;
            Ok(Some((token, counter.value)))
        }
        Ok(Resolution::Never) => {
            say("the call of the life before was not executed, and never will be")?;
            Ok(None)
        }
        Err(error @ CallError::Unknown { .. }) => Err(error).with_context(|| {
            format!(
                "nobody knows whether the call of the life before was executed; \
                 look at the counter, and remove {file} to begin anew"
            )
        }),
        Err(error) => Err(error.into()),
    }
}

/// Makes the call, once its token is safe.
async fn count(client: &Client, args: &Args) -> anyhow::Result<(CallToken, i64)> {
    let (key, delta) = (args.key.clone(), 1);
    let mut call = client.call::<Inc>(IncParams { key, delta });
    let token = call.token().await?;
    keep(&serde_json::to_string(&token)?, &args.token)
        .with_context(|| format!("{} can't be written", args.token.display()))?;
    say("the token is safe")?;
    Ok((token, call.await?.value))
}

/// Writes a file that is there either whole or not at all, whenever this is killed.
fn keep(text: &str, path: &Path) -> std::io::Result<()> {
    let unfinished = path.with_extension("unfinished");
    let mut file = fs::File::create(&unfinished)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&unfinished, path)
}

/// Says it at once, even into a pipe.
fn say(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}
