//! The one execution of a call. It belongs to the call, never to the connection that asked for
//! it: the connection may die, the execution goes on, and whatever happens to it, everybody who
//! waits for its outcome is told.

use std::{
    any::Any,
    cell::Cell,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering::SeqCst},
    task::{self, Poll},
    time::{Duration, Instant},
};

use redial_protocol::{ErrorCode, ErrorObject, Executed, cut, reply};

use crate::{
    clock::{self, Watch},
    handler::{Begun, Ended, Place, Prepared},
    observe::EventKind,
    shared::Shared,
    table::{MayStart, Session, TableKey},
    waiter::Waiter,
};

/// An execution that could not end where it began: its handler waits, or it has to wait itself.
pub(crate) struct Job {
    pub(crate) execution: Execution,
    pub(crate) future: Prepared,
    /// How long a fault rule wants it to wait first.
    pub(crate) delay: Option<Duration>,
}

/// Who is owed the outcome, and where it is recorded.
pub(crate) struct Execution {
    pub(crate) shared: Arc<Shared>,
    /// The method's place in the router.
    pub(crate) method: usize,
    /// The call's entry in the table; none for a query, a notification, or an id that is no key.
    pub(crate) key: Option<TableKey<Waiter>>,
    /// The attempt that set the execution going; none for a notification.
    pub(crate) own: Option<Waiter>,
    /// When the caller of that attempt stops waiting.
    pub(crate) deadline: Option<Instant>,
    pub(crate) stage: Stage,
}

/// How far an execution has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// In the queue.
    Queued,
    /// It holds a place among the running ones since then; its handler has not begun.
    Admitted(Instant),
    /// Its handler has begun. The moment is still that of the admission.
    Started(Instant),
    /// Everybody has been told.
    Over,
}

/// Runs a job on a task of its own, from the moment it holds a place.
pub(crate) fn spawn(mut job: Job) {
    if job.execution.stage == Stage::Queued {
        job.execution.stage = Stage::Admitted(clock::now());
    }
    let tracker = job.execution.shared.executions.clone();
    tracker.spawn(run(job));
}

async fn run(job: Job) {
    let Job {
        mut execution,
        mut future,
        delay,
    } = job;
    let cut_off = execution.shared.cut_off.clone();
    // If the server's patience ends, the guard in `Execution` says so to everybody.
    let ended = tokio::select! {
        biased;
        ended = execution.start_and_end(&mut future, delay) => ended,
        () = cut_off.cancelled() => return,
    };
    match ended {
        Ok(ended) => execution.end(ended),
        Err(NotStarted::Late(joined)) => execution.turn_away(joined, &deadline_passed()),
        Err(NotStarted::Cancelled) => execution.turn_away(Vec::new(), &cancelled()),
    }
}

/// Why a call was not begun after all.
enum NotStarted {
    Late(Vec<Waiter>),
    Cancelled,
}

impl Execution {
    async fn start_and_end(
        &mut self,
        future: &mut Prepared,
        delay: Option<Duration>,
    ) -> Result<Ended, NotStarted> {
        if let Some(delay) = delay {
            tokio::time::sleep(delay).await;
        }
        if let Stage::Admitted(since) = self.stage {
            match may_start(&self.shared, self.key.as_ref(), self.deadline) {
                MayStart::Yes => {}
                MayStart::Late(joined) => return Err(NotStarted::Late(joined)),
                MayStart::Cancelled => return Err(NotStarted::Cancelled),
            }
            self.tell(EventKind::Started);
            self.stage = Stage::Started(since);
        }
        Ok(poll_fn(|cx| poll_caught(future, cx)).await)
    }

    /// The handler has ended: records the outcome and tells everybody.
    fn end(mut self, ended: Ended) {
        self.settle(ended);
    }

    /// The handler has not begun and will not: everybody is refused, and the id is free again.
    pub(crate) fn refuse(mut self, error: &ErrorObject) {
        let joined = self.release();
        self.turn_away(joined, error);
    }

    fn settle(&mut self, mut ended: Ended) {
        self.tell(EventKind::Finished);
        let Ended { outcome, recorded } = &mut ended;
        let key = self.key.as_ref();
        let joined = record(&self.shared, key, outcome, *recorded, clock::now);
        for waiter in self.own.take().into_iter().chain(joined) {
            waiter.settle(&self.shared, outcome, *recorded);
        }
        self.leave();
    }

