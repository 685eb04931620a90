//! Records the system calls of a server with a store: through kills, under two clients.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{
    disk::Disk,
    outside::{self, LEDGER, Outside},
    trace::{CALLS, FileChange, SystemCall, Trace},
};
use crate::crash::stored::IncKind;
use crate::harness::{
    clock::Deadline,
    endpoint::Endpoint,
    programs::{self, Client, Programs, Server},
};

/// The file of the store.
pub(crate) const STORE: &str = "calls.db";
/// How long a server lives before it is killed.
const LIFE: Duration = Duration::from_millis(300);
/// How long the clients may take for all calls.
const CALLS_MAX: Duration = Duration::from_secs(600);
/// How long strace may take to write down what it has seen.
const STRACE: Duration = Duration::from_secs(60);
/// How many calls each client has in flight.
const CONCURRENCY: &str = "8";

/// What is recorded.
pub(crate) struct Recorder<'a> {
    pub(crate) programs: &'a Programs,
    pub(crate) folder: &'a Path,
    pub(crate) name: &'static str,
    /// Of each client.
    pub(crate) calls: u64,
    pub(crate) kills: u64,
    pub(crate) is_synced: bool,
    pub(crate) kind: IncKind,
}

/// A run, as its disk and its clients saw it.
pub(crate) struct Recording {
    pub(crate) disk: Disk,
    /// In the order in which they left.
    pub(crate) acknowledged: Vec<Acknowledged>,
    /// The effects that lie outside the store, if they do.
    pub(crate) outside: Option<Vec<Outside>>,
    /// How many system calls there were.
    pub(crate) events: usize,
    /// The first system call of each life.
    pub(crate) lives: Vec<usize>,
}

/// A reply that left.
pub(crate) struct Acknowledged {
    /// The system call that handed its last byte to the socket.
    pub(crate) at: usize,
    pub(crate) id: String,
    pub(crate) value: i64,
}

/// Whether there is an strace that works here.
pub(crate) fn has_strace() -> bool {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-o", "/dev/null", "true"]);
    let strace = strace.stdin(Stdio::null()).stderr(Stdio::null());
    strace.status().is_ok_and(|status| status.success())
}

impl Recorder<'_> {
    /// Where the server's files and the traces are.
    pub(crate) fn run_folder(&self) -> PathBuf {
        self.folder.join(self.name)
    }

    /// Runs the server and the clients, and reads what was recorded.
    pub(crate) fn record(&self) -> Result<Recording> {
        let run = self.run_folder();
        fs::create_dir_all(&run).with_context(|| format!("can't make {}", run.display()))?;
        let run = fs::canonicalize(run)?;
        let address = programs::lasting_address()?;
        let flags = self.server_flags(&run);
        let traced = |life: u64| run.join(format!("life-{life}.strace"));
        let start = |life| -> Result<Server> {
            let server = self
                .programs
                .traced_server(address, &flags, CALLS, &traced(life));
            server.with_context(|| format!("life {life} of the server"))
        };
        let mut server = start(0)?;
        let mut clients = [self.client(&address.into(), "s", &[])?, {
            self.client(
                &address.into(),
                "p",
                &["--no-sessions", "--resend-window-ms", "600000"],
            )?
        }];
        for life in 1..=self.kills {
            thread::sleep(LIFE);
            if has_ended(&mut clients)? {
                break;
            }
            server.kill()?;
            wait_for_end(&traced(life - 1))?;
            server = start(life)?;
        }
        for client in clients {
            let summary = client.summary(CALLS_MAX)?;
            // A call that a kill interrupts is not run again.
            let interrupted = match self.kind {
                IncKind::Mutation => summary.unknown,
                IncKind::Transaction | IncKind::Resumable => 0,
            };
            ensure!(
                summary.ok + interrupted == self.calls,
                "{} of {} calls were ok; the power was not cut",
                summary.ok,
                self.calls
            );
        }
        server.stop()?;
        let mut trace = Trace::default();
        let mut lives = Vec::new();
        for life in (0..=self.kills).map(traced).filter(|file| file.exists()) {
            wait_for_end(&life)?;
            lives.push(trace.events.len());
            trace.add(&life)?;
        }
        let folder = run.to_str().context("the folder's name is no UTF-8")?;
        let events = trace.events.len();
        let acknowledged = acknowledged(&trace.events)?;
        let is_outside = self.kind != IncKind::Transaction;
        let outside = is_outside.then(|| outside::effects(&trace.events));
        let takes = |name: &str| {
            name.strip_prefix(STORE)
                .is_some_and(|end| !matches!(end, "-shm" | ".lock"))
        };
        Ok(Recording {
            disk: Disk::new(trace.events, folder, takes),
            acknowledged,
            outside: outside.transpose()?,
            events,
            lives,
        })
    }

    fn server_flags(&self, run: &Path) -> Vec<String> {
        let store = run.join(STORE).display().to_string();
        let mut flags = vec!["--store".to_owned(), store];
        flags.extend(["--ttl-ms", "3600000", "--inc-as", self.kind.name()].map(str::to_owned));
        if self.kind == IncKind::Transaction {
            flags.push("--keep-effects".to_owned());
        } else {
            let ledger = run.join(LEDGER).display().to_string();
            flags.extend(["--ledger".to_owned(), ledger]);
        }
        if !self.is_synced {
            flags.push("--dangerously-without-sync".to_owned());
        }
        flags
    }

    fn client(&self, server: &Endpoint, prefix: &str, more: &[&str]) -> Result<Client> {
        let calls = self.calls.to_string();
        let flags = [
            ("--calls", &*calls),
            ("--concurrency", CONCURRENCY),
            ("--deadline-ms", "300000"),
            ("--attempt-timeout-ms", "5000"),
            ("--max-attempts", "1000"),
        ];
        let flags = flags.iter().flat_map(|(flag, value)| [*flag, *value]);
        let flags = flags.chain(more.iter().copied()).map(str::to_owned);
        let events = self.run_folder().join(format!("{prefix}.jsonl"));
        self.programs
            .start_recorded_client(flags.collect(), prefix, server, &events)
    }
}

