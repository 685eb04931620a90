//! A principal that takes what it can get, by hand-written frames, so that no client holds it back.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use serde::Serialize;
use serde_json::{Value, json};

use crate::harness::{clock, wire::Wire};

/// Connections with calls in flight, and how many each has: more than run at once and queue.
const CALLERS: u64 = 32;
const IN_FLIGHT: u64 = 64;
/// Connections with results of 1 MiB in flight, and how many each has.
const LARGE: u64 = 8;
const LARGE_IN_FLIGHT: u64 = 2;
/// Of its key alone: a server spares a little of the largest frame for what is around an outcome.
const LARGE_BYTES: usize = (1 << 20) - 4096;
/// Connections without calls that it opens first, and how many more it asks for: more than a server has.
const IDLE: u64 = 900;
const REST: u64 = 200;
/// How long a reply may take.
const REPLY: Duration = Duration::from_secs(30);
/// A caller that was refused waits at most so long.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long it may take until it has all that it gets.
const BEGINNING: Duration = Duration::from_millis(300);

/// What it got.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Takings {
    pub(super) connections: u64,
    pub(super) sessions: u64,
    pub(super) calls_per_s: u64,
    /// How many of its calls were refused.
    pub(super) refused: u64,
    pub(super) large_per_s: u64,
}

/// Tells the plain ids of all callers apart, those of earlier rounds included.
static NEXT_CALLER: AtomicU64 = AtomicU64::new(0);

/// The principal, at work until it is stopped.
pub(super) struct Greedy {
    tally: Arc<Tally>,
    start: Instant,
    callers: Vec<JoinHandle<Result<()>>>,
    idle: Vec<Idle>,
}

/// A connection without calls.
struct Idle {
    wire: Wire,
    sessions: Vec<String>,
}

#[derive(Default)]
struct Tally {
    stops: AtomicBool,
    calls: AtomicU64,
    refused: AtomicU64,
    large: AtomicU64,
}

/// One connection with calls in flight.
struct Caller {
    wire: Wire,
    number: u64,
    /// None for plain ids.
    session: Option<String>,
    next: u64,
    in_flight: BTreeSet<u64>,
    tally: Arc<Tally>,
}

impl Takings {
    /// The lesser of both in each.
    pub(super) fn min(self, other: Self) -> Self {
        Self {
            connections: self.connections.min(other.connections),
            sessions: self.sessions.min(other.sessions),
            calls_per_s: self.calls_per_s.min(other.calls_per_s),
            refused: self.refused.min(other.refused),
            large_per_s: self.large_per_s.min(other.large_per_s),
        }
    }
}

impl Greedy {
    /// Begins, and returns once it has what it gets: first most connections and the sessions, while they
    /// come quickly, then the calls, and the connections that are left.
    pub(super) fn start(server: SocketAddr, token: &str) -> Result<Self> {
        let idle = (0..IDLE).map(|_| Idle::enter(server, token));
        let mut idle = idle.collect::<Result<Vec<_>>>()?;
        for one in &mut idle {
            while let Ok(session) = open(&mut one.wire) {
                one.sessions.push(session);
            }
        }
        let tally = Arc::<Tally>::default();
        let mut callers = Vec::new();
        for index in 0..CALLERS + LARGE {
            let (mut wire, tally) = (enter(server, token)?, Arc::clone(&tally));
            callers.push(if index >= CALLERS {
                spawn(move || ask_for_much(wire, &tally))
            } else {
                // Some find no room for a session any more.
                let session = index.is_multiple_of(2).then(|| open(&mut wire).ok());
                let caller = Caller::new(wire, session.flatten(), tally);
                spawn(move || caller.work())
            });
        }
        let rest = (0..REST).map_while(|_| Idle::enter(server, token).ok());
        idle.extend(rest);
        thread::sleep(BEGINNING);
        for count in [&tally.calls, &tally.refused, &tally.large] {
            count.store(0, Relaxed);
        }
        Ok(Self {
            tally,
            start: clock::now(),
            callers,
            idle,
        })
    }

    /// Hangs up.
    pub(super) fn stop(mut self) -> Result<Takings> {
        let elapsed = clock::now().duration_since(self.start).as_secs_f64();
        // Some had to make room.
        self.idle
            .retain_mut(|idle| idle.wire.is_silent().unwrap_or(false));
        let idle = &mut self.idle;
        let sessions: usize = idle.iter().map(|idle| idle.sessions.len()).sum();
        let per_s = |count: &AtomicU64| (count.load(Relaxed) as f64 / elapsed) as u64;
        let takings = Takings {
            connections: (self.callers.len() + idle.len()) as u64,
            sessions: sessions as u64,
            calls_per_s: per_s(&self.tally.calls),
            refused: self.tally.refused.load(Relaxed),
            large_per_s: per_s(&self.tally.large),
        };
        self.tally.stops.store(true, Relaxed);
        for caller in self.callers {
            let worked = caller.join();
            worked.map_err(|_| anyhow!("a thread of the greedy principal panicked"))??;
        }
        // So that the next one finds as many.
        for idle in &mut self.idle {
            idle.leave()?;
        }
        Ok(takings)
    }
}

