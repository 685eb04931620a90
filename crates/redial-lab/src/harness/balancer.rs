//! A balancer of connections in front of a server. It accepts whether or not its backend is up, as those of
//! clouds and container platforms do, so that an open connection says nothing about the server.

use std::{
    io::{self, Read, Write},
    net::Shutdown,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{
    clock::Deadline,
    endpoint::{Endpoint, Stream},
};

/// How late a backend takes a connection, in milliseconds.
const LATE_MS: Range<u64> = 300..1600;
/// How long a connection to no backend is held open, in milliseconds.
const HELD_MS: Range<u64> = 500..4000;
/// The share of connections whose backend is late.
const LATE: f64 = 0.3;
/// What is read at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// A wait looks so often whether it is to go on.
const LOOK: Duration = Duration::from_millis(10);

/// What the balancer does to a connection, beside passing bytes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trick {
    /// It waits before it connects to its backend.
    Late,
    /// Its backend is down, and it closes.
    Closed,
    /// Its backend is down, and it resets.
    Reset,
    /// Its backend is down, and it keeps the connection and what comes on it for a while.
    Held,
}

impl Trick {
    /// All of them, in the order in which they are shown.
    pub(crate) const ALL: [Self; 4] = [Self::Late, Self::Closed, Self::Reset, Self::Held];

    /// What their count is called in JSON.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Late => "balanced_late",
            Self::Closed => "balanced_closed",
            Self::Reset => "balanced_reset",
            Self::Held => "balanced_held",
        }
    }

    /// What they are, in the plural.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Late => "connections with a late backend",
            Self::Closed => "connections closed for want of a backend",
            Self::Reset => "connections reset for want of a backend",
            Self::Held => "connections held for want of a backend",
        }
    }
}

/// A running balancer. It runs until the program ends.
#[derive(Clone)]
pub(crate) struct Balancer {
    /// Where it listens.
    pub(crate) address: Endpoint,
    state: Arc<BalancerState>,
}

/// What all connections share.
struct BalancerState {
    /// Each connection goes to the next of them that is up.
    backends: Vec<Endpoint>,
    seed: u64,
    connections: AtomicU64,
    is_prompt: AtomicBool,
    /// Hears of each trick.
    observe: Box<dyn Fn(Trick) + Send + Sync>,
}

impl Balancer {
    /// Listens in the way of this backend.
    pub(crate) fn start(
        backend: Endpoint,
        seed: u64,
        observe: impl Fn(Trick) + Send + Sync + 'static,
    ) -> Result<Self> {
        Self::among(vec![backend], seed, observe)
    }

    /// The same before several, which take turns.
    pub(crate) fn among(
        backends: Vec<Endpoint>,
        seed: u64,
        observe: impl Fn(Trick) + Send + Sync + 'static,
    ) -> Result<Self> {
        let first = backends.first().context("no backend")?;
        let (address, listener) = first.listen_beside("balancer.sock")?;
        let balancer = Self {
            address,
            state: Arc::new(BalancerState {
                backends,
                seed,
                connections: AtomicU64::new(0),
                is_prompt: AtomicBool::new(false),
                observe: Box::new(observe),
            }),
        };
        let state = Arc::clone(&balancer.state);
        thread::spawn(move || {
            loop {
                let Ok(client) = listener.accept() else {
                    continue;
                };
                let state = Arc::clone(&state);
                // An error is that of a connection which is gone already.
                thread::spawn(move || state.serve(client));
            }
        });
        Ok(balancer)
    }

    /// From now on no backend is late, and nothing is held.
    pub(crate) fn be_prompt(&self) {
        self.state.is_prompt.store(true, Ordering::Release);
    }
}

/// What is done where no backend is up.
fn without_backend(rng: &mut impl Rng) -> Trick {
    match rng.random_range(0..3) {
        0 => Trick::Closed,
        1 => Trick::Reset,
        _ => Trick::Held,
    }
}

impl BalancerState {
    fn serve(&self, client: Stream) -> io::Result<()> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let number = self.connections.fetch_add(1, Ordering::Relaxed);
        rng.set_stream(number);
        if rng.random_bool(LATE) && !self.is_prompt() {
            (self.observe)(Trick::Late);
            self.wait(&mut rng, LATE_MS);
        }
        let turns = self.backends.iter().cycle();
        let turns = turns.skip(number as usize % self.backends.len());
        let mut turns = turns.take(self.backends.len());
        if let Some(backend) = turns.find_map(|backend| backend.connect().ok()) {
            return pass_on(&client, &backend);
        }
        let trick = without_backend(&mut rng);
        (self.observe)(trick);
        match trick {
            Trick::Reset => client.reset_on_close(),
            Trick::Held => self.hold(&client, &mut rng),
            Trick::Closed | Trick::Late => client.shutdown(Shutdown::Write),
        }
    }

    fn is_prompt(&self) -> bool {
        self.is_prompt.load(Ordering::Acquire)
    }

    fn wait(&self, rng: &mut impl Rng, ms: Range<u64>) {
        let deadline = Deadline::after(Duration::from_millis(rng.random_range(ms)));
        while !deadline.has_passed() && !self.is_prompt() {
            thread::sleep(deadline.left().min(LOOK));
        }
    }

    /// Keeps the connection. Then the backend gets what has come on it, if it is up by now.
    fn hold(&self, client: &Stream, rng: &mut impl Rng) -> io::Result<()> {
        self.wait(rng, HELD_MS);
        match self.backends[0].connect() {
            Ok(backend) => pass_on(client, &backend),
            Err(_) => client.reset_on_close(),
        }
    }
}

