//! Finding, building and starting the example programs.

use std::{
    env,
    fs::{File, TryLockError},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{self, Command, Stdio},
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

    /// Keeps others from running the command of this name, whose files would be theirs as well, for
    /// as long as the answer lives.
    pub(crate) fn claim(&self, command: &str) -> Result<File> {
        let path = self.output()?.join(format!("{command}.lock"));
        let file = File::create(&path).with_context(|| format!("can't make {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => bail!(
                "`cargo xtask {command}` is running in this workspace already; it has {}",
                path.display()
            ),
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("can't lock {}", path.display()))
            }
        }
    }

    /// The two programs: those in `folder` if one is given, else built in release.
    pub(crate) fn programs(&self, folder: Option<&Path>, quiet: bool) -> Result<Programs> {
        if let Some(folder) = folder {
            return Ok(Programs {
                folder: folder.to_owned(),
            });
        }
        Ok(Programs {
            folder: self.build("redial-examples", quiet)?,
        })
    }

    /// Builds the programs of a package in release, and answers where they are.
    pub(crate) fn build(&self, package: &str, quiet: bool) -> Result<PathBuf> {
        self.build_as("release", package, quiet)
    }

    /// The same with another profile.
    pub(crate) fn build_as(&self, profile: &str, package: &str, quiet: bool) -> Result<PathBuf> {
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

    /// Where a program is that was built in release.
    pub(crate) fn release(&self, program: &str) -> PathBuf {
        let name = format!("{program}{}", env::consts::EXE_SUFFIX);
        self.target.join("release").join(name)
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

/// A running `counter-client`.
pub(crate) struct Client(Process);

impl Programs {
    /// Starts a server on a port that the system chooses, and waits until it listens.
    pub(crate) fn server(&self, args: &[String]) -> Result<Server> {
        self.server_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), args)
    }

    /// Starts a server at this address and waits until it listens.
    pub(crate) fn server_at(&self, address: SocketAddr, args: &[String]) -> Result<Server> {
        let mut all = vec!["--listen".to_owned(), address.to_string()];
        all.extend_from_slice(args);
        let process = Process::start("counter-server", self.program("counter-server"), &all)?;
        let address = listening(&process)?;
        Ok(Server { process, address })
    }

    /// Starts a client, which is to print its summary as JSON.
    pub(crate) fn start_client(&self, args: &[String]) -> Result<Client> {
        Process::start("counter-client", self.program("counter-client"), args).map(Client)
    }

    /// Starts a `crash-safe`, the client that makes one call and survives `kill -9`.
    pub(crate) fn start_crash_safe(&self, args: &[String]) -> Result<Process> {
        Process::start("crash-safe", self.program("crash-safe"), args)
    }

    /// Runs a client to its end, at most `limit`, and reads the summary on its last line.
    pub(crate) fn client(&self, args: &[String], limit: Duration) -> Result<Summary> {
        self.start_client(args)?.summary(limit)
    }

    fn program(&self, name: &str) -> PathBuf {
        self.folder
            .join(format!("{name}{}", env::consts::EXE_SUFFIX))
    }
}

impl Client {
    /// Whether it has ended by now.
    pub(crate) fn has_ended(&mut self) -> Result<bool> {
        self.0.has_ended()
    }

    /// Lets it finish the calls that it has begun.
    pub(crate) fn interrupt(&self) -> Result<()> {
        self.0.signal("INT")
    }

    /// Ends it as `kill -9` does.
    pub(crate) fn kill(self) -> Result<()> {
        self.0.kill().map(drop)
    }

    /// Waits for its end, at most `limit`, and reads the summary on its last line.
    pub(crate) fn summary(mut self, limit: Duration) -> Result<Summary> {
        let (status, lines) = self.0.finish(limit)?;
        // 1 says that some call was not ok, which is for the verdict to judge.
        if !matches!(status.code(), Some(0 | 1)) {
            bail!("counter-client ended with {status}{}", self.0.last_words());
        }
        let last = lines
            .last()
            .with_context(|| format!("counter-client printed nothing{}", self.0.last_words()))?;
        serde_json::from_str(last)
            .with_context(|| format!("the last line of counter-client is no summary: {last}"))
    }
}

impl Server {
    /// Lets it drain and end, so that its event file is complete.
    pub(crate) fn stop(self) -> Result<()> {
        self.process.stop(DRAIN)
    }

    /// Its process's id.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Ends it as `kill -9` does.
    pub(crate) fn kill(self) -> Result<()> {
        self.process.kill().map(drop)
    }
}

/// Where a program that was just started listens, which is what it says first.
pub(crate) fn listening(process: &Process) -> Result<SocketAddr> {
    let line = process.line(START)?;
    let address = line.strip_prefix("listening on ");
    let address = address.and_then(|address| address.parse().ok());
    address.with_context(|| {
        format!("the server's first line is {line:?}, not \"listening on ADDRESS\"")
    })
}

/// An address for a server that is to come back to it. Its port lies below those that systems
/// choose from (32768 and up on Linux, 49152 and up elsewhere; RFC 6335, section 6): while the
/// server is away, a connect that is given that very port by the system would meet itself (RFC
/// 9293, section 3.5, simultaneous open) and keep the server from its place.
pub(crate) fn lasting_address() -> Result<SocketAddr> {
    const PORTS: std::ops::Range<u16> = 20_000..32_000;
    let own = (process::id() % u32::from(PORTS.end - PORTS.start)) as u16;
    let ports = (PORTS.start + own..PORTS.end).chain(PORTS.start..PORTS.start + own);
    let mut addresses = ports.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    addresses
        .find(|address| TcpListener::bind(address).is_ok())
        .with_context(|| format!("none of the ports in {PORTS:?} is free"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lasting_address_is_free_and_out_of_the_systems_reach() {
        // A process that another test starts holds a copy of the socket that was tried, until it
        // becomes the program that it is to be.
        let mut addresses = (0..1000).map(|_| lasting_address().unwrap());
        let taken = addresses.find_map(|address| TcpListener::bind(address).ok());
        let taken = taken.expect("one of them is free").local_addr().unwrap();
        assert!(taken.port() < 32_768);
    }

    #[test]
    fn a_command_runs_once_at_a_time() {
        let folder = env::temp_dir().join(format!("redial-xtask-{}", process::id()));
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
