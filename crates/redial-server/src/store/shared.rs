//! The seam of a store that several servers use at the same time: their clients' sessions serve all of them.

use redial_protocol::{Principal, SessionId};

use super::{Acknowledged, Done, Store};

/// What a [`Store`] says beside the rest if it is [shared](Store::as_shared).
///
/// The table in front of it knows a session while connections are attached to it, or a call of it runs
/// here, and asks for it when a message names one that it does not know. It keeps no record that the
/// store did not hand it, and none that the store may change: an outcome stays as it was recorded, and
/// everything else is asked for again. So a call's claim has to know the records of all servers, and a
/// session's end those of its calls.
///
/// Two differences to a store of one server:
/// * [`recover`](Store::recover) hands over nothing;
/// * [`forget_session`](Store::forget_session) is called when a client has said goodbye, and never
///   because a lease has ended: that is the store's to see, when no server holds the session any more.
///   The session goes once all of its calls are acknowledged, whichever server has run them.
pub trait SharedStore: Store {
    /// Looks for a session that this server does not know, and whose caller is this principal. It is
    /// held by this server from then on: its lease does not end. `None` is for ever, so it is no answer
    /// of a store that can't tell at present.
    fn find_session(
        &self,
        session: SessionId,
        owner: Option<&Principal>,
        done: Done<Option<Acknowledged>>,
    );

    /// This server holds the session no longer: no connection is attached to it here, and no call of it
    /// runs. Other servers may hold it; if none does, its lease begins.
    fn leave_session(&self, session: SessionId);
}