impl Idle {
    fn enter(server: SocketAddr, token: &str) -> Result<Self> {
        Ok(Self {
            wire: enter(server, token)?,
            sessions: Vec::new(),
        })
    }

    fn leave(&mut self) -> Result<()> {
        for session in self.sessions.drain(..) {
            let goodbye = json!({"method": "rpc.goodbye", "params": {"session": session}});
            self.wire.send(goodbye.to_string().as_bytes())?;
        }
        Ok(())
    }
}

/// Its own machine would be another: it takes only what is left of this one's time.
fn spawn(work: impl FnOnce() -> Result<()> + Send + 'static) -> JoinHandle<Result<()>> {
    thread::spawn(move || {
        #[cfg(target_os = "linux")]
        rustix::process::nice(19)?;
        work()
    })
}

fn enter(server: SocketAddr, token: &str) -> Result<Wire> {
    let mut wire = Wire::connect(server)?;
    let auth = json!({"id": "auth", "method": "rpc.auth", "params": {"token": token}});
    result(wire.ask(&auth, REPLY)?)?;
    Ok(wire)
}

fn open(wire: &mut Wire) -> Result<String> {
    let hello = json!({"id": "hello", "method": "rpc.hello", "params": {}});
    let hello = result(wire.ask(&hello, REPLY)?)?;
    let session = hello["session"].as_str().context("no session")?;
    Ok(session.to_owned())
}

fn result(mut reply: Value) -> Result<Value> {
    match reply.get_mut("result") {
        Some(result) => Ok(result.take()),
        None => bail!("refused: {reply}"),
    }
}

/// Results of 1 MiB, each asked for as soon as one has come.
fn ask_for_much(mut wire: Wire, tally: &Tally) -> Result<()> {
    let key = "k".repeat(LARGE_BYTES);
    let request = json!({"id": 1, "method": "get", "params": {"key": key}}).to_string();
    for _ in 0..LARGE_IN_FLIGHT {
        wire.send(request.as_bytes())?;
    }
    while !tally.stops.load(Relaxed) {
        if wire.receive(REPLY)?.len() > LARGE_BYTES {
            tally.large.fetch_add(1, Relaxed);
        }
        wire.send(request.as_bytes())?;
    }
    Ok(())
}

impl Caller {
    fn new(wire: Wire, session: Option<String>, tally: Arc<Tally>) -> Self {
        Self {
            wire,
            number: NEXT_CALLER.fetch_add(1, Relaxed),
            session,
            next: 0,
            in_flight: BTreeSet::new(),
            tally,
        }
    }

    /// As many calls as there is room for; refused ones are made again when the server says.
    fn work(mut self) -> Result<()> {
        for _ in 0..IN_FLIGHT {
            self.send()?;
        }
        let mut unsent = 0;
        while !self.tally.stops.load(Relaxed) {
            let reply: Value = serde_json::from_slice(&self.wire.receive(REPLY)?)?;
            let id = reply["id"].as_str().context("a reply without an id")?;
            let number = u64::from_str_radix(&id[id.len() - 8..], 16)?;
            self.in_flight.remove(&number);
            let Some(error) = reply.get("error") else {
                self.tally.calls.fetch_add(1, Relaxed);
                self.send()?;
                continue;
            };
            self.tally.refused.fetch_add(1, Relaxed);
            unsent += 1;
            if unsent * 2 >= IN_FLIGHT || self.in_flight.is_empty() {
                let wait = error["data"]["retry_after_ms"].as_u64().unwrap_or(0);
                thread::sleep(Duration::from_millis(wait).min(PATIENCE));
                for _ in 0..std::mem::take(&mut unsent) {
                    self.send()?;
                }
            }
        }
        Ok(())
    }

    fn send(&mut self) -> Result<()> {
        let number = self.next;
        self.next += 1;
        self.in_flight.insert(number);
        let params = json!({"key": "greedy", "delta": 1});
        let request = match &self.session {
            None => {
                let id = format!("00000000-0000-4000-8{:03x}-0000{number:08x}", self.number);
                json!({"id": id, "method": "inc", "params": params})
            }
            Some(session) => {
                // The UUID (version 8) of a session's call: its 15 digits, then the call's number.
                let (high, rest) = session.split_at(8);
                let (middle, low) = rest.split_at(4);
                let id = format!("{high}-{middle}-8{low}-8000-0000{number:08x}");
                let ack = self.in_flight.first().copied().unwrap_or(number);
                json!({"id": id, "method": "inc", "params": params, "redial": {"ack": ack}})
            }
        };
        self.wire.send(request.to_string().as_bytes())
    }
}
