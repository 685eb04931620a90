//! The network: it delays, cuts up, cuts off and refuses; and it keeps copies of requests, which
//! it lets through on connections of its own.

pub(crate) mod tap;
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

pub(crate) use self::wire::Wire;
use self::wire::{Cut, Link};
use crate::{
    dice::{Dice, Stream},
    journal::{Frame, Journal},
    scenario::{Latency, NetPlan, Partition},
};

/// How far into a connection it may be cut, in bytes of one direction.
const CUT_WITHIN_BYTES: u64 = 2500;

/// The network. All clones are the same one.
#[derive(Clone)]
pub(crate) struct Net(Arc<Inner>);

struct Inner {
    seed: u64,
    plan: NetPlan,
    start: Instant,
    journal: Journal,
    wires: AtomicU32,
    /// After the end of all calls nothing goes wrong any more.
    is_calm: AtomicBool,
    links: Mutex<Vec<Weak<Link>>>,
    /// Where copies go.
    copies: UnboundedSender<Copy>,
    middlebox: Mutex<Dice>,
}

/// What the middlebox has seen: a request, or an answer that says that a call never will be executed.
pub(crate) struct Copy {
    pub(crate) frame: Arc<Frame>,
    pub(crate) body: Vec<u8>,
}

impl Net {
    pub(crate) fn new(
        seed: u64,
        plan: NetPlan,
        start: Instant,
        journal: &Journal,
        copies: UnboundedSender<Copy>,
    ) -> Self {
        Self(Arc::new(Inner {
            seed,
            plan,
            start,
            journal: journal.clone(),
            wires: AtomicU32::new(0),
            is_calm: AtomicBool::new(false),
            links: Mutex::default(),
            copies,
            middlebox: Mutex::new(Dice::new(seed, Stream::Middlebox)),
        }))
    }

    /// Two ends of a new connection: a client's, or the middlebox's own.
    pub(crate) fn connection(&self, client: Option<u32>) -> (Wire, Wire) {
        let number = self.0.wires.fetch_add(1, Relaxed) + 1;
        let mut dice = Dice::new(self.0.seed, Stream::Wire(number));
        let is_cut = client.is_some() && !self.is_calm() && dice.happens(self.0.plan.cut);
        let cut = is_cut.then(|| Cut {
            lane: dice.pick(&[0, 1]),
            after_bytes: dice.number(0..=CUT_WITHIN_BYTES) as usize,
            is_silent: dice.happens(self.0.plan.silent_cut),
        });
        let (near, far, link) = Link::pair(self, number, client, dice, cut);
        let mut links = lock(&self.0.links);
        links.retain(|link| link.strong_count() > 0);
        links.push(Arc::downgrade(&link));
        drop(links);
        let whose = client.map_or("the middlebox".into(), |client| format!("client {client}"));
        self.0
            .journal
            .remark(format!("wire {number} of {whose} is connected"));
        (near, far)
    }

    /// Whether a client may connect now, and how long that takes.
    pub(crate) fn dial(&self, client: u32, dice: &mut Dice) -> io::Result<Duration> {
        if !self.is_calm() && dice.happens(self.0.plan.refuse) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let delay = self.delay(dice) * 2;
        let at = self.0.start + self.0.journal.elapsed() + delay;
        Ok(delay + (self.after_partitions(Some(client), at) - at))
    }

    /// Breaks the connections of a client, or of all.
    pub(crate) fn break_all(&self, client: Option<u32>) {
        let links: Vec<_> = lock(&self.0.links)
            .iter()
            .filter_map(Weak::upgrade)
            .collect();
        for link in links {
            if client.is_none() || link.client == client {
                link.break_now();
            }
        }
    }

    /// From now on nothing goes wrong by itself.
    pub(crate) fn calm(&self) {
        self.0.is_calm.store(true, Relaxed);
    }

    pub(crate) fn middlebox(&self) -> MutexGuard<'_, Dice> {
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

    fn note_cut(&self, wire: u32, is_silent: bool) {
        let how = if is_silent { ", silently" } else { "" };
        self.0.journal.remark(format!("wire {wire} is cut{how}"));
    }

    /// The middlebox sees a whole frame.
    fn overhear(&self, frame: &Arc<Frame>, body: &[u8]) {
        let copy = Copy {
            frame: frame.clone(),
            body: body.to_vec(),
        };
        // At the very end nobody listens any more.
        let _ = self.0.copies.send(copy);
    }

    /// How long a piece is under way.
    fn delay(&self, dice: &mut Dice) -> Duration {
        let ms = match self.0.plan.latency {
            Latency::Fixed(ms) => ms,
            Latency::Uniform(min, max) => dice.number(min..=max),
            // Pareto of shape 1.2: now and then a piece takes a hundred times as long as most.
            Latency::Tail(least, most) => {
                let ms = least as f64 / dice.unit().powf(1.0 / 1.2);
                (ms as u64).min(most)
            }
        };
        Duration::from_millis(ms)
    }

    /// A moment, moved to the end of the partition that it falls into.
    fn after_partitions(&self, client: Option<u32>, at: Instant) -> Instant {
        let Some(client) = client else { return at };
        let mut since = at - self.0.start;
        for Partition { whom, from, to } in &self.0.plan.partitions {
            if whom.is_none_or(|whom| whom == client) && (*from..*to).contains(&since) {
                since = *to;
            }
        }
        self.0.start + since
    }

    /// How old the world is at that time, or now.
    fn age_at(&self, at: Option<Instant>) -> Duration {
        at.map_or_else(|| self.0.journal.elapsed(), |at| at - self.0.start)
    }

    /// How many bytes of a write are taken at once.
    fn accepts(&self, dice: &mut Dice, bytes: usize) -> usize {
        match self.0.plan.cuts_up && bytes > 1 && dice.happens(0.3) {
            true => dice.number(1..=bytes as u64) as usize,
            false => bytes,
        }
    }

    /// The pieces in which bytes arrive.
    fn cut_up<'a>(&self, dice: &mut Dice, bytes: &'a [u8]) -> Vec<&'a [u8]> {
        let mut pieces = Vec::new();
        let mut rest = bytes;
        while self.0.plan.cuts_up && rest.len() > 1 && dice.happens(0.5) {
            let (piece, after) = rest.split_at(dice.number(1..=rest.len() as u64 - 1) as usize);
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
