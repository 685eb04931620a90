//! The scenarios: which faults the server injects, and how the client is set against them.

use std::time::Duration;

use crate::harness::{command_line::words_and, mode::Mode};

/// The ways that are compared: as Redial's client does it by itself, and as a hand-made retry loop
/// does it.
pub(crate) const MODES: [Mode; 2] = [Mode::Session, Mode::Naive];

/// One kind of trouble.
#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// What happens, in a sentence.
    pub(crate) about: &'static str,
    /// The server's flags.
    server: &'static str,
    /// The client's flags.
    client: &'static str,
    /// The server's delay, which bounds how long a call that was given up on may still run.
    delay_ms: u64,
    /// At most this many calls, however many were asked for: the slow ones are few.
    max_calls: u64,
}

/// All of them, the mildest after the first. Each is named after what goes wrong.
pub(crate) const ALL: [Scenario; 7] = [
    Scenario {
        name: "notebook",
        about: "The server needs 120 ms and loses every fifth request; the client waits 100 ms \
               per attempt, so that no attempt is ever answered within its own time.",
        server: "--delay-ms 120 --drop-request 0.2",
        client: "--attempt-timeout-ms 100 --max-attempts 6 --backoff-ms 30 --concurrency 25",
        delay_ms: 120,
        max_calls: 100,
    },
    Scenario {
        name: "no faults",
        about: "Nothing goes wrong; every call takes the 2 ms that the server works on it.",
        server: "--delay-ms 2",
        client: "--attempt-timeout-ms 60 --max-attempts 8 --backoff-ms 10 --concurrency 16",
        delay_ms: 2,
        max_calls: u64::MAX,
    },
    Scenario {
        name: "slow",
        about: "The server needs 20 ms, the client waits 15 ms before it sends again.",
        server: "--delay-ms 20",
        client: "--attempt-timeout-ms 15 --max-attempts 5 --backoff-ms 10 --concurrency 16",
        delay_ms: 20,
        max_calls: u64::MAX,
    },
    Scenario {
        name: "lossy requests",
        about: "Every fifth request is lost before the server sees it.",
        server: "--delay-ms 2 --drop-request 0.2",
        client: "--attempt-timeout-ms 60 --max-attempts 8 --backoff-ms 10 --concurrency 16",
        delay_ms: 2,
        max_calls: u64::MAX,
    },
    Scenario {
        name: "lossy replies",
        about: "Every fifth reply is lost: the effect happened, the caller can't know.",
        server: "--delay-ms 2 --drop-reply 0.2",
        client: "--attempt-timeout-ms 60 --max-attempts 8 --backoff-ms 10 --concurrency 16",
        delay_ms: 2,
        max_calls: u64::MAX,
    },
    Scenario {
        name: "cut connections",
        about: "Every tenth request has its connection cut, some before the effect, some after; \
               whatever else was in flight on that connection is cut off with it.",
        server: "--delay-ms 2 --cut 0.1",
        client: "--attempt-timeout-ms 60 --max-attempts 20 --backoff-ms 10 --concurrency 16",
        delay_ms: 2,
        max_calls: u64::MAX,
    },
    Scenario {
        name: "overload",
        about: "64 callers at once; the server runs 4 calls at a time, 5 ms each, lets 8 wait and \
               refuses the rest. Attempts that wait longer than 12 ms are sent again.",
        server: "--delay-ms 5 --max-running 4 --queue 8",
        client: "--attempt-timeout-ms 12 --max-attempts 20 --backoff-ms 10 --backoff-cap-ms 100 \
                 --concurrency 64",
        delay_ms: 5,
        max_calls: u64::MAX,
    },
];

/// The counter that every run counts under; each run has a server of its own.
pub(crate) const KEY: &str = "demo";

impl Scenario {
    /// How many calls it makes when this many were asked for.
    pub(crate) fn calls(&self, asked: u64) -> u64 {
        asked.min(self.max_calls)
    }

    /// Long enough for a call that its client gave up to have finished.
    pub(crate) fn settle(&self) -> Duration {
        Duration::from_millis(2 * self.delay_ms + 50)
    }

    /// The server's flags without those that only the demo needs.
    pub(crate) fn server_flags(&self, seed: u64) -> Vec<String> {
        words_and(self.server, [("--seed", seed.to_string())])
    }

    /// The client's flags without those that only the demo needs.
    pub(crate) fn client_flags(&self, mode: Mode, calls: u64, seed: u64) -> Vec<String> {
        let mut flags = words_and(
            self.client,
            [
                ("--calls", self.calls(calls).to_string()),
                ("--key", KEY.to_owned()),
                ("--deadline-ms", "10000".to_owned()),
                // The budget's task is to protect a server from its clients' retries. Here the
                // retries are what is shown, under faults that no budget would let through.
                ("--retry-budget", "unlimited".to_owned()),
                ("--seed", seed.to_string()),
            ],
        );
        flags.extend(mode.flag().map(str::to_owned));
        flags
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settling_time_knows_the_delay_that_the_server_is_started_with() {
        for scenario in &ALL {
            let flag = format!("--delay-ms {}", scenario.delay_ms);
            assert!(scenario.server.contains(&flag), "{}: {flag}", scenario.name);
        }
    }

    #[test]
    fn the_notebook_keeps_its_numbers() {
        let notebook = &ALL[0];
        let client = notebook.client_flags(Mode::Session, 300, 1).join(" ");
        assert_eq!(notebook.server, "--delay-ms 120 --drop-request 0.2");
        assert!(client.starts_with("--attempt-timeout-ms 100 --max-attempts 6 --backoff-ms 30"));
        assert!(client.contains("--calls 100"), "{client}");
        assert!(!client.contains("--naive"));
        assert!(
            notebook
                .client_flags(Mode::Naive, 300, 1)
                .contains(&"--naive".to_owned())
        );
    }
}
