//! Deliberate bugs, in the model server of this crate, between client and server, or around the
//! client. An oracle that does not find them is worthless.

/// A deliberate bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Bug {
    /// The server keeps no records at all.
    NoDedup,
    /// The server records a call only after it has replied.
    RecordAfterReply,
    /// The server executes a duplicate of a running call.
    NoJoin,
    /// The server evicts records of calls that are not acknowledged.
    Eviction,
    /// The server looks at the id of a request alone, not at its method and params.
    NoFingerprint,
    /// The client acknowledges calls before their replies have been delivered.
    EarlyAck,
    /// The server opens an unknown session again, under the id that the client names.
    Resurrection,
    /// The server executes calls that were acknowledged.
    StaleExecuted,
    /// The client reports calls of a broken connection as not executed.
    BrokenMeansNotExecuted,
    /// The server executes copies of attempts that it refused.
    RefusalForgotten,
    /// The server says that a call will never be executed, and does not fence it.
    NeverNotFenced,
    /// The server serialises each reply anew, with the time in it.
    ReplyMadeAnew,
    /// The service reads the value before the last change.
    OldValues,
    /// The service reads a counter and writes it later, unlocked in between.
    LostUpdates,
    /// The client's calls end after their deadlines.
    Overdue,
    /// The server counts the time in which it stood still against the records of plain ids.
    WallClockTtl,
    /// The client takes a message of the peer's own for the reply to the call with the same id.
    MessageMeansReply,
    /// The client takes silence after its hello for a server without sessions.
    SilenceMeansPlain,
    /// The server says its last word while a call that it has read is still running.
    LastTooEarly,
    /// The server sends a handler's error as it is, though it reads like a refusal of its own.
    Unmarked,
    /// The store calls back before its commit is synced.
    ReplyBeforeCommit,
    /// The store records a call one commit after its effect.
    RecordAfterEffect,
    /// The store takes calls for acknowledged whose replies have not been delivered.
    AckBeforeDelivery,
    /// The store uses the slots of records again that are not acknowledged.
    SlotReused,
    /// The store keeps no intents.
    IntentForgotten,
    /// The store hands over calls that have finished as calls that were interrupted.
    OutcomeForgotten,
    /// The store hands over no sessions.
    SessionForgotten,
    /// The store says of some steps that are durable that they may not be.
    DurableDoubted,
    /// A shared store lets a server record things after it has lost its epoch.
    EpochForgotten,
    /// A shared store deletes the records of a session before the session itself.
    RecordsBeforeSession,
    /// A shared store looks whether an id is free, and claims it afterwards.
    ClaimChecked,
    /// A shared store takes a commit without an answer for one that has failed.
    UnansweredMeansFailed,
    /// The client takes the servers at all addresses for ones of the same table, whatever they answer to hello.
    TableIgnored,
    /// The client sends a retry to a server of another table.
    RetryElsewhere,
    /// The client sends a hedge to a server of another table.
    HedgeElsewhere,
    /// The client sends a call whose connection was lost to a server of another table.
    LostElsewhere,
    /// The client takes what a server that drains has not answered yet for not read.
    GoawayMeansUnread,
    /// The client hears of the first addresses only.
    ListIgnored,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 38] = [
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
        Self::WallClockTtl,
        Self::MessageMeansReply,
        Self::SilenceMeansPlain,
        Self::LastTooEarly,
        Self::Unmarked,
        Self::ReplyBeforeCommit,
        Self::RecordAfterEffect,
        Self::AckBeforeDelivery,
        Self::SlotReused,
        Self::IntentForgotten,
        Self::OutcomeForgotten,
        Self::SessionForgotten,
        Self::DurableDoubted,
        Self::EpochForgotten,
        Self::RecordsBeforeSession,
        Self::ClaimChecked,
        Self::UnansweredMeansFailed,
        Self::TableIgnored,
        Self::RetryElsewhere,
        Self::HedgeElsewhere,
        Self::LostElsewhere,
        Self::GoawayMeansUnread,
        Self::ListIgnored,
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
            Self::WallClockTtl => "wall-clock-ttl",
            Self::MessageMeansReply => "message-means-reply",
            Self::SilenceMeansPlain => "silence-means-plain",
            Self::LastTooEarly => "last-too-early",
            Self::Unmarked => "unmarked",
            Self::ReplyBeforeCommit => "reply-before-commit",
            Self::RecordAfterEffect => "record-after-effect",
            Self::AckBeforeDelivery => "ack-before-delivery",
            Self::SlotReused => "slot-reused",
            Self::IntentForgotten => "intent-forgotten",
            Self::OutcomeForgotten => "outcome-forgotten",
            Self::SessionForgotten => "session-forgotten",
            Self::DurableDoubted => "durable-doubted",
            Self::EpochForgotten => "epoch-forgotten",
            Self::RecordsBeforeSession => "records-before-session",
            Self::ClaimChecked => "claim-checked",
            Self::UnansweredMeansFailed => "unanswered-means-failed",
            Self::TableIgnored => "table-ignored",
            Self::RetryElsewhere => "retry-elsewhere",
            Self::HedgeElsewhere => "hedge-elsewhere",
            Self::LostElsewhere => "lost-elsewhere",
            Self::GoawayMeansUnread => "goaway-means-unread",
            Self::ListIgnored => "list-ignored",
        }
    }

    /// Whether the bug is on the client's side, so that the server is the real one.
    pub(crate) fn is_in_client(self) -> bool {
        matches!(
            self,
            Self::EarlyAck
                | Self::BrokenMeansNotExecuted
                | Self::Overdue
                | Self::MessageMeansReply
                | Self::SilenceMeansPlain
        ) || self.is_in_routing()
    }

    /// Whether the bug is in how a client deals with several addresses.
    pub(crate) fn is_in_routing(self) -> bool {
        matches!(
            self,
            Self::TableIgnored
                | Self::RetryElsewhere
                | Self::HedgeElsewhere
                | Self::LostElsewhere
                | Self::GoawayMeansUnread
                | Self::ListIgnored
        )
    }

    /// Whether the bug is in the store that several real servers share.
    pub(crate) fn is_in_shared_store(self) -> bool {
        matches!(
            self,
            Self::EpochForgotten
                | Self::RecordsBeforeSession
                | Self::ClaimChecked
                | Self::UnansweredMeansFailed
        )
    }

    /// Whether the bug is in the store of the one real server.
    pub(crate) fn is_in_store(self) -> bool {
        matches!(
            self,
            Self::ReplyBeforeCommit
                | Self::RecordAfterEffect
                | Self::AckBeforeDelivery
                | Self::SlotReused
                | Self::IntentForgotten
                | Self::OutcomeForgotten
                | Self::SessionForgotten
                | Self::DurableDoubted
        )
    }
}