    /// Refuses all who wait for a call whose entry is gone already.
    fn turn_away(&mut self, joined: Vec<Waiter>, error: &ErrorObject) {
        for waiter in self.own.take().into_iter().chain(joined) {
            waiter.refuse(&self.shared, error);
        }
        self.leave();
    }

    fn release(&mut self) -> Vec<Waiter> {
        self.key
            .as_ref()
            .map(|key| self.shared.table.release(key))
            .unwrap_or_default()
    }

    /// Gives the place back, if it holds one, to whoever waits for it.
    fn leave(&mut self) {
        let stage = std::mem::replace(&mut self.stage, Stage::Over);
        if let Stage::Admitted(since) | Stage::Started(since) = stage {
            self.shared
                .admission
                .observe(clock::now().saturating_duration_since(since));
            leave(&self.shared);
        }
    }

    fn tell(&self, kind: EventKind) {
        match &self.own {
            Some(own) => own.tell(&self.shared, kind),
            None => self
                .shared
                .tell(kind, None, 1, &self.shared.router.method(self.method).name),
        }
    }
}

impl Drop for Execution {
    /// Reached with something left to do only if the server stopped waiting, or the runtime
    /// dropped the task.
    fn drop(&mut self) {
        match self.stage {
            Stage::Over => {}
            Stage::Queued | Stage::Admitted(_) => {
                let joined = self.release();
                self.turn_away(joined, &shutting_down());
            }
            Stage::Started(_) => {
                self.shared.interrupted.fetch_add(1, SeqCst);
                let detail =
                    "the server stopped before the handler ended; nobody knows how far it came";
                let mut outcome = Vec::new();
                let error = ErrorObject::raised(ErrorCode::INTERRUPTED, detail);
                reply::encode_error(&mut outcome, &error);
                self.settle(Ended {
                    outcome,
                    recorded: true,
                });
            }
        }
    }
}

/// Polls a handler, here and now. A panic is an outcome.
pub(crate) fn poll_caught(future: &mut Prepared, cx: &mut task::Context<'_>) -> Poll<Ended> {
    catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))).unwrap_or_else(|panic| {
        let mut outcome = Vec::new();
        panicked(panic, &mut outcome);
        let recorded = true;
        Poll::Ready(Ended { outcome, recorded })
    })
}

/// Lets a handler read its params and begin, here and now. It says when it begins: up to there a
/// panic is the params' fault, and from there on an outcome.
pub(crate) fn begin_caught(
    place: &mut Place,
    out: &mut Vec<u8>,
    begin: impl FnOnce(&mut Place, &mut Vec<u8>, &Cell<bool>) -> Result<Begun, ErrorObject>,
) -> Result<Begun, ErrorObject> {
    let (has_begun, mut otherwise) = (Cell::new(false), None);
    out.clear();
    // What is usual is a word, so that it is not carried through memory.
    let ended = catch_unwind(AssertUnwindSafe(|| match begin(place, out, &has_begun) {
        Ok(Begun::Ended { recorded }) => Some(recorded),
        result => {
            otherwise = Some(result);
            None
        }
    }));
    match ended {
        Ok(Some(recorded)) => Ok(Begun::Ended { recorded }),
        Ok(None) => otherwise.expect("put there just now"),
        Err(panic) => {
            // Half a future may be there, and may panic once more.
            bury(place.take());
            if !has_begun.get() {
                return Err(unreadable(panic));
            }
            panicked(panic, out);
            Ok(Begun::Ended { recorded: true })
        }
    }
}

fn panicked(panic: Box<dyn Any + Send>, outcome: &mut Vec<u8>) {
    let detail = format!("the handler panicked: {}", last_words(panic));
    let error = ErrorObject::raised(ErrorCode::INTERNAL_ERROR, detail);
    outcome.clear();
    reply::encode_error(outcome, &error);
}

fn unreadable(panic: Box<dyn Any + Send>) -> ErrorObject {
    let detail = format!("reading the params panicked: {}", last_words(panic));
    ErrorObject::raised(ErrorCode::INVALID_PARAMS, detail)
}

/// Lets a handler read its params. A panic there is the params' fault, and nothing was executed.
pub(crate) fn decode_caught(
    decode: impl FnOnce() -> Result<Prepared, ErrorObject>,
) -> Result<Prepared, ErrorObject> {
    catch_unwind(AssertUnwindSafe(decode)).unwrap_or_else(|panic| Err(unreadable(panic)))
}

