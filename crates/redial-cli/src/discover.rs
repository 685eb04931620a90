//! `redial discover`: the methods of a server, as it describes them itself.

mod document;
mod markdown;
mod rust;
mod rust_cycles;
mod rust_enums;
mod rust_names;
mod rust_types;

use std::process::ExitCode;

use serde_json::value::RawValue;

use self::document::{Document, MethodEntry};
use crate::{
    connect::{ConnectArgs, Reach},
    failure::{Exit, Failure},
    numbers::fit,
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
            let code = error.server_error().map(|error| i32::from(error.code));
            let why = match code {
                Some(-32601) => "; expected a Redial server, or another that has rpc.discover",
                _ => "",
            };
            Failure::new(exit, anyhow::anyhow!("{error}{why}"))
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
        output::show(&text)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// How wide the table gets, in characters.
const WIDTH: usize = 80;

/// The most of it that a result gets, and the least that params get.
const CELL: usize = 18;

fn table(document: &Document) -> String {
    let mut rows: Vec<_> = document.methods.iter().map(row).collect();
    // What is left beside the other columns is for the params, which are longest.
    let widest = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let others: usize = [0, 1, 3]
        .map(|column| widest(column).unwrap_or(0).max(6) + 2)
        .iter()
        .sum();
    let left = WIDTH.saturating_sub(others).max(CELL);
    for row in &mut rows {
        row[2] = fit(&row[2], left);
    }
    let table = output::table(&["METHOD", "KIND", "TAKES", "GIVES"], &rows, &[]);
    let count = match document.methods.len() {
        1 => "1 method".to_owned(),
        n => format!("{n} methods"),
    };
    format!("{}, {count}\n\n{table}", document.title)
}

fn row(method: &MethodEntry) -> Vec<String> {
    let cells = [
        method.name.clone(),
        method.kind_and_notes(),
        method.params_line(),
        fit(&method.result_line(), CELL),
    ];
    cells
        .map(|cell| output::one_line(&cell).into_owned())
        .into()
}
