//! Names for calls: a number in the client's session where there is one, a random id where the
//! server has none; and what becomes of the numbers when their calls end.

use std::{collections::VecDeque, time::Instant};

use rand::Rng;
use redial_protocol::{ErrorObject, SessionCall, SessionId};
use uuid::Uuid;

use super::{
    Mux,
    link::Link,
    pending::{Attempt, Fate, Name, Nature, Pending},
    slab::Key,
};
use crate::session::Session;

/// The sessions of a client: the one that new calls are numbered in, and those of before whose
/// numbers are not all done with.
#[derive(Debug)]
pub(super) struct Sessions {
    pub(super) are_wanted: bool,
    /// Whether silence says that a server has none.
    pub(super) may_guess: bool,
    pub(super) current: Option<Session<Key>>,
    pub(super) retired: Vec<Session<Key>>,
    /// Calls that wait for a number, in the order in which they came.
    pub(super) queue: VecDeque<Key>,
    /// The link on which a session is being asked for.
    pub(super) opener: Option<usize>,
    /// The link whose driver looks after what is to be acknowledged.
    pub(super) watcher: Option<usize>,
    /// Connections in a row that were closed on a hello without a word.
    pub(super) closed_on_hello: u32,
    /// Of the next hello.
    pub(super) serial: u64,
    /// Counts frames, to see whether anything was sent.
    pub(super) appends: u64,
    pub(super) seen_appends: u64,
    pub(super) opened: u64,
    pub(super) lost: u64,
    /// What the server answered to the latest hello, if that was a refusal.
    pub(super) refusal: Option<ErrorObject>,
}

/// What becomes of the number of a call that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It is done with, and the server may forget it.
    Done,
    /// Somebody may still ask for its outcome.
    Held,
}

/// Why a call can't begin under its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// A call of that id is not over.
    InUse,
    /// The session that it was numbered in is gone.
    SessionLost,
}

