//! Finding, building and starting the two example programs.

use std::{
    env,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::{events::Summary, process::Process};

/// How long a program may take from its start to its first line.
const START: Duration = Duration::from_secs(20);
/// How long a server may take to drain: its own limit is 10 s.
const DRAIN: Duration = Duration::from_secs(15);

/// Where things lie in this workspace.
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
        let output = cargo()
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .stderr(Stdio::inherit())
            .output()
            .context("can't run cargo")?;
        ensure!(
            output.status.success(),
            "`cargo metadata` failed ({})",
            output.status
        );
        serde_json::from_slice(&output.stdout).context("what `cargo metadata` printed")
    }

    /// Where pages and event files go; made if it isn't there.
    pub(crate) fn output(&self) -> Result<PathBuf> {
        let folder = self.target.join("redial");
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("can't make {}", folder.display()))?;
        Ok(folder)
    }

    /// The two programs: those in `folder` if one is given, else built in release.
    pub(crate) fn programs(&self, folder: Option<&Path>, quiet: bool) -> Result<Programs> {
        if let Some(folder) = folder {
            return Ok(Programs {
                folder: folder.to_owned(),
            });
        }
        let mut build = cargo();
        build.current_dir(&self.root);
        build.args(["build", "--release", "-p", "redial-examples", "--bins"]);
        if quiet {
            build.arg("--quiet");
        }
        let status = build.status().context("can't run cargo")?;
        ensure!(
            status.success(),
            "building the example programs failed ({status})"
        );
        Ok(Programs {
            folder: self.target.join("release"),
        })
    }
}

/// The cargo that runs this command, or the one on the path.
pub(crate) fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// The folder with `counter-server` and `counter-client`.
#[derive(Clone)]
pub(crate) struct Programs {
    folder: PathBuf,
}

/// A running `counter-server` on a port of its own.
pub(crate) struct Server {
    process: Process,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

impl Programs {
    /// Starts a server on port 0 and waits until it listens.
    pub(crate) fn server(&self, args: &[String]) -> Result<Server> {
        let mut all = vec!["--listen".to_owned(), "127.0.0.1:0".to_owned()];
        all.extend_from_slice(args);
        let process = Process::start("counter-server", self.program("counter-server"), &all)?;
        let line = process.line(START)?;
        let address = line
            .strip_prefix("listening on ")
            .and_then(|address| address.parse().ok())
            .with_context(|| {
                format!(
                    "the first line of counter-server is {line:?}, not \"listening on ADDRESS\""
                )
            })?;
        Ok(Server { process, address })
    }

    /// Runs a client to its end, at most `limit`, and reads the summary on its last line.
    pub(crate) fn client(&self, args: &[String], limit: Duration) -> Result<Summary> {
        let mut process = Process::start("counter-client", self.program("counter-client"), args)?;
        let (status, lines) = process.finish(limit)?;
        // 1 says that some call was not ok, which is for the verdict to judge.
        if !matches!(status.code(), Some(0 | 1)) {
            bail!("counter-client ended with {status}{}", process.last_words());
        }
        let last = lines
            .last()
            .with_context(|| format!("counter-client printed nothing{}", process.last_words()))?;
        serde_json::from_str(last)
            .with_context(|| format!("the last line of counter-client is no summary: {last}"))
    }

    fn program(&self, name: &str) -> PathBuf {
        self.folder
            .join(format!("{name}{}", env::consts::EXE_SUFFIX))
    }
}

impl Server {
    /// Lets it drain and end, so that its event file is complete.
    pub(crate) fn stop(self) -> Result<()> {
        self.process.stop(DRAIN)
    }
}
