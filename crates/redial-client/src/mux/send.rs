//! One attempt of a call: which connection it goes to, when there is room for it, and how it is
//! withdrawn.

use std::time::Instant;

use redial_protocol::{FrameError, Priority, RequestMeta, write_frame, write_request};
use uuid::Uuid;

use super::{
    Mux,
    attempt::{Attempt, AttemptState},
    balance::DISCOVERY,
    link::WriteProgress,
    pending_call::{CallId, Home, RemovedCall},
    sessions::Disposition,
    slab::Key,
};
use crate::{call_options::CallOptions, report::AttemptEnd, small_vec::SmallVec};

/// How many requests in a row go to one connection of a pool at most. One more would save little,
/// and the others would wait for it.
const MAX_GATHERED: usize = 32;

/// One attempt to be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OutboundRequest<'a> {
    pub(crate) key: Key,
    pub(crate) method: &'a str,
    pub(crate) params: Option<&'a [u8]>,
    /// Which attempt of the call, from 1.
    pub(crate) number: u32,
    pub(crate) is_hedge: bool,
    pub(crate) timeout_ms: u64,
    pub(crate) options: Option<&'a CallOptions>,
}

/// What happened to an attempt to be sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SendStatus {
    /// It is in the buffer of a connection.
    Queued,
    /// There is no room, or the server has not said whether it has sessions. The call is woken
    /// when that changes.
    Blocked,
    /// The call only wanted an id, and has one.
    IdReserved,
    /// There is room, and the attempt is to have a span first. The call is polled again at once.
    NeedsSpan,
    /// It is larger than any frame may be.
    TooLarge(FrameError),
}

