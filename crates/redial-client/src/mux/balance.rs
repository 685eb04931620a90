//! Which endpoint a call goes to, where there are several: one that takes calls now, by power of two
//! choices, and of the right table.
//!
//! A call that may have reached one table goes to no endpoint of another, nor to one whose table is not
//! known yet: if there is no endpoint of its table, it waits, and ends as *unknown* at its deadline.
//! A call that surely reached nothing may go anywhere, under a new number.

use std::time::Instant;

use rand::Rng;
use redial_protocol::SessionCall;

use super::{
    Mux,
    attempt::AttemptState,
    link::Link,
    pending_call::{CallId, Home, PendingCall},
    sessions::Disposition,
    slab::Key,
    waiting::push_waiting,
};
use crate::policy::balance::power_of_two;

/// In place of a link: the discovery of endpoints has no task, or a call waits for it.
pub(crate) const DISCOVERY: usize = usize::MAX;

/// How good it would be to send a call to an endpoint, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// A connection takes the call at once.
    Ready,
    /// As many are in flight as may be, or there is no number for the call.
    Full,
    /// A connection stands, whose server has not said what it is.
    Greeting,
    Connecting,
    /// The transport takes nothing.
    Stuck,
    Silent,
    Ejected,
    Draining,
}

/// Where a call belongs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tie {
    /// The table that its number or its attempts are of, or that it waits for a number of.
    pub(super) home: Option<usize>,
    /// It may go to no other.
    pub(super) is_fast: bool,
    /// It is sent under numbers, where there are sessions.
    takes_numbers: bool,
    /// The table that it has a number of.
    numbered_at: Option<usize>,
}

impl Link {
    /// Whether the server at the other end is known, and takes calls.
    pub(super) fn is_ready(&self) -> bool {
        let is_known = self.is_plain || self.attached.is_some();
        self.works() && is_known && !self.auth.is_awaited
    }
}

impl Mux {
    pub(super) fn rank(&self, endpoint: usize, now: Instant) -> Option<Rank> {
        let state = &self.endpoints[endpoint];
        if state.is_removed {
            return None;
        }
        let max = self.max_in_flight(state.home);
        let streak = self.failure_streak(endpoint);
        let is_ejected = streak > 0 && state.accrual.is_ejected(streak, now);
        let rank = |link: &Link| match link {
            _ if link.is_leaving => Rank::Draining,
            _ if is_ejected => Rank::Ejected,
            _ if link.is_suspect => Rank::Silent,
            _ if !link.is_connected => Rank::Connecting,
            _ if link.is_stuck => Rank::Stuck,
            _ if !link.is_ready() => Rank::Greeting,
            _ if link.in_flight >= max => Rank::Full,
            _ => Rank::Ready,
        };
        self.links[self.links_of(endpoint)].iter().map(rank).min()
    }

    pub(super) fn tie(&self, call: &PendingCall) -> Tie {
        let numbered_at = match call.id {
            CallId::Session(id) => self.sessions.get(id.session).map(|session| session.home),
            CallId::Unassigned | CallId::Plain(_) => None,
        };
        let flags = call.flags;
        let home = numbered_at.or(call.home.get()).or(call.queued_at.get());
        // To execute a query twice does no harm, but its attempts are not given up while they run.
        let is_open = if flags.is_query {
            call.has_running_attempt()
        } else {
            call.may_be_answered()
        };
        Tie {
            home,
            is_fast: flags.is_homed || flags.is_bound || is_open || call.must_not_repeat(),
            takes_numbers: !flags.is_notification && !matches!(call.id, CallId::Plain(_)),
            numbered_at,
        }
    }

    /// Whether the call would wait for a number at servers of this table.
    fn lacks_number(&self, tie: Tie, home: usize) -> bool {
        let is_numbered = !tie.takes_numbers || tie.numbered_at == Some(home);
        let current = self.sessions.current(home);
        !is_numbered && current.is_some_and(|session| !session.has_room())
    }

    /// The link that a call goes to. `None` if there is no endpoint for it: it is woken when one
    /// comes.
    #[inline(never)]
    pub(super) fn choose_balanced(&mut self, key: Key, now: Instant) -> Option<usize> {
        self.request_discovery();
        let tie = self.tie(self.calls.get(key).expect("the call is pending"));
        let permit = self.call(key).permit.take();
        if let Some(link) = permit.filter(|link| self.is_of_use(*link, tie)) {
            self.call(key).permit = permit;
            return Some(link);
        }
        let chosen = self.choose_anew(key, tie, now);
        if let Some(reserved) = permit {
            if self.is_no_better(chosen, reserved) {
                self.call(key).permit = permit;
                return permit;
            }
            self.release_permit(reserved);
        }
        chosen
    }

    /// The task that looks after the endpoints, and starts the drivers of all, is to run.
    #[inline]
    pub(super) fn request_discovery(&mut self) {
        if !self.has_discovery {
            self.driverless = Some(DISCOVERY);
        }
    }

    /// Whether a call can use the permit that is reserved for it on a link: one that waited for room there may
    /// belong to another table by now.
    fn is_of_use(&self, link: usize, tie: Tie) -> bool {
        let link = &self.links[link];
        link.is_ready() && tie.home.is_none_or(|home| home == link.home)
    }

