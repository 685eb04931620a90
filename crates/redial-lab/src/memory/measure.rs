//! One client at full speed against a server of its own, whose memory is sampled meanwhile.

use std::{fs, net::SocketAddr, thread, time::Duration};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde_json::json;

use crate::harness::{
    clock::{self, Deadline},
    command_line::words,
    events::Summary,
    mode::Mode,
    programs::{Programs, Server},
    wire::{self, Wire},
};

/// The counter that all calls are for.
const KEY: &str = "memory";
/// How long the answer to a `get` may take on a machine that is busy with the load.
const REPLY: Duration = Duration::from_secs(5);
/// The slowest machine that is waited for.
const LEAST_CALLS_PER_S: u64 = 5000;

/// The ways that are compared.
pub(crate) const MODES: [Mode; 2] = [Mode::Plain, Mode::Session];

/// The server at one moment.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct MemorySample {
    /// Seconds since the client was started.
    pub(crate) at_s: f64,
    /// How many calls had taken effect.
    pub(crate) calls: u64,
    /// The server's resident memory in KiB.
    pub(crate) rss_kib: u64,
}

/// One run.
pub(crate) struct Curve {
    pub(crate) ids: Mode,
    pub(crate) summary: Summary,
    /// In the order of time; the first before the first call, the last after the last.
    pub(crate) samples: Vec<MemorySample>,
}

impl Curve {
    /// The resident memory once so many calls had taken effect.
    pub(crate) fn rss_kib_after(&self, calls: u64) -> u64 {
        let after = self.samples.iter().find(|sample| sample.calls >= calls);
        after.or(self.samples.last()).map_or(0, |s| s.rss_kib)
    }

    /// The resident memory after the last call, and its ratio to that after the first `early` ones.
    pub(crate) fn growth(&self, early: u64) -> (u64, f64) {
        let last = self.samples.last().map_or(0, |sample| sample.rss_kib);
        (last, last as f64 / self.rss_kib_after(early).max(1) as f64)
    }
}

/// The flags of both servers. Plain ids at full speed are more than the default table takes, so
/// it may have as many records as there are calls; sessions do not need it.
pub(crate) fn server_flags(calls: u64) -> Vec<String> {
    words(&format!(
        "--table-records {calls} --table-mb 65536 --ttl-ms 10000"
    ))
}

/// The flags of the client.
pub(crate) fn client_flags(ids: Mode, calls: u64) -> Vec<String> {
    let ids = ids.flag().unwrap_or_default();
    words(&format!(
        "--calls {calls} --key {KEY} --concurrency 256 --attempt-timeout-ms 5000 {ids}"
    ))
}

/// Whether this system reports how much memory a process has.
pub(crate) fn is_possible() -> bool {
    rss_kib(std::process::id()).is_ok()
}

/// Runs it, and looks every `pause`.
pub(crate) fn measure(
    programs: &Programs,
    ids: Mode,
    calls: u64,
    pause: Duration,
) -> Result<Curve> {
    let server = programs.server(&server_flags(calls))?;
    let mut flags = client_flags(ids, calls);
    flags.extend(["--json", "--connect"].map(str::to_owned));
    flags.push(server.address.to_string());
    let mut probe = MemoryProbe::new(&server)?;
    probe.look()?;
    let mut client = programs.start_client(&flags)?;
    let limit = Duration::from_secs(60 + calls / LEAST_CALLS_PER_S);
    let deadline = Deadline::after(limit);
    while !client.has_ended()? {
        ensure!(
            !deadline.has_passed(),
            "the client had not ended within {limit:?}"
        );
        thread::sleep(pause);
        probe.look()?;
    }
    let summary = client.summary(pause)?;
    probe.look()?;
    server.stop()?;
    ids.check(summary.sessions)?;
    ensure!(
        summary.ok == calls,
        "{} of {calls} calls were ok {}; expected all",
        summary.ok,
        ids.text()
    );
    Ok(Curve {
        ids,
        summary,
        samples: probe.samples,
    })
}

/// Asks a server for its counter, and the system for the server's memory.
struct MemoryProbe {
    wire: Wire,
    id: u32,
    start: std::time::Instant,
    samples: Vec<MemorySample>,
}

impl MemoryProbe {
    fn new(server: &Server) -> Result<Self> {
        let address: SocketAddr = server.address;
        Ok(Self {
            wire: Wire::connect(address)?,
            id: server.id(),
            start: clock::now(),
            samples: Vec::new(),
        })
    }

    fn look(&mut self) -> Result<()> {
        let id = format!("sample-{}", self.samples.len());
        let request = json!({"id": id, "method": "get", "params": {"key": KEY}});
        self.wire.send(request.to_string().as_bytes())?;
        let value = wire::value_of(&self.wire.receive(REPLY)?, &id)?;
        let since = clock::now().duration_since(self.start);
        self.samples.push(MemorySample {
            at_s: since.as_secs_f64(),
            calls: u64::try_from(value).context("a counter below zero")?,
            rss_kib: rss_kib(self.id)?,
        });
        Ok(())
    }
}

/// The resident memory of a process (`VmRSS`, proc(5)).
pub(crate) fn rss_kib(process: u32) -> Result<u64> {
    status_kib(process, "VmRSS")
}

/// The most that it ever was (`VmHWM`).
pub(crate) fn peak_rss_kib(process: u32) -> Result<u64> {
    status_kib(process, "VmHWM")
}

fn status_kib(process: u32, name: &str) -> Result<u64> {
    let file = format!("/proc/{process}/status");
    let text = fs::read_to_string(&file)
        .with_context(|| format!("can't read {file}: is this not Linux?"))?;
    let mut lines = text.lines();
    let line = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
    number.with_context(|| format!("{file} has no line {name} in kB"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(samples: &[(u64, u64)]) -> Curve {
        let samples = samples.iter().map(|&(calls, rss_kib)| MemorySample {
            at_s: 0.0,
            calls,
            rss_kib,
        });
        Curve {
            ids: Mode::Plain,
            summary: Summary::default(),
            samples: samples.collect(),
        }
    }

    #[test]
    fn growth_is_from_the_first_sample_after_the_early_calls_to_the_last() {
        let curve = curve(&[(0, 50), (90, 80), (110, 100), (900, 150), (1000, 300)]);
        assert_eq!(curve.rss_kib_after(100), 100);
        let (last, ratio) = curve.growth(100);
        assert_eq!(last, 300);
        assert!((ratio - 3.0).abs() < 1e-9);
        assert_eq!(curve.rss_kib_after(2000), 300);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_has_memory_and_a_missing_one_is_an_error() {
        assert!(rss_kib(std::process::id()).unwrap() > 1000 && is_possible());
        let error = rss_kib(u32::MAX).unwrap_err().to_string();
        assert!(error.contains("/proc/4294967295/status"), "{error}");
    }
}
