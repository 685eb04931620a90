//! `cargo xtask hostile`: what idle connections, half-open frames and peers that read nothing cost
//! a well-behaved client, and the server in memory.

mod crowd;

use std::{path::Path, time::Duration};

use anyhow::{Result, ensure};
use indicatif::ProgressBar;
use serde::Serialize;

use self::crowd::{Crowd, Sizes};
use crate::{
    experiment::{Experiment, Lab, Report},
    harness::{
        clock::Deadline,
        command_line::words,
        descriptors,
        events::Summary,
        flags::{ROUNDS, whole},
        percentiles::Percentiles,
        programs::{Programs, Server},
        progress,
    },
    memory::measure::rss_kib,
    report::{
        scale::{PERCENTILES, duration, thousands},
        terminal::{self, wrap},
    },
};

/// The slowest call of a hundred may be at most so many times slower among them than alone.
const RATIO: f64 = 3.0;
/// How long one round of calls may take on the slowest machine.
const ROUND: Duration = Duration::from_secs(600);
/// Descriptors that the two programs have beside those of the hostile peers.
const OTHERS: u64 = 200;

/// The flags of the hostile peers.
#[derive(clap::Args)]
pub(crate) struct Hostile {
    /// Connections that made one request and then nothing
    #[arg(long, default_value_t = 10_000, value_parser = whole(1..=60_000), allow_negative_numbers = true)]
    idle: u64,
    /// Connections with a frame that never ends
    #[arg(long, default_value_t = 1_000, value_parser = whole(1..=10_000), allow_negative_numbers = true)]
    half_open: u64,
    /// Connections that ask for megabytes and read nothing
    #[arg(long, default_value_t = 100, value_parser = whole(1..=10_000), allow_negative_numbers = true)]
    unread: u64,
    /// How often the well-behaved client is measured among them; as often before, and after
    #[arg(long, default_value_t = 3, value_parser = whole(ROUNDS), allow_negative_numbers = true)]
    rounds: u64,
    /// How many calls that client makes each time
    #[arg(long, default_value_t = 200_000, value_parser = whole(1000..=10_000_000), allow_negative_numbers = true)]
    calls: u64,
}

/// What the hostile peers cost.
#[derive(Serialize)]
pub(crate) struct HostileResults {
    /// Of each kind, as many as there were.
    sizes: Sizes,
    /// Percentiles of the well-behaved client's calls in microseconds, the median of all rounds.
    alone: Percentiles,
    among_them: Percentiles,
    /// The 99th percentile among them, in those of it alone.
    ratio: f64,
    /// The server's memory before the crowd, with the idle connections, with all, and in the end.
    rss_kib: [u64; 4],
    bytes_per_idle_connection: u64,
    /// How often the server closed a half-open frame or an unread connection, which came again.
    renewed: u64,
    problems: Vec<String>,
}

/// The measurement of the well-behaved client.
struct PoliteMeasurement<'a> {
    programs: &'a Programs,
    server: &'a Server,
    flags: &'a Hostile,
    bar: ProgressBar,
}

impl Experiment for Hostile {
    const NAME: &'static str = "hostile";

    type Results = HostileResults;

    fn run(&self, lab: &Lab<'_>) -> Result<HostileResults> {
        let programs = lab.programs()?;
        let sizes = self.sizes()?;
        let max = (sizes.total() + OTHERS).to_string();
        let server = programs.server(&["--max-connections".to_owned(), max])?;
        let measurement = PoliteMeasurement {
            programs: &programs,
            server: &server,
            flags: self,
            bar: progress::bar(self.rounds * 3, "{pos}/{len} rounds, {msg}"),
        };
        let results = measurement.run(sizes)?;
        server.stop()?;
        Ok(results)
    }
}

impl Hostile {
    /// The sizes that the flags ask for, or those that the system has descriptors for.
    fn sizes(&self) -> Result<Sizes> {
        let limit = descriptors::raise()?;
        let rest = self.half_open + self.unread + OTHERS;
        ensure!(
            limit > rest,
            "a process may have {limit} descriptors here, too few for {rest} connections: raise the \
             hard limit (`ulimit -Hn`), or lower --half-open and --unread. Nothing was measured"
        );
        let idle = self.idle.min(limit - rest);
        if idle < self.idle {
            eprintln!(
                "a process may have {limit} descriptors here (`ulimit -Hn`), so there are only {idle} \
                 idle connections instead of {}",
                self.idle
            );
        }
        Ok(Sizes {
            idle,
            half_open: self.half_open,
            unread: self.unread,
        })
    }
}

