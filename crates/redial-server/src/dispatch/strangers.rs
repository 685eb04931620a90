//! Sessions that the table in memory does not know, at a server that shares its store with others: the
//! store is asked, and what the connection sends meanwhile waits.
//!
//! A message is looked at before anything of it is done, so that it can be taken up again from its
//! beginning once the store has answered.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use redial_protocol::{
    CallKey, Dialect, ErrorObject, Executed, Id, Incoming, MethodKind, Request, SessionId,
    deserialize_object, rpc,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Dispatcher,
    attachment::Attachment,
    lookup::{FinishedLookup, LookupPurpose, PATIENCE, SessionHold, Word},
    refuse_acknowledged,
};
use crate::{
    never::on_runtime,
    refusal,
    store::{Acknowledged, Done, StoreError},
    table::Session,
    waiter::Waiter,
};

impl Dispatcher<'_> {
    /// Whether a message has to wait because it names a session that only the store may know. Out of line,
    /// since most servers share no store.
    #[inline(never)]
    pub(super) fn is_held(&mut self, frame: &[u8]) -> bool {
        let asked = match Incoming::parse(frame, &self.shared.config.limits) {
            Ok(Incoming::Request(request)) => self.stranger_in(&request),
            Ok(Incoming::Batch(batch)) => {
                let mut requests = batch.requests().filter_map(Result::ok);
                requests.find_map(|request| self.stranger_in(&request))
            }
            Err(_) => None,
        };
        if let Some(lookups) = &mut self.scratch.lookups {
            lookups.hold(asked.is_some());
        }
        if let Some(session) = asked {
            self.ask(session, LookupPurpose::Message);
        }
        asked.is_some()
    }

    fn stranger_in(&self, request: &Request<'_>) -> Option<SessionId> {
        let session = self.named_session(request)?;
        (self.is_admitted() && self.is_stranger(session)).then_some(session)
    }

    /// Whether only the store can tell what the session is.
    pub(super) fn is_stranger(&self, session: SessionId) -> bool {
        let Some(lookups) = &self.scratch.lookups else {
            return false;
        };
        let owner = self.caller.principal();
        self.scratch.session(session).is_none()
            && lookups.word(session, self.awake).is_none()
            && Attachment::to(self.shared, session, owner, self.awake).is_none()
    }

    /// The session without which a request can't be answered.
    fn named_session(&self, request: &Request<'_>) -> Option<SessionId> {
        if let Some(method) = self.shared.router.find(&request.method) {
            // A query is executed whatever session its id names.
            let is_recorded = self.shared.router.method(method).kind == MethodKind::Mutation;
            let key = request.id.filter(|_| is_recorded)?.key(request.dialect)?;
            return session_of(key);
        }
        let asks = [
            rpc::HELLO,
            rpc::ACK,
            rpc::GOODBYE,
            rpc::RESOLVE,
            rpc::CANCEL,
        ];
        if !asks.contains(&&*request.method) {
            return None;
        }
        let mut params = serde_json::Deserializer::from_str(request.params?);
        let named: Named<'_> = deserialize_object(&mut params).ok()?;
        let of_call = || session_of(Id::parse(named.id?).ok()?.key(Dialect::Notebook)?);
        named.session.or_else(of_call)
    }

    /// Asks the store for a session; what goes on then waits.
    pub(super) fn ask(&mut self, session: SessionId, purpose: LookupPurpose) {
        let (Some(lookups), Some(store)) = (&mut self.scratch.lookups, &self.shared.store) else {
            return;
        };
        let Some(shared_store) = store.as_shared() else {
            return;
        };
        let sender = lookups.ask(session, purpose);
        let shared = Arc::clone(self.shared);
        let done: Done<Option<Acknowledged>> = Box::new(move |found| {
            let held = |acknowledged| SessionHold {
                shared,
                session,
                acknowledged,
            };
            let answer = found.map(|found| found.map(held));
            // The connection may have gone meanwhile.
            drop(sender.send(answer));
        });
        shared_store.find_session(session, self.caller.principal(), done);
        self.scratch.has_stored = true;
    }

    /// The store has answered: goes on with what waited for that.
    pub(crate) fn on_lookup(&mut self, found: FinishedLookup) {
        let FinishedLookup {
            session,
            answer,
            purpose,
        } = found;
        let until = self.awake + PATIENCE;
        let word = match answer {
            Ok(Some(held)) => {
                let known = &held.acknowledged;
                let adopted =
                    Attachment::adopt(self.shared, session, self.caller, known, self.awake);
                match adopted {
                    Some(attachment) => {
                        // It stays until the message is answered.
                        self.scratch.deferred.finish(self.shared);
                        self.scratch.other_session = Some(attachment);
                        None
                    }
                    None => Some(Word::Full { until }),
                }
            }
            Ok(None) => Some(Word::Unknown),
            Err(StoreError { message: why, .. }) => Some(Word::Failed { why, until }),
        };
        if let Some((lookups, word)) = self.scratch.lookups.as_mut().zip(word) {
            lookups.note(session, word);
        }
        if let LookupPurpose::Hello { waiter, expires_ms } = purpose {
            self.greet_now(waiter, Some(session), expires_ms);
        }
    }

    /// The refusal of what names a session that is not known here.
    #[cold]
    pub(super) fn session_unknown(&self, session: SessionId) -> ErrorObject {
        let Some(lookups) = &self.scratch.lookups else {
            return refusal::session_unknown(session);
        };
        match lookups.word(session, self.awake) {
            Some(Word::Unknown) => refusal::session_unknown(session),
            Some(Word::Full { .. }) => {
                let full = refusal::sessions_full(self.shared.config.max_sessions);
                full.with_executed(Executed::Unknown)
            }
            Some(Word::Failed { why, .. }) => refusal::session_not_found_yet(why),
            // It was forgotten in this very moment.
            None => refusal::session_not_found_yet("it was not asked for"),
        }
    }

    /// The same of a hello, whose client goes to another server then if the store can't say.
    #[cold]
    pub(super) fn greeting_refused(&self, session: SessionId) -> ErrorObject {
        let lookups = self.scratch.lookups.as_ref();
        match lookups.and_then(|lookups| lookups.word(session, self.awake)) {
            Some(Word::Failed { why, .. }) => refusal::store_unavailable(why),
            _ => self.session_unknown(session),
        }
    }

    /// There is no slot for a call: what is acknowledged of its session at other servers may make room.
    #[cold]
    pub(super) fn refresh(&self, session: &Arc<Session<Waiter>>) {
        let Some(lookups) = &self.scratch.lookups else {
            return;
        };
        let Some(store) = self.shared.store.as_deref().and_then(|it| it.as_shared()) else {
            return;
        };
        if lookups.is_refreshing.swap(true, Relaxed) {
            return;
        }
        let is_refreshing = Arc::clone(&lookups.is_refreshing);
        let (shared, refreshed) = (Arc::clone(self.shared), Arc::clone(session));
        let done = on_runtime(move |found: Result<Option<Acknowledged>, StoreError>| {
            is_refreshing.store(false, Relaxed);
            if let Ok(Some(acknowledged)) = found {
                // Its last connection may have gone meanwhile.
                let held = SessionHold {
                    shared,
                    session: refreshed.id(),
                    acknowledged,
                };
                let window = held.shared.table.sessions.limits().window;
                let ranges = ranges(&held.acknowledged);
                if let Some(waiters) = refreshed.acknowledge(0, &ranges, window).waiters {
                    refuse_acknowledged(&held.shared, &refreshed, waiters);
                }
            }
        });
        store.find_session(session.id(), session.owner(), done);
        store.flush();
    }
}

/// The numbers that are acknowledged, in ascending ranges.
fn ranges(acknowledged: &Acknowledged) -> Vec<(u64, u64)> {
    let mut from = 0;
    let mut ranges = Vec::new();
    for end in acknowledged.open.iter().chain([&acknowledged.below]) {
        if from < *end {
            ranges.push((from, *end));
        }
        from = end + 1;
    }
    ranges
}

fn session_of(key: CallKey) -> Option<SessionId> {
    match key {
        CallKey::Session(call) => Some(call.session),
        _ => None,
    }
}

/// What names a session among the params of the protocol's methods.
#[derive(Deserialize)]
struct Named<'a> {
    #[serde(default)]
    session: Option<SessionId>,
    #[serde(default, borrow)]
    id: Option<&'a RawValue>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_acknowledged_are_the_ranges_between_what_is_open() {
        for (below, open, expected) in [
            (0, vec![], vec![]),
            (7, vec![], vec![(0, 7)]),
            (7, vec![0, 3, 4], vec![(1, 3), (5, 7)]),
            (7, vec![6], vec![(0, 6)]),
        ] {
            assert_eq!(ranges(&Acknowledged { below, open }), expected);
        }
    }
}