/// Passes bytes on in both directions, until both have ended.
fn pass_on(client: &Stream, backend: &Stream) -> io::Result<()> {
    thread::scope(|scope| {
        scope.spawn(|| pump(client, backend));
        pump(backend, client);
    });
    Ok(())
}

fn pump(mut from: &Stream, mut to: &Stream) {
    let mut chunk = vec![0; CHUNK_BYTES];
    let ended = loop {
        match from.read(&mut chunk) {
            Ok(0) => break to.shutdown(Shutdown::Write),
            Ok(read) => match to.write_all(&chunk[..read]) {
                Ok(()) => {}
                Err(error) => break Err(error),
            },
            Err(error) => break Err(error),
        }
    };
    if ended.is_err() {
        // They fail where the connection is gone already.
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::{SocketAddr, TcpListener, TcpStream},
        sync::Mutex,
    };

    use super::*;
    use crate::harness::programs::lasting_address;

    const LIMIT: Duration = Duration::from_secs(20);

    /// A balancer, and what it has done.
    fn balancer(backend: SocketAddr, seed: u64) -> (Balancer, Arc<Mutex<Vec<Trick>>>) {
        let seen = Arc::<Mutex<Vec<Trick>>>::default();
        let tricks = Arc::clone(&seen);
        let observe = move |trick| tricks.lock().unwrap().push(trick);
        (
            Balancer::start(backend.into(), seed, observe).unwrap(),
            seen,
        )
    }

    fn connect(balancer: &Balancer) -> TcpStream {
        let stream = TcpStream::connect(balancer.address.socket_address()).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream
    }

    #[test]
    fn bytes_pass_in_both_directions_and_so_does_the_end_of_one() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (balancer, _) = balancer(listener.local_addr().unwrap(), 1);
        balancer.be_prompt();
        let mut client = connect(&balancer);
        client.write_all(b"up").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let (mut backend, _) = listener.accept().unwrap();
        let mut up = Vec::new();
        backend.read_to_end(&mut up).unwrap();
        backend.write_all(b"down").unwrap();
        drop(backend);
        let mut down = Vec::new();
        client.read_to_end(&mut down).unwrap();
        assert_eq!((&*up, &*down), (&b"up"[..], &b"down"[..]));
    }

    #[test]
    fn it_accepts_although_no_backend_is_up_and_then_ends_the_connection_in_each_way() {
        let backend = lasting_address().unwrap();
        let (balancer, seen) = balancer(backend, 1);
        balancer.be_prompt();
        let (mut closed, mut reset) = (0, 0);
        for _ in 0..40 {
            match connect(&balancer).read(&mut [0]) {
                Ok(read) => {
                    assert_eq!(read, 0);
                    closed += 1;
                }
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}");
                    reset += 1;
                }
            }
        }
        assert!(closed > 0 && reset > 0, "{closed} closed, {reset} reset");
        let seen = seen.lock().unwrap();
        for trick in [Trick::Closed, Trick::Reset, Trick::Held] {
            assert!(seen.contains(&trick), "{trick:?}");
        }
    }

    #[test]
    fn what_was_sent_to_a_late_backend_arrives_once_it_is_up() {
        let backend = lasting_address().unwrap();
        let (balancer, seen) = balancer(backend, 1);
        let clients: Vec<_> = (0..12)
            .map(|_| {
                let mut client = connect(&balancer);
                // It may be closed already.
                let _ = client.write_all(b"x");
                client
            })
            .collect();
        let is_waited_for = || {
            let seen = seen.lock().unwrap();
            seen.contains(&Trick::Late) || seen.contains(&Trick::Held)
        };
        let deadline = Deadline::after(LIMIT);
        while !is_waited_for() {
            assert!(!deadline.has_passed());
            thread::yield_now();
        }
        let listener = TcpListener::bind(backend).unwrap();
        let (mut late, _) = listener.accept().unwrap();
        let mut bytes = [0];
        late.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"x");
        drop(clients);
    }
}
