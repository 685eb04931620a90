//! A proxy between clients and server that does everything to their frames that a network, or
//! something that sits on it, might do.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::{
    diary::{Deed, Diary},
    fate::{self, Fate, Way},
    post::Post,
};
use crate::clock::Deadline;

/// What is read at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// What neither end of an honest connection sends. The proxy keeps no more.
const MAX_FRAME_BYTES: usize = 1 << 20;
/// A direction that stands still looks so often whether it may go on.
const LOOK: Duration = Duration::from_millis(10);

/// A running proxy. It runs until the program ends.
#[derive(Clone)]
pub(crate) struct Proxy {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    server: SocketAddr,
    seed: u64,
    diary: Diary,
    post: Post,
    connections: AtomicU64,
    is_honest: AtomicBool,
}

/// One direction of a connection.
struct Pump {
    shared: Arc<Shared>,
    way: Way,
    rng: ChaCha8Rng,
    from: TcpStream,
    to: TcpStream,
    /// What has been read and is not a whole frame yet.
    rest: Vec<u8>,
    /// What may go, gathered for one write.
    out: Vec<u8>,
}

/// Why a direction is over.
enum Over {
    /// Both are.
    Broken,
    /// Only this one.
    Ended,
}

impl From<io::Error> for Over {
    fn from(_: io::Error) -> Self {
        Self::Broken
    }
}

impl Proxy {
    /// Listens on a port that the system chooses, and passes on to `server`.
    pub(crate) fn start(server: SocketAddr, seed: u64, diary: &Diary, post: &Post) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port is free")?;
        let proxy = Self {
            address: listener.local_addr()?,
            shared: Arc::new(Shared {
                server,
                seed,
                diary: diary.clone(),
                post: post.clone(),
                connections: AtomicU64::new(0),
                is_honest: AtomicBool::new(false),
            }),
        };
        let shared = Arc::clone(&proxy.shared);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                // Without a server the client sees what it would see without the proxy: an end.
                thread::spawn(move || shared.connect(client));
            }
        });
        Ok(proxy)
    }

    /// From now on everything passes.
    pub(crate) fn be_honest(&self) {
        self.shared.is_honest.store(true, Ordering::Release);
    }
}

impl Shared {
    fn connect(self: Arc<Self>, client: TcpStream) -> io::Result<()> {
        let server = TcpStream::connect(self.server)?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let number = self.connections.fetch_add(1, Ordering::Relaxed);
        let pump = |way, from: &TcpStream, to: &TcpStream| -> io::Result<Pump> {
            let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
            rng.set_stream(2 * number + u64::from(way == Way::Down));
            Ok(Pump {
                shared: Arc::clone(&self),
                way,
                rng,
                from: from.try_clone()?,
                to: to.try_clone()?,
                rest: Vec::new(),
                out: Vec::new(),
            })
        };
        let up = pump(Way::Up, &client, &server)?;
        let down = pump(Way::Down, &server, &client)?;
        thread::spawn(move || up.run());
        down.run();
        Ok(())
    }

    fn is_honest(&self) -> bool {
        self.is_honest.load(Ordering::Acquire)
    }
}

impl Pump {
    fn run(mut self) {
        // Errors below are those of connections that are gone already.
        match self.pass_on() {
            Ok(()) | Err(Over::Ended) => {
                let _ = self.to.shutdown(Shutdown::Write);
            }
            Err(Over::Broken) => {
                let _ = self.to.shutdown(Shutdown::Both);
                let _ = self.from.shutdown(Shutdown::Both);
            }
        }
    }

