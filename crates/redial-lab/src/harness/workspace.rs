//! Where things lie in this workspace, and how its programs are built.

use std::{
    env,
    fs::{File, TryLockError},
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

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

    /// Keeps a second run of this command, which would use the same files, from starting for as long
    /// as the returned file is open.
    pub(crate) fn claim(&self, command: &str) -> Result<File> {
        let path = self.output()?.join(format!("{command}.lock"));
        let file = File::create(&path).with_context(|| format!("can't make {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => bail!(
                "`cargo xtask {command}` is running in this workspace already (it holds {}); nothing \
                 was started",
                path.display()
            ),
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("can't lock {}", path.display()))
            }
        }
    }

    /// Builds the programs of a package, and returns their folder.
    pub(crate) fn build(&self, package: &str, profile: &str, quiet: bool) -> Result<PathBuf> {
        let mut build = cargo();
        build.current_dir(&self.root);
        build.args(["build", "--profile", profile, "-p", package, "--bins"]);
        if quiet {
            build.arg("--quiet");
        }
        let status = build.status().context("can't run cargo")?;
        ensure!(
            status.success(),
            "building the programs of {package} failed ({status})"
        );
        Ok(self.target.join(profile))
    }
}

/// The cargo that runs this command, or the one on the path.
pub(crate) fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_runs_once_at_a_time() {
        let folder = env::temp_dir().join(format!("redial-lab-{}", std::process::id()));
        let workspace = Workspace {
            root: folder.clone(),
            target: folder.clone(),
        };
        let first = workspace.claim("dance").unwrap();
        let error = workspace.claim("dance").unwrap_err().to_string();
        assert!(error.contains("cargo xtask dance"), "{error}");
        workspace.claim("sing").unwrap();
        drop(first);
        workspace.claim("dance").unwrap();
        std::fs::remove_dir_all(folder).unwrap();
    }
}