fn has_ended(clients: &mut [Client]) -> Result<bool> {
    for client in clients {
        if !client.has_ended()? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Waits until strace has written down that the process ended.
fn wait_for_end(file: &Path) -> Result<()> {
    let deadline = Deadline::after(STRACE);
    while !ends_with_an_end(file)? {
        ensure!(
            !deadline.has_passed(),
            "strace has not finished {} within {STRACE:?}",
            file.display()
        );
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn ends_with_an_end(file: &Path) -> Result<bool> {
    let mut opened = File::open(file).with_context(|| format!("can't read {}", file.display()))?;
    let len = opened.metadata()?.len();
    opened.seek(SeekFrom::Start(len.saturating_sub(80)))?;
    let mut end = Vec::new();
    opened.read_to_end(&mut end)?;
    let end = String::from_utf8_lossy(&end);
    let last = end.trim_end().rsplit('\n').next().unwrap_or_default();
    // The thread that began the process is reported last.
    let is_end = end.ends_with("+++\n");
    let mut first = String::new();
    let mut opened = File::open(file)?;
    opened.by_ref().take(20).read_to_string(&mut first)?;
    let process = first.split(' ').next().unwrap_or_default();
    Ok(is_end && last.split(' ').next() == Some(process))
}

/// The replies with a value, each where its last byte left.
fn acknowledged(events: &[SystemCall]) -> Result<Vec<Acknowledged>> {
    let mut streams: HashMap<&str, Vec<u8>> = HashMap::new();
    let mut found = Vec::new();
    for (at, event) in events.iter().enumerate() {
        let FileChange::Send { socket, data } = &event.what else {
            continue;
        };
        let stream = streams.entry(socket).or_default();
        stream.extend(data);
        while let Some(frame) = next_frame(stream) {
            let reply: Value = serde_json::from_slice(&frame).context("a reply is no JSON")?;
            let id = reply["id"].as_str();
            if let (Some(id), Some(value)) = (id, reply["result"]["value"].as_i64()) {
                let id = id.to_owned();
                found.push(Acknowledged { at, id, value });
            }
        }
    }
    Ok(found)
}

/// Takes a whole frame from the beginning of what was sent.
fn next_frame(stream: &mut Vec<u8>) -> Option<Vec<u8>> {
    let len = u32::from_be_bytes(*stream.first_chunk()?) as usize;
    if stream.len() < 4 + len {
        return None;
    }
    Some(stream.drain(..4 + len).skip(4).collect())
}
