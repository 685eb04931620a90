//! What the writer knows without reading the file: the sessions, where their records lie, and which
//! slots are free. Each step of a batch can be undone, as its SQL can.

use std::collections::{BTreeMap, HashMap, VecDeque};

use redial_protocol::SessionId;
use redial_server::store::Acknowledged;

use crate::{
    encoding::{is_acknowledged, is_news, merge},
    plain::{Plain, Row},
};

/// Where a record of a session lies, and what is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Live {
    pub(crate) slot: i64,
    pub(crate) state: State,
}

/// The state of a call that is on record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Its handler runs, in this process.
    Running,
    /// Its handler ran when an earlier process ended.
    Interrupted {
        /// Whether it may run again.
        is_resumable: bool,
    },
    Finished,
    Fenced,
}

#[derive(Debug, Default)]
pub(crate) struct Session {
    pub(crate) acknowledged: Acknowledged,
    pub(crate) live: BTreeMap<u64, Live>,
    /// Slots of acknowledged calls. They are free when the acknowledgement is in the file.
    pending: Vec<i64>,
    /// Whether it stands in the queue of those with pending slots, or with more to write.
    is_queued: bool,
}

/// A step, with what it takes to undo it.
#[derive(Debug)]
enum Undo {
    Recorded {
        session: SessionId,
        number: u64,
    },
    Changed {
        session: SessionId,
        number: u64,
        before: Live,
    },
    Removed {
        session: SessionId,
        number: u64,
        before: Live,
    },
    Released {
        session: SessionId,
        number: u64,
        before: Live,
    },
    Watermark {
        session: SessionId,
        before: Acknowledged,
    },
    Saved {
        session: SessionId,
        slots: usize,
    },
    Opened(SessionId),
    Forgotten(SessionId, Session),
    Grown,
    Taken(i64),
    Started(Box<[u8]>),
    Ended(Box<[u8]>, Row),
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(crate) sessions: HashMap<SessionId, Session>,
    free: Vec<i64>,
    /// The first slot that was never used.
    next_slot: i64,
    /// How many slots wait for an acknowledgement to be in the file.
    pending: usize,
    /// Sessions whose acknowledgements are not in the file, the longest first.
    unsaved: VecDeque<SessionId>,
    pub(crate) plain: Plain,
    undo: Vec<Undo>,
}

impl Memory {
    /// Takes over from what was known before the file was opened again: which calls run, and what was
    /// acknowledged.
    pub(crate) fn inherit(&mut self, before: &Self) {
        for (id, old) in &before.sessions {
            let Some(session) = self.sessions.get_mut(id) else {
                continue;
            };
            for (number, live) in &mut session.live {
                let runs = old
                    .live
                    .get(number)
                    .is_some_and(|old| old.state == State::Running);
                if runs && matches!(live.state, State::Interrupted { .. }) {
                    live.state = State::Running;
                }
            }
            self.acknowledge(*id, &old.acknowledged);
        }
        for (key, row) in &mut self.plain.started {
            if let Some(old) = before.plain.started.get(key) {
                row.state = old.state;
            }
        }
        self.keep();
    }

    /// The batch is in the file.
    pub(crate) fn keep(&mut self) {
        self.undo.clear();
    }

    /// The batch is not in the file.
    pub(crate) fn roll_back(&mut self) {
        let mut undo = std::mem::take(&mut self.undo);
        for step in undo.drain(..).rev() {
            self.revert(step);
        }
        self.undo = undo;
    }

    fn revert(&mut self, step: Undo) {
        match step {
            Undo::Recorded { session, number } => {
                self.session(session).live.remove(&number);
            }
            Undo::Changed {
                session,
                number,
                before,
            } => {
                self.session(session).live.insert(number, before);
            }
            Undo::Removed {
                session,
                number,
                before,
            } => {
                self.free.pop();
                self.session(session).live.insert(number, before);
            }
            Undo::Released {
                session,
                number,
                before,
            } => {
                self.pending -= 1;
                let session = self.session(session);
                session.pending.pop();
                session.live.insert(number, before);
            }
            Undo::Watermark { session, before } => self.session(session).acknowledged = before,
            Undo::Saved { session, slots } => {
                let slots = self.free.split_off(self.free.len() - slots);
                self.pending += slots.len();
                self.session(session).pending.extend(slots);
                self.queue(session);
            }
            Undo::Opened(session) => {
                self.sessions.remove(&session);
            }
            Undo::Forgotten(id, session) => {
                let slots = session.live.len() + session.pending.len();
                self.free.truncate(self.free.len() - slots);
                self.pending += session.pending.len();
                self.sessions.insert(
                    id,
                    Session {
                        is_queued: false,
                        ..session
                    },
                );
                self.queue(id);
            }
            Undo::Grown => self.next_slot -= 1,
            Undo::Taken(slot) => self.free.push(slot),
            Undo::Started(key) => {
                self.plain.started.remove(&key);
            }
            Undo::Ended(key, row) => {
                self.plain.started.insert(key, row);
            }
        }
    }

    fn session(&mut self, id: SessionId) -> &mut Session {
        self.sessions.entry(id).or_default()
    }

