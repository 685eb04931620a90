//! Hostile peers: whatever they do to the server, the calls of the others must not notice.

use std::{
    collections::VecDeque,
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use super::event_log::{ChaosEvent, EventLog};
use crate::harness::{
    endpoint::{Endpoint, Stream},
    wire,
};

/// More connections than the server allows, so that honest clients are refused as well.
const FLOOD: usize = super::plan::MAX_CONNECTIONS + 50;
/// So many half-open frames and unread replies are kept open; then the oldest is closed.
const KEPT: usize = 40;
/// How long a peer tries to send to a server that does not read.
const PATIENCE: Duration = Duration::from_millis(200);

/// A thread that plays one hostile peer after another until it is stopped.
pub(crate) struct HostilePeers {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

struct Peer {
    server: Endpoint,
    log: EventLog,
    rng: ChaCha8Rng,
    kept: VecDeque<Stream>,
}

impl HostilePeers {
    /// Starts to attack this server.
    pub(crate) fn start(server: Endpoint, seed: u64, log: EventLog) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let mut peer = Peer {
            server,
            log,
            rng: ChaCha8Rng::seed_from_u64(seed),
            kept: VecDeque::new(),
        };
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Acquire) {
                // An error means that the server is away, or full.
                let _: io::Result<()> = peer.attack();
                let pause = peer.rng.random_range(20..200);
                thread::sleep(Duration::from_millis(pause));
            }
        });
        Self { stop, thread }
    }

    /// Closes all connections.
    pub(crate) fn stop(self) {
        self.stop.store(true, Ordering::Release);
        self.thread
            .join()
            .expect("a hostile peer has no reason to panic");
    }
}

impl Peer {
    fn attack(&mut self) -> io::Result<()> {
        match self.rng.random_range(0..20) {
            0 => self.flood(),
            1..=8 => self.half_open(),
            9..=12 => self.not_read(),
            _ => self.garbage(),
        }
    }

    fn flood(&mut self) -> io::Result<()> {
        let all: io::Result<Vec<_>> = (0..FLOOD).map(|_| self.connect()).collect();
        self.log.record(ChaosEvent::Flood);
        thread::sleep(Duration::from_millis(50));
        all.map(drop)
    }

    /// The header of a frame, and some of it.
    fn half_open(&mut self) -> io::Result<()> {
        let to = self.connect()?;
        let bytes = self.rng.random_range(1..100_000u32);
        (&to).write_all(&bytes.to_be_bytes()[..self.rng.random_range(1..=4)])?;
        if self.rng.random_bool(0.5) {
            (&to).write_all(&vec![b'{'; bytes as usize / 2])?;
        }
        self.log.record(ChaosEvent::HalfOpen);
        self.keep(to);
        Ok(())
    }

    /// Asks for 4 MB and reads none of it.
    fn not_read(&mut self) -> io::Result<()> {
        let to = self.connect()?;
        to.set_write_timeout(PATIENCE)?;
        let key = "k".repeat(20_000);
        for number in 0..200 {
            let request = json!({"id": number, "method": "get", "params": {"key": key}});
            if (&to)
                .write_all(&wire::frame(request.to_string().as_bytes()))
                .is_err()
            {
                break;
            }
        }
        self.log.record(ChaosEvent::NotRead);
        self.keep(to);
        Ok(())
    }

    fn garbage(&mut self) -> io::Result<()> {
        let to = self.connect()?;
        let mut bytes = vec![0; self.rng.random_range(1..2000)];
        self.rng.fill(&mut bytes[..]);
        if self.rng.random_bool(0.5) {
            bytes = wire::frame(&bytes);
        }
        (&to).write_all(&bytes)?;
        self.log.record(ChaosEvent::Garbage);
        Ok(())
    }

    fn connect(&self) -> io::Result<Stream> {
        self.server.connect()
    }

    fn keep(&mut self, connection: Stream) {
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(connection);
    }
}
