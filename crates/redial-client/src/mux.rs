//! The pending calls and the bytes on their way out. No tokio, no clock, no socket: time comes
//! in as an argument, and who is to be woken goes out as a list.
//!
//! A call is pending from its first poll to its end, over all its attempts and connections: the
//! reply to any attempt finds it.

mod events;
mod link;
mod pending;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    task::Waker,
    time::Instant,
};

use redial_protocol::{
    Dialect, ErrorObject, FrameError, ReplyMeta, RequestMeta, write_frame, write_request,
};
use serde_json::value::RawValue;
use uuid::Uuid;

use self::{link::Link, pending::Fate};
pub(crate) use self::{
    link::{Outgoing, Touch},
    pending::{Answer, Attempt, Pending, Signal},
};
use crate::report::AttemptEnd;

/// The id of keepalive pings. No UUID, so no call's and no key in a table.
pub(crate) const PING_ID: &str = "\"redial-ping\"";

/// The pending calls of a client and its connections' buffers.
#[derive(Debug)]
pub(crate) struct Mux {
    calls: HashMap<Uuid, Pending, BuildHasherDefault<IdHasher>>,
    links: Vec<Link>,
    /// Where the search for a link begins next.
    turn: usize,
    dialect: Dialect,
    extensions: bool,
    max_frame_bytes: usize,
    max_buffered_bytes: u64,
    max_in_flight: usize,
    /// Whom to wake once the lock is released.
    pub(crate) woken: Vec<Waker>,
    pub(crate) connects: u64,
    pub(crate) unasked_replies: u64,
}

/// What a frame from the server turned out to be.
#[derive(Debug)]
pub(crate) enum Decoded {
    /// A reply to a call.
    Reply {
        id: Uuid,
        outcome: Result<Box<RawValue>, ErrorObject>,
        meta: ReplyMeta,
    },
    /// A reply to a call that is no outcome.
    Malformed { id: Uuid, detail: String },
    /// The reply to a ping.
    Pong,
    /// An error about no call in particular.
    Complaint(ErrorObject),
    /// A reply with an id that this client doesn't make.
    Foreign,
}

/// One request to be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outbound<'a> {
    pub(crate) id: Uuid,
    pub(crate) method: &'a str,
    pub(crate) params: Option<&'a RawValue>,
    pub(crate) number: u32,
    pub(crate) timeout_ms: u64,
    pub(crate) traceparent: Option<&'a str>,
}

/// What became of a request to be sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// It is on its way. Where a link is named, it has no driver yet: start one.
    Queued { needs_driver: Option<usize> },
    /// There is no room. The call is woken when there is.
    Full,
    /// It is larger than any frame may be.
    TooLarge(FrameError),
}

impl Mux {
    pub(crate) fn new(config: &crate::Config) -> Self {
        Self {
            calls: HashMap::default(),
            links: (0..config.connections).map(|_| Link::default()).collect(),
            turn: 0,
            dialect: config.dialect,
            extensions: config.extensions,
            max_frame_bytes: config.max_frame_bytes,
            max_buffered_bytes: config.max_buffered_bytes as u64,
            max_in_flight: config.max_in_flight,
            woken: Vec::new(),
            connects: 0,
            unasked_replies: 0,
        }
    }

    /// A call begins. False if another call of this id is not over.
    pub(crate) fn open(&mut self, id: Uuid, is_notification: bool) -> bool {
        let is_free = !self.calls.contains_key(&id);
        if is_free {
            self.calls.insert(id, Pending::new(is_notification));
        }
        is_free
    }

    pub(crate) fn call(&mut self, id: Uuid) -> &mut Pending {
        self.calls
            .get_mut(&id)
            .expect("a call is pending from its first poll to its end")
    }

    /// Whom to wake when something happens to the call.
    pub(crate) fn listen(&mut self, id: Uuid, waker: &Waker) {
        let call = self.calls.get_mut(&id).expect("the call is pending");
        self.woken.extend(replace(&mut call.waker, waker));
    }

    /// Appends a request to the buffer of one of the connections.
    pub(crate) fn send(&mut self, request: &Outbound<'_>, now: Instant) -> Sent {
        let chosen = self.choose(request.id);
        let is_notification = match self.has_room(chosen, request.id) {
            Some(pending) => pending.is_notification,
            None => return Sent::Full,
        };
        let meta = match self.extensions && !is_notification {
            true => request.meta(),
            false => RequestMeta::default(),
        };
        let (start, end) = match self.append(chosen, request, !is_notification, &meta) {
            Ok(offsets) => offsets,
            Err(error) => return Sent::TooLarge(error),
        };
        let link = &mut self.links[chosen];
        if is_notification {
            link.notifications.push_back((end, request.id));
        }
        let attempt = Attempt {
            number: request.number,
            started: now,
            ended: None,
            link: chosen,
            epoch: link.epoch,
            start,
            end,
            carried_member: !meta.is_empty(),
            fate: Fate::Live,
        };
        self.woken.extend(link.driver.take());
        let had_driver = std::mem::replace(&mut link.has_driver, true);
        let pending = self.call(request.id);
        pending.is_blocked = false;
        // The place that was kept for the call, if any, is the attempt's from now on.
        if pending.place.take().is_none() {
            self.links[chosen].in_flight += 1;
        }
        self.call(request.id).attempts.push(attempt);
        Sent::Queued {
            needs_driver: (!had_driver).then_some(chosen),
        }
    }