impl PoliteMeasurement<'_> {
    fn run(&self, sizes: Sizes) -> Result<HostileResults> {
        let mut alone = self.rounds("alone")?;
        let before = self.rss_kib()?;
        self.bar.set_message("the hostile peers come");
        let mut crowd = Crowd::new(self.server.address, sizes);
        crowd.idle()?;
        let idle = self.rss_kib()?;
        let renewal = crowd.keep();
        renewal.wait()?;
        let among_them = self.rounds("among them");
        let all = self.rss_kib()?;
        let (still, renewed) = renewal.stop()?;
        let among_them = among_them?;
        alone.extend(self.rounds("alone again")?);
        let after = self.rss_kib()?;
        self.bar.finish_and_clear();
        let bytes = idle.saturating_sub(before) * 1024 / sizes.idle;
        let mut found = HostileResults::new(sizes, &alone, &among_them);
        found.rss_kib = [before, idle, all, after];
        found.bytes_per_idle_connection = bytes;
        found.renewed = renewed;
        if !still.are_nearly(sizes) {
            let problem = format!(
                "in the end too few of the hostile peers were there, though those that the server \
                 closes come again: {} of {}",
                still.text(),
                sizes.text()
            );
            found.problems.push(problem);
        }
        Ok(found)
    }

    fn rounds(&self, what: &'static str) -> Result<Vec<Summary>> {
        self.bar.set_message(what);
        (0..self.flags.rounds).map(|_| self.round()).collect()
    }

    fn round(&self) -> Result<Summary> {
        let flags = words(&format!(
            "--calls {} --concurrency 2 --attempt-timeout-ms 5000 --json --connect {}",
            self.flags.calls, self.server.address
        ));
        let summary = self.programs.client(&flags, ROUND)?;
        ensure!(
            summary.ok == self.flags.calls,
            "{} of {} calls of the well-behaved client were ok; expected all",
            summary.ok,
            self.flags.calls
        );
        self.bar.inc(1);
        Ok(summary)
    }

    /// The memory that the server settles at: the kernel and the allocator take their time.
    fn rss_kib(&self) -> Result<u64> {
        let deadline = Deadline::after(Duration::from_secs(5));
        let mut last = rss_kib(self.server.id())?;
        while !deadline.has_passed() {
            std::thread::sleep(Duration::from_millis(100));
            let now = rss_kib(self.server.id())?;
            if now.abs_diff(last) < 64 {
                return Ok(now);
            }
            last = now;
        }
        Ok(last)
    }
}

impl HostileResults {
    fn new(sizes: Sizes, alone: &[Summary], among_them: &[Summary]) -> Self {
        let (alone, among_them) = (Percentiles::of(alone), Percentiles::of(among_them));
        let ratio = among_them.p99_us / alone.p99_us.max(1.0);
        let problem = (ratio > RATIO).then(|| {
            format!("the 99th percentile is {ratio:.1} times that of the client alone; expected at most {RATIO}")
        });
        Self {
            sizes,
            alone,
            among_them,
            ratio,
            rss_kib: [0; 4],
            bytes_per_idle_connection: 0,
            renewed: 0,
            problems: problem.into_iter().collect(),
        }
    }
}

impl Report for HostileResults {
    fn text(&self, _page: &Path) -> String {
        let mut table = terminal::table(&["a well-behaved client", "p50", "p99"]);
        let mut row = |name: &str, found: &Percentiles| {
            table.add_row([
                name.to_owned(),
                duration(found.p50_us),
                duration(found.p99_us),
            ]);
        };
        row("alone", &self.alone);
        row("among them", &self.among_them);
        let [before, idle, all, after] = self.rss_kib.map(thousands);
        let figures = format!(
            "The slowest of a hundred calls took {:.2} times as long among them. {PERCENTILES} \
             The server's memory: {before} KiB before, {idle} with the idle connections, {all} \
             with all of them, {after} in the end, most of it kept by the allocator; {} bytes for \
             each idle connection. \
             Half-open frames and unread connections that the server closed, and that came again: \
             {}.",
            self.ratio,
            thousands(self.bytes_per_idle_connection),
            thousands(self.renewed),
        );
        format!("{}\n{table}\n{}", wrap(&self.sizes.text()), wrap(&figures))
    }

    fn json(&self, _page: &Path) -> Result<String> {
        Ok(serde_json::to_string(self)?)
    }

    /// Nothing of it needs a picture.
    fn html(&self) -> Option<String> {
        None
    }

    fn problems(&self) -> Vec<String> {
        self.problems.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::events::Latency;

    fn rounds(p99s: &[f64]) -> Vec<Summary> {
        let summary = |p99: &f64| Summary {
            latency_us: Latency {
                p50: Some(10.0),
                p99: Some(*p99),
                p999: None,
            },
            ..Summary::default()
        };
        p99s.iter().map(summary).collect()
    }

    #[test]
    fn three_times_as_slow_is_the_limit_and_one_bad_round_does_not_count() {
        let sizes = Sizes {
            idle: 1,
            half_open: 1,
            unread: 1,
        };
        let alone = rounds(&[100.0, 900.0, 100.0]);
        let found = HostileResults::new(sizes, &alone, &rounds(&[290.0, 5000.0, 280.0]));
        assert!((found.ratio - 2.9).abs() < 1e-9 && found.problems.is_empty());
        let found = HostileResults::new(sizes, &alone, &rounds(&[310.0, 500.0, 280.0]));
        assert!(
            found.problems[0].contains("3.1 times"),
            "{:?}",
            found.problems
        );
    }
}
