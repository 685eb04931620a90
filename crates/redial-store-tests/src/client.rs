//! What the server does with a store, by hand: calls go in, answers come out.

use std::{
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        mpsc::{Receiver, channel},
    },
    time::Duration,
};

use redial_protocol::{CallKey, Principal, SessionCall, SessionId};
use redial_server::store::{
    Acknowledged, Begun, Claimed, Done, Executed, Fenced, Intent, Outcome, Recovered, Resumable,
    Store, StoreCall, StoreError,
};

use crate::{Effect, Rig};

/// What a step will come to.
pub type Answer<T> = Receiver<Result<T, StoreError>>;

/// A store that is open, and what was recovered from it.
pub struct Client<'a> {
    rig: &'a dyn Rig,
    /// The store.
    pub store: Arc<dyn Store>,
    /// What was on record by then.
    pub recovered: Vec<Recovered>,
    /// How many steps have not ended.
    open: Arc<(Mutex<usize>, Condvar)>,
}

/// Longer than any store takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// The answer to a step, once it is there.
///
/// # Panics
///
/// If none comes.
pub fn wait<T>(answer: &Answer<T>) -> Result<T, StoreError> {
    answer
        .recv_timeout(PATIENCE)
        .expect("every step is answered")
}

/// The session with this number.
#[must_use]
pub fn session(number: u64) -> SessionId {
    SessionId::from_bits(0x123_0000_0000_0000 + number)
}

/// A call of a session.
#[must_use]
pub fn key(number_of_session: u64, number: u64) -> CallKey {
    CallKey::Session(SessionCall {
        session: session(number_of_session),
        number,
    })
}

/// A call whose params hash to this, of a client that has acknowledged nothing.
#[must_use]
pub fn call(key: CallKey, fingerprint: u128) -> StoreCall {
    StoreCall {
        key: Some(key),
        fingerprint,
        max_outcome_bytes: 1 << 20,
        acknowledged: Acknowledged::default(),
        awake: Duration::ZERO,
        failure_texts: Default::default(),
    }
}

/// Every number below is acknowledged.
#[must_use]
pub fn below(below: u64) -> Acknowledged {
    Acknowledged {
        below,
        open: Vec::new(),
    }
}

impl<'a> Client<'a> {
    /// Opens the store.
    ///
    /// # Panics
    ///
    /// If it can't be recovered.
    pub fn open(rig: &'a dyn Rig) -> Self {
        let store = rig.open();
        let recovered = rig.recovered(&*store);
        Self {
            rig,
            store,
            recovered,
            open: Arc::default(),
        }
    }

    /// Opens it again after a crash.
    #[must_use]
    pub fn crash(self) -> Self {
        let Self { rig, store, .. } = self;
        drop(store);
        Self::open(rig)
    }

    /// Opens it again after an orderly end.
    #[must_use]
    pub fn close(self) -> Self {
        self.store.close();
        self.crash()
    }

    /// Hands in a transaction.
    pub fn execute(&self, call: StoreCall, effect: Effect) -> Answer<Executed> {
        let (done, answer) = self.reply();
        self.store.execute(call, self.rig.prepare(effect), done);
        answer
    }

    /// Hands in the intent of a mutation.
    pub fn begin(&self, call: StoreCall, resumable: Option<Resumable>) -> Answer<Begun> {
        let (done, answer) = self.reply();
        self.store.begin(call, Intent { resumable }, done);
        answer
    }

    /// Hands in the end of a mutation.
    pub fn finish(&self, key: CallKey, outcome: Option<&[u8]>) -> Answer<()> {
        let (done, answer) = self.reply();
        self.store.finish(key, outcome.map(<[u8]>::to_vec), done);
        answer
    }

    /// Hands in a fence.
    pub fn fence(&self, key: CallKey) -> Answer<Fenced> {
        let (done, answer) = self.reply();
        self.store.fence(key, done);
        answer
    }

    /// Hands in a new session.
    pub fn hand_in_session(&self, session: SessionId) -> Answer<()> {
        self.hand_in_session_of(session, None)
    }

    /// Hands in a new session of a principal.
    pub fn hand_in_session_of(&self, session: SessionId, owner: Option<&Principal>) -> Answer<()> {
        let (done, answer) = self.reply();
        self.store.open_session(session, owner, done);
        answer
    }

    /// Opens a session, to the end.
    ///
    /// # Panics
    ///
    /// If it fails.
    pub fn open_session(&self, session: SessionId) {
        self.settle(&self.hand_in_session(session))
            .expect("a session can be opened");
    }

    /// Lets the store begin, and waits for an answer.
    ///
    /// # Errors
    ///
    /// What the store says.
    pub fn settle<T>(&self, answer: &Answer<T>) -> Result<T, StoreError> {
        self.store.flush();
        wait(answer)
    }

    /// Runs a transaction to the end.
    ///
    /// # Panics
    ///
    /// If the store fails.
    pub fn run(&self, call: StoreCall, effect: Effect) -> Executed {
        self.settle(&self.execute(call, effect))
            .expect("the store works")
    }

    /// The same for one that must be new. Returns its outcome.
    ///
    /// # Panics
    ///
    /// If it is not.
    pub fn run_new(&self, call: StoreCall, effect: Effect) -> Outcome {
        new(self.run(call, effect))
    }

    /// The same for one that was claimed before.
    ///
    /// # Panics
    ///
    /// If it was not.
    pub fn run_claimed(&self, call: StoreCall, effect: Effect) -> Claimed {
        match self.run(call, effect) {
            Executed::Claimed(claimed) => claimed,
            Executed::New(outcome) => panic!("it ran: {outcome:?}"),
        }
    }

    /// Waits for what was handed in, where the store would not keep its order.
    pub fn keep_order(&self) {
        if self.rig.is_ordered() {
            return;
        }
        self.store.flush();
        let (open, changed) = &*self.open;
        let open = open.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = changed.wait_timeout_while(open, PATIENCE, |open| *open > 0);
        let (open, _) = waited.unwrap_or_else(PoisonError::into_inner);
        assert_eq!(*open, 0, "every step is answered");
    }

    pub(crate) fn reply<T: Send + 'static>(&self) -> (Done<T>, Answer<T>) {
        self.keep_order();
        let (sender, answer) = channel();
        let of_open = Arc::clone(&self.open);
        *of_open.0.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        let done = Box::new(move |result| {
            // The test may have stopped waiting.
            drop(sender.send(result));
            *of_open.0.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
            of_open.1.notify_all();
        });
        (done, answer)
    }

    /// A counter as a query sees it.
    #[must_use]
    pub fn counter(&self, key: &str) -> i64 {
        self.rig.counter(key)
    }

    /// Whether the store claims plain ids that have ended.
    #[must_use]
    pub fn claims_plain_ids(&self) -> bool {
        self.rig.claims_plain_ids()
    }
}

/// The outcome of a call that ran.
///
/// # Panics
///
/// If it did not run.
#[must_use]
pub fn new(executed: Executed) -> Outcome {
    match executed {
        Executed::New(outcome) => outcome,
        Executed::Claimed(claimed) => panic!("it did not run: {claimed:?}"),
    }
}
