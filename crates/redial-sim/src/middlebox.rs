//! Something between the ends that copies requests, holds the copies back, and lets them through
//! on connections of its own: while the call runs, long after its end, after a restart. Sometimes
//! it changes what a copy asks for, or takes a call back that is not its own.

use std::{
    collections::BTreeSet,
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
    host::Host,
    journal::{Frame, Journal, numbered},
    net::{Copy, Net, tap},
};

/// How long it listens for an answer to a copy.
const LISTENS: Duration = Duration::from_millis(700);

/// How many copies it lets through after the end of everything, and how many on one connection.
const LAST_COPIES: usize = 120;
const COPIES_PER_WIRE: usize = 20;

/// Forged requests are of calls that nobody made; their numbers begin here.
pub(crate) const FORGED_FROM: u32 = 1_000_000;

#[derive(Clone)]
pub(crate) struct Middlebox {
    net: Net,
    host: Host,
    journal: Journal,
    kept: Arc<Mutex<Vec<Copy>>>,
    forged: Arc<AtomicU32>,
}

impl Middlebox {
    pub(crate) fn new(net: &Net, host: &Host, journal: &Journal) -> Self {
        Self {
            net: net.clone(),
            host: host.clone(),
            journal: journal.clone(),
            kept: Arc::default(),
            forged: Arc::new(AtomicU32::new(FORGED_FROM)),
        }
    }

    /// Listens for as long as there are requests.
    pub(crate) async fn run(self, mut overheard: UnboundedReceiver<Copy>) {
        let plan = self.net.plan().clone();
        while let Some(copy) = overheard.recv().await {
            if copy.frame.method.is_none() {
                self.contradict(&copy);
                continue;
            }
            let (holds, forges, cancels) = {
                let mut dice = self.net.middlebox();
                let holds = dice.happens(plan.copy);
                let forges = copy.frame.tag.is_some() && dice.happens(plan.forge);
                let cancels = copy.frame.tag.is_some() && dice.happens(plan.cancel);
                (
                    holds.then(|| dice.ms(0..=plan.hold_ms)),
                    forges.then(|| dice.ms(0..=30)),
                    cancels.then(|| dice.ms(0..=60)),
                )
            };
            if let Some(hold) = holds {
                self.let_through_after(hold, copy.body.clone());
            }
            if let Some(hold) = forges {
                self.let_through_after(hold, self.forge(&copy));
            }
            if let Some(hold) = cancels
                && let Some(question) = self.cancel(&copy)
            {
                self.let_through_after(hold, question.body.clone());
                self.kept().push(question);
            }
            self.kept().push(copy);
        }
    }

    /// Somebody is about to be told that a call never will be executed: that is the moment to let
    /// its requests through.
    fn contradict(&self, answer: &Copy) {
        let kept = self.kept();
        let is_asked = |copy: &&Copy| copy.frame.id == answer.frame.id;
        let Some(question) = kept.iter().find(is_asked) else {
            return;
        };
        let is_about = |copy: &&Copy| {
            let id = copy
                .frame
                .id
                .as_deref()
                .filter(|_| copy.frame.tag.is_some());
            id.is_some_and(|id| question.frame.text.contains(id))
        };
        for copy in kept.iter().filter(is_about) {
            let hold = self.net.middlebox().ms(0..=15);
            self.let_through_after(hold, copy.body.clone());
        }
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Copy>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same id, asking for something else.
    fn forge(&self, copy: &Copy) -> Vec<u8> {
        let tag = copy.frame.tag.expect("only calls are forged");
        let forged = self.forged.fetch_add(1, Relaxed);
        let (from, to) = (format!("\"call\":{tag},"), format!("\"call\":{forged},"));
        copy.frame.text.replace(&from, &to).into_bytes()
    }

    /// The wish that the call be taken back, if it is one that can be.
    fn cancel(&self, copy: &Copy) -> Option<Copy> {
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
        Some(Copy { frame, body })
    }

    fn let_through_after(&self, hold: Duration, body: Vec<u8>) {
        let middlebox = self.clone();
        tokio::spawn(async move {
            sleep(hold).await;
            middlebox.let_through(&[body]).await;
        });
    }

    async fn let_through(&self, bodies: &[Vec<u8>]) {
        let (mut near, far) = self.net.connection(None);
        if !self.host.accept(far) {
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

    /// Lets copies of calls through that are over for good.
    pub(crate) async fn let_the_last_through(&self) {
        let mut kept = std::mem::take(&mut *self.kept());
        let mut seen = BTreeSet::new();
        kept.retain(|copy| copy.frame.tag.is_some() && seen.insert(copy.body.clone()));
        // The latest requests are those that a server could still know.
        let first = kept.len().saturating_sub(LAST_COPIES);
        let bodies: Vec<_> = kept.drain(first..).map(|copy| copy.body).collect();
        self.journal
            .remark(format!("{} last copies are let through", bodies.len()));
        for bodies in bodies.chunks(COPIES_PER_WIRE) {
            self.let_through(bodies).await;
        }
    }
}
