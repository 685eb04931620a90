//! `redial call`: one call, its result on stdout, and whether it was executed as the exit code.

pub(crate) mod input;
mod report;
mod token_file;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use redial_client::{Call, CallError, CallToken, Client, Hedge, Resolution, Uuid};
use serde_json::value::RawValue;
use tokio::time::Instant;

use self::{
    input::{Words, pair},
    report::Ended,
};
use crate::{
    connect::{ConnectArgs, Reach},
    failure::{Exit, Failure},
    flags::duration,
    runtime,
};

const EXIT_CODES: &str =
    "Exit codes: 0 ok, 1 failed (executed), 2 usage, 3 not executed, 4 unknown";

/// What to call.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct CallArgs {
    /// HOST:PORT, unix:/path, A,B,C or @PROFILE
    addr: Option<String>,
    /// The method's name
    method: Option<String>,
    /// What it takes: JSON, @FILE, or - for standard input
    params: Option<String>,
    /// Say on stderr how the call went
    #[arg(short, long)]
    verbose: bool,
    /// Print one JSON object: outcome, result, report
    #[arg(long)]
    json: bool,
    /// The method has no effect
    #[arg(long, conflicts_with_all = ["save_token", "resolve", "resume"])]
    query: bool,
    /// The id of the call, never used before
    #[arg(long, value_name = "UUID", conflicts_with_all = ["resolve", "resume"], value_parser = input::uuid)]
    id: Option<Uuid>,
    /// Say this beside the params; may be repeated
    #[arg(long, value_name = "K=V", conflicts_with = "resolve", value_parser = pair)]
    meta: Vec<(String, String)>,
    /// Send a copy if there is no reply by then
    #[arg(long, value_name = "TIME", conflicts_with = "resolve", value_parser = duration)]
    hedge: Option<Duration>,
    /// Write the call's token before it is sent
    #[arg(long, value_name = "FILE", conflicts_with_all = ["resolve", "resume"])]
    save_token: Option<PathBuf>,
    /// Ask for the outcome of a saved call
    #[arg(long, value_name = "FILE", conflicts_with = "resume")]
    resolve: Option<PathBuf>,
    /// Send a saved call again, under its id
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,
    /// Let the server forget the saved call
    #[arg(long)]
    forget: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// What is asked of the server.
enum Question {
    Call {
        method: String,
        params: Option<Box<RawValue>>,
    },
    Resolve(CallToken),
    Resume(CallToken),
}

impl CallArgs {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        let words = Words::of([&self.addr, &self.method, &self.params])?;
        let mut reach = self.connect.reach(words.address)?;
        let question = self.question(&words)?;
        reach.takes(&self.meta)?;
        if self.hedge.is_some() {
            // A copy goes out on another connection.
            reach.config.connections = 2;
        }
        runtime::run(self.ask(&reach, question))
    }

    fn question(&self, words: &Words<'_>) -> Result<Question, Failure> {
        if let Some(path) = self.resolve.as_ref().or(self.resume.as_ref()) {
            let flag = if self.resolve.is_some() {
                "--resolve"
            } else {
                "--resume"
            };
            if let Some(method) = words.method {
                return Err(Failure::usage(format!(
                    "METHOD is {method:?}, and the token of {flag} names the call; expected ADDR alone"
                )));
            }
            let token = token_file::read(path, flag)?;
            return Ok(match self.resolve {
                Some(_) => Question::Resolve(token),
                None => Question::Resume(token),
            });
        }
        if self.forget {
            return Err(Failure::usage("--forget goes with --resolve or --resume"));
        }
        let method = words.method.ok_or_else(|| {
            Failure::usage("METHOD is missing; expected redial call [ADDR] METHOD [PARAMS]")
        })?;
        if let Some(path) = &self.save_token {
            token_file::check(path)?;
        }
        let params = words.params.map(input::params).transpose();
        let params = params.map_err(|error| words.explain(error))?;
        Ok(Question::Call {
            method: method.to_owned(),
            params,
        })
    }

    async fn ask(self, reach: &Reach, question: Question) -> Result<ExitCode, Failure> {
        let is_saved = !matches!(question, Question::Call { .. });
        let mut signals = runtime::signals()?;
        let connected = tokio::select! {
            connected = reach.connect() => connected,
            () = signals.stop_requested() => Err(Failure::new(
                Exit::NotExecuted,
                anyhow::anyhow!("interrupted before there was a connection"),
            )),
        };
        let client = match connected {
            // The question that was not put says nothing of the call.
            Err(failure) if is_saved && failure.exit == Exit::NotExecuted => {
                return Ended::unreached(Exit::Unknown, failure).show(self.json, self.verbose);
            }
            Err(failure) if failure.exit == Exit::NotExecuted => {
                return Ended::unreached(Exit::NotExecuted, failure).show(self.json, self.verbose);
            }
            other => other?,
        };
        let ended = tokio::select! {
            ended = self.put(&client, reach, question) => ended?,
            () = signals.stop_requested() => Ended::interrupted(),
        };
        let shown = ended.show(self.json, self.verbose);
        client.close().await;
        shown
    }

    async fn put(
        &self,
        client: &Client,
        reach: &Reach,
        question: Question,
    ) -> Result<Ended, Failure> {
        let deadline = reach.config.call.deadline;
        match question {
            Question::Call { method, params } => {
                if self.query {
                    let ended = self.call(client.query(method, params), deadline).await;
                    return ended.map(Ended::of_query);
                }
                self.call(client.request(method, params), deadline).await
            }
            Question::Resume(token) => {
                let ended = Ended::call(self.dress(client.resume(token.clone())).await);
                self.forget(client, token, &ended);
                Ok(ended)
            }
            Question::Resolve(token) => {
                let resolution = client.resolve(token.clone()).returning::<Box<RawValue>>();
                let ended = match resolution.await {
                    Ok(Resolution::Value(value)) => Ended::value(token.id, value),
                    Ok(Resolution::Never) => Ended::never(token.id),
                    Err(error) => Ended::error(error),
                };
                self.forget(client, token, &ended);
                Ok(ended)
            }
        }
    }

    async fn call<O>(&self, mut call: Call<O>, deadline: Duration) -> Result<Ended, Failure> {
        if let Some(id) = self.id {
            call = call.id(id);
        }
        let Some(path) = &self.save_token else {
            return Ok(Ended::call(self.dress(call).await));
        };
        let start = now();
        let token = match call.token().await {
            Ok(token) => token,
            Err(error) => return Ok(Ended::error(error)),
        };
        token_file::write(path, &token)?;
        token_file::warn(&token);
        // Both steps have one deadline between them.
        let left = deadline.saturating_sub(start.elapsed());
        let call = call.deadline(left.max(Duration::from_millis(1)));
        Ok(Ended::call(self.dress(call).await))
    }

    /// The call with what flags say of it, to its end.
    async fn dress<O>(
        &self,
        mut call: Call<O>,
    ) -> Result<redial_client::Reply<Box<RawValue>>, CallError> {
        for (key, value) in &self.meta {
            call = call.meta(key, value);
        }
        if let Some(after) = self.hedge {
            call = call.hedge(Hedge::After(after));
        }
        call.returning::<Box<RawValue>>().with_report().await
    }

    /// What has an outcome need not be kept for another question, if the user says so.
    fn forget(&self, client: &Client, token: CallToken, ended: &Ended) {
        if self.forget && ended.exit() != Exit::Unknown {
            client.forget(token);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a program measures real time")]
fn now() -> Instant {
    Instant::now()
}
