//! The network: it delays bytes, splits writes, breaks connections and refuses new ones, and hands
//! every request to the middlebox.

pub(crate) mod tap;
mod unasked;
mod wire;

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{sync::mpsc::UnboundedSender, time::Instant};

use self::wire::{Cut, CutKind, Link};
pub(crate) use self::wire::{Whose, Wire};
use crate::{
    frost::Frost,
    journal::{Frame, Journal},
    rng::{Rng, Stream},
    scenario::{Latency, NetPlan},
};

/// How far into a connection it may be cut, in bytes of one direction.
const CUT_WITHIN_BYTES: u64 = 2500;

/// The network. All clones are the same one.
#[derive(Clone)]
pub(crate) struct Net(Arc<NetShared>);

struct NetShared {
    seed: u64,
    plan: NetPlan,
    start: Instant,
    journal: Journal,
    wires: AtomicU32,
    /// Set once all calls have ended: from then on the network injects no faults.
    is_calm: AtomicBool,
    links: Mutex<Vec<Weak<Link>>>,
    /// Where the middlebox receives what it captures.
    captures: UnboundedSender<Capture>,
    middlebox: Mutex<Rng>,
}

/// A frame that the middlebox has seen: a request, or a reply which says that a call will never be
/// executed.
pub(crate) struct Capture {
    pub(crate) frame: Arc<Frame>,
    pub(crate) body: Vec<u8>,
    /// The address to which it went, if there are several.
    pub(crate) address: Option<u32>,
}

impl Net {
    pub(crate) fn new(
        seed: u64,
        plan: NetPlan,
        start: Instant,
        journal: &Journal,
        captures: UnboundedSender<Capture>,
    ) -> Self {
        Self(Arc::new(NetShared {
            seed,
            plan,
            start,
            journal: journal.clone(),
            wires: AtomicU32::new(0),
            is_calm: AtomicBool::new(false),
            links: Mutex::default(),
            captures,
            middlebox: Mutex::new(Rng::new(seed, Stream::Middlebox)),
        }))
    }

    /// Two ends of a new connection: a client's, whose process may be frozen, or the middlebox's own.
    pub(crate) fn connection(
        &self,
        client: Option<u32>,
        address: Option<u32>,
        frost: &Frost,
    ) -> (Wire, Wire) {
        let number = self.0.wires.fetch_add(1, Relaxed) + 1;
        let mut rng = Rng::new(self.0.seed, Stream::Wire(number));
        let is_cut = client.is_some() && !self.is_calm() && rng.happens(self.0.plan.cut);
        let cut = is_cut.then(|| Cut {
            lane: rng.pick(&[0, 1]),
            after_bytes: rng.number(0..=CUT_WITHIN_BYTES) as usize,
            kind: if rng.happens(self.0.plan.silent_cut) {
                CutKind::Silent
            } else {
                CutKind::Break
            },
        });
        let mut odd = Rng::new(self.0.seed, Stream::OddWire(number));
        let cut = cut.or_else(|| self.hole(client, &mut odd));
        let (mut near, far, link) = Link::pair(self, number, client, address, [rng, odd], cut);
        near.frost = frost.clone();
        let mut links = lock(&self.0.links);
        links.retain(|link| link.strong_count() > 0);
        links.push(Arc::downgrade(&link));
        drop(links);
        let whose = client.map_or("the middlebox".into(), |client| format!("client {client}"));
        let whither = address.map_or_else(String::new, |address| format!(" to address {address}"));
        self.0
            .journal
            .remark(format!("wire {number} of {whose}{whither} is connected"));
        (near, far)
    }

    /// Whether the connection swallows bytes, and from where on: many do so from the first byte.
    fn hole(&self, client: Option<u32>, odd: &mut Rng) -> Option<Cut> {
        let is_hole = client.is_some() && !self.is_calm() && odd.happens(self.0.plan.hole);
        is_hole.then(|| Cut {
            lane: odd.pick(&[0, 1]),
            after_bytes: odd.pick(&[0, 1]) * odd.number(0..=CUT_WITHIN_BYTES) as usize,
            kind: odd.pick(&[CutKind::Silent, CutKind::Swallow]),
        })
    }

    /// A message that the client has not asked for, if there is one now.
    fn unasked(&self, wire: u32, odd: &mut Rng, asked: Option<&str>) -> Option<String> {
        let speaks = !self.is_calm() && odd.happens(self.0.plan.unasked);
        let body = speaks.then(|| unasked::draw(odd, asked))?;
        self.0.journal.remark(format!(
            "wire {wire} carries what was not asked for: {body}"
        ));
        Some(body)
    }

