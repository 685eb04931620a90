//! A proxy between clients and server that does to their frames all that a network, or something in
//! it, might do.

use std::{
    io::{self, Read, Write},
    net::Shutdown,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::Result;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::{
    delay_queue::DelayQueue,
    event_log::{ChaosEvent, EventLog},
    frame_fault::{Direction, FrameFault},
};
use crate::harness::{
    clock::Deadline,
    endpoint::{Endpoint, Stream},
};

/// What is read at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// What neither end of an honest connection sends. The proxy keeps no more.
const MAX_FRAME_BYTES: usize = 1 << 20;
/// A direction that stands still looks so often whether it may go on.
const LOOK: Duration = Duration::from_millis(10);

/// Decides what happens to a frame of so many bytes.
pub(crate) type Draw = fn(Direction, usize, &mut ChaCha8Rng) -> FrameFault;

/// How many bytes the frame takes that some bytes begin with, if it is whole.
pub(crate) type Framing = fn(&[u8]) -> Result<Option<usize>, PumpEnd>;

/// A running proxy. It runs until the program ends.
#[derive(Clone)]
pub(crate) struct Proxy {
    /// Where it listens.
    pub(crate) address: Endpoint,
    state: Arc<ProxyState>,
}

/// What it does to frames, and where that is recorded.
#[derive(Clone)]
pub(crate) struct FaultPlan {
    pub(crate) seed: u64,
    pub(crate) draw: Draw,
    /// Where a frame ends.
    pub(crate) framing: Framing,
    pub(crate) log: EventLog,
    pub(crate) later: DelayQueue,
}

/// What all connections share.
struct ProxyState {
    server: Endpoint,
    faults: FaultPlan,
    connections: AtomicU64,
    is_honest: AtomicBool,
}

/// One direction of a connection.
struct Pump {
    state: Arc<ProxyState>,
    direction: Direction,
    rng: ChaCha8Rng,
    from: Stream,
    to: Stream,
    /// What has been read and is not a whole frame yet.
    rest: Vec<u8>,
    /// What may go, gathered for one write.
    out: Vec<u8>,
}

/// Why a direction has ended.
pub(crate) enum PumpEnd {
    /// Both directions have.
    Broken,
    /// Only this one.
    Ended,
}

impl From<io::Error> for PumpEnd {
    fn from(_: io::Error) -> Self {
        Self::Broken
    }
}

impl Proxy {
    /// Listens in the way of `server`, and passes on to it.
    pub(crate) fn start(server: Endpoint, faults: FaultPlan) -> Result<Self> {
        let (address, listener) = server.listen_beside("proxy.sock")?;
        let proxy = Self {
            address,
            state: Arc::new(ProxyState {
                server,
                faults,
                connections: AtomicU64::new(0),
                is_honest: AtomicBool::new(false),
            }),
        };
        let state = Arc::clone(&proxy.state);
        thread::spawn(move || {
            loop {
                let Ok(client) = listener.accept() else {
                    continue;
                };
                let state = Arc::clone(&state);
                // Without a server the client sees what it would see without the proxy: an end.
                thread::spawn(move || state.connect(client));
            }
        });
        Ok(proxy)
    }

    /// From now on everything passes.
    pub(crate) fn be_honest(&self) {
        self.state.is_honest.store(true, Ordering::Release);
    }
}

impl ProxyState {
    fn connect(self: Arc<Self>, client: Stream) -> io::Result<()> {
        let server = self.server.connect()?;
        let number = self.connections.fetch_add(1, Ordering::Relaxed);
        let pump = |direction, from: &Stream, to: &Stream| -> io::Result<Pump> {
            let mut rng = ChaCha8Rng::seed_from_u64(self.faults.seed);
            rng.set_stream(2 * number + u64::from(direction == Direction::Down));
            Ok(Pump {
                state: Arc::clone(&self),
                direction,
                rng,
                from: from.try_clone()?,
                to: to.try_clone()?,
                rest: Vec::new(),
                out: Vec::new(),
            })
        };
        let up = pump(Direction::Up, &client, &server)?;
        let down = pump(Direction::Down, &server, &client)?;
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
            Ok(()) | Err(PumpEnd::Ended) => {
                let _ = self.to.shutdown(Shutdown::Write);
            }
            Err(PumpEnd::Broken) => {
                let _ = self.to.shutdown(Shutdown::Both);
                let _ = self.from.shutdown(Shutdown::Both);
            }
        }
    }

    fn pass_on(&mut self) -> Result<(), PumpEnd> {
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let read = (&self.from).read(&mut chunk)?;
            if read == 0 {
                // What the end of half a frame means, the other side must know.
                self.out.append(&mut self.rest);
                return self.flush();
            }
            self.rest.extend_from_slice(&chunk[..read]);
            let whole = std::mem::take(&mut self.rest);
            let mut left = &whole[..];
            while let Some(bytes) = (self.state.faults.framing)(left)? {
                let (frame, next) = left.split_at(bytes);
                self.frame(frame)?;
                left = next;
            }
            self.rest = left.to_vec();
            self.flush()?;
        }
    }

    /// Does to one frame what is drawn for it.
    fn frame(&mut self, frame: &[u8]) -> Result<(), PumpEnd> {
        let fault = if self.state.is_honest() {
            FrameFault::Pass
        } else {
            (self.state.faults.draw)(self.direction, frame.len(), &mut self.rng)
        };
        match fault {
            FrameFault::Pass => self.out.extend_from_slice(frame),
            FrameFault::Delay(time) => self.wait(ChaosEvent::Delayed, time, frame)?,
            FrameFault::Stall(time) => self.wait(ChaosEvent::Stalled, time, frame)?,
            FrameFault::Cut(bytes) => {
                return self.end(ChaosEvent::Cut, &frame[..bytes], PumpEnd::Broken);
            }
            FrameFault::Truncate(bytes) => {
                return self.end(ChaosEvent::Truncated, &frame[..bytes], PumpEnd::Ended);
            }
            FrameFault::Twice => {
                self.record(match self.direction {
                    Direction::Up => ChaosEvent::Duplicated,
                    Direction::Down => ChaosEvent::ReplyDuplicated,
                });
                self.out.extend_from_slice(frame);
                self.out.extend_from_slice(frame);
            }
            FrameFault::Copy(after) => {
                self.record(ChaosEvent::Copied);
                self.state.faults.later.push(frame.to_vec(), after);
                self.out.extend_from_slice(frame);
            }
            FrameFault::HoldBack(after) => {
                self.record(ChaosEvent::HeldBack);
                self.state.faults.later.push(frame.to_vec(), after);
            }
        }
        Ok(())
    }

    fn record(&self, event: ChaosEvent) {
        self.state.faults.log.record(event);
    }

    /// What came before goes, the frame and what follows it wait.
    fn wait(&mut self, event: ChaosEvent, time: Duration, frame: &[u8]) -> Result<(), PumpEnd> {
        self.record(event);
        self.flush()?;
        let deadline = Deadline::after(time);
        while !deadline.has_passed() && !self.state.is_honest() {
            thread::sleep(deadline.left().min(LOOK));
        }
        self.out.extend_from_slice(frame);
        Ok(())
    }

    fn end(&mut self, event: ChaosEvent, last: &[u8], end: PumpEnd) -> Result<(), PumpEnd> {
        self.record(event);
        self.out.extend_from_slice(last);
        self.flush()?;
        Err(end)
    }

    fn flush(&mut self) -> Result<(), PumpEnd> {
        let written = (&self.to).write_all(&self.out);
        self.out.clear();
        Ok(written?)
    }
}

