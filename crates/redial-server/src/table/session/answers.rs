//! What the records of a session have to say.

/// Who waits for calls that their caller says are over.
#[derive(Debug, PartialEq)]
pub(crate) struct Acknowledged<W> {
    /// For calls that have begun.
    pub(crate) begun: Vec<W>,
    /// For calls that have not, and never will.
    pub(crate) never: Vec<W>,
    /// Which calls have not begun: they may have a place in the queue.
    pub(crate) waiting: Vec<u64>,
}

/// What is known of a call that somebody asks about.
#[derive(Debug, PartialEq)]
pub(crate) enum Resolved {
    /// It is running; the waiter was added.
    Joined,
    /// It is running and has as many waiters as it may have.
    TooManyJoined,
    /// It is finished; its outcome was appended to the buffer.
    Done,
    /// It was not executed and never will be.
    Never,
    /// Its caller is done with it.
    Stale,
    /// There is no slot for it.
    NoSlot,
    /// Nobody knows.
    Unknown,
}

/// What became of a call that its caller takes back.
#[derive(Debug, PartialEq)]
pub(crate) enum Cancelled<W> {
    /// It was not executed and never will be. If it waited for its turn, these waited for it.
    Never(Option<Vec<W>>),
    /// It runs.
    Running,
    /// It was executed before.
    Done,
    /// Its caller is done with it.
    Stale,
    /// There is no slot for it.
    NoSlot,
}

impl<W> Default for Acknowledged<W> {
    fn default() -> Self {
        Self {
            begun: Vec::new(),
            never: Vec::new(),
            waiting: Vec::new(),
        }
    }
}
