//! One measurement: what is to be measured is started for it, and a load on it.

use std::{
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::{Cell, DurableSubject};
use crate::harness::{
    process::Process,
    programs::{lasting_address, listening},
};

/// How long a load may take beyond its time.
const SLACK: Duration = Duration::from_secs(30);

/// How long Redis may take to start.
const START: Duration = Duration::from_secs(10);

/// What was measured in one round.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct DurableSample {
    pub(super) calls_per_s: f64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    /// CPU seconds per million calls of what makes calls durable, where the system reports it.
    pub(super) server_cpu: Option<f64>,
}

#[derive(Deserialize)]
struct DurableSummary {
    calls: u64,
    calls_per_s: f64,
    latency_us: DurableLatency,
    cpu_s: Option<f64>,
    watched_cpu_s: Option<f64>,
}

#[derive(Deserialize)]
struct DurableLatency {
    p50: f64,
    p99: f64,
}

/// How a measurement is made.
pub(super) struct DurableSetup {
    /// Where the bench's programs are.
    pub(super) programs: PathBuf,
    /// Where `counter-server` is.
    pub(super) servers: PathBuf,
    /// Where the files go.
    pub(super) folder: PathBuf,
    pub(super) redis: Option<PathBuf>,
    pub(super) seconds: f64,
    pub(super) warmup: f64,
}

impl DurableSetup {
    /// Measures it.
    pub(super) fn measure(&self, Cell { what, batch }: Cell) -> Result<DurableSample> {
        let folder = self.folder.join("files");
        fs::create_dir_all(&folder)?;
        let server = self.server(what, &folder)?;
        let (program, mut args) = match what {
            DurableSubject::Log
            | DurableSubject::Sqlite
            | DurableSubject::Appended
            | DurableSubject::Redis => ("bench-store", self.in_process(what, batch)),
            DurableSubject::Session | DurableSubject::Plain => {
                ("bench-load", self.load(what, batch))
            }
        };
        match &server {
            Some((process, address)) => {
                args.push(format!("--connect={address}"));
                if cfg!(target_os = "linux") {
                    args.push(format!("--watch={}", process.id()));
                }
            }
            None => args.push(format!("--folder={}", folder.display())),
        }
        let summary = self.run(program, &args)?;
        if let Some((process, _)) = server {
            process.kill()?;
        }
        fs::remove_dir_all(&folder)?;
        let per_million = |cpu_s: f64| cpu_s * 1e6 / summary.calls as f64;
        let cpu = match what {
            DurableSubject::Log | DurableSubject::Sqlite | DurableSubject::Appended => {
                summary.cpu_s
            }
            _ => summary.watched_cpu_s,
        };
        Ok(DurableSample {
            calls_per_s: summary.calls_per_s,
            p50_us: summary.latency_us.p50,
            p99_us: summary.latency_us.p99,
            server_cpu: cpu.map(per_million),
        })
    }

    fn run(&self, name: &str, args: &[String]) -> Result<DurableSummary> {
        let mut process = Process::start(name, program(&self.programs, name), args)?;
        let limit = Duration::from_secs_f64(self.seconds + self.warmup) + SLACK;
        let (status, lines) = process.finish(limit)?;
        ensure!(
            status.success(),
            "{name} {}: {status}{}",
            args.join(" "),
            process.stderr()
        );
        let last = lines.last().context("no summary was printed")?;
        let summary: DurableSummary = serde_json::from_str(last).context(last.clone())?;
        ensure!(summary.calls > 0, "{name} {}: no calls", args.join(" "));
        Ok(summary)
    }

    fn server(&self, what: DurableSubject, folder: &Path) -> Result<Option<(Process, SocketAddr)>> {
        match what {
            DurableSubject::Log | DurableSubject::Sqlite | DurableSubject::Appended => Ok(None),
            DurableSubject::Redis => self.redis(folder).map(Some),
            DurableSubject::Session | DurableSubject::Plain => {
                // As many records expire as are made, from the first call on that is measured.
                let ttl_ms = (self.warmup * 1000.0).max(1.0);
                let args = [
                    "--listen=127.0.0.1:0".to_owned(),
                    format!("--store={}", folder.join("counters.db").display()),
                    format!("--ttl-ms={ttl_ms:.0}"),
                    "--max-running=1024".to_owned(),
                ];
                let name = "counter-server";
                let process = Process::start(name, program(&self.servers, name), &args)?;
                let address = listening(&process)?;
                Ok(Some((process, address)))
            }
        }
    }

    fn redis(&self, folder: &Path) -> Result<(Process, SocketAddr)> {
        let address = lasting_address()?;
        let args = [
            "--bind".to_owned(),
            address.ip().to_string(),
            "--port".to_owned(),
            address.port().to_string(),
            "--dir".to_owned(),
            folder.display().to_string(),
            "--save".to_owned(),
            String::new(),
            "--appendonly".to_owned(),
            "yes".to_owned(),
            "--appendfsync".to_owned(),
            "always".to_owned(),
        ];
        let redis = self.redis.as_ref().context("there is no redis-server")?;
        let process = Process::start("redis-server", redis, &args)?;
        while !process.line(START)?.contains("Ready to accept connections") {}
        Ok((process, address))
    }

    fn in_process(&self, what: DurableSubject, batch: usize) -> Vec<String> {
        let what = match what {
            DurableSubject::Log => "log",
            DurableSubject::Sqlite => "sqlite",
            DurableSubject::Appended => "appended",
            _ => "redis",
        };
        let mut args = vec![format!("--what={what}"), format!("--batch={batch}")];
        args.extend(self.times());
        args
    }

    fn load(&self, what: DurableSubject, in_flight: usize) -> Vec<String> {
        let mode = if what == DurableSubject::Plain {
            "plain"
        } else {
            "session"
        };
        let mut args = vec![format!("--mode={mode}"), format!("--in-flight={in_flight}")];
        args.extend(self.times());
        args
    }

    fn times(&self) -> [String; 3] {
        [
            format!("--seconds={}", self.seconds),
            format!("--warmup={}", self.warmup),
            "--json".to_owned(),
        ]
    }
}

fn program(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}{}", env::consts::EXE_SUFFIX))
}

/// The `redis-server` on the path, if it is installed.
pub(super) fn find_redis() -> Option<PathBuf> {
    let name = format!("redis-server{}", env::consts::EXE_SUFFIX);
    let path = env::var_os("PATH")?;
    let mut found = env::split_paths(&path).map(|folder| folder.join(&name));
    found.find(|path| path.is_file())
}

/// Keeps all that this thread starts from now on to two cores. Returns whether they are kept there.
#[cfg(target_os = "linux")]
pub(super) fn keep_to_two_cores() -> bool {
    use rustix::thread::{CpuSet, sched_setaffinity};

    let Some(cores) = crate::bench::measure::two_cores() else {
        return false;
    };
    let mut set = CpuSet::new();
    for core in cores.into_iter().filter(|core| *core < CpuSet::MAX_CPU) {
        set.set(core);
    }
    sched_setaffinity(None, &set).is_ok()
}

/// Only Linux can.
#[cfg(not(target_os = "linux"))]
pub(super) fn keep_to_two_cores() -> bool {
    false
}
