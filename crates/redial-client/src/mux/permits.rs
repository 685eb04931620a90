//! Room for requests: each attempt that may still be answered has a permit of its connection, and
//! what is not yet written fits into its buffer. At the limit calls wait in order.

use super::{Mux, pending_call::Home, slab::Key, waiting::push_waiting};

impl Mux {
    /// Whether there is room for the call's request. Otherwise it is woken when there is.
    pub(super) fn has_room(&mut self, link: usize, key: Key) -> bool {
        let max = self.max_in_flight(self.links[link].home);
        let call = self.calls.get_mut(key).expect("the call is pending");
        let link = &mut self.links[link];
        // A retry of an attempt that was never answered needs no permit: if lost requests could
        // fill the window, their retries would wait for each other.
        let has_permit = link.in_flight < max || call.permit.is_some() || call.may_be_answered();
        if has_permit && !link.is_leaving && link.unsent() < self.max_buffered_bytes {
            return true;
        }
        if !std::mem::replace(&mut call.is_blocked, true) {
            push_waiting(&mut link.blocked, key, &self.calls, |call| call.is_blocked);
        }
        false
    }

    /// The call can't be sent yet. If it waits for a number, the room that is reserved for it goes to others:
    /// those that have the numbers may wait for that.
    pub(super) fn leave_room(&mut self, key: Key) {
        let call = self.call(key);
        let permit = call.permit.take_if(|_| call.queued_at != Home::NONE);
        if let Some(link) = permit {
            self.release_permit(link);
        }
    }

    /// The call waits to be sent no longer.
    pub(crate) fn stop_waiting(&mut self, key: Key) {
        let call = self.call(key);
        (call.is_blocked, call.queued_at) = (false, Home::NONE);
        call.handshake_wait = None;
        if let Some(link) = call.permit.take() {
            self.release_permit(link);
        }
    }

    /// A permit of the link is free: it goes to the call that has waited longest.
    pub(super) fn release_permit(&mut self, link: usize) {
        self.links[link].in_flight -= 1;
        self.admit_blocked(link);
    }

    /// Gives what room there is to the calls that have waited longest, and wakes them.
    #[inline]
    pub(super) fn admit_blocked(&mut self, number: usize) {
        if !self.links[number].blocked.is_empty() {
            self.admit_blocked_calls(number);
        }
    }

    fn admit_blocked_calls(&mut self, number: usize) {
        let max = self.max_in_flight(self.links[number].home);
        let link = &mut self.links[number];
        if link.is_leaving || link.unsent() >= self.max_buffered_bytes {
            return;
        }
        while let Some(key) = link.blocked.front() {
            // One that has ended, or was sent by another way, needs no room.
            if let Some(call) = self.calls.get_mut(*key)
                && call.is_blocked
            {
                if call.permit.is_none() {
                    if link.in_flight >= max {
                        return;
                    }
                    link.in_flight += 1;
                    call.permit = Some(number);
                }
                call.is_blocked = false;
                self.wakers.extend(call.waker.take());
            }
            link.blocked.pop_front();
        }
    }
}

#[cfg(test)]
mod tests;