impl Mux {
    /// Appends a request to the buffer of one of the connections.
    pub(crate) fn send(&mut self, request: &OutboundRequest<'_>, now: Instant) -> SendStatus {
        let key = request.key;
        if !self.sessions.retired.is_empty() && !self.may_send_number(key) {
            return SendStatus::Blocked;
        }
        let chosen = if self.is_balanced {
            match self.choose_balanced(key, now) {
                Some(chosen) => chosen,
                None => return SendStatus::Blocked,
            }
        } else {
            self.choose_link(0, key, now)
        };
        // A numbered call that was never sent may go anywhere: almost every request.
        let is_unsent = self.call(key).is_unsent();
        let may_go = is_unsent && !self.links[chosen].is_barred()
            || self.ensure_call_id(key, chosen, now) && self.may_send_on(key, chosen, now);
        if !may_go {
            self.leave_room(key);
            self.request_driver(chosen);
            return SendStatus::Blocked;
        }
        if self.call(key).flags.is_reservation {
            self.call(key).home = Home::of(self.links[chosen].home);
            return SendStatus::IdReserved;
        }
        if !self.has_room(chosen, key) {
            return SendStatus::Blocked;
        }
        if request.lacks_span() {
            return SendStatus::NeedsSpan;
        }
        let id = self.call(key).id.uuid();
        let (start, end) = match self.append(chosen, id, request) {
            Ok(offsets) => offsets,
            Err(error) => return SendStatus::TooLarge(error),
        };
        if request.number > 1 {
            self.note_retry(request, chosen);
        }
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
            state: AttemptState::Live,
        };
        self.wakers.extend(link.driver.take());
        link.note_deadline(request.timeout_ms);
        link.attempts += 1;
        let call = self.calls.get_mut(key).expect("the call is pending");
        if call.flags.is_notification {
            link.notifications.push_back((end, key));
        }
        // The permit that was reserved for the call, if any, is the attempt's from now on.
        if call.permit.take().is_none() {
            link.in_flight += 1;
        }
        call.home = Home::of(link.home);
        call.is_blocked = false;
        call.handshake_wait = None;
        call.attempts.push(attempt);
        self.request_driver(chosen);
        SendStatus::Queued
    }

    /// An attempt is about to be made that is not its call's first.
    #[cold]
    fn note_retry(&mut self, request: &OutboundRequest<'_>, link: usize) {
        self.charge_retry(request.key, link);
        if !request.is_hedge {
            self.count_retry(request.key, request.number, link);
        }
    }

    /// The link has work: it needs a driver.
    #[inline]
    pub(super) fn request_driver(&mut self, link: usize) {
        // The task that looks after the endpoints starts the drivers of all.
        if !self.links[link].has_driver && self.driverless != Some(DISCOVERY) {
            self.links[link].has_driver = true;
            self.driverless = Some(link);
        }
    }

    /// The link of an endpoint that the call goes to: the spare, if those of the pool have gone silent,
    /// or are to servers that shut down.
    // Two call it, of which one is on the way of every call.
    #[inline(always)]
    pub(super) fn choose_link(&mut self, endpoint: usize, key: Key, now: Instant) -> usize {
        let chosen = self.choose_pooled(endpoint, key);
        let link = &self.links[chosen];
        if !link.is_suspect && link.failures == 0 && !link.is_leaving {
            return chosen;
        }
        self.choose_instead_of(chosen, key, now)
    }

    #[inline(never)]
    fn choose_instead_of(&mut self, chosen: usize, key: Key, now: Instant) -> usize {
        let link = &self.links[chosen];
        if link.is_leaving && self.awaits_leaving_server(key) {
            return chosen;
        }
        let spare = self.spare_instead_of(chosen, key, now);
        spare.unwrap_or(chosen)
    }

    /// The link that has a permit reserved for the call; otherwise one of the endpoint's pool.
    #[inline(always)]
    fn choose_pooled(&mut self, endpoint: usize, key: Key) -> usize {
        let call = self.calls.get(key).expect("the call is pending");
        if let Some(link) = call.permit {
            return link;
        }
        if self.pool == 1 {
            return self.links_of(endpoint).start;
        }
        self.choose_among(endpoint, key)
    }

    /// The link whose turn it is, where
    /// a link that works goes before one that doesn't, or that has brought nothing for an attempt's
    /// timeout, or that takes nothing; one with a permit to spare before one
    /// without, and any other before the one that the call was sent on last.
    #[inline(never)]
    fn choose_among(&mut self, endpoint: usize, key: Key) -> usize {
        let (count, first) = (self.pool, self.links_of(endpoint).start);
        let max = self.max_in_flight(self.endpoints[endpoint].home);
        let call = self.calls.get(key).expect("the call is pending");
        let needs_session = call.id.is_of_a_session();
        let avoid = call.attempts.last().map(|attempt| attempt.link);
        // Calls that are ready together leave in one write: a link keeps its turn until its driver
        // takes what was appended, or it has its share of the calls.
        let share = (self.calls.len() / count).clamp(1, MAX_GATHERED);
        let mut turn = self.endpoints[endpoint].turn;
        if !self.links[first + turn].gathers(share) {
            turn = (turn + 1) % count;
        }
        self.endpoints[endpoint].turn = turn;
        let rank = |number: usize| {
            let link = &self.links[number];
            let lacks_session = needs_session && (link.is_plain || link.is_barred());
            let is_full = link.in_flight >= max || link.is_leaving;
            let is_same = Some(number) == avoid;
            let has_failed = link.failures > 0;
            (
                lacks_session,
                link.is_suspect,
                has_failed,
                link.is_stuck,
                is_full,
                is_same,
            )
        };
        if rank(first + turn) == (false, false, false, false, false, false) {
            return first + turn;
        }
        let chosen = (0..count)
            .map(|step| (turn + step) % count)
            .min_by_key(|number| rank(first + *number))
            .expect("a pool has at least one link");
        self.endpoints[endpoint].turn = chosen;
        first + chosen
    }

    /// Writes a request's frame to the buffer of a link, and gives its offsets there.
    fn append(
        &mut self,
        number: usize,
        id: Option<Uuid>,
        request: &OutboundRequest<'_>,
    ) -> Result<(u64, u64), FrameError> {
        let (dialect, max) = (self.dialect, self.max_frame_bytes(number));
        let call = self.calls.get(request.key).expect("the call is pending");
        let (method, params) = (request.method, request.params);
        let link = &mut self.links[number];
        // A server that said it has no sessions has no use for the member either.
        let is_foreign = link.is_plain && self.sessions.are_wanted;
        let meta = if self.extensions && !call.flags.is_notification && !is_foreign {
            RequestMeta {
                ack: self.sessions.piggyback_ack(call.id, link),
                priority: request.priority().unwrap_or(self.priority),
                ..request.meta()
            }
        } else {
            RequestMeta::default()
        };
        let offsets = link.append(|out| {
            write_frame(out, max, |out| {
                write_request(out, dialect, id.map(Into::into), method, params, &meta);
            })
        })?;
        self.sessions.appends += 1;
        if meta.ack.is_some() {
            self.sessions.record_ack(call.id, link);
        }
        Ok(offsets)
    }

    /// How much of the latest attempt's frame has been written.
    pub(crate) fn write_progress(&mut self, key: Key) -> WriteProgress {
        let latest = self.calls.get(key).and_then(|call| call.attempts.last());
        latest.map_or(WriteProgress::Unwritten, |latest| match latest.state {
            AttemptState::Live => self.links[latest.link].write_progress(latest.start, latest.end),
            AttemptState::Orphaned => WriteProgress::Complete,
            AttemptState::Void => WriteProgress::Partial,
        })
    }

    /// The attempts have been waited for long enough. Their replies still count.
    pub(crate) fn time_out(&mut self, key: Key, now: Instant) {
        let Self { calls, links, .. } = self;
        let call = calls.get_mut(key).expect("the call is pending");
        let mut silent = SmallVec::new();
        for attempt in call.attempts.iter_mut().rev() {
            if attempt.ended.is_some() {
                continue;
            }
            attempt.finish(now, AttemptEnd::Timeout);
            let link = &links[attempt.link];
            let is_silent = link.heard_at.is_none_or(|heard| heard < attempt.started);
            if is_silent && attempt.is_on(attempt.link, link.epoch) {
                silent.push(attempt.link);
            }
        }
        silent.iter().for_each(|link| self.suspect(*link, now));
    }

    /// Whether the latest attempt waits to be written to a connection that takes nothing or is still
    /// to be made, beside one that would take it.
    pub(crate) fn can_move(&self, key: Key) -> bool {
        let latest = self.calls.get(key).and_then(|call| call.attempts.last());
        latest.is_some_and(|latest| {
            let mut links = self.links.iter().enumerate();
            let others = links.any(|(number, link)| number != latest.link && link.works());
            self.links[latest.link].is_stuck && others || self.awaits_spare(latest.link)
        })
    }

    /// Withdraws the latest attempt if nothing of it has been handed to the driver, and says
    /// whether it did.
    pub(crate) fn withdraw(&mut self, key: Key) -> bool {
        let call = self.calls.get_mut(key).expect("the call is pending");
        let Some(latest) = call.attempts.last() else {
            return false;
        };
        let number = latest.link;
        let link = &mut self.links[number];
        if latest.state != AttemptState::Live || !link.can_withdraw(latest.start) {
            return false;
        }
        link.withdraw(latest.start, latest.end);
        link.attempts -= 1;
        link.notifications.retain(|(_, waiting)| *waiting != key);
        let id = call.id;
        call.attempts.pop();
        self.sessions.revoke_ack(id, &mut self.links[number]);
        self.release_permit(number);
        true
    }

    /// The call has ended, or its future was dropped. To be preceded by [`withdraw`].
    ///
    /// [`withdraw`]: Self::withdraw
    pub(crate) fn remove(&mut self, key: Key, disposition: Disposition) -> Option<RemovedCall> {
        let mut removed = RemovedCall::unbegun(CallId::Unassigned);
        self.remove_into(key, disposition, &mut removed)
            .then_some(removed)
    }

    /// The same, with what is left of the call moved into place. False if it was not pending.
    pub(crate) fn remove_into(
        &mut self,
        key: Key,
        disposition: Disposition,
        removed: &mut RemovedCall,
    ) -> bool {
        let Some(call) = self.calls.remove(key) else {
            return false;
        };
        let (id, permit) = (call.id, call.permit);
        call.move_into(removed);
        for attempt in removed.attempts.iter() {
            if attempt.state == AttemptState::Live {
                self.release_permit(attempt.link);
            }
        }
        if let Some(link) = permit {
            self.release_permit(link);
        }
        match id {
            CallId::Unassigned => {}
            CallId::Plain(id) => drop(self.by_id.remove(&id)),
            CallId::Session(call) => self.end_number(call, disposition),
        }
        true
    }
}

impl OutboundRequest<'_> {
    /// Where it is not the client's.
    #[inline]
    fn priority(&self) -> Option<Priority> {
        self.options?.priority
    }

    #[inline]
    fn lacks_span(&self) -> bool {
        let lacks = |options: &CallOptions| options.spans.lacks(self.number, self.is_hedge);
        self.options.is_some_and(lacks)
    }

    fn meta(&self) -> RequestMeta<'_> {
        let mut meta = RequestMeta {
            attempt: self.number,
            timeout_ms: Some(self.timeout_ms),
            ..RequestMeta::default()
        };
        if let Some(options) = self.options {
            let of_call = options.traceparent.as_deref();
            meta.traceparent = options.spans.traceparent().or(of_call).map(Into::into);
            meta.meta = options.meta.as_ref().map(Into::into);
        }
        meta
    }
}