    fn pass_on(&mut self) -> Result<(), Over> {
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let read = self.from.read(&mut chunk)?;
            if read == 0 {
                // The end of half a frame is the other side's to judge.
                self.out.append(&mut self.rest);
                return self.flush();
            }
            self.rest.extend_from_slice(&chunk[..read]);
            let whole = std::mem::take(&mut self.rest);
            let mut left = &whole[..];
            while let Some(bytes) = frame_bytes(left)? {
                let (frame, next) = left.split_at(bytes);
                self.frame(frame)?;
                left = next;
            }
            self.rest = left.to_vec();
            self.flush()?;
        }
    }

    /// Lets one frame meet its fate.
    fn frame(&mut self, frame: &[u8]) -> Result<(), Over> {
        let fate = match self.shared.is_honest() {
            true => Fate::Pass,
            false => fate::draw(self.way, frame.len(), &mut self.rng),
        };
        match fate {
            Fate::Pass => self.out.extend_from_slice(frame),
            Fate::Delay(time) => self.wait(Deed::Delayed, time, frame)?,
            Fate::Stall(time) => self.wait(Deed::Stalled, time, frame)?,
            Fate::Cut(bytes) => return self.end(Deed::Cut, &frame[..bytes], Over::Broken),
            Fate::Truncate(bytes) => {
                return self.end(Deed::Truncated, &frame[..bytes], Over::Ended);
            }
            Fate::Twice => {
                self.shared.diary.note(match self.way {
                    Way::Up => Deed::Duplicated,
                    Way::Down => Deed::ReplyDuplicated,
                });
                self.out.extend_from_slice(frame);
                self.out.extend_from_slice(frame);
            }
            Fate::Copy(after) => {
                self.shared.diary.note(Deed::Copied);
                self.shared.post.send(frame.to_vec(), after);
                self.out.extend_from_slice(frame);
            }
            Fate::HoldBack(after) => {
                self.shared.diary.note(Deed::HeldBack);
                self.shared.post.send(frame.to_vec(), after);
            }
        }
        Ok(())
    }

    /// What came before goes, the frame and what follows it wait.
    fn wait(&mut self, deed: Deed, time: Duration, frame: &[u8]) -> Result<(), Over> {
        self.shared.diary.note(deed);
        self.flush()?;
        let deadline = Deadline::after(time);
        while !deadline.has_passed() && !self.shared.is_honest() {
            thread::sleep(deadline.left().min(LOOK));
        }
        self.out.extend_from_slice(frame);
        Ok(())
    }

    fn end(&mut self, deed: Deed, last: &[u8], over: Over) -> Result<(), Over> {
        self.shared.diary.note(deed);
        self.out.extend_from_slice(last);
        self.flush()?;
        Err(over)
    }

    fn flush(&mut self) -> Result<(), Over> {
        let written = self.to.write_all(&self.out);
        self.out.clear();
        Ok(written?)
    }
}

/// How many bytes the frame takes that `bytes` begin with, if it is whole.
fn frame_bytes(bytes: &[u8]) -> Result<Option<usize>, Over> {
    let Some(header) = bytes.first_chunk::<4>() else {
        return Ok(None);
    };
    let body = u32::from_be_bytes(*header) as usize;
    if body > MAX_FRAME_BYTES {
        return Err(Over::Broken);
    }
    Ok((bytes.len() >= 4 + body).then_some(4 + body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Wire;

    const LIMIT: Duration = Duration::from_secs(20);

    /// A peer that answers each frame with itself, and counts them.
    fn echo() -> (SocketAddr, Arc<AtomicU64>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&seen);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let count = Arc::clone(&count);
                thread::spawn(move || {
                    let mut wire = Wire::over(stream);
                    while let Ok(body) = wire.receive(LIMIT) {
                        count.fetch_add(1, Ordering::SeqCst);
                        if wire.send(&body).is_err() {
                            break;
                        }
                    }
                });
            }
        });
        (address, seen)
    }

    #[test]
    fn an_honest_proxy_changes_nothing() {
        let (server, seen) = echo();
        let diary = Diary::default();
        let post = Post::start(server, diary.clone());
        let proxy = Proxy::start(server, 1, &diary, &post).unwrap();
        proxy.be_honest();
        let mut wire = Wire::connect(proxy.address).unwrap();
        for number in 0..300 {
            let body = vec![b'x'; number * 37];
            wire.send(&body).unwrap();
            assert_eq!(wire.receive(LIMIT).unwrap(), body);
        }
        assert_eq!(seen.load(Ordering::SeqCst), 300);
        assert_eq!(diary.read(), []);
    }

    #[test]
    fn a_frame_is_whole_or_not_and_a_giant_is_refused() {
        assert!(matches!(frame_bytes(b"\0\0\0"), Ok(None)));
        assert!(matches!(frame_bytes(b"\0\0\0\x02{"), Ok(None)));
        assert!(matches!(frame_bytes(b"\0\0\0\x02{}\0"), Ok(Some(6))));
        assert!(frame_bytes(b"\xff\0\0\0").is_err());
    }

    #[test]
    fn everything_that_was_kept_comes_through_and_is_in_the_diary() {
        let (server, seen) = echo();
        let diary = Diary::default();
        let post = Post::start(server, diary.clone());
        for _ in 0..20 {
            post.send(crate::wire::frame(b"{}"), Duration::from_secs(3600));
        }
        assert!(post.empty(LIMIT));
        let let_through = diary.read();
        assert_eq!(let_through.len(), 20);
        let deadline = Deadline::after(LIMIT);
        while seen.load(Ordering::SeqCst) < 20 {
            assert!(!deadline.has_passed(), "{seen:?}");
            thread::yield_now();
        }
    }
}
