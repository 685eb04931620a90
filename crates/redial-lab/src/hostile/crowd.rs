//! Hostile peers, which cost a server something and give it nothing to do.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};
use serde::Serialize;
use serde_json::json;

use crate::{
    harness::{
        clock::Deadline,
        wire::{Wire, frame},
    },
    report::scale::thousands,
};

/// How long the server may take to answer the one request of an idle connection.
const REPLY: Duration = Duration::from_secs(20);
/// How often some may come.
const TICK: Duration = Duration::from_millis(10);
/// Looking for those that were closed takes the machine's time as well, so it is not done often.
const LOOK_TICKS: u64 = 20;
/// How long the server lets a half-open frame or an unread reply be: its defaults.
const LIFE: Duration = Duration::from_secs(10);
/// All of them can come within this time, which must be shorter.
const ENTRY: Duration = Duration::from_secs(8);
/// What the header of a half-open frame promises, and what of it comes.
const PROMISED_BYTES: u32 = 1 << 20;
const SENT_BYTES: usize = 1000;
/// The length of each reply that is not read.
const UNREAD_BYTES: usize = 50_000;

/// How many of each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Sizes {
    pub(super) idle: u64,
    pub(super) half_open: u64,
    pub(super) unread: u64,
}

impl Sizes {
    /// Whether all are there that the server leaves open, and all but a few of those that it closes
    /// and that come again.
    pub(super) fn are_nearly(self, all: Self) -> bool {
        let nearly = |there: u64, all: u64| there + all / 10 >= all;
        self.idle == all.idle
            && nearly(self.half_open, all.half_open)
            && nearly(self.unread, all.unread)
    }

    pub(super) fn text(self) -> String {
        format!(
            "{} idle connections, {} half-open frames, {} peers that read nothing",
            thousands(self.idle),
            thousands(self.half_open),
            thousands(self.unread)
        )
    }

    pub(super) fn total(self) -> u64 {
        self.idle + self.half_open + self.unread
    }
}

/// All of them.
pub(super) struct Crowd {
    server: SocketAddr,
    sizes: Sizes,
    /// The request of a peer that reads nothing.
    request: Vec<u8>,
    idle: Vec<Wire>,
    half_open: Vec<TcpStream>,
    unread: Vec<Unread>,
    renewed: u64,
    ticks: u64,
    /// Of the half-open and of the unread ones.
    doors: [Door; 2],
}

/// Lets peers come evenly over the time that the server gives each of them. If all came at once they
/// would be closed and come again at once, which is a flood and not what is measured.
#[derive(Default)]
struct Door {
    /// How many may come by now; a peer is let in when it is whole.
    open: f64,
}

/// A peer that asks and does not read.
struct Unread {
    stream: TcpStream,
    /// How many bytes of the current request have been sent.
    sent: usize,
}

/// A thread that opens again what the server closes.
pub(super) struct Renewal {
    is_complete: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Crowd>>,
}

impl Crowd {
    pub(super) fn new(server: SocketAddr, sizes: Sizes) -> Self {
        let key = "k".repeat(UNREAD_BYTES);
        let request = json!({"id": 1, "method": "get", "params": {"key": key}});
        Self {
            server,
            sizes,
            request: frame(request.to_string().as_bytes()),
            idle: Vec::new(),
            half_open: Vec::new(),
            unread: Vec::new(),
            renewed: 0,
            ticks: 0,
            doors: Default::default(),
        }
    }

    /// Opens the idle ones. Each makes one request, so that the server has really accepted it.
    pub(super) fn idle(&mut self) -> Result<()> {
        for number in 0..self.sizes.idle {
            let mut wire = Wire::connect(self.server)?;
            let request = json!({"id": number, "method": "rpc.ping"});
            wire.ask(&request, REPLY)
                .with_context(|| format!("idle connection {number}"))?;
            self.idle.push(wire);
        }
        Ok(())
    }