    /// The call, if there is room for its request. Otherwise it is woken when there is.
    fn has_room(&mut self, link: usize, id: Uuid) -> Option<&mut Pending> {
        let pending = self.calls.get_mut(&id).expect("the call is pending");
        // A retry of an attempt that was never answered needs no place: if lost requests could
        // fill the window, their retries would wait for each other.
        let has_place = pending.place.is_some()
            || pending.is_reachable()
            || self.links[link].in_flight < self.max_in_flight;
        let link = &mut self.links[link];
        if has_place && link.unsent() < self.max_buffered_bytes {
            return Some(pending);
        }
        if !std::mem::replace(&mut pending.is_blocked, true) {
            link.blocked.push_back(id);
        }
        None
    }

    /// One place less is taken on the link: it goes to whoever has waited longest.
    fn release(&mut self, link: usize) {
        self.links[link].in_flight -= 1;
        self.unblock(link);
    }

    /// The call waits for room no longer.
    pub(crate) fn give_way(&mut self, id: Uuid) {
        let pending = self.call(id);
        pending.is_blocked = false;
        if let Some(link) = pending.place.take() {
            self.release(link);
        }
    }

    /// Writes a request's frame to the buffer of a link.
    fn append(
        &mut self,
        link: usize,
        request: &Outbound<'_>,
        with_id: bool,
        meta: &RequestMeta<'_>,
    ) -> Result<(u64, u64), FrameError> {
        let (dialect, max) = (self.dialect, self.max_frame_bytes);
        let mut quotes = [b'"'; 38];
        let id = id_json(&request.id, &mut quotes);
        self.links[link].append(|out| {
            write_frame(out, max, |out| {
                let id = with_id.then_some(id);
                write_request(out, dialect, id, request.method, request.params, meta);
            })
        })
    }

    /// How much of the latest attempt's frame has been written.
    pub(crate) fn touch(&mut self, id: Uuid) -> Touch {
        let latest = self.calls.get(&id).and_then(|call| call.attempts.last());
        latest.map_or(Touch::Untouched, |latest| match latest.fate {
            Fate::Live => self.links[latest.link].touch(latest.start, latest.end),
            Fate::Lost => Touch::Wholly,
            Fate::Closed => Touch::Partly,
        })
    }

    /// The latest attempt has been waited for long enough. Its reply still counts.
    pub(crate) fn time_out(&mut self, id: Uuid, now: Instant) {
        if let Some(latest) = self.call(id).attempts.last_mut()
            && latest.ended.is_none()
        {
            latest.finish(now, AttemptEnd::Timeout);
        }
    }

    /// Takes back the latest attempt if it has not begun to leave, and says whether it had not.
    pub(crate) fn withdraw(&mut self, id: Uuid) -> bool {
        let pending = self.calls.get_mut(&id).expect("the call is pending");
        let Some(latest) = pending.attempts.last() else {
            return false;
        };
        let link = &mut self.links[latest.link];
        if latest.fate != Fate::Live || !link.can_withdraw(latest.start) {
            return false;
        }
        link.withdraw(latest.start, latest.end);
        link.notifications.retain(|(_, waiting)| *waiting != id);
        let number = latest.link;
        pending.attempts.pop();
        self.release(number);
        true
    }

    /// The call is over, or nobody waits for it any more. To be preceded by [`withdraw`].
    ///
    /// [`withdraw`]: Self::withdraw
    pub(crate) fn close(&mut self, id: Uuid) -> Option<Pending> {
        let pending = self.calls.remove(&id)?;
        for attempt in pending.attempts.iter() {
            if attempt.fate == Fate::Live {
                self.release(attempt.link);
            }
        }
        if let Some(link) = pending.place {
            self.release(link);
        }
        Some(pending)
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.calls.len()
    }

    /// The link that keeps a place for the call; otherwise the next in turn: one that works rather
    /// than one that doesn't, one with a place to spare, and another than the call's last.
    fn choose(&mut self, id: Uuid) -> usize {
        let count = self.links.len();
        if count == 1 {
            return 0;
        }
        let pending = self.call(id);
        if let Some(link) = pending.place {
            return link;
        }
        let avoid = pending.attempts.last().map(|attempt| attempt.link);
        let turn = self.turn;
        self.turn = (turn + 1) % count;
        (0..count)
            .map(|step| (turn + step) % count)
            .min_by_key(|number| {
                let link = &self.links[*number];
                let is_taken = link.in_flight >= self.max_in_flight;
                (link.failures > 0, is_taken, Some(*number) == avoid)
            })
            .expect("a pool has at least one link")
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

/// The id as JSON, in a buffer that is full of quotes.
fn id_json<'a>(id: &Uuid, quotes: &'a mut [u8; 38]) -> &'a str {
    id.hyphenated().encode_lower(&mut quotes[1..37]);
    std::str::from_utf8(quotes).expect("hex digits, hyphens and quotes are ASCII")
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
