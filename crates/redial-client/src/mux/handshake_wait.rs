//! Calls that wait to know whether the server at the other end of a link has sessions.

use std::time::Instant;

use super::{Mux, pending_call::Answer, slab::Key, waiting::push_waiting};

impl Mux {
    /// Wakes the calls that waited for the link's handshake.
    pub(super) fn wake_waiting(&mut self, link: usize) {
        for key in std::mem::take(&mut self.links[link].waiting) {
            if let Some(call) = self.calls.get_mut(key)
                && call.handshake_wait.take_if(|(_, on)| *on == link).is_some()
            {
                self.wakers.extend(call.waker.take());
            }
        }
    }

    /// Wakes the queries that wait for some link's handshake: they may go without a session.
    pub(super) fn wake_waiting_queries(&mut self) {
        let Self {
            links,
            calls,
            wakers,
            ..
        } = self;
        for key in links.iter().flat_map(|link| &link.waiting) {
            if let Some(call) = calls.get_mut(*key)
                && call.flags.needs_no_record()
            {
                wakers.extend(call.waker.take());
            }
        }
    }

    /// The call waits to know whether the link's server has sessions.
    pub(super) fn wait_for_handshake(&mut self, link: usize, key: Key, now: Instant) {
        let Self { links, calls, .. } = self;
        let waiting = &mut links[link].waiting;
        while let Some(first) = waiting.front()
            && calls
                .get(*first)
                .is_none_or(|call| !call.awaits_handshake_of(link))
        {
            waiting.pop_front();
        }
        let call = calls.get_mut(key).expect("the call is pending");
        if !call.awaits_handshake_of(link) {
            let since = call.handshake_wait.map_or(now, |(since, _)| since);
            call.handshake_wait = Some((since, link));
            push_waiting(waiting, key, calls, |call| call.awaits_handshake_of(link));
        }
    }

    /// Whether some call waits for the link's handshake.
    pub(super) fn awaits_handshake(&self, link: usize) -> bool {
        let mut waiting = self.links[link].waiting.iter();
        waiting.any(|key| {
            let call = self.calls.get(*key);
            call.is_some_and(|call| call.awaits_handshake_of(link))
        })
    }

    /// Whether the call may be sent on the link, as far as its server is known. A call of a session
    /// that may have been executed is kept from servers without sessions, which would execute it
    /// again, and every one where some server has said that it has none.
    pub(super) fn may_send_on(&mut self, key: Key, link: usize, now: Instant) -> bool {
        if self.links[link].auth.is_awaited {
            self.wait_for_handshake(link, key, now);
            return false;
        }
        let (is_barred, are_wanted) = (self.links[link].is_barred(), self.sessions.are_wanted);
        let call = self.call(key);
        let is_of_a_session = call.id.is_of_a_session() && are_wanted;
        if !is_of_a_session || !is_barred && !call.must_not_repeat() {
            return true;
        }
        if self.links[link].attached.is_some() {
            return true;
        }
        if self.links[link].is_plain {
            let call = self.call(key);
            call.answer.get_or_insert(Answer::SessionLost);
            let waker = call.waker.take();
            self.wakers.extend(waker);
            return false;
        }
        self.wait_for_handshake(link, key, now);
        false
    }
}
