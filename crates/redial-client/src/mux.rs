//! The pending calls and the bytes on their way out. No tokio, no clock, no socket: time comes
//! in as an argument, and who is to be woken goes out as a list.
//!
//! A call is pending from its first poll to its end, over all its attempts and connections: the
//! reply to any attempt finds it.

mod acks;
mod alarms;
mod events;
mod link;
mod loss;
#[cfg(test)]
mod model;
mod names;
mod pending;
mod replies;
mod slab;
mod standing;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    task::Waker,
    time::{Duration, Instant},
};

use rand_chacha::ChaCha8Rng;
use redial_protocol::{
    Dialect, FrameError, ReplyMeta, RequestMeta, write_call, write_frame, write_request,
};
use uuid::Uuid;

pub(crate) use self::{
    acks::{Chores, IDLE},
    link::{Outgoing, Touch},
    names::{End, Taken},
    pending::{Answer, Attempt, Closed, Name, Nature, Pending, Signal},
    replies::{Decoded, Replies},
    slab::Key,
    standing::{HELLO_ID, Welcome},
};
use self::{alarms::Alarms, link::Link, names::Sessions, pending::Fate, slab::Slab};
use crate::{report::AttemptEnd, retry::backoff::Backoff};

/// The id of keepalive pings. No UUID, so no call's and no key in a table.
pub(crate) const PING_ID: &str = "\"redial-ping\"";

/// How many requests go to one connection of a pool in a row at most. What one more saves then is
/// little, and the others have to wait for it.
const MAX_GATHERED: usize = 32;

/// How long a hello is waited for is what a call's attempt is waited for by default, between these: a
/// hello is answered at once, so that waiting longer helps nobody; and whoever does not answer three
/// of them is taken for a server without sessions, which needs more than a slow moment.
const MIN_HELLO_TIMEOUT: Duration = Duration::from_millis(250);
const MAX_HELLO_TIMEOUT: Duration = Duration::from_secs(1);

/// The pending calls of a client and its connections' buffers.
#[derive(Debug)]
pub(crate) struct Mux {
    calls: Slab<Pending>,
    /// The calls whose name is no number of a session of this client.
    by_id: HashMap<Uuid, Key, BuildHasherDefault<IdHasher>>,
    sessions: Sessions,
    links: Vec<Link>,
    /// When calls are to be woken, one list per task that does it.
    alarms: Vec<Alarms>,
    /// The link that had the latest turn.
    turn: usize,
    ids: ChaCha8Rng,
    dialect: Dialect,
    extensions: bool,
    max_frame_bytes: usize,
    max_buffered_bytes: u64,
    max_in_flight: usize,
    /// How long a hello is waited for before it is sent again.
    hello_timeout: Duration,
    hello_backoff: Backoff,
    /// The client is gone.
    is_closing: bool,
    /// Who waits for all connections to be over.
    closer: Option<Waker>,
    /// Whom to wake once the lock is released.
    pub(crate) woken: Vec<Waker>,
    /// The link that got work and has no driver: to be taken, and one to be started, by whoever had
    /// a request sent.
    pub(crate) driverless: Option<usize>,
    pub(crate) connects: u64,
    pub(crate) unmatched_replies: u64,
}

/// One request to be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outbound<'a> {
    pub(crate) key: Key,
    pub(crate) method: &'a str,
    pub(crate) params: Option<&'a [u8]>,
    pub(crate) number: u32,
    pub(crate) is_hedge: bool,
    pub(crate) timeout_ms: u64,
    pub(crate) traceparent: Option<&'a str>,
}

/// What became of a request to be sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// It is on its way.
    Queued,
    /// There is no room, or nobody knows yet what the server speaks. The call is woken when that
    /// changes.
    Wait,
    /// The call wanted no more than a name, and has one.
    Named,
    /// It is larger than any frame may be.
    TooLarge(FrameError),
}

