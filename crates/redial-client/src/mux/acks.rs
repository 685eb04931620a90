//! What the server hears of calls that have ended: which it may forget, and which it need not
//! begin.
//!
//! Requests carry the watermark along. The rest goes out in notifications: at once if it is much,
//! and when nothing else has been written for a while. One driver looks after that, so that no call
//! needs a timer or a wake-up of its own.

use std::{borrow::Cow, time::Instant};

use redial_protocol::{
    SessionCall, SessionId,
    rpc::{self, AckParams, CallParams, GoodbyeParams},
};
use serde::Serialize;
use uuid::Uuid;

use super::{Mux, link::Link, session::Session};

/// How many ranges one frame carries at most.
const RANGES_PER_FRAME: usize = 512;

/// What one range takes at most, and what is around them, in bytes.
const RANGE_BYTES: usize = 44;
const BESIDE_RANGES_BYTES: usize = 160;

impl Mux {
    /// Some numbers of a session were finished or retained.
    pub(super) fn on_numbers_ended(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get(id) else {
            return;
        };
        let (home, is_urgent) = (session.home, session.needs_ack_now());
        let is_idle = self.sessions.ack_link.is_none();
        let needs_ack_link = is_idle && (session.has_unsent_acks() || session.is_crowded());
        if is_urgent {
            self.flush_urgent_acks();
        }
        if needs_ack_link {
            self.elect_ack_link(None);
        }
        if !self.sessions.tables[home].queue.is_empty() {
            self.assign_queued_numbers(home);
        }
    }

    /// Has some driver look after acks; the one that is `awake` need not be woken.
    pub(super) fn elect_ack_link(&mut self, awake: Option<usize>) {
        let takes_more = |link: &usize| !self.links[*link].is_leaving;
        let known = self.sessions.ack_link;
        if known.as_ref().is_some_and(takes_more) {
            return;
        }
        let chosen = awake.filter(takes_more);
        let chosen = chosen.or_else(|| self.best_link(|link| link.is_connected));
        if known.is_some() && chosen == known {
            return;
        }
        self.sessions.ack_link = chosen;
        self.sessions.seen_appends = self.sessions.appends;
        if awake != chosen
            && let Some(link) = chosen
        {
            self.wakers.extend(self.links[link].driver.take());
        }
    }

    /// Sends acks alone if nothing was written since the last look. To be called once in a while
    /// for the link whose [`Housekeeping`](super::poll::Housekeeping) says so.
    pub(crate) fn flush_idle_acks(&mut self, link: usize, now: Instant) {
        let sessions = &mut self.sessions;
        if sessions.ack_link != Some(link) {
            return;
        }
        let is_quiet = sessions.appends == sessions.seen_appends;
        if is_quiet {
            sessions.ack_link = None;
            for home in 0..self.sessions.tables.len() {
                self.flush_idle_acks_of(home, link);
            }
            let is_done = |session: &Session<_>| session.is_unused() && !session.has_unsent_acks();
            let over = self
                .sessions
                .retired
                .extract_if(.., |session| is_done(session));
            let over: Vec<_> = over.filter(Session::is_over).collect();
            self.say_goodbye(over.iter().map(|session| (session.home, session.id)));
        }
        self.sessions.seen_appends = self.sessions.appends;
        for home in 0..self.sessions.tables.len() {
            self.elect_opener(home, now);
        }
    }

    /// The same for one table, on this link if its server has it.
    fn flush_idle_acks_of(&mut self, home: usize, link: usize) {
        let its_own = (self.links[link].home == home).then_some(link);
        if let Some(link) = its_own.or_else(|| self.session_link(home)) {
            self.flush_acks(link);
        }
    }

    /// The client is gone. Gives the links on which the last acks and goodbyes are to be written, if
    /// there are any: without them their servers would keep sessions and records for a whole lease.
    pub(crate) fn begin_close(&mut self) -> Vec<usize> {
        self.is_closing = true;
        let homes = 0..self.sessions.tables.len();
        homes.filter_map(|home| self.begin_close_of(home)).collect()
    }

    fn begin_close_of(&mut self, home: usize) -> Option<usize> {
        let link = self.session_link(home)?;
        if self.owes_acks(home) {
            self.flush_acks(link);
        }
        let sessions = self.sessions.iter().filter(|session| session.home == home);
        let over = sessions.filter(|session| session.is_over());
        for session in over.map(|session| session.id).collect::<Vec<_>>() {
            self.send_notification(link, rpc::GOODBYE, &GoodbyeParams { session });
        }
        self.wakers.extend(self.links[link].driver.take());
        (self.links[link].unsent() > 0).then_some(link)
    }

