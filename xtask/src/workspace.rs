//! Where things lie in this workspace, and how its programs are built and started.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, ExitStatus},
};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// What `cargo metadata` says about the workspace.
#[derive(Deserialize)]
pub(crate) struct Workspace {
    /// The folder of the root `Cargo.toml`.
    #[serde(rename = "workspace_root")]
    pub(crate) root: PathBuf,
    #[serde(rename = "target_directory")]
    target: PathBuf,
}

impl Workspace {
    /// Asks cargo, which knows about `CARGO_TARGET_DIR` and its config files.
    pub(crate) fn find() -> Result<Self> {
        let mut metadata = cargo();
        metadata.args(["metadata", "--no-deps", "--format-version", "1"]);
        let output = metadata.output().context("can't run cargo")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`cargo metadata` failed: {errors}");
        serde_json::from_slice(&output.stdout).context("what `cargo metadata` printed")
    }

    /// A folder for files that a command leaves; made if it isn't there.
    pub(crate) fn output(&self, name: &str) -> Result<PathBuf> {
        let folder = self.target.join("redial").join(name);
        make_folder(&folder)?;
        Ok(folder)
    }

    /// Builds a package's programs in release, and returns their folder.
    pub(crate) fn build(&self, package: &str) -> Result<PathBuf> {
        let mut build = cargo();
        build.current_dir(&self.root);
        build.args(["build", "--release", "--bins", "--package", package]);
        let status = build.status().context("can't run cargo")?;
        ensure!(status.success(), "can't build {package} ({status})");
        Ok(self.target.join("release"))
    }
}

/// The cargo that runs this command, or the one on the path.
pub(crate) fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Builds a package's only program and becomes it, so that signals and the exit code are the
/// program's own.
pub(crate) fn run(package: &str, flags: &[&str], args: &[OsString]) -> Result<ExitCode> {
    let mut run = cargo();
    run.args(["run", "--package", package]).args(flags);
    // Then even what cargo says would be in the way.
    if args.iter().any(|arg| arg == "--json") {
        run.arg("--quiet");
    }
    become_program(run.arg("--").args(args))
}

#[cfg(unix)]
fn become_program(command: &mut Command) -> Result<ExitCode> {
    use std::os::unix::process::CommandExt;

    Err(command.exec()).context("can't run cargo")
}

#[cfg(not(unix))]
fn become_program(command: &mut Command) -> Result<ExitCode> {
    Ok(exit_code(command.status().context("can't run cargo")?))
}

/// The exit code of a program as this program's own.
pub(crate) fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    code.map_or(ExitCode::FAILURE, ExitCode::from)
}

/// Makes a folder if it isn't there.
pub(crate) fn make_folder(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("can't make {}", folder.display()))
}