impl Mux {
    pub(crate) fn new(config: &crate::Config, ids: ChaCha8Rng) -> Self {
        Self {
            calls: Slab::new(),
            by_id: HashMap::default(),
            sessions: Sessions::new(
                config.extensions && config.sessions,
                config.assume_plain_on_silence,
            ),
            links: (0..config.connections).map(|_| Link::default()).collect(),
            alarms: Vec::new(),
            turn: config.connections.saturating_sub(1),
            ids,
            dialect: config.dialect,
            extensions: config.extensions,
            max_frame_bytes: config.max_frame_bytes,
            max_buffered_bytes: config.max_buffered_bytes as u64,
            max_in_flight: config.max_in_flight,
            hello_timeout: config
                .call
                .attempt_timeout
                .clamp(MIN_HELLO_TIMEOUT, MAX_HELLO_TIMEOUT),
            is_closing: false,
            closer: None,
            hello_backoff: config.reconnect,
            woken: Vec::new(),
            driverless: None,
            connects: 0,
            unmatched_replies: 0,
        }
    }

    pub(crate) fn call(&mut self, key: Key) -> &mut Pending {
        self.calls
            .get_mut(key)
            .expect("a call is pending from its first poll to its end")
    }

    /// When the answer came that the call has not taken yet.
    pub(crate) fn answered_at(&self, key: Key) -> Option<Instant> {
        self.calls.get(key)?.answered_at
    }

    /// Takes the result that the call was answered by, if that is all there is to know about it: of
    /// its one attempt nothing is to be taken back, and nothing else has happened to it.
    pub(crate) fn take_result(&mut self, key: Key) -> Option<(Answer, ReplyMeta, Instant)> {
        let call = self.calls.get_mut(key)?;
        let (Some(Answer::Result(_, meta)), Some(at)) = (&call.answer, call.answered_at) else {
            return None;
        };
        let meta = *meta;
        let is_replied = |only: &Attempt| matches!(only.ended, Some((_, AttemptEnd::Reply)));
        if call.disowned > 0
            || call.signal.is_some()
            || !call.attempts.only().is_some_and(is_replied)
        {
            return None;
        }
        Some((call.answer.take()?, meta, at))
    }

    /// Whom to wake when something happens to the call.
    pub(crate) fn listen(&mut self, key: Key, waker: &Waker) {
        let call = self.calls.get_mut(key).expect("the call is pending");
        self.woken.extend(replace(&mut call.waker, waker));
    }

    /// Appends a request to the buffer of one of the connections.
    pub(crate) fn send(&mut self, request: &Outbound<'_>, now: Instant) -> Sent {
        let key = request.key;
        let chosen = self.choose(key);
        // What has a number and was never sent may go anywhere: almost every request.
        let is_fresh = self.call(key).is_fresh();
        if !is_fresh && (!self.has_name(key, chosen, now) || !self.may_go(key, chosen, now)) {
            self.rouse(chosen);
            return Sent::Wait;
        }
        if self.call(key).nature.is_reservation {
            return Sent::Named;
        }
        if !self.has_room(chosen, key) {
            return Sent::Wait;
        }
        let id = self.call(key).name.id();
        let (start, end) = match self.append(chosen, id, request) {
            Ok(offsets) => offsets,
            Err(error) => return Sent::TooLarge(error),
        };
        let link = &mut self.links[chosen];
        let attempt = Attempt {
            id: id.unwrap_or_default(),
            number: request.number,
            is_hedge: request.is_hedge,
            started: now,
            ended: None,
            link: chosen,
            epoch: link.epoch,
            start,
            end,
            fate: Fate::Live,
        };
        self.woken.extend(link.driver.take());
        let pending = self.calls.get_mut(key).expect("the call is pending");
        if pending.nature.is_notification {
            link.notifications.push_back((end, key));
        }
        // The place that was kept for the call, if any, is the attempt's from now on.
        if pending.place.take().is_none() {
            link.in_flight += 1;
        }
        pending.is_blocked = false;
        pending.attempts.push(attempt);
        self.rouse(chosen);
        Sent::Queued
    }

    /// There is work on the link.
    #[inline]
    fn rouse(&mut self, link: usize) {
        if !std::mem::replace(&mut self.links[link].has_driver, true) {
            self.driverless = Some(link);
        }
    }