impl Sessions {
    pub(super) fn new(are_wanted: bool, may_guess: bool) -> Self {
        Self {
            are_wanted,
            may_guess,
            current: None,
            retired: Vec::new(),
            queue: VecDeque::new(),
            opener: None,
            watcher: None,
            closed_on_hello: 0,
            serial: 0,
            appends: 0,
            seen_appends: 0,
            opened: 0,
            lost: 0,
            refusal: None,
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Session<Key>> {
        self.current.iter().chain(&self.retired)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Session<Key>> {
        self.current.iter_mut().chain(&mut self.retired)
    }

    pub(super) fn get(&self, id: SessionId) -> Option<&Session<Key>> {
        match &self.current {
            Some(current) if current.id == id => Some(current),
            _ => self.retired.iter().find(|session| session.id == id),
        }
    }

    pub(super) fn get_mut(&mut self, id: SessionId) -> Option<&mut Session<Key>> {
        match &mut self.current {
            Some(current) if current.id == id => Some(current),
            _ => self.retired.iter_mut().find(|session| session.id == id),
        }
    }

    /// What a request of that name has to say about the calls before it.
    pub(super) fn piggyback(&self, name: Name, link: &Link) -> Option<u64> {
        let Name::Number(call) = name else {
            return None;
        };
        let watermark = self.get(call.session)?.watermark();
        let is_news = watermark > 0 && link.acked != Some((call.session, watermark));
        is_news.then_some(watermark)
    }

    /// A request said it.
    pub(super) fn acknowledged(&mut self, name: Name, link: &mut Link) {
        if let Name::Number(call) = name
            && let Some(session) = self.get_mut(call.session)
        {
            link.acked = Some((call.session, session.tell_watermark()));
        }
    }

    /// A request was taken back, and with it what it said.
    pub(super) fn withdrawn(&mut self, name: Name, link: &mut Link) {
        if let Name::Number(call) = name
            && let Some(session) = self.get_mut(call.session)
        {
            link.acked = None;
            session.doubt_watermark();
        }
    }
}

impl Mux {
    /// A call begins, under an id if it has one already.
    ///
    /// # Errors
    ///
    /// [`Taken`] if it can't be under that id.
    #[inline]
    pub(crate) fn open(&mut self, id: Option<Uuid>, nature: Nature) -> Result<Key, Taken> {
        match id {
            Some(id) => self.open_under(id, nature),
            None => Ok(self.open_new(nature)),
        }
    }

    fn open_new(&mut self, nature: Nature) -> Key {
        let key = self.insert(nature);
        if !nature.is_notification && !self.has_queue() {
            self.number(key);
        }
        key
    }

    fn open_under(&mut self, id: Uuid, nature: Nature) -> Result<Key, Taken> {
        if self.find(id).is_some() {
            return Err(Taken::InUse);
        }
        let call = SessionCall::from_uuid(id);
        let own = call.filter(|call| self.sessions.get(call.session).is_some());
        if call.is_some() && own.is_none() && nature.is_bound && !nature.is_resumed {
            return Err(Taken::SessionLost);
        }
        let key = self.insert(nature);
        let resumed = own.filter(|call| {
            let session = self.sessions.get_mut(call.session);
            session.is_some_and(|session| session.resume(call.number, key))
        });
        match resumed {
            Some(call) => self.call(key).name = Name::Number(call),
            None => {
                self.call(key).name = Name::Id(id);
                self.by_id.insert(id, key);
            }
        }
        Ok(key)
    }

    /// A call that has no name yet.
    fn insert(&mut self, nature: Nature) -> Key {
        let new = || Pending::new(nature);
        let renew = |place: &mut Pending| place.renew(nature);
        self.calls.insert_with(new, renew)
    }

    /// The call that an id belongs to.
    pub(super) fn find(&self, id: Uuid) -> Option<Key> {
        SessionCall::from_uuid(id)
            .and_then(|call| self.sessions.get(call.session)?.get(call.number))
            .or_else(|| self.by_id.get(&id).copied())
    }

    /// Gives the call a number, if there is one. False if there is none.
    fn number(&mut self, key: Key) -> bool {
        let session = self.sessions.current.as_mut();
        let Some(session) = session.filter(|session| session.has_room()) else {
            return false;
        };
        let call = SessionCall {
            session: session.id,
            number: session.take(key),
        };
        self.call(key).name = Name::Number(call);
        true
    }

    /// Whether the call has a name by which the link's server knows calls. Otherwise it is woken
    /// when it may get one.
    pub(super) fn has_name(&mut self, key: Key, link: usize, now: Instant) -> bool {
        let pending = self.call(key);
        if pending.nature.is_notification || pending.name != Name::None {
            return true;
        }
        if self.links[link].is_plain || !self.sessions.are_wanted {
            let id = self.new_id();
            let pending = self.call(key);
            pending.name = Name::Id(id);
            // It may wait for a number elsewhere, which it must not get any more: under another
            // name it would be another call.
            pending.is_queued = false;
            self.by_id.insert(id, key);
            return true;
        }
        if self.sessions.current.is_none() {
            self.wait(link, key, now);
            return false;
        }
        if self.call(key).is_queued {
            return false;
        }
        if !self.has_queue() && self.number(key) {
            return true;
        }
        self.queue(key);
        false
    }

    /// The call waits for a number, first come, first served.
    fn queue(&mut self, key: Key) {
        self.call(key).is_queued = true;
        self.sessions.queue.push_back(key);
        self.say_what_is_urgent();
    }

    /// Gives what numbers there are to the calls that have waited longest, and wakes them.
    pub(super) fn grant(&mut self) {
        while let Some(key) = self.sessions.queue.front().copied() {
            // One that is over needs no number.
            if self.calls.get(key).is_some_and(|call| call.is_queued) {
                if !self.number(key) {
                    return;
                }
                let call = self.call(key);
                call.is_queued = false;
                let waker = call.waker.take();
                self.woken.extend(waker);
            }
            self.sessions.queue.pop_front();
        }
    }

    /// There are no numbers to wait for.
    pub(super) fn dismiss_queue(&mut self) {
        for key in std::mem::take(&mut self.sessions.queue) {
            if let Some(call) = self.calls.get_mut(key)
                && std::mem::take(&mut call.is_queued)
            {
                self.woken.extend(call.waker.take());
            }
        }
    }

    /// Whether some call waits for a number.
    pub(super) fn has_queue(&mut self) -> bool {
        while let Some(first) = self.sessions.queue.front() {
            if self.calls.get(*first).is_some_and(|call| call.is_queued) {
                return true;
            }
            // It is over, or waits no longer.
            self.sessions.queue.pop_front();
        }
        false
    }

    /// Whether servers keep their record of the call for a while only.
    pub(crate) fn may_be_forgotten(&mut self, key: Key) -> bool {
        !self.call(key).name.is_of_a_session()
    }

    /// An id for a call: a random UUID (version 4, RFC 9562).
    pub(crate) fn new_id(&mut self) -> Uuid {
        let mut bytes = [0; 16];
        self.ids.fill_bytes(&mut bytes);
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }

    /// The call that has the number is over.
    pub(super) fn end_number(&mut self, call: SessionCall, end: End) {
        let Some(session) = self.sessions.get_mut(call.session) else {
            return;
        };
        match end {
            End::Done => drop(session.done(call.number)),
            End::Held => session.hold(call.number),
        }
        self.settle(call.session);
    }

    /// The last token of a call that this process had is gone; `is_elsewhere` if others are not.
    pub(crate) fn release_token(&mut self, call: SessionCall, is_elsewhere: bool) {
        let Some(session) = self.sessions.get_mut(call.session) else {
            return;
        };
        match is_elsewhere {
            true => session.leave(call.number),
            false => drop(session.release(call.number)),
        }
        self.settle(call.session);
    }

    /// A call is over for good that may be of a session of this client or of another one.
    pub(crate) fn acknowledge(&mut self, id: Uuid) {
        let Some(call) = SessionCall::from_uuid(id) else {
            return;
        };
        match self.sessions.get(call.session) {
            Some(_) if self.find(id).is_some() => {}
            Some(_) => self.end_number(call, End::Done),
            None => self.acknowledge_foreign(call),
        }
    }

    /// Numbers that are kept for calls whose outcome nobody was given.
    pub(crate) fn retained_calls(&self) -> usize {
        self.sessions.iter().map(Session::held).sum()
    }

    pub(crate) fn sessions_opened(&self) -> u64 {
        self.sessions.opened
    }

    pub(crate) fn sessions_lost(&self) -> u64 {
        self.sessions.lost
    }

    /// Takes a call back whose future was dropped, if its handler has not begun. To be preceded by
    /// [`withdraw`](Self::withdraw): what is left has been written.
    pub(crate) fn cancel(&mut self, key: Key) {
        let Some(pending) = self.calls.get(key) else {
            return;
        };
        let Name::Number(call) = pending.name else {
            return;
        };
        let live = |attempt: &&Attempt| attempt.fate == Fate::Live;
        let written = pending.attempts.iter().rev().find(live);
        let link = written.map(|attempt| attempt.link);
        let has_answer = pending.answer.is_some();
        if let Some(link) = link
            && !has_answer
        {
            self.say_cancelled(link, call.uuid());
        }
    }
}
