//! Starting the example programs.

use std::{
    env, fmt,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process,
    str::FromStr,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use super::{endpoint::Endpoint, events::Summary, process::Process};

/// How long a program may take from its start to its first line.
const START: Duration = Duration::from_secs(20);
/// How long a server may take to drain: its own limit is 10 s.
const DRAIN: Duration = Duration::from_secs(15);

/// The folder with `counter-server` and `counter-client`.
#[derive(Clone)]
pub(crate) struct Programs {
    folder: PathBuf,
}

/// A running `counter-server`, on a port of its own unless it was given an endpoint.
pub(crate) struct Server<A = SocketAddr> {
    process: Process,
    /// Where it listens.
    pub(crate) address: A,
}

/// A running `counter-client`.
pub(crate) struct Client(Process);

impl Programs {
    /// Those in this folder.
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Starts a server on a port that the system chooses, and waits until it listens.
    pub(crate) fn server(&self, args: &[String]) -> Result<Server> {
        self.start_server(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), args)
    }

    /// Starts a server here and waits until it listens.
    pub(crate) fn server_at(
        &self,
        endpoint: &Endpoint,
        args: &[String],
    ) -> Result<Server<Endpoint>> {
        self.start_server(endpoint, args)
    }

    fn start_server<A>(&self, address: &A, args: &[String]) -> Result<Server<A>>
    where
        A: fmt::Display + FromStr,
    {
        let mut all = vec!["--listen".to_owned(), address.to_string()];
        all.extend_from_slice(args);
        let process = Process::start("counter-server", self.program("counter-server"), &all)?;
        let address = listening(&process)?;
        Ok(Server { process, address })
    }

    /// Starts a server and kills it so long after, whether it listens by then or not.
    pub(crate) fn kill_young(
        &self,
        address: &Endpoint,
        args: &[String],
        after: Duration,
    ) -> Result<()> {
        let mut all = vec!["--listen".to_owned(), address.to_string()];
        all.extend_from_slice(args);
        let process = Process::start("counter-server", self.program("counter-server"), &all)?;
        thread::sleep(after);
        process.kill().map(drop)
    }

    /// Starts a server at this address under strace, which writes these system calls to a file: threads and
    /// descriptors named, all data as `\x` escapes. Killed is the server; strace ends with it.
    pub(crate) fn traced_server(
        &self,
        address: SocketAddr,
        args: &[String],
        calls: &str,
        file: &Path,
    ) -> Result<Server> {
        let calls = format!("trace={calls}");
        let file = file.display().to_string();
        let strace = ["-D", "-f", "-y", "-xx", "-s", "10000000", "-e", &calls];
        let mut all: Vec<_> = strace.map(str::to_owned).to_vec();
        all.extend(["-o".to_owned(), file, "--".to_owned()]);
        all.push(self.program("counter-server").display().to_string());
        all.extend(["--listen".to_owned(), address.to_string()]);
        all.extend_from_slice(args);
        let process = Process::start("counter-server under strace", "strace", &all)?;
        let address = listening(&process)?;
        Ok(Server { process, address })
    }

    /// Starts a client, which is to print its summary as JSON.
    pub(crate) fn start_client(&self, args: &[String]) -> Result<Client> {
        Process::start("counter-client", self.program("counter-client"), args).map(Client)
    }

    /// Starts a client whose call `n` counts under `PREFIX-n`, and which writes each call that has
    /// ended to `file`.
    pub(crate) fn start_recorded_client(
        &self,
        mut flags: Vec<String>,
        prefix: &str,
        server: &impl fmt::Display,
        file: &Path,
    ) -> Result<Client> {
        for (flag, value) in [
            ("--key-per-call", prefix.to_owned()),
            ("--connect", server.to_string()),
            ("--events", file.display().to_string()),
        ] {
            flags.extend([flag.to_owned(), value]);
        }
        flags.push("--json".to_owned());
        self.start_client(&flags)
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

    /// Ends it as `kill -9` does, and returns the end of its stderr.
    pub(crate) fn kill(mut self) -> Result<String> {
        self.0.end()?;
        Ok(self.0.stderr())
    }

    /// Stops it in the middle of whatever it does, until [`thaw`](Self::thaw).
    pub(crate) fn freeze(&self) -> Result<()> {
        self.0.signal("STOP")
    }

    /// Has it go on.
    pub(crate) fn thaw(&self) -> Result<()> {
        self.0.signal("CONT")
    }

    /// Waits for its end, at most `limit`, and reads the summary on its last line.
    pub(crate) fn summary(mut self, limit: Duration) -> Result<Summary> {
        let (status, lines) = self.0.finish(limit)?;
        // Exit code 1 means that some call was not ok, which the experiment judges.
        if !matches!(status.code(), Some(0 | 1)) {
            bail!("counter-client ended with {status}{}", self.0.stderr());
        }
        let last = lines
            .last()
            .with_context(|| format!("counter-client printed nothing{}", self.0.stderr()))?;
        serde_json::from_str(last).with_context(|| {
            format!("expected a summary on the last line of counter-client, got: {last}")
        })
    }
}

impl<A> Server<A> {
    /// Lets it drain and end, so that its event file is complete.
    pub(crate) fn stop(self) -> Result<()> {
        self.process.stop(DRAIN)
    }

    /// Stops it in the middle of whatever it does, until [`thaw`](Self::thaw).
    pub(crate) fn freeze(&self) -> Result<()> {
        self.process.signal("STOP")
    }

    /// Has it go on.
    pub(crate) fn thaw(&self) -> Result<()> {
        self.process.signal("CONT")
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

/// The address in the first line of a program that was just started.
pub(crate) fn listening<A: FromStr>(process: &Process) -> Result<A> {
    let line = process.line(START)?;
    let address = line.strip_prefix("listening on ");
    let address = address.and_then(|address| address.parse().ok());
    address.with_context(|| {
        format!("the server's first line is {line:?}; expected \"listening on ADDRESS\"")
    })
}

/// An address for a server that is to come back to it. Its port lies below those that systems
/// choose from (32768 and up on Linux, 49152 and up elsewhere; RFC 6335, section 6): while the
/// server is away, a connect that is given that very port by the system would meet itself (RFC
/// 9293, section 3.5, simultaneous open) and keep the server from its address.
pub(crate) fn lasting_address() -> Result<SocketAddr> {
    const PORTS: std::ops::Range<u16> = 20_000..32_000;
    let own = (process::id() % u32::from(PORTS.end - PORTS.start)) as u16;
    let ports = (PORTS.start + own..PORTS.end).chain(PORTS.start..PORTS.start + own);
    let mut addresses = ports.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    addresses
        .find(|address| TcpListener::bind(address).is_ok())
        .with_context(|| {
            format!(
                "no port in {PORTS:?} is free, and the server needs one that it can come back to"
            )
        })
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
}