    /// Takes over what the file says of a session.
    pub(crate) fn recover_session(&mut self, id: SessionId, acknowledged: Acknowledged) {
        self.session(id).acknowledged = acknowledged;
    }

    /// Takes over a row of the file, in ascending order of slots; `None` if it has no record that counts.
    pub(crate) fn recover_slot(&mut self, slot: i64, record: Option<(SessionId, u64, State)>) {
        self.free.extend(self.next_slot..slot);
        self.next_slot = slot + 1;
        let Some((id, number, state)) = record else {
            self.free.push(slot);
            return;
        };
        self.session(id).live.insert(number, Live { slot, state });
    }

    /// A slot for a new record, unless acknowledgements should be [saved](Self::next_unsaved) first.
    pub(crate) fn take_slot(&mut self) -> i64 {
        if let Some(slot) = self.free.pop() {
            self.undo.push(Undo::Taken(slot));
            return slot;
        }
        self.undo.push(Undo::Grown);
        self.next_slot += 1;
        self.next_slot - 1
    }

    pub(crate) fn free_slots(&self) -> usize {
        self.free.len()
    }

    /// Whether to save acknowledgements rather than let the file grow: it may grow until saving one
    /// frees several slots.
    pub(crate) fn should_save(&self) -> bool {
        self.free.is_empty() && self.pending >= 256.max(4 * self.sessions.len())
    }

    /// A session whose acknowledgements are to be saved.
    pub(crate) fn next_unsaved(&mut self) -> Option<SessionId> {
        while let Some(id) = self.unsaved.pop_front() {
            // One that was forgotten has nothing to save.
            if let Some(session) = self.sessions.get_mut(&id) {
                session.is_queued = false;
                self.undo.push(Undo::Saved {
                    session: id,
                    slots: 0,
                });
                return Some(id);
            }
        }
        None
    }

    /// The session's acknowledgements are written in this batch: its slots may be used again in it.
    pub(crate) fn saved(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let slots = session.pending.len();
        self.pending -= slots;
        self.free.append(&mut session.pending);
        self.undo.push(Undo::Saved { session: id, slots });
    }

    fn queue(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.get_mut(&id)
            && !session.is_queued
        {
            session.is_queued = true;
            self.unsaved.push_back(id);
        }
    }

    /// Takes in what a session has acknowledged.
    pub(crate) fn acknowledge(&mut self, id: SessionId, acknowledged: &Acknowledged) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        if !is_news(&session.acknowledged, acknowledged) {
            return;
        }
        let before = session.acknowledged.clone();
        merge(&mut session.acknowledged, acknowledged);
        self.undo.push(Undo::Watermark {
            session: id,
            before,
        });
        let below = session.acknowledged.below;
        let mut from = 0;
        while let Some((&number, &before)) = session.live.range(from..below).next() {
            from = number + 1;
            if is_acknowledged(&session.acknowledged, number) {
                session.live.remove(&number);
                session.pending.push(before.slot);
                self.pending += 1;
                self.undo.push(Undo::Released {
                    session: id,
                    number,
                    before,
                });
            }
        }
        self.queue(id);
    }

    /// A call of a session is on record now.
    pub(crate) fn record(&mut self, session: SessionId, number: u64, live: Live) {
        self.session(session).live.insert(number, live);
        self.undo.push(Undo::Recorded { session, number });
    }

    /// A call that was on record has another state.
    pub(crate) fn change(&mut self, session: SessionId, number: u64, state: State) {
        let Some(live) = self.session(session).live.get_mut(&number) else {
            return;
        };
        let before = *live;
        live.state = state;
        self.undo.push(Undo::Changed {
            session,
            number,
            before,
        });
    }

    /// A call is not on record any more, and its row is deleted.
    pub(crate) fn remove(&mut self, session: SessionId, number: u64) {
        if let Some(before) = self.session(session).live.remove(&number) {
            self.free.push(before.slot);
            self.undo.push(Undo::Removed {
                session,
                number,
                before,
            });
        }
    }

    /// A session is there from now on.
    pub(crate) fn open(&mut self, id: SessionId) {
        self.session(id);
        self.undo.push(Undo::Opened(id));
    }

    /// A session's row is deleted in this batch, so that its records don't count any more.
    pub(crate) fn forget(&mut self, id: SessionId) {
        let Some(session) = self.sessions.remove(&id) else {
            return;
        };
        // What stands in the queue of those that are gone must not pile up.
        if self.unsaved.len() > 64 + 2 * self.sessions.len() {
            self.unsaved.retain(|id| self.sessions.contains_key(id));
        }
        self.pending -= session.pending.len();
        self.free
            .extend(session.live.values().map(|live| live.slot));
        self.free.extend(&session.pending);
        self.undo.push(Undo::Forgotten(id, session));
    }

    /// A call with a plain id is on record as started.
    pub(crate) fn start_plain(&mut self, key: Box<[u8]>, row: Row) {
        self.plain.started.insert(key.clone(), row);
        self.undo.push(Undo::Started(key));
    }

    /// A call with a plain id has ended.
    pub(crate) fn end_plain(&mut self, key: &[u8]) {
        if let Some((key, row)) = self.plain.started.remove_entry(key) {
            self.undo.push(Undo::Ended(key, row));
        }
    }
}
