//! Clients that save the token of a call before they send it, are killed, and ask in their next life
//! what happened to it.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::event_log::{ChaosEvent, EventLog};
use crate::{
    crash::check::{ClientEnd, History},
    harness::{
        clock,
        endpoint::Endpoint,
        events::{Call, Outcome},
        process::Process,
        programs::Programs,
    },
};

/// A life that is not killed connects, for 5 s at most, then resolves, waits for a number and calls, each for
/// 10 s at most; the rest is for a busy machine.
const LIMIT: Duration = Duration::from_secs(45);
/// At most so many lives of one call are killed.
const LIVES: usize = 6;

/// What every token client needs.
#[derive(Clone)]
pub(crate) struct TokenSetup {
    pub(crate) programs: Programs,
    pub(crate) folder: PathBuf,
    pub(crate) server: Endpoint,
    /// How it is let in.
    pub(crate) flags: Vec<String>,
    pub(crate) log: EventLog,
    pub(crate) stop: Arc<AtomicBool>,
}

/// A thread that makes one call after another, each in as many lives as it takes.
pub(crate) struct TokenClient {
    setup: TokenSetup,
    prefix: String,
    rng: ChaCha8Rng,
    calls: Vec<Call>,
    /// How many calls were resolved by a later life than the one that sent them.
    resolved: u64,
}

/// What it leaves behind.
pub(crate) struct TokenRecord {
    pub(crate) history: History,
    pub(crate) resolved: u64,
}

/// How one life ended.
struct TokenLife {
    is_killed: bool,
    /// The lines that it printed.
    lines: Vec<String>,
}

impl TokenClient {
    /// Calls until it is stopped.
    pub(crate) fn start(
        setup: TokenSetup,
        number: u64,
        seed: u64,
    ) -> JoinHandle<Result<TokenRecord>> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(number);
        let client = Self {
            setup,
            prefix: format!("token{number}"),
            rng,
            calls: Vec::new(),
            resolved: 0,
        };
        thread::spawn(move || client.work())
    }

    fn work(mut self) -> Result<TokenRecord> {
        for number in 0.. {
            if self.setup.stop.load(Ordering::Acquire) {
                break;
            }
            let call = self.call(number)?;
            self.calls.push(call);
        }
        Ok(TokenRecord {
            history: History::new(self.prefix, self.calls, ClientEnd::Stopped, LIMIT),
            resolved: self.resolved,
        })
    }

    fn call(&mut self, number: u64) -> Result<Call> {
        let token = self
            .setup
            .folder
            .join(format!("{}-{number}.token", self.prefix));
        let key = format!("{}-{number}", self.prefix);
        for life in 0.. {
            let start_us = clock::unix_us();
            let ended = self.live(&key, &token, life < LIVES)?;
            let is_resolved = after(&ended.lines, "the call of the previous run").is_some();
            self.resolved += u64::from(is_resolved);
            let value = after(&ended.lines, "the counter is ");
            let value = value.map(str::parse).transpose().context("its counter")?;
            if value.is_none() && ended.is_killed {
                continue;
            }
            let outcome = match (value, token.exists()) {
                (Some(_), _) => Outcome::Ok,
                // Without a server there was no session for the call, so it was not sent.
                (None, false) => Outcome::NotExecuted,
                (None, true) => Outcome::Unknown,
            };
            if token.exists() {
                fs::remove_file(&token).context("a token's file")?;
            }
            return Ok(Call {
                number,
                outcome,
                start_us,
                end_us: clock::unix_us(),
                value,
                error: None,
                attempts: Vec::new(),
            });
        }
        unreachable!("the lives that may be killed are counted")
    }

    /// Starts the program, and kills it or lets it end.
    fn live(&mut self, key: &str, token: &Path, may_be_killed: bool) -> Result<TokenLife> {
        let flags = [
            "--connect",
            &self.setup.server.to_string(),
            "--key",
            key,
            "--token",
            &token.display().to_string(),
        ];
        let mut flags = flags.map(str::to_owned).to_vec();
        flags.extend(self.setup.flags.iter().cloned());
        let mut process = self.setup.programs.start_crash_safe(&flags)?;
        let is_killed = may_be_killed && self.rng.random_bool(0.6);
        if !is_killed {
            let (_, lines) = process.finish(LIMIT)?;
            return Ok(TokenLife { is_killed, lines });
        }
        self.setup.log.record(ChaosEvent::TokenClientKilled);
        let lines = self.kill(process)?;
        Ok(TokenLife { is_killed, lines })
    }

    /// Within the milliseconds in which the call is saved, sent, executed and answered.
    fn kill(&mut self, process: Process) -> Result<Vec<String>> {
        thread::sleep(Duration::from_micros(self.rng.random_range(0..30_000)));
        process.kill()
    }
}

/// What follows these words in the line that begins with them.
fn after<'a>(lines: &'a [String], words: &str) -> Option<&'a str> {
    lines.iter().find_map(|line| line.strip_prefix(words))
}
