//! `cargo xtask ci`: everything that must pass before a change lands, the cheapest first.

use std::{process::ExitCode, time::Instant};

use anyhow::{Context, Result};

use crate::{
    text::table,
    workspace::{Workspace, cargo, exit_code},
};

/// One cargo command.
struct Step {
    name: &'static str,
    args: &'static str,
    env: Option<(&'static str, &'static str)>,
}

const fn step(name: &'static str, args: &'static str) -> Step {
    Step {
        name,
        args,
        env: None,
    }
}

const STEPS: [Step; 22] = [
    step("format", "fmt --all --check"),
    step("clippy", "clippy --workspace --all-targets -- -D warnings"),
    Step {
        name: "docs",
        args: "doc --workspace --no-deps --features redial/tower",
        env: Some(("RUSTDOCFLAGS", "-D warnings")),
    },
    // Alone, since in the workspace's build one crate's features hide what another forgot.
    step(
        "redial-protocol, as packaged",
        "package --offline --allow-dirty -p redial-protocol",
    ),
    step("circles of imports", "xtask circles"),
    step("redial-server alone", "build -p redial-server"),
    step(
        "redial-server with tokens",
        "test -p redial-server --features tokens --test it token_files",
    ),
    step("redial-client alone", "build -p redial-client"),
    step(
        "redial-tls with native roots",
        "test -p redial-tls --features native-roots --test it native_roots",
    ),
    // Not built: cargo keeps what it unpacked of a version, and would build yesterday's redial-protocol.
    step(
        "packages",
        "package --offline --allow-dirty --no-verify -p redial -p redial-protocol -p redial-server -p redial-client -p redial-tls -p redial-store-sqlite -p redial-store-postgres",
    ),
    step("tests", "test --workspace"),
    step("simulation", "xtask sim --seeds 500"),
    step(
        "simulation of servers that share a table",
        "xtask sim --subject shared --seeds 200",
    ),
    step("instructions", "xtask instructions"),
    step("demo", "xtask demo --calls 60"),
    step(
        "restarts",
        "xtask restarts --refusals --calls 20000 --clients 4 --restarts 4",
    ),
    step(
        "restarts with a store",
        "xtask restarts --store --calls 20000 --clients 4 --restarts 20",
    ),
    step("chaos", "xtask chaos --seconds 10"),
    step(
        "chaos among servers",
        "xtask chaos --store postgres --seconds 10",
    ),
    step("power cuts", "xtask power --cuts 40 --calls 500 --kills 3"),
    step(
        "power cuts, effects outside",
        "xtask power --inc-as mutation --cuts 24 --calls 300 --kills 3",
    ),
    step(
        "power cuts, calls run again",
        "xtask power --inc-as resumable --cuts 24 --calls 300 --kills 3",
    ),
];

/// Runs the steps until one fails, whose exit code becomes this command's own.
pub(crate) fn run() -> Result<ExitCode> {
    let workspace = Workspace::find()?;
    let mut rows = Vec::new();
    let mut code = ExitCode::SUCCESS;
    for step in &STEPS {
        println!("\n== {}: cargo {}", step.name, step.args);
        let start = now();
        let mut command = cargo();
        command.current_dir(&workspace.root).envs(step.env);
        let status = command.args(step.args.split_whitespace()).status();
        let status = status.context("can't run cargo")?;
        let took = format!("{:.1} s", now().duration_since(start).as_secs_f64());
        println!("== {}: {took}", step.name);
        if status.success() {
            rows.push([step.name.to_owned(), took, "passed".to_owned()]);
            continue;
        }
        rows.push([step.name.to_owned(), took, status.to_string()]);
        eprintln!("error: step {:?} failed: cargo {}", step.name, step.args);
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
