//! `cargo xtask ci`: everything that must pass before a change lands, the cheapest first.

use std::{process::ExitCode, time::Instant};

use anyhow::{Context, Result};

use crate::{
    text::table,
    workspace::{Workspace, cargo, exit_code},
};

/// The steps, each a name and the arguments of one cargo command.
///
/// A crate that is built alone shows what it forgot, which in the workspace's build the features of another
/// hide. Of the packages only redial-protocol is built: cargo keeps what it unpacked of a version, and would
/// build yesterday's redial-protocol for the others.
const STEPS: &str = "\
format: fmt --all --check
clippy: clippy --workspace --all-targets -- -D warnings
docs: doc --workspace --no-deps --features redial/metrics,redial/schemas,redial/tokens,redial/tower,redial/tracing
redial-protocol, as packaged: package --offline --allow-dirty -p redial-protocol
circles of imports: xtask circles
redial-server alone: build -p redial-server
redial-server with tokens: test -p redial-server --features tokens --test it token_files
redial-server with sight: check -p redial-server --features metrics,schemas,tracing
redial-client alone: build -p redial-client
redial-client with sight: check -p redial-client --features metrics,tracing
redial-cli alone: build -p redial-cli
redial-tls with native roots: test -p redial-tls --features native-roots --test it native_roots
packages: package --offline --allow-dirty --no-verify -p redial -p redial-protocol -p redial-server -p redial-client -p redial-tls -p redial-store-sqlite -p redial-store-postgres -p redial-cli
tests: test --workspace
simulation: xtask sim --seeds 500
simulation of servers that share a table: xtask sim --subject shared --seeds 200
simulation of clients with several addresses: xtask sim --subject endpoints --seeds 300
storms: xtask storm --scenario a,b,d,h --clients 1000
instructions: xtask instructions
demo: xtask demo --calls 60
restarts: xtask restarts --refusals --calls 20000 --clients 4 --restarts 4
restarts with a store: xtask restarts --store --calls 20000 --clients 4 --restarts 20
chaos: xtask chaos --seconds 10
chaos among servers: xtask chaos --store postgres --seconds 10
fail-over of the database: xtask failover --failovers 1
power cuts: xtask power --cuts 40 --calls 500 --kills 3
power cuts, effects outside: xtask power --inc-as mutation --cuts 24 --calls 300 --kills 3
power cuts, calls run again: xtask power --inc-as resumable --cuts 24 --calls 300 --kills 3";

/// Runs the steps until one fails, whose exit code becomes this command's own.
pub(crate) fn run() -> Result<ExitCode> {
    let workspace = Workspace::find()?;
    let mut rows = Vec::new();
    let mut code = ExitCode::SUCCESS;
    for step in STEPS.lines() {
        let (name, args) = step.split_once(": ").expect("a name and arguments");
        println!("\n== {name}: cargo {args}");
        let start = now();
        let mut command = cargo();
        if name == "docs" {
            command.env("RUSTDOCFLAGS", "-D warnings");
        }
        command.current_dir(&workspace.root);
        let status = command.args(args.split_whitespace()).status();
        let status = status.context("can't run cargo")?;
        let took = format!("{:.1} s", now().duration_since(start).as_secs_f64());
        println!("== {name}: {took}");
        if status.success() {
            rows.push([name.to_owned(), took, "passed".to_owned()]);
            continue;
        }
        rows.push([name.to_owned(), took, status.to_string()]);
        eprintln!("error: step {name:?} failed: cargo {args}");
        code = exit_code(status);
        break;
    }
    println!("\n{}", table(["step", "took", "result"], &rows));
    Ok(code)
}

#[expect(
    clippy::disallowed_methods,
    reason = "only a person reads how long a step took"
)]
fn now() -> Instant {
    Instant::now()
}
