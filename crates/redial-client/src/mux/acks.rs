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
        let is_urgent = session.needs_ack_now();
        let is_idle = self.sessions.ack_link.is_none();
        let needs_ack_link = is_idle && (session.has_unsent_acks() || session.is_crowded());
        if is_urgent {
            self.flush_urgent_acks();
        }
        if needs_ack_link {
            self.elect_ack_link(None);
        }
        if !self.sessions.queue.is_empty() {
            self.assign_queued_numbers();
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
            self.flush_acks(link);
            let is_done = |session: &Session<_>| session.is_unused() && !session.has_unsent_acks();
            let over = self
                .sessions
                .retired
                .extract_if(.., |session| is_done(session));
            let over: Vec<_> = over.filter(Session::is_over).collect();
            self.say_goodbye(over.iter().map(|session| session.id));
        }
        self.sessions.seen_appends = self.sessions.appends;
        self.elect_opener(now);
    }

    /// The client is gone. Gives the link on which the last acks and the goodbye are to be written, if
    /// there are any: without them its server would keep session and records for a whole lease.
    pub(crate) fn begin_close(&mut self) -> Option<usize> {
        self.is_closing = true;
        let has_unsent_acks = self.sessions.iter().any(Session::has_unsent_acks);
        let link = self.session_link()?;
        if has_unsent_acks {
            self.flush_acks(link);
        }
        let over = self.sessions.iter().filter(|session| session.is_over());
        for session in over.map(|session| session.id).collect::<Vec<_>>() {
            self.send_notification(link, rpc::GOODBYE, &GoodbyeParams { session });
        }
        self.wakers.extend(self.links[link].driver.take());
        (self.links[link].unsent() > 0).then_some(link)
    }

    /// Tells the server on all connections, which may be attached, that sessions are needed no longer.
    fn say_goodbye(&mut self, sessions: impl Iterator<Item = SessionId>) {
        for session in sessions {
            for link in 0..self.links.len() {
                if self.links[link].is_connected && !self.links[link].is_plain {
                    self.send_notification(link, rpc::GOODBYE, &GoodbyeParams { session });
                }
            }
        }
    }

    /// The link's driver is about to go, and the connection with it. Whether there are acks for it, and
    /// nothing else, to be written.
    pub(crate) fn flush_last_acks(&mut self, number: usize) -> bool {
        let link = &self.links[number];
        let may_ack = link.attached.is_some() && link.unsent() == 0;
        if !may_ack || !self.sessions.iter().any(Session::has_unsent_acks) {
            return false;
        }
        self.flush_acks(number);
        true
    }

    /// Sends acks now if they are many, or if a call waits for the room that they make.
    pub(super) fn flush_urgent_acks(&mut self) {
        let is_urgent = self.sessions.iter().any(Session::needs_ack_now);
        if is_urgent && let Some(link) = self.session_link() {
            self.flush_acks(link);
        }
    }

    fn flush_acks(&mut self, link: usize) {
        for acks in self.take_unsent_acks(self.max_frame_bytes(link)) {
            self.links[link].acked = Some((acks.session, acks.ack));
            self.send_notification(link, rpc::ACK, &acks);
        }
        if !self.sessions.queue.is_empty() {
            self.assign_queued_numbers();
        }
    }

    /// All unsent acks, which count as sent from now on.
    pub(super) fn take_unsent_acks(&mut self, max_frame_bytes: usize) -> Vec<AckParams> {
        let room = max_frame_bytes.saturating_sub(BESIDE_RANGES_BYTES) / RANGE_BYTES;
        let ranges = room.clamp(1, RANGES_PER_FRAME);
        let mut all = Vec::new();
        for session in self.sessions.iter_mut() {
            if !session.has_unsent_acks() {
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

    /// Acknowledges a call of another client's session, or of an earlier process's.
    pub(super) fn acknowledge_foreign(&mut self, call: SessionCall) {
        let acks = AckParams {
            session: call.session,
            ack: 0,
            above: vec![(call.number, call.number + 1)],
        };
        if let Some(link) = self.session_link() {
            self.send_notification(link, rpc::ACK, &acks);
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

    /// A connection that stands and may have sessions at the other end.
    fn session_link(&self) -> Option<usize> {
        self.best_link(|link| link.is_connected && !link.is_plain)
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