    /// Whether a client may connect now, and how long that takes.
    pub(crate) fn dial(&self, client: u32, rng: &mut Rng) -> io::Result<Duration> {
        if !self.is_calm() && rng.happens(self.0.plan.refuse) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let delay = self.delay(rng) * 2;
        let at = self.0.start + self.0.journal.elapsed() + delay;
        Ok(delay + (self.after_partitions(Some(client), at) - at))
    }

    /// Breaks the connections of a client, of a server, or all.
    pub(crate) fn break_all(&self, whose: Whose) {
        self.links_of(whose).for_each(|link| link.break_now());
    }

    /// Has connections swallow everything from now on.
    pub(crate) fn swallow_all(&self, whose: Whose) {
        self.links_of(whose).for_each(|link| link.swallow());
    }

    fn links_of(&self, whose: Whose) -> impl Iterator<Item = Arc<Link>> {
        let links: Vec<_> = lock(&self.0.links)
            .iter()
            .filter_map(Weak::upgrade)
            .collect();
        links.into_iter().filter(move |link| link.is_of(whose))
    }

    /// Stops injecting faults.
    pub(crate) fn calm(&self) {
        self.0.is_calm.store(true, Relaxed);
    }

    pub(crate) fn middlebox(&self) -> MutexGuard<'_, Rng> {
        lock(&self.0.middlebox)
    }

    pub(crate) fn plan(&self) -> &NetPlan {
        &self.0.plan
    }

    fn is_calm(&self) -> bool {
        self.0.is_calm.load(Relaxed)
    }

    fn journal(&self) -> &Journal {
        &self.0.journal
    }

    fn note_cut(&self, wire: u32, kind: CutKind) {
        let how = match kind {
            CutKind::Break => "",
            CutKind::Silent => ", silently",
            CutKind::Swallow => " in one direction, silently",
        };
        self.0.journal.remark(format!("wire {wire} is cut{how}"));
    }

    /// The middlebox sees a whole frame.
    fn overhear(&self, frame: &Arc<Frame>, body: &[u8], address: Option<u32>) {
        let capture = Capture {
            frame: frame.clone(),
            body: body.to_vec(),
            address,
        };
        // The middlebox is gone once the world ends.
        let _ = self.0.captures.send(capture);
    }

    /// How long a piece takes to arrive.
    fn delay(&self, rng: &mut Rng) -> Duration {
        let ms = match self.0.plan.latency {
            Latency::Fixed(ms) => ms,
            Latency::Uniform(min, max) => rng.number(min..=max),
            // Pareto of shape 1.2: the occasional piece takes a hundred times as long as most.
            Latency::Tail(least, most) => {
                let ms = least as f64 / rng.unit().powf(1.0 / 1.2);
                (ms as u64).min(most)
            }
        };
        Duration::from_millis(ms)
    }

    /// `at`, moved to the end of the partition that it falls into.
    fn after_partitions(&self, client: Option<u32>, at: Instant) -> Instant {
        let Some(client) = client else { return at };
        let mut since = at - self.0.start;
        for partition in &self.0.plan.partitions {
            let is_cut_off = partition.client.is_none_or(|cut_off| cut_off == client);
            if is_cut_off && (partition.from..partition.to).contains(&since) {
                since = partition.to;
            }
        }
        self.0.start + since
    }

    /// The age of the world at `at`, or now.
    fn age_at(&self, at: Option<Instant>) -> Duration {
        at.map_or_else(|| self.0.journal.elapsed(), |at| at - self.0.start)
    }

    /// How many bytes of a write are taken at once.
    fn accepts(&self, rng: &mut Rng, bytes: usize) -> usize {
        if self.0.plan.splits_writes && bytes > 1 && rng.happens(0.3) {
            rng.number(1..=bytes as u64) as usize
        } else {
            bytes
        }
    }

    /// The pieces in which bytes arrive.
    fn split<'a>(&self, rng: &mut Rng, bytes: &'a [u8]) -> Vec<&'a [u8]> {
        let mut pieces = Vec::new();
        let mut rest = bytes;
        while self.0.plan.splits_writes && rest.len() > 1 && rng.happens(0.5) {
            let (piece, after) = rest.split_at(rng.number(1..=rest.len() as u64 - 1) as usize);
            pieces.push(piece);
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(rest);
        }
        pieces
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