    /// Whether there is room for the call's request. Otherwise it is woken when there is.
    fn has_room(&mut self, link: usize, key: Key) -> bool {
        let max = self.max_in_flight();
        let pending = self.calls.get_mut(key).expect("the call is pending");
        let link = &mut self.links[link];
        // A retry of an attempt that was never answered needs no place: if lost requests could
        // fill the window, their retries would wait for each other.
        let has_place = link.in_flight < max || pending.place.is_some() || pending.is_reachable();
        if has_place && link.unsent() < self.max_buffered_bytes {
            return true;
        }
        if !std::mem::replace(&mut pending.is_blocked, true) {
            link.blocked.push_back(key);
        }
        false
    }

    /// One place less is taken on the link: it goes to whoever has waited longest.
    fn release(&mut self, link: usize) {
        self.links[link].in_flight -= 1;
        self.unblock(link);
    }

    /// The call waits to be sent no longer.
    pub(crate) fn give_way(&mut self, key: Key) {
        let pending = self.call(key);
        (pending.is_blocked, pending.is_queued) = (false, false);
        pending.waiting = None;
        if let Some(link) = pending.place.take() {
            self.release(link);
        }
    }

    /// Writes a request's frame to the buffer of a link.
    fn append(
        &mut self,
        number: usize,
        id: Option<Uuid>,
        request: &Outbound<'_>,
    ) -> Result<(u64, u64), FrameError> {
        let (dialect, max) = (self.dialect, self.max_frame_bytes(number));
        let pending = self.calls.get(request.key).expect("the call is pending");
        let (method, params) = (request.method, request.params);
        let link = &mut self.links[number];
        // A server that was asked and has no sessions is not bothered with the member either.
        let is_strange = link.is_plain && self.sessions.are_wanted;
        let meta = match self.extensions && !pending.nature.is_notification && !is_strange {
            true => RequestMeta {
                ack: self.sessions.piggyback(pending.name, link),
                ..request.meta()
            },
            false => RequestMeta::default(),
        };
        let offsets = link.append(|out| {
            write_frame(out, max, |out| match id {
                Some(id) => write_call(out, dialect, id, method, params, &meta),
                None => write_request(out, dialect, None, method, params, &meta),
            })
        })?;
        self.sessions.appends += 1;
        if meta.ack.is_some() {
            self.sessions.acknowledged(pending.name, link);
        }
        Ok(offsets)
    }

    /// How much of the latest attempt's frame has been written.
    pub(crate) fn touch(&mut self, key: Key) -> Touch {
        let latest = self.calls.get(key).and_then(|call| call.attempts.last());
        latest.map_or(Touch::Untouched, |latest| match latest.fate {
            Fate::Live => self.links[latest.link].touch(latest.start, latest.end),
            Fate::Lost => Touch::Wholly,
            Fate::Closed => Touch::Partly,
        })
    }

    /// The attempts have been waited for long enough. Their replies still count.
    pub(crate) fn time_out(&mut self, key: Key, now: Instant) {
        for attempt in self.call(key).attempts.iter_mut().rev() {
            if attempt.ended.is_none() {
                attempt.finish(now, AttemptEnd::Timeout);
            }
        }
    }

    /// Takes back the latest attempt if it has not begun to leave, and says whether it had not.
    pub(crate) fn withdraw(&mut self, key: Key) -> bool {
        let pending = self.calls.get_mut(key).expect("the call is pending");
        let Some(latest) = pending.attempts.last() else {
            return false;
        };
        let link = &mut self.links[latest.link];
        if latest.fate != Fate::Live || !link.can_withdraw(latest.start) {
            return false;
        }
        link.withdraw(latest.start, latest.end);
        link.notifications.retain(|(_, waiting)| *waiting != key);
        let number = latest.link;
        let name = pending.name;
        pending.attempts.pop();
        self.sessions.withdrawn(name, &mut self.links[number]);
        self.release(number);
        true
    }

    /// The call is over, or nobody waits for it any more. To be preceded by [`withdraw`].
    ///
    /// [`withdraw`]: Self::withdraw
    pub(crate) fn close(&mut self, key: Key, end: End) -> Option<Closed> {
        let mut closed = Closed::unbegun(Name::None);
        self.close_into(key, end, &mut closed).then_some(closed)
    }

