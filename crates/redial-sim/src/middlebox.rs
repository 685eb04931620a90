//! A middlebox between the ends: it copies requests, holds the copies back, and releases them on
//! connections of its own, while the call runs, long after it, or after a restart. It may also
//! forge the params of a copy, or cancel a call of another.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc::UnboundedReceiver,
    time::{sleep, timeout},
};

use crate::{
    cluster::{Cluster, Knock},
    frost::Frost,
    journal::{Frame, Journal, numbered},
    net::{Capture, Net, tap},
};

/// How long a connection waits for a reply to a copy.
const LISTENS: Duration = Duration::from_millis(700);

/// How many copies are released after the last call, and how many on one connection.
const LAST_COPIES: usize = 120;
const COPIES_PER_WIRE: usize = 20;

/// No client makes the calls of forged requests; their numbers begin here.
pub(crate) const FORGED_FROM: u32 = 1_000_000;

#[derive(Clone)]
pub(crate) struct Middlebox {
    net: Net,
    cluster: Cluster,
    journal: Journal,
    captures: Arc<Mutex<Vec<Capture>>>,
    forged: Arc<AtomicU32>,
}

impl Middlebox {
    pub(crate) fn new(net: &Net, cluster: &Cluster, journal: &Journal) -> Self {
        Self {
            net: net.clone(),
            cluster: cluster.clone(),
            journal: journal.clone(),
            captures: Arc::default(),
            forged: Arc::new(AtomicU32::new(FORGED_FROM)),
        }
    }

    /// Handles captured frames until the network is gone.
    pub(crate) async fn run(self, mut captured: UnboundedReceiver<Capture>) {
        let plan = self.net.plan().clone();
        while let Some(copy) = captured.recv().await {
            if copy.frame.method.is_none() {
                self.contradict(&copy);
                continue;
            }
            let (holds, forges, cancels) = {
                let mut rng = self.net.middlebox();
                let holds = rng.happens(plan.copy);
                let forges = copy.frame.tag.is_some() && rng.happens(plan.forge);
                let cancels = copy.frame.tag.is_some() && rng.happens(plan.cancel);
                (
                    holds.then(|| rng.ms(0..=plan.hold_ms)),
                    forges.then(|| rng.ms(0..=30)),
                    cancels.then(|| rng.ms(0..=60)),
                )
            };
            if let Some(hold) = holds {
                self.release_after(hold, copy.body.clone(), copy.address);
            }
            if let Some(hold) = forges {
                self.release_after(hold, self.forge(&copy), copy.address);
            }
            if let Some(hold) = cancels
                && let Some(question) = self.cancel(&copy)
            {
                self.release_after(hold, question.body.clone(), question.address);
                self.captures().push(question);
            }
            self.captures().push(copy);
        }
    }

    /// A reply says that a call will never be executed: the moment to release its requests.
    fn contradict(&self, reply: &Capture) {
        let captures = self.captures();
        let is_question = |copy: &&Capture| copy.frame.id == reply.frame.id;
        let Some(question) = captures.iter().find(is_question) else {
            return;
        };
        let is_about = |copy: &&Capture| {
            let id = copy
                .frame
                .id
                .as_deref()
                .filter(|_| copy.frame.tag.is_some());
            id.is_some_and(|id| question.frame.text.contains(id))
        };
        for copy in captures.iter().filter(is_about) {
            let hold = self.net.middlebox().ms(0..=15);
            self.release_after(hold, copy.body.clone(), copy.address);
        }
    }

    fn captures(&self) -> MutexGuard<'_, Vec<Capture>> {
        self.captures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same id with other params.
    fn forge(&self, copy: &Capture) -> Vec<u8> {
        let tag = copy.frame.tag.expect("only calls are forged");
        let forged = self.forged.fetch_add(1, Relaxed);
        let (from, to) = (format!("\"call\":{tag},"), format!("\"call\":{forged},"));
        copy.frame.text.replace(&from, &to).into_bytes()
    }

    /// A cancellation of the call, if it belongs to a session.
    fn cancel(&self, copy: &Capture) -> Option<Capture> {
        let about = copy
            .frame
            .id
            .as_deref()
            .filter(|id| numbered(id).is_some())?;
        let id = format!("\"cancel-{}\"", self.forged.fetch_add(1, Relaxed));
        let text = format!(r#"{{"id":{id},"method":"rpc.cancel","params":{{"id":{about}}}}}"#);
        let body = text.clone().into_bytes();
        let frame = Arc::new(Frame {
            id: Some(id),
            text,
            ..Frame::default()
        });
        Some(Capture {
            frame,
            body,
            address: copy.address,
        })
    }

    fn release_after(&self, hold: Duration, body: Vec<u8>, address: Option<u32>) {
        let middlebox = self.clone();
        tokio::spawn(async move {
            sleep(hold).await;
            middlebox.release(&[body], address).await;
        });
    }

    /// Sends copies to the address to which the requests went.
    async fn release(&self, bodies: &[Vec<u8>], address: Option<u32>) {
        if self.cluster.knock(address) != Knock::Answered {
            return;
        }
        let frost = Frost::default();
        let (mut near, far) = self.net.connection(None, address, &frost);
        if !self.cluster.accept(far) {
            return;
        }
        for body in bodies {
            if near.write_all(&tap::framed(body)).await.is_err() {
                return;
            }
        }
        let mut buffer = [0; 1024];
        while let Ok(Ok(1..)) = timeout(LISTENS, near.read(&mut buffer)).await {}
    }

    /// Releases copies of calls that ended long ago.
    pub(crate) async fn release_last_copies(&self) {
        let mut copies = std::mem::take(&mut *self.captures());
        let mut seen = BTreeSet::new();
        copies.retain(|copy| copy.frame.tag.is_some() && seen.insert(copy.body.clone()));
        // A server is likeliest to know the latest requests.
        let first = copies.len().saturating_sub(LAST_COPIES);
        copies.drain(..first);
        self.journal
            .remark(format!("{} last copies are released", copies.len()));
        let mut by_address: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for copy in copies {
            by_address.entry(copy.address).or_default().push(copy.body);
        }
        for (address, bodies) in by_address {
            for bodies in bodies.chunks(COPIES_PER_WIRE) {
                self.release(bodies, address).await;
            }
        }
    }
}