/// How many bytes the frame takes that `bytes` begin with, if it is whole.
pub(crate) fn frame_bytes(bytes: &[u8]) -> Result<Option<usize>, PumpEnd> {
    let Some(header) = bytes.first_chunk::<4>() else {
        return Ok(None);
    };
    let body = u32::from_be_bytes(*header) as usize;
    if body > MAX_FRAME_BYTES {
        return Err(PumpEnd::Broken);
    }
    Ok((bytes.len() >= 4 + body).then_some(4 + body))
}

/// The same for the records of TLS, whose length stands behind their kind and version.
pub(crate) fn record_bytes(bytes: &[u8]) -> Result<Option<usize>, PumpEnd> {
    let Some([_, _, _, high, low]) = bytes.first_chunk::<5>() else {
        return Ok(None);
    };
    let whole = 5 + usize::from(u16::from_be_bytes([*high, *low]));
    Ok((bytes.len() >= whole).then_some(whole))
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener};

    use super::*;
    use crate::harness::wire::Wire;

    const LIMIT: Duration = Duration::from_secs(20);

    /// A peer that answers each frame with itself, and counts them.
    fn echo() -> (SocketAddr, Arc<AtomicU64>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let received = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&received);
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
        (address, received)
    }

    /// A proxy that does this to every frame, before the peer that answers.
    fn proxy(draw: Draw) -> (Proxy, Arc<AtomicU64>) {
        let (server, received) = echo();
        let log = EventLog::default();
        let faults = FaultPlan {
            seed: 1,
            draw,
            framing: frame_bytes,
            later: DelayQueue::start(server.into(), log.clone()),
            log,
        };
        (Proxy::start(server.into(), faults).unwrap(), received)
    }

    fn connect(proxy: &Proxy) -> Wire {
        Wire::connect(proxy.address.socket_address()).unwrap()
    }

    fn events(proxy: &Proxy) -> Vec<ChaosEvent> {
        let log = proxy.state.faults.log.read();
        log.into_iter().map(|timed| timed.event).collect()
    }

    fn await_received(received: &AtomicU64, count: u64) {
        let deadline = Deadline::after(LIMIT);
        while received.load(Ordering::SeqCst) < count {
            assert!(!deadline.has_passed(), "{received:?}");
            thread::yield_now();
        }
    }

    #[test]
    fn an_honest_proxy_changes_nothing() {
        let (proxy, received) = proxy(|_, _, _| FrameFault::Cut(0));
        proxy.be_honest();
        let mut wire = connect(&proxy);
        for number in 0..300 {
            let body = vec![b'x'; number * 37];
            wire.send(&body).unwrap();
            assert_eq!(wire.receive(LIMIT).unwrap(), body);
        }
        assert_eq!(received.load(Ordering::SeqCst), 300);
        assert_eq!(events(&proxy), []);
    }

    #[test]
    fn a_request_may_come_twice_and_a_reply_too() {
        let (proxy, received) = proxy(|_, _, _| FrameFault::Twice);
        let mut wire = connect(&proxy);
        wire.send(b"{}").unwrap();
        for _ in 0..4 {
            assert_eq!(wire.receive(LIMIT).unwrap(), b"{}");
        }
        assert_eq!(received.load(Ordering::SeqCst), 2);
        assert!(events(&proxy).contains(&ChaosEvent::ReplyDuplicated));
    }

    #[test]
    fn a_cut_is_the_end_of_both_directions_and_the_frame_is_not_whole() {
        let (proxy, received) = proxy(|_, bytes, _| FrameFault::Cut(bytes - 1));
        let mut wire = connect(&proxy);
        wire.send(b"{}").unwrap();
        wire.receive(LIMIT).unwrap_err();
        assert_eq!(
            (received.load(Ordering::SeqCst), events(&proxy)),
            (0, vec![ChaosEvent::Cut])
        );
    }

    #[test]
    fn after_half_a_reply_requests_still_come_through() {
        let (proxy, received) = proxy(|direction, bytes, _| match direction {
            Direction::Up => FrameFault::Pass,
            Direction::Down => FrameFault::Truncate(bytes / 2),
        });
        let mut wire = connect(&proxy);
        wire.send(b"{}").unwrap();
        wire.receive(LIMIT).unwrap_err();
        wire.send(b"{}").unwrap();
        await_received(&received, 2);
        assert_eq!(events(&proxy), [ChaosEvent::Truncated]);
    }

    #[test]
    fn what_is_held_back_comes_on_another_connection_and_a_copy_on_both() {
        let (holding, received) = proxy(|_, _, _| FrameFault::HoldBack(Duration::from_secs(3600)));
        let mut wire = connect(&holding);
        wire.send(b"{}").unwrap();
        wire.receive(Duration::from_millis(50)).unwrap_err();
        assert_eq!(received.load(Ordering::SeqCst), 0);
        assert!(holding.state.faults.later.flush(LIMIT));
        await_received(&received, 1);
        assert_eq!(
            events(&holding),
            [ChaosEvent::HeldBack, ChaosEvent::LetThrough]
        );

        let (copying, received) = proxy(|direction, _, _| match direction {
            Direction::Up => FrameFault::Copy(Duration::from_millis(1)),
            Direction::Down => FrameFault::Pass,
        });
        let mut wire = connect(&copying);
        wire.send(b"{}").unwrap();
        assert_eq!(wire.receive(LIMIT).unwrap(), b"{}");
        await_received(&received, 2);
    }

    #[test]
    fn honesty_ends_a_stall() {
        let (proxy, received) = proxy(|_, _, _| FrameFault::Stall(Duration::from_secs(3600)));
        let mut wire = connect(&proxy);
        wire.send(b"{}").unwrap();
        wire.receive(Duration::from_millis(50)).unwrap_err();
        assert_eq!(received.load(Ordering::SeqCst), 0);
        proxy.be_honest();
        assert_eq!(wire.receive(LIMIT).unwrap(), b"{}");
    }

    #[test]
    fn a_frame_is_whole_or_not_and_a_giant_is_refused() {
        assert!(matches!(frame_bytes(b"\0\0\0"), Ok(None)));
        assert!(matches!(frame_bytes(b"\0\0\0\x02{"), Ok(None)));
        assert!(matches!(frame_bytes(b"\0\0\0\x02{}\0"), Ok(Some(6))));
        assert!(frame_bytes(b"\xff\0\0\0").is_err());
    }
}