    /// The same, with what is left put into its place. False if the call was not pending.
    pub(crate) fn close_into(&mut self, key: Key, end: End, closed: &mut Closed) -> bool {
        let Some(pending) = self.calls.remove(key) else {
            return false;
        };
        let (name, place) = (pending.name, pending.place);
        pending.take_into(closed);
        for attempt in closed.attempts.iter() {
            if attempt.fate == Fate::Live {
                self.release(attempt.link);
            }
        }
        if let Some(link) = place {
            self.release(link);
        }
        match name {
            Name::None => {}
            Name::Id(id) => drop(self.by_id.remove(&id)),
            Name::Number(call) => self.end_number(call, end),
        }
        true
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.calls.len()
    }

    /// How many attempts may be unanswered at once on a connection.
    fn max_in_flight(&self) -> usize {
        let announced = self
            .sessions
            .current
            .as_ref()
            .map(|session| session.window());
        announced.map_or(self.max_in_flight, |announced| {
            announced.min(self.max_in_flight)
        })
    }

    /// The largest frame that may be sent on a connection of the link.
    fn max_frame_bytes(&self, link: usize) -> usize {
        match &self.sessions.current {
            Some(session) if !self.links[link].is_plain => {
                session.max_frame_bytes.min(self.max_frame_bytes)
            }
            _ => self.max_frame_bytes,
        }
    }

    /// The link that keeps a place for the call; otherwise the one whose turn it is: one that works
    /// rather than one that doesn't, one with a place to spare, and another than the call's last.
    fn choose(&mut self, key: Key) -> usize {
        let count = self.links.len();
        if count == 1 {
            return 0;
        }
        let max = self.max_in_flight();
        let pending = self.calls.get(key).expect("the call is pending");
        if let Some(link) = pending.place {
            return link;
        }
        let needs_session = pending.name.is_of_a_session();
        let avoid = pending.attempts.last().map(|attempt| attempt.link);
        // Calls that are ready together leave in one write: a link keeps its turn until its driver
        // takes what was appended, or it has its share of the calls.
        let turn = self.turn;
        let share = (self.calls.len() / count).clamp(1, MAX_GATHERED);
        if !self.links[turn].gathers(share) {
            self.turn = (turn + 1) % count;
        }
        let turn = self.turn;
        let rank = |number: usize| {
            let link = &self.links[number];
            let is_strange = needs_session && link.is_plain;
            let is_taken = link.in_flight >= max;
            (
                is_strange,
                link.failures > 0,
                is_taken,
                Some(number) == avoid,
            )
        };
        if rank(turn) == (false, false, false, false) {
            return turn;
        }
        let chosen = (0..count)
            .map(|step| (turn + step) % count)
            .min_by_key(|number| rank(*number))
            .expect("a pool has at least one link");
        self.turn = chosen;
        chosen
    }
}

impl Outbound<'_> {
    fn meta(&self) -> RequestMeta<'_> {
        RequestMeta {
            attempt: self.number,
            timeout_ms: Some(self.timeout_ms),
            traceparent: self.traceparent.map(Into::into),
            ..RequestMeta::default()
        }
    }
}

/// Puts a waker in its place and gives the one that was there, if it was another. That one must
/// not be dropped under the lock: with it a task may go that wants the lock to end its call.
fn replace(place: &mut Option<Waker>, waker: &Waker) -> Option<Waker> {
    match place {
        Some(old) if old.will_wake(waker) => None,
        _ => place.replace(waker.clone()),
    }
}

/// Hashes ids that are random already, or were counted. No seed, so that a simulation's map has
/// one order.
#[derive(Debug, Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            // Both halves of the product, so that every bit of the id reaches every bit of the
            // hash: ids that are counted differ in their last bytes alone.
            let mixed = u128::from(self.0 ^ u64::from_le_bytes(word)) * 0x9E37_79B9_7F4A_7C15;
            self.0 = (mixed as u64) ^ (mixed >> 64) as u64;
        }
    }

    fn write_usize(&mut self, _length: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}
