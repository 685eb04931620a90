//! One measurement: a peer that is started for it, and a load on it.

use std::{
    env,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::plan::{BenchCell, BenchSubject};
use crate::{
    harness::{process::Process, programs::listening},
    memory::measure::peak_rss_kib,
};

/// How long a load may take beyond its time.
const SLACK: Duration = Duration::from_secs(30);

/// What was measured in one round.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Round {
    pub(crate) calls_per_s: f64,
    /// While the machine did nothing else.
    pub(crate) undisturbed_per_s: f64,
    pub(crate) latency_us: RoundLatency,
    /// CPU seconds per million calls of the server, where the system reports it.
    pub(crate) server_cpu: Option<f64>,
    /// The same of the client, or of what stands in for it.
    pub(crate) client_cpu: Option<f64>,
    /// The most memory that the server ever had, where the system reports it.
    pub(crate) peak_kib: Option<u64>,
}

/// RoundLatency in microseconds.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct RoundLatency {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

/// What the generator and the client print.
#[derive(Deserialize)]
struct LoadSummary {
    calls: u64,
    calls_per_s: f64,
    undisturbed_per_s: f64,
    latency_us: RoundLatency,
    cpu_s: Option<f64>,
    watched_cpu_s: Option<f64>,
}

/// How a measurement is made.
pub(crate) struct Setup {
    /// Where the programs are.
    pub(crate) folder: PathBuf,
    /// Where the certificates are.
    pub(crate) certificates: PathBuf,
    /// The cores of server and client, where they are kept on one each.
    pub(crate) cores: Option<[usize; 2]>,
    pub(crate) seconds: f64,
    pub(crate) warmup: f64,
}

impl Setup {
    /// Measures it.
    pub(crate) fn measure(&self, cell: BenchCell) -> Result<Round> {
        let (server, args) = self.server(cell.what);
        let peer = Process::start(server, self.program(server), &args)?;
        let address = listening(&peer)?;
        let (client, args) = self.client(cell, address, peer.id());
        let mut process = Process::start(client, self.program(client), &args)?;
        let limit = Duration::from_secs_f64(self.seconds + self.warmup) + SLACK;
        let (status, lines) = process.finish(limit)?;
        ensure!(
            status.success(),
            "{client} {}: {status}{}",
            args.join(" "),
            process.stderr()
        );
        let last = lines.last().context("no summary was printed")?;
        let summary: LoadSummary = serde_json::from_str(last).context(last.clone())?;
        ensure!(summary.calls > 0, "{client} {}: no calls", args.join(" "));
        let per_million = |cpu_s: f64| cpu_s * 1e6 / summary.calls as f64;
        let sample = Round {
            calls_per_s: summary.calls_per_s,
            undisturbed_per_s: summary.undisturbed_per_s,
            latency_us: summary.latency_us,
            server_cpu: summary.watched_cpu_s.map(per_million),
            client_cpu: summary.cpu_s.map(per_million),
            peak_kib: peak_rss_kib(peer.id()).ok(),
        };
        peer.kill()?;
        Ok(sample)
    }

    fn server(&self, what: BenchSubject) -> (&'static str, Vec<String>) {
        let mut args = self.core(what, 0);
        if what == BenchSubject::Echo {
            return ("bench-echo", args);
        }
        if what.is_encrypted() {
            args.push(self.file("tls-cert", "server.pem"));
            args.push(self.file("tls-key", "server-key.pem"));
        }
        let threads = 1 + usize::from(what == BenchSubject::TwoThreads);
        // As many records expire as are made, from the first call on that is measured.
        let ttl_ms = (self.warmup * 1000.0).max(1.0);
        args.push(format!("--threads={threads}"));
        args.push(format!("--ttl-ms={ttl_ms:.0}"));
        ("bench-server", args)
    }

