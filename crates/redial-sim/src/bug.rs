//! Deliberate bugs, each in another implementation of a public seam: in a small server of this
//! crate, on the way between client and server, or around the client. An oracle that does not find
//! them is worthless.

/// One bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Bug {
    /// The server keeps no records at all.
    NoDedup,
    /// The server notes a call only after it has answered it.
    RecordAfterReply,
    /// The server executes a duplicate of a running call.
    NoJoin,
    /// The server makes room by forgetting calls that are not acknowledged.
    Eviction,
    /// The server takes a request for the call of its id, whatever it asks for.
    NoFingerprint,
    /// Calls are acknowledged before their reply has been delivered.
    EarlyAck,
    /// The server opens a session again that it does not know, with the id that it is asked for.
    Resurrection,
    /// The server executes calls that were acknowledged.
    StaleExecuted,
    /// The client says of a connection that broke that nothing was executed.
    BrokenMeansNotExecuted,
    /// The server executes copies of attempts that it has refused.
    RefusalForgotten,
    /// The server says that a call will never be executed, and does nothing about it.
    NeverNotFenced,
    /// The server serialises each reply anew, with the time in it.
    ReplyMadeAnew,
    /// The service reads what was there before the last change.
    OldValues,
    /// The service reads a counter, and writes it later.
    LostUpdates,
    /// The client's calls end later than they should.
    Overdue,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::NoDedup,
        Self::RecordAfterReply,
        Self::NoJoin,
        Self::Eviction,
        Self::NoFingerprint,
        Self::EarlyAck,
        Self::Resurrection,
        Self::StaleExecuted,
        Self::BrokenMeansNotExecuted,
        Self::RefusalForgotten,
        Self::NeverNotFenced,
        Self::ReplyMadeAnew,
        Self::OldValues,
        Self::LostUpdates,
        Self::Overdue,
    ];

    /// Its name, as in `no-dedup`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NoDedup => "no-dedup",
            Self::RecordAfterReply => "record-after-reply",
            Self::NoJoin => "no-join",
            Self::Eviction => "eviction",
            Self::NoFingerprint => "no-fingerprint",
            Self::EarlyAck => "early-ack",
            Self::Resurrection => "resurrection",
            Self::StaleExecuted => "stale-executed",
            Self::BrokenMeansNotExecuted => "broken-means-not-executed",
            Self::RefusalForgotten => "refusal-forgotten",
            Self::NeverNotFenced => "never-not-fenced",
            Self::ReplyMadeAnew => "reply-made-anew",
            Self::OldValues => "old-values",
            Self::LostUpdates => "lost-updates",
            Self::Overdue => "overdue",
        }
    }

    /// Whether the bug is in the client or before it, so that the server is the real one.
    pub(crate) fn is_the_clients(self) -> bool {
        matches!(
            self,
            Self::EarlyAck | Self::BrokenMeansNotExecuted | Self::Overdue
        )
    }
}
