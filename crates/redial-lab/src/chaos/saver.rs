//! Clients that save the token of a call before they send it, are killed, and ask in their next
//! life what became of it.

use std::{
    fs,
    net::SocketAddr,
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

use super::diary::{Deed, Diary};
use crate::harness::{
    clock,
    events::{Call, Outcome},
    process::Process,
    programs::Programs,
};

/// A life that is not killed asks and then calls, each for 10 s at most; the rest is for a busy
/// machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(25);
/// So many lives of one call are killed at most.
const LIVES: usize = 6;

/// What every saver needs.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) programs: Programs,
    pub(crate) folder: PathBuf,
    pub(crate) server: SocketAddr,
    pub(crate) diary: Diary,
    pub(crate) stop: Arc<AtomicBool>,
}

/// A thread that makes one call after another, each in as many lives as it takes.
pub(crate) struct Saver {
    place: Place,
    prefix: String,
    rng: ChaCha8Rng,
    calls: Vec<Call>,
    /// How many calls a later life than the one that sent them had to ask for.
    resolved: u64,
}

/// What it wrote down.
pub(crate) struct Saved {
    pub(crate) prefix: String,
    pub(crate) calls: Vec<Call>,
    pub(crate) resolved: u64,
}

/// How one life ended.
struct Life {
    is_killed: bool,
    words: Vec<String>,
}

impl Saver {
    /// Calls until it is told to stop.
    pub(crate) fn start(place: Place, number: u64, seed: u64) -> JoinHandle<Result<Saved>> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(number);
        let saver = Self {
            place,
            prefix: format!("saver{number}"),
            rng,
            calls: Vec::new(),
            resolved: 0,
        };
        thread::spawn(move || saver.work())
    }

    fn work(mut self) -> Result<Saved> {
        for number in 0.. {
            if self.place.stop.load(Ordering::Acquire) {
                break;
            }
            let call = self.call(number)?;
            self.calls.push(call);
        }
        Ok(Saved {
            prefix: self.prefix,
            calls: self.calls,
            resolved: self.resolved,
        })
    }

    fn call(&mut self, number: u64) -> Result<Call> {
        let token = self
            .place
            .folder
            .join(format!("{}-{number}.token", self.prefix));
        let key = format!("{}-{number}", self.prefix);
        for life in 0.. {
            let start_us = clock::unix_us();
            let ended = self.live(&key, &token, life < LIVES)?;
            let is_resolved = said(&ended.words, "the call of the life before").is_some();
            self.resolved += u64::from(is_resolved);
            let value = said(&ended.words, "the counter is ");
            let value = value.map(str::parse).transpose().context("its counter")?;
            if value.is_none() && ended.is_killed {
                continue;
            }
            let outcome = match (value, token.exists()) {
                (Some(_), _) => Outcome::Ok,
                // Without a server there was no session to have the call in, so it was not sent.
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
                attempts: Vec::new(),
            });
        }
        unreachable!("the lives that may be killed are counted")
    }

    /// Starts the program, and kills it or lets it end.
    fn live(&mut self, key: &str, token: &Path, may_be_killed: bool) -> Result<Life> {
        let flags = [
            "--connect",
            &self.place.server.to_string(),
            "--key",
            key,
            "--token",
            &token.display().to_string(),
        ];
        let mut process = self
            .place
            .programs
            .start_crash_safe(&flags.map(str::to_owned))?;
        let is_killed = may_be_killed && self.rng.random_bool(0.6);
        if !is_killed {
            let (_, words) = process.finish(LIMIT)?;
            return Ok(Life { is_killed, words });
        }
        self.place.diary.note(Deed::SaverKilled);
        let words = self.kill(process)?;
        Ok(Life { is_killed, words })
    }

    /// Within the milliseconds in which the call is saved, sent, executed and answered.
    fn kill(&mut self, process: Process) -> Result<Vec<String>> {
        thread::sleep(Duration::from_micros(self.rng.random_range(0..30_000)));
        process.kill()
    }
}

/// What follows these words in the line that begins with them.
fn said<'a>(lines: &'a [String], words: &str) -> Option<&'a str> {
    lines.iter().find_map(|line| line.strip_prefix(words))
}
