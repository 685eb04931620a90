//! A program that may be killed at any moment and still counts exactly once.
//!
//! Before it sends a call it writes the call's token to a file. Started again, it finds the file
//! and asks the server what happened to the call. Either it gets the outcome; or the call was not
//! executed and never will be, so it makes a new one; or that is unknown, because the server was
//! restarted or the program was away for longer than its session's lease. It removes the token only
//! when the outcome is where it is needed (here: printed), and then lets the server forget the
//! call: in the other order a crash in between would lose the outcome.

use std::{
    fs,
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::Parser;
use redial_client::{CallError, CallToken, Client, Resolution};
use redial_examples::{
    doors::ClientDoors,
    methods::{Counter, Inc, IncParams},
};

/// Adds 1 to a counter exactly once, however often it is killed and started again while the server
/// runs.
///
/// Prints what happened to the call of the previous run, if there was one, and then the counter's
/// value. If that is unknown because the server was restarted, it says so and exits with 1.
#[derive(Debug, Parser)]
#[command(name = "crash-safe", version)]
struct Args {
    #[command(flatten)]
    doors: ClientDoors,
    /// The name of the counter
    #[arg(long, value_name = "K", default_value = "k")]
    key: String,
    /// The file that keeps the call's token until its outcome is known
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
    let client = args.doors.connect(Client::builder()).await?;
    let (token, value) = match resolve(&client, args).await? {
        Some(found) => found,
        None => count(&client, args).await?,
    };
    // In this order: once the token is gone, nothing can ask for the outcome again.
    print(&format!("the counter is {value}"))?;
    fs::remove_file(&args.token)
        .with_context(|| format!("cannot remove --token {}", args.token.display()))?;
    client.forget(token);
    client.close().await;
    Ok(())
}

/// The call of the previous run and its outcome; `None` if there was no call, or it never ran.
async fn resolve(client: &Client, args: &Args) -> anyhow::Result<Option<(CallToken, i64)>> {
    let file = args.token.display();
    let text = match fs::read_to_string(&args.token) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read --token {file}")),
    };
    let token: CallToken = serde_json::from_str(&text).with_context(|| {
        format!("--token {file} holds no token: expected a file that crash-safe wrote")
    })?;
    match client.resolve(token.clone()).returning::<Counter>().await {
        Ok(Resolution::Value(counter)) => {
            print("the call of the previous run was executed")?;
            Ok(Some((token, counter.value)))
        }
        Ok(Resolution::Never) => {
            print("the call of the previous run was not executed, and never will be")?;
            Ok(None)
        }
        Err(error @ CallError::Unknown { .. }) => Err(error).with_context(|| {
            format!(
                "it is unknown whether the call of the previous run was executed; \
                 look at the counter, and remove {file} to start again"
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
    write_atomically(&serde_json::to_string(&token)?, &args.token)
        .with_context(|| format!("cannot write --token {}", args.token.display()))?;
    print("the token is safe")?;
    Ok((token, call.await?.value))
}

/// Writes a file that is complete or absent, whenever the program is killed.
fn write_atomically(text: &str, path: &Path) -> std::io::Result<()> {
    let unfinished = path.with_extension("unfinished");
    let mut file = fs::File::create(&unfinished)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&unfinished, path)
}

/// Prints a line at once, even into a pipe.
fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}