    fn client(
        &self,
        cell: BenchCell,
        peer: SocketAddr,
        server: u32,
    ) -> (&'static str, Vec<String>) {
        let mut args = self.core(cell.what, 1);
        args.push("--json".to_owned());
        args.push(format!("--connect={peer}"));
        args.push(format!("--seconds={}", self.seconds));
        args.push(format!("--warmup={}", self.warmup));
        args.push(format!("--connections={}", cell.shape.connections));
        if cfg!(target_os = "linux") {
            args.push(format!("--watch={server}"));
        }
        if cell.what.is_encrypted() {
            args.push(self.file("tls-ca", "ca.pem"));
        }
        if cell.what.has_client() {
            let calls = cell.shape.connections * cell.shape.in_flight;
            args.push(format!("--concurrency={calls}"));
            return ("bench-client", args);
        }
        args.push(format!("--in-flight={}", cell.shape.in_flight));
        args.push(format!("--mode={}", mode(cell.what)));
        if cell.shape.is_awake {
            args.push("--spin".to_owned());
        }
        if cell.what == BenchSubject::Duplicates {
            args.push("--duplicates=0.05".to_owned());
        }
        ("bench-load", args)
    }

    /// A flag with a file of the certificates.
    fn file(&self, flag: &str, name: &str) -> String {
        format!("--{flag}={}", self.certificates.join(name).display())
    }

    fn core(&self, what: BenchSubject, index: usize) -> Vec<String> {
        let cores = self.cores.filter(|_| what.is_pinned());
        let cores = cores.map(|cores| format!("--core={}", cores[index]));
        cores.into_iter().collect()
    }

    fn program(&self, name: &str) -> PathBuf {
        let name = format!("{name}{}", env::consts::EXE_SUFFIX);
        Path::new(&self.folder).join(name)
    }
}

fn mode(what: BenchSubject) -> &'static str {
    match what {
        BenchSubject::Echo => "echo",
        BenchSubject::Query => "query",
        BenchSubject::PlainQuery => "plain-query",
        BenchSubject::Plain => "plain",
        _ => "session",
    }
}

/// Two cores that this process may run on, if there are two.
pub(crate) fn two_cores() -> Option<[usize; 2]> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let mut lines = status.lines();
    let list = lines.find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    let mut cores = cores(list.trim());
    Some([cores.next()?, cores.next()?])
}

/// The cores of a list such as `0-1,4`.
fn cores(list: &str) -> impl Iterator<Item = usize> + '_ {
    list.split(',').flat_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        match (first.parse(), last.parse::<usize>()) {
            (Ok(first), Ok(last)) => first..last + 1,
            _ => 0..0,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::plan::AWAKE;

    #[test]
    fn a_list_of_cores_is_read_as_linux_writes_it() {
        assert_eq!(cores("0-2,5,7-7").collect::<Vec<_>>(), [0, 1, 2, 5, 7]);
        assert_eq!(cores("").count(), 0);
    }

    #[test]
    fn server_and_client_have_a_core_each_unless_they_are_to_share() {
        let setup = Setup {
            folder: PathBuf::new(),
            certificates: PathBuf::from("pki"),
            cores: Some([3, 4]),
            seconds: 2.0,
            warmup: 0.5,
        };
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let flags = |what| {
            let cell = BenchCell { what, shape: AWAKE };
            let (server, first) = setup.server(what);
            let (client, second) = setup.client(cell, peer, 7);
            format!("{server} {} {client} {}", first.join(" "), second.join(" "))
        };
        let text = flags(BenchSubject::Duplicates);
        for part in [
            "--core=3",
            "--core=4",
            "--ttl-ms=500",
            "--threads=1",
            "--mode=session",
            "--duplicates=0.05",
            "--in-flight=32",
            "--spin",
        ] {
            assert!(text.contains(part), "{text}");
        }
        assert!(flags(BenchSubject::Client).contains("--concurrency=256"));
        let text = flags(BenchSubject::Tls);
        assert!(text.contains("--tls-cert=pki/server.pem --tls-key=pki/server-key.pem"));
        assert!(text.contains("--tls-ca=pki/ca.pem"), "{text}");
        let text = flags(BenchSubject::TwoThreads);
        assert!(!text.contains("--core") && text.contains("--threads=2"));
    }
}