    /// Whether the call had better use the permit that is reserved for it on a link that is not ready. The next
    /// one in line there would give it up, too, and so on, round and round.
    fn is_no_better(&self, chosen: Option<usize>, reserved: usize) -> bool {
        let endpoint = self.endpoint_of(reserved);
        chosen.is_some_and(|link| {
            let is_alike = self.endpoint_of(link) == endpoint && !self.is_spare(link);
            let is_ready = self.links[link].is_ready();
            link == reserved || is_alike && !is_ready && !self.links[reserved].is_leaving
        })
    }

    fn choose_anew(&mut self, key: Key, tie: Tie, now: Instant) -> Option<usize> {
        let random = self.balance.next_u64();
        let call = self.calls.get(key).expect("the call is pending");
        let last = call.attempts.last().map(|last| self.endpoint_of(last.link));
        let rank = |at: usize| {
            let is_elsewhere = tie.home.is_some_and(|home| home != self.endpoints[at].home);
            if tie.is_fast && is_elsewhere {
                return None;
            }
            let mut rank = self.rank(at, now)?;
            if rank == Rank::Ready && self.lacks_number(tie, self.endpoints[at].home) {
                rank = Rank::Full;
            }
            Some((rank, is_elsewhere, last == Some(at)))
        };
        let load = |at: usize| {
            let links = self.links[self.links_of(at)].iter();
            let in_flight: usize = links.map(|link| link.in_flight).sum();
            // With the call itself, or an idle endpoint would never be slow.
            (in_flight + 1) as f64 * self.endpoints[at].pace.times(&self.pace, now)
        };
        let chosen = power_of_two(self.endpoints.len(), rank, load, random);
        let Some(endpoint) = chosen else {
            self.wait_for_endpoint(key, now);
            return None;
        };
        let home = self.endpoints[endpoint].home;
        if tie.home.is_some_and(|old| old != home) {
            self.leave_home(key);
        }
        let call = self.call(key);
        if call.queued_at != Home::of(home) {
            call.queued_at = Home::NONE;
        }
        Some(self.choose_link(endpoint, key, now))
    }

    /// The call goes on at another table, at which nothing is known of it.
    fn leave_home(&mut self, key: Key) {
        let call = self.call(key);
        let mut live = Vec::new();
        for attempt in call.attempts.iter_mut() {
            if attempt.state == AttemptState::Live {
                live.push(attempt.link);
                attempt.state = AttemptState::Orphaned;
            }
        }
        call.home = Home::NONE;
        let id = call.id;
        if let CallId::Session(id) = id {
            call.id = CallId::Unassigned;
            self.end_number(id, Disposition::Acknowledge);
        }
        live.into_iter().for_each(|link| self.release_permit(link));
    }

    /// There is no endpoint to which the call may go.
    fn wait_for_endpoint(&mut self, key: Key, now: Instant) {
        let Self {
            homeless, calls, ..
        } = self;
        // There may be no endpoint for long, and calls end meanwhile.
        while let Some(first) = homeless.front()
            && !calls
                .get(*first)
                .is_some_and(|call| call.awaits_handshake_of(DISCOVERY))
        {
            homeless.pop_front();
        }
        let call = calls.get_mut(key).expect("the call is pending");
        if !call.awaits_handshake_of(DISCOVERY) {
            let since = call.handshake_wait.map_or(now, |(since, _)| since);
            call.handshake_wait = Some((since, DISCOVERY));
            push_waiting(homeless, key, calls, |call| {
                call.awaits_handshake_of(DISCOVERY)
            });
        }
    }

    /// Some endpoint is new, or of another table than before.
    pub(super) fn wake_homeless(&mut self) {
        for key in std::mem::take(&mut self.homeless) {
            if let Some(call) = self.calls.get_mut(key)
                && call
                    .handshake_wait
                    .take_if(|(_, on)| *on == DISCOVERY)
                    .is_some()
            {
                self.wakers.extend(call.waker.take());
            }
        }
    }

    /// An endpoint takes calls from now on: those that wait for another choose anew.
    pub(super) fn wake_all_waiting(&mut self) {
        if self.is_balanced {
            (0..self.links.len()).for_each(|link| self.wake_waiting(link));
            self.wake_homeless();
        }
    }

    /// The endpoint has lost its last connection that takes calls: those that wait for a number of its
    /// table choose anew, unless another endpoint has it.
    pub(super) fn abandon_number_queue(&mut self, home: usize) {
        let mut links = self.links.iter();
        if self.is_balanced && !links.any(|link| link.home == home && link.is_ready()) {
            self.clear_number_queue(home);
        }
    }

    /// Has a call that came with a token, or is about one, go to the table where it is known.
    pub(crate) fn place(&mut self, key: Key, about: uuid::Uuid, table: Option<&str>) {
        if !self.is_balanced {
            return;
        }
        let session = SessionCall::from_uuid(about);
        let own = session.and_then(|call| self.sessions.get(call.session));
        let home = match (own, table) {
            (Some(session), _) => Some(session.home),
            (None, Some(name)) => Some(self.table_named(name)),
            // Any server with sessions says that it doesn't know this one.
            (None, None) if session.is_some() => None,
            (None, None) => Some(self.only_table()),
        };
        let call = self.call(key);
        call.home = home.map_or(Home::NONE, Home::of);
        call.flags.is_homed = home.is_some();
    }

    /// The table of all endpoints, if they have one; otherwise one that none of them has.
    fn only_table(&mut self) -> usize {
        let mut homes = self.endpoints().map(|at| self.endpoints[at].home);
        match homes.next() {
            Some(first) if homes.all(|home| home == first) => first,
            _ => self.fresh_table(),
        }
    }
}

#[cfg(test)]
mod tests;