    /// Tells the server on all connections, which may be attached, that sessions are needed no longer.
    fn say_goodbye(&mut self, sessions: impl Iterator<Item = (usize, SessionId)>) {
        for (home, session) in sessions {
            for number in 0..self.links.len() {
                let link = &self.links[number];
                if link.home == home && link.is_connected && !link.is_plain {
                    self.send_notification(number, rpc::GOODBYE, &GoodbyeParams { session });
                }
            }
        }
    }

    /// A session that a server has just opened is not needed.
    pub(super) fn end_session_on(&mut self, link: usize, session: SessionId) {
        self.send_notification(link, rpc::GOODBYE, &GoodbyeParams { session });
    }

    /// The link's driver is about to go, and the connection with it. Whether there are acks for it, and
    /// nothing else, to be written.
    pub(crate) fn flush_last_acks(&mut self, number: usize) -> bool {
        let link = &self.links[number];
        let may_ack = link.attached.is_some() && link.unsent() == 0;
        if !may_ack || !self.owes_acks(link.home) {
            return false;
        }
        self.flush_acks(number);
        true
    }

    /// Whether some call of the table's is yet to be acknowledged.
    fn owes_acks(&self, home: usize) -> bool {
        let mut sessions = self.sessions.iter().filter(|session| session.home == home);
        sessions.any(Session::has_unsent_acks)
    }

    /// Sends acks now if they are many, or if a call waits for the room that they make.
    pub(super) fn flush_urgent_acks(&mut self) {
        let urgent = self
            .sessions
            .iter()
            .filter(|session| session.needs_ack_now());
        for home in urgent.map(|session| session.home).collect::<Vec<_>>() {
            if let Some(link) = self.session_link(home) {
                self.flush_acks(link);
            }
        }
    }

    fn flush_acks(&mut self, link: usize) {
        let home = self.links[link].home;
        for acks in self.take_unsent_acks(home, self.max_frame_bytes(link)) {
            self.links[link].acked = Some((acks.session, acks.ack));
            self.send_notification(link, rpc::ACK, &acks);
        }
        if !self.sessions.tables[home].queue.is_empty() {
            self.assign_queued_numbers(home);
        }
    }

    /// All unsent acks of the table's sessions, which count as sent from now on.
    pub(super) fn take_unsent_acks(
        &mut self,
        home: usize,
        max_frame_bytes: usize,
    ) -> Vec<AckParams> {
        let room = max_frame_bytes.saturating_sub(BESIDE_RANGES_BYTES) / RANGE_BYTES;
        let ranges = room.clamp(1, RANGES_PER_FRAME);
        let mut all = Vec::new();
        for session in self.sessions.iter_mut() {
            if session.home != home || !session.has_unsent_acks() {
                continue;
            }
            let acks = session.take_acks();
            if acks.above.is_empty() {
                all.push(acks);
                continue;
            }
            all.extend(acks.above.chunks(ranges).map(|above| AckParams {
                above: above.to_vec(),
                ..acks
            }));
        }
        all
    }

    /// Acknowledges a call of another client's session, or of an earlier process's: to the servers of
    /// its table, or where that is not known to all, of which others make nothing of it.
    pub(super) fn acknowledge_foreign(&mut self, call: SessionCall, table: Option<&str>) {
        let acks = AckParams {
            session: call.session,
            ack: 0,
            above: vec![(call.number, call.number + 1)],
        };
        for home in 0..self.sessions.tables.len() {
            let name = self.sessions.tables[home].name.as_deref();
            let is_another = name.is_some_and(|name| table.is_some_and(|table| table != name));
            if !is_another && let Some(link) = self.session_link(home) {
                self.send_notification(link, rpc::ACK, &acks);
            }
        }
    }

    /// Tells the server that the call's result is not waited for any more.
    pub(super) fn send_cancel(&mut self, link: usize, id: Uuid) {
        let id = Cow::Owned(id.to_string());
        self.send_notification(link, rpc::CANCEL, &CallParams { id });
    }

    fn send_notification(&mut self, link: usize, method: &str, params: &impl Serialize) {
        let writer = self.control_writer(self.max_frame_bytes(link));
        let link = &mut self.links[link];
        // A limit of a few bytes has no room for it, nor for any call.
        let _ = link.append(|out| writer.notification(method, params, out));
        self.sessions.appends += 1;
        self.wakers.extend(link.driver.take());
    }

    /// A connection that stands and may have sessions with the table at the other end.
    fn session_link(&self, home: usize) -> Option<usize> {
        self.best_link(|link| link.home == home && link.is_connected && !link.is_plain)
    }

    /// The first such link, of those whose server does not shut down if there is one.
    fn best_link(&self, is_such: impl Fn(&Link) -> bool) -> Option<usize> {
        let links = self
            .links
            .iter()
            .enumerate()
            .filter(|(_, link)| is_such(link));
        links
            .min_by_key(|(_, link)| link.is_leaving)
            .map(|(number, _)| number)
    }
}
