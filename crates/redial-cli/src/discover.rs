//! `redial discover`: the methods of a server, as it describes them itself.

mod document;
mod markdown;
mod rust;
mod rust_types;

use std::process::ExitCode;

use serde_json::value::RawValue;

use self::document::Document;
use crate::{
    connect::{ConnectArgs, Reach},
    failure::{Exit, Failure},
    output, runtime,
};

/// Which server to ask, and in which form.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 ok, 1 the server describes nothing, 2 usage, 3 not reached")]
pub(crate) struct DiscoverArgs {
    /// HOST:PORT, unix:/path, A,B,C or @PROFILE
    addr: Option<String>,
    /// Print the OpenRPC document as the server sent it
    #[arg(long, group = "form")]
    json: bool,
    /// Print a page in Markdown
    #[arg(long, group = "form")]
    markdown: bool,
    /// Print the methods as types of Rust, for a client
    #[arg(long, group = "form")]
    rust: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

impl DiscoverArgs {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        let reach = self.connect.reach(self.addr.as_deref())?;
        runtime::run(self.discover(&reach))
    }

    async fn discover(self, reach: &Reach) -> Result<ExitCode, Failure> {
        let client = reach.connect().await?;
        let call = client.query("rpc.discover", ());
        let answer = call.returning::<Box<RawValue>>().await;
        client.close().await;
        let raw = answer.map_err(|error| {
            // A server that has no such method was reached all the same.
            let is_answered = error.server_error().is_some();
            let exit = if is_answered {
                Exit::Failed
            } else {
                Exit::NotExecuted
            };
            Failure::new(exit, error)
        })?;
        if self.json {
            output::print(raw.get())?;
            return Ok(ExitCode::SUCCESS);
        }
        let document = Document::read(raw.get()).map_err(|why| {
            let why = anyhow::anyhow!("what rpc.discover answered is no OpenRPC document: {why}");
            Failure::new(Exit::Failed, why)
        })?;
        let text = match (self.markdown, self.rust) {
            (true, _) => markdown::page(&document),
            (_, true) => rust::module(&document),
            _ => table(&document),
        };
        output::print(&text)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The widest that a cell of params or of a result gets, in characters.
const CELL: usize = 26;

fn table(document: &Document) -> String {
    let rows = document.methods.iter().map(|method| {
        vec![
            method.name.clone(),
            method.kind_and_notes(),
            clip(&method.params_line()),
            clip(&method.result_line()),
        ]
    });
    let table = output::table(
        &["METHOD", "KIND", "TAKES", "GIVES"],
        &rows.collect::<Vec<_>>(),
        &[],
    );
    let count = match document.methods.len() {
        1 => "1 method".to_owned(),
        n => format!("{n} methods"),
    };
    format!("{}, {count}\n\n{table}", document.title)
}

fn clip(text: &str) -> String {
    if text.chars().count() <= CELL {
        return text.to_owned();
    }
    let kept: String = text.chars().take(CELL - 1).collect();
    kept + "…"
}
