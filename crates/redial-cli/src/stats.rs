//! `redial stats`: what a server has done and holds, once or again and again, as `top` does for a machine.

mod answer;
mod screen;

use std::{
    io::{IsTerminal, Write},
    process::ExitCode,
    time::Duration,
};

use redial_client::{CallError, Client};
use serde_json::Value;

use self::{answer::Answer, screen::Screen};
use crate::{
    connect::ConnectArgs,
    failure::{Exit, Failure},
    flags::{Whole, duration, whole},
    numbers::fit,
    output::{self, Reader},
    runtime,
};

/// How often a server may be asked.
const TIMES: Whole = 1..=1_000_000_000;

/// Which server, and how often.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 ok, 2 usage, 3 no answer, or not for this caller")]
pub(crate) struct StatsArgs {
    /// HOST:PORT, unix:/path or @PROFILE
    addr: Option<String>,
    /// Again and again, until Ctrl-C
    #[arg(short, long)]
    watch: bool,
    /// With --watch: how often [default: 1s]
    #[arg(long, value_name = "TIME", requires = "watch", value_parser = duration)]
    every: Option<Duration>,
    /// With --watch: how many times
    #[arg(short = 'n', long, value_name = "N", requires = "watch", value_parser = whole::<u64>(TIMES))]
    times: Option<u64>,
    /// Print the server's answers as they are, one a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

impl StatsArgs {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        let reach = self.connect.reach(self.addr.as_deref())?;
        runtime::run(async {
            let client = reach.connect().await?;
            let mut signals = runtime::signals()?;
            let mut is_shown = false;
            let shown = tokio::select! {
                shown = self.show(&client, &mut is_shown) => shown,
                () = signals.stop_requested() => Ok(()),
            };
            client.close().await;
            shown?;
            if !is_shown {
                let error = anyhow::anyhow!("interrupted before there was an answer");
                return Err(Failure::new(Exit::NotExecuted, error));
            }
            Ok(Exit::Ok.into())
        })
    }

    async fn show(&self, client: &Client, is_shown: &mut bool) -> Result<(), Failure> {
        if !self.watch {
            let stats = ask(client, "rpc.stats").await.map_err(refused)?;
            check(&stats)?;
            let text = if self.json {
                stats.to_string()
            } else {
                Screen::once(&Answer::read(&stats), health(client).await.as_ref())
            };
            *is_shown = true;
            return output::print(&text).map(drop);
        }
        let mut ticks = tokio::time::interval(self.every.unwrap_or(Duration::from_secs(1)));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut screen = Screen::new(std::io::stdout().is_terminal());
        for time in 0..self.times.unwrap_or(u64::MAX) {
            ticks.tick().await;
            let answer = ask(client, "rpc.stats").await;
            answer.as_ref().map_or(Ok(()), check)?;
            let text = match answer {
                Ok(stats) if self.json => stats.to_string(),
                Ok(stats) => {
                    let health = health(client).await;
                    screen.next(Answer::read(&stats), health.as_ref())
                }
                // A server that was there may come again.
                Err(error) if time > 0 && error.server_error().is_none() => {
                    let text = format!("no answer: {error}");
                    let _ = writeln!(std::io::stderr(), "{}", output::visible(&text));
                    continue;
                }
                Err(error) => return Err(refused(error)),
            };
            *is_shown = true;
            if output::print(&text)? == Reader::HasGone {
                break;
            }
        }
        Ok(())
    }
}

async fn ask(client: &Client, method: &'static str) -> Result<Value, CallError> {
    client.query(method, ()).await
}

/// Whether an answer is one to `rpc.stats`: a server of another make may answer whatever it is asked.
fn check(stats: &Value) -> Result<(), Failure> {
    if stats["awake_ms"].is_u64() {
        return Ok(());
    }
    let error = anyhow::anyhow!(
        "what rpc.stats answered is {}; expected an object with awake_ms, as a Redial server answers",
        fit(&stats.to_string(), 60)
    );
    Err(Failure::new(Exit::NotExecuted, error))
}

/// What the server says of its health, if it says anything.
async fn health(client: &Client) -> Option<Value> {
    ask(client, "rpc.health").await.ok()
}

/// Why there is no answer.
fn refused(error: CallError) -> Failure {
    let code = error.server_error().map(|error| i32::from(error.code));
    let why = match code {
        Some(-32601) => "; expected a Redial server of version 0.1 or later".to_owned(),
        Some(-32009 | -32005) => {
            "; expected a caller on the server's own machine, or one with --token-file or --tls-cert \
             that its policy allows rpc.stats"
                .to_owned()
        }
        _ => String::new(),
    };
    Failure::new(Exit::NotExecuted, anyhow::anyhow!("{error}{why}"))
}