    /// Lets the others come, and keeps their number up until it is stopped.
    pub(super) fn keep(mut self) -> Renewal {
        let is_complete = Arc::new(AtomicBool::new(false));
        let stop = Arc::new(AtomicBool::new(false));
        let (complete, stopped) = (Arc::clone(&is_complete), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Acquire) {
                let has_all = self.renew()?;
                complete.fetch_or(has_all, Ordering::AcqRel);
                thread::sleep(TICK);
            }
            Ok(self)
        });
        Renewal {
            is_complete,
            stop,
            thread,
        }
    }

    fn begin_a_frame(&self) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect(self.server)?;
        stream.write_all(&PROMISED_BYTES.to_be_bytes())?;
        stream.write_all(&[b' '; SENT_BYTES])?;
        stream.set_nonblocking(true)?;
        Ok(stream)
    }

    fn ask_and_not_read(&self) -> io::Result<Unread> {
        let stream = TcpStream::connect(self.server)?;
        stream.set_nonblocking(true)?;
        Ok(Unread { stream, sent: 0 })
    }

    /// Lets some come, and now and then drops those that the server has closed. Returns whether they
    /// are all there.
    fn renew(&mut self) -> Result<bool> {
        self.ticks += 1;
        if self.ticks.is_multiple_of(LOOK_TICKS) {
            self.drop_closed();
        }
        for _ in 0..self.doors[0].open(self.sizes.half_open, self.half_open.len()) {
            self.half_open.push(self.begin_a_frame()?);
        }
        for _ in 0..self.doors[1].open(self.sizes.unread, self.unread.len()) {
            self.unread.push(self.ask_and_not_read()?);
        }
        let there = Sizes {
            half_open: self.half_open.len() as u64,
            unread: self.unread.len() as u64,
            ..self.sizes
        };
        Ok(there.are_nearly(self.sizes))
    }

    fn drop_closed(&mut self) {
        let before = self.half_open.len() + self.unread.len();
        self.half_open.retain_mut(is_silent);
        let request = &self.request;
        self.unread.retain_mut(|unread| unread.asks_on(request));
        self.renewed += (before - self.half_open.len() - self.unread.len()) as u64;
    }

    /// How many are open.
    fn count(&mut self) -> Result<Sizes> {
        let mut idle = 0;
        for wire in &mut self.idle {
            idle += u64::from(wire.is_silent()?);
        }
        Ok(Sizes {
            idle,
            half_open: self.half_open.len() as u64,
            unread: self.unread.len() as u64,
        })
    }
}

impl Door {
    /// How many come in this tick, of `all` of which `there` are here.
    fn open(&mut self, all: u64, there: usize) -> u64 {
        self.open += all as f64 * TICK.as_secs_f64() / ENTRY.as_secs_f64();
        let come = (self.open as u64).min(all - there as u64);
        self.open = (self.open - come as f64).min(1.0);
        come
    }
}

impl Renewal {
    /// Waits until all have come once.
    pub(super) fn wait(&self) -> Result<()> {
        let deadline = Deadline::after(LIFE * 6);
        while !self.is_complete.load(Ordering::Acquire) && !self.thread.is_finished() {
            ensure!(
                !deadline.has_passed(),
                "not all hostile peers could connect in time"
            );
            thread::sleep(TICK);
        }
        Ok(())
    }

    /// Closes all connections. Returns how many there were in the end, and how often one came again.
    pub(super) fn stop(self) -> Result<(Sizes, u64)> {
        self.stop.store(true, Ordering::Release);
        let crowd = self.thread.join();
        let mut crowd = crowd.map_err(|_| anyhow!("the hostile peers panicked"))??;
        Ok((crowd.count()?, crowd.renewed))
    }
}

/// Whether the connection is open and nothing has arrived on it.
fn is_silent(stream: &mut TcpStream) -> bool {
    let read = stream.read(&mut [0; 1]);
    read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

impl Unread {
    /// Asks as long as the server reads, and returns whether the connection is open.
    fn asks_on(&mut self, request: &[u8]) -> bool {
        loop {
            match self.stream.write(&request[self.sent..]) {
                Ok(bytes) => self.sent = (self.sent + bytes) % request.len(),
                // The server does not read any more, or not as fast.
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_door_lets_all_in_evenly_and_none_twice() {
        let mut door = Door::default();
        let ticks = (ENTRY.as_millis() / TICK.as_millis()) as usize;
        let mut there = 0;
        for _ in 0..ticks / 2 {
            there += door.open(100, there) as usize;
        }
        assert!((49..=51).contains(&there), "{there}");
        for _ in 0..ticks {
            there += door.open(100, there) as usize;
        }
        assert_eq!(there, 100);
        assert!(
            door.open(100, 98) <= 1,
            "unused room at the door does not add up to a flood"
        );
    }
}