/// What a panic said. It is buried then and there: what was thrown may panic again when it is
/// dropped, and that must not go up to where nobody expects it.
fn last_words(panic: Box<dyn Any + Send>) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    let words = cut(text.unwrap_or("(no text)")).to_owned();
    bury(panic);
    words
}

/// Drops what may panic as it goes. Of what that throws nothing is dropped any more.
pub(crate) fn bury<T>(remains: T) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(remains))) {
        std::mem::forget(panic);
    }
}

/// Asks the table whether a call may start, now that its turn has come: not if nobody waits for
/// it any more, because the latest deadline of all its attempts has passed, of which only the
/// table knows; nor if it was taken back. Asked and done in one step, so that nobody who has time
/// can join in between.
fn may_start(
    shared: &Shared,
    key: Option<&TableKey<Waiter>>,
    own: Option<Instant>,
) -> MayStart<Waiter> {
    // The clock is asked here and not at the beginning of a read: the handlers of the calls before
    // this one may have taken their time.
    let now = clock::now();
    match key {
        Some(key) => shared.table.may_start(key, own, now),
        None if own.is_some_and(|own| own <= now) => MayStart::Late(Vec::new()),
        None => MayStart::Yes,
    }
}

/// As [`may_start`], for a call that was told that it starts at once: only its deadline can
/// hinder it, and only if it has one is the table asked.
pub(crate) fn may_still_start(
    shared: &Shared,
    key: &Option<TableKey<Waiter>>,
    own: Option<Instant>,
    watch: &mut Watch,
) -> MayStart<Waiter> {
    match own {
        Some(own) if own <= watch.after_call(clock::now) => {
            may_start(shared, key.as_ref(), Some(own))
        }
        _ => MayStart::Yes,
    }
}

/// Frees the place in the queue of a call that was taken back.
pub(crate) fn remove_queued(shared: &Shared, session: &Arc<Session<Waiter>>, number: u64) {
    let is_it = |job: &Job| match &job.execution.key {
        Some(TableKey::Session(other, n)) => *n == number && Arc::ptr_eq(other, session),
        _ => false,
    };
    if let Some(mut job) = shared.admission.remove(is_it) {
        job.execution.turn_away(Vec::new(), &cancelled());
        // What it holds is the caller's, and may panic.
        bury(job);
    }
}

/// Puts the outcome on record, or forgets the call if it had no effect. Hands out who joined.
pub(crate) fn record(
    shared: &Shared,
    key: Option<&TableKey<Waiter>>,
    outcome: &mut Vec<u8>,
    recorded: bool,
    clock: impl FnOnce() -> Instant,
) -> Vec<Waiter> {
    shared.fit(outcome);
    match key {
        Some(key) if recorded => shared.table.finish(key, outcome, clock),
        Some(key) => shared.table.release(key),
        None => Vec::new(),
    }
}

/// Gives a running place back and sets those going that have waited for it.
pub(crate) fn leave(shared: &Shared) {
    shared.admission.leave();
    spawn_runnable(shared);
}

/// Sets those going that wait for a place, as long as there are places.
pub(crate) fn spawn_runnable(shared: &Shared) {
    thread_local! {
        /// The server for which this is under way further down on the stack.
        static BUSY: Cell<*const Shared> = const { Cell::new(std::ptr::null()) };
    }
    // A runtime that is going away drops a job as it is spawned, which gives its place back, which
    // leads here again: once for each job in the queue, if the one below did not go on instead.
    if BUSY.get() == std::ptr::from_ref(shared) {
        return;
    }
    let before = BUSY.replace(std::ptr::from_ref(shared));
    while let Some(job) = shared.admission.next_runnable() {
        spawn(job);
    }
    BUSY.set(before);
}

pub(crate) fn deadline_passed() -> ErrorObject {
    ErrorObject::raised(
        ErrorCode::DEADLINE_PASSED,
        "the caller's time was up before the call started",
    )
}

pub(crate) fn cancelled() -> ErrorObject {
    let detail = "the call was taken back before it started";
    ErrorObject::raised(ErrorCode::STALE, detail).with_executed(Executed::No)
}

pub(crate) fn shutting_down() -> ErrorObject {
    ErrorObject::raised(ErrorCode::SHUTTING_DOWN, "the server takes no new calls")
}
