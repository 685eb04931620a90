//! Peers without manners, who are there to see whether those with manners notice.

use std::{
    collections::VecDeque,
    io::{self, Write},
    net::{SocketAddr, TcpStream},
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

use super::diary::{Deed, Diary};
use crate::harness::wire;

/// More connections than the server allows, so that honest clients are refused as well.
const FLOOD: usize = super::plan::MAX_CONNECTIONS + 50;
/// So many half-open frames and unread replies are kept waiting; the oldest go.
const KEPT: usize = 40;
/// How long a peer tries to send to a server that does not read.
const PATIENCE: Duration = Duration::from_millis(200);

/// A thread that is rude until it is told to stop.
pub(crate) struct Rude {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

struct Peer {
    server: SocketAddr,
    diary: Diary,
    rng: ChaCha8Rng,
    kept: VecDeque<TcpStream>,
}

impl Rude {
    /// Starts to bother this server.
    pub(crate) fn start(server: SocketAddr, seed: u64, diary: Diary) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let mut peer = Peer {
            server,
            diary,
            rng: ChaCha8Rng::seed_from_u64(seed),
            kept: VecDeque::new(),
        };
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Acquire) {
                // A server that is away, or full, can't be bothered.
                let _: io::Result<()> = peer.misbehave();
                let pause = peer.rng.random_range(20..200);
                thread::sleep(Duration::from_millis(pause));
            }
        });
        Self { stop, thread }
    }

    /// Lets go of all connections.
    pub(crate) fn stop(self) {
        self.stop.store(true, Ordering::Release);
        self.thread
            .join()
            .expect("a rude peer has no reason to panic");
    }
}

impl Peer {
    fn misbehave(&mut self) -> io::Result<()> {
        match self.rng.random_range(0..20) {
            0 => self.flood(),
            1..=8 => self.half_open(),
            9..=12 => self.not_read(),
            _ => self.garbage(),
        }
    }

    fn flood(&mut self) -> io::Result<()> {
        let all: io::Result<Vec<_>> = (0..FLOOD).map(|_| self.connect()).collect();
        self.diary.note(Deed::Flood);
        thread::sleep(Duration::from_millis(50));
        all.map(drop)
    }

    /// The header of a frame, and some of it.
    fn half_open(&mut self) -> io::Result<()> {
        let mut to = self.connect()?;
        let bytes = self.rng.random_range(1..100_000u32);
        to.write_all(&bytes.to_be_bytes()[..self.rng.random_range(1..=4)])?;
        if self.rng.random_bool(0.5) {
            to.write_all(&vec![b'{'; bytes as usize / 2])?;
        }
        self.diary.note(Deed::HalfOpen);
        self.keep(to);
        Ok(())
    }

    /// Asks for 4 MB and reads none of it.
    fn not_read(&mut self) -> io::Result<()> {
        let mut to = self.connect()?;
        to.set_write_timeout(Some(PATIENCE))?;
        let key = "k".repeat(20_000);
        for number in 0..200 {
            let request = json!({"id": number, "method": "get", "params": {"key": key}});
            if to
                .write_all(&wire::frame(request.to_string().as_bytes()))
                .is_err()
            {
                break;
            }
        }
        self.diary.note(Deed::NotRead);
        self.keep(to);
        Ok(())
    }

    fn garbage(&mut self) -> io::Result<()> {
        let mut to = self.connect()?;
        let mut bytes = vec![0; self.rng.random_range(1..2000)];
        self.rng.fill(&mut bytes[..]);
        match self.rng.random_bool(0.5) {
            true => to.write_all(&bytes)?,
            false => to.write_all(&wire::frame(&bytes))?,
        }
        self.diary.note(Deed::Garbage);
        Ok(())
    }

    fn connect(&self) -> io::Result<TcpStream> {
        TcpStream::connect(self.server)
    }

    fn keep(&mut self, connection: TcpStream) {
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(connection);
    }
}
