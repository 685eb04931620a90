//! What is said about calls that are over: which of them the server may forget, and which it need
//! not begin.
//!
//! Requests say the watermark along with themselves. What they can't say is said by a driver: at
//! once if it is much, and when nothing else has been written for a while. One driver watches for
//! that, so that no call needs a timer or a wake of its own.

use std::{
    borrow::Cow,
    task::{Poll, Waker},
    time::{Duration, Instant},
};

use redial_protocol::{
    RequestMeta, SessionCall, SessionId,
    rpc::{self, AckParams, CallParams},
    write_frame, write_request,
};
use serde::Serialize;
use serde_json::value::to_raw_value;
use uuid::Uuid;

use super::{Mux, replace};
use crate::session::Session;

/// How long nothing is written before acknowledgements are sent alone.
pub(crate) const IDLE: Duration = Duration::from_millis(20);

/// How many ranges one frame may say.
const RANGES_PER_FRAME: usize = 512;

/// What one range takes at most, and what is around them, in bytes.
const RANGE_BYTES: usize = 44;
const BESIDE_RANGES_BYTES: usize = 160;

/// What a driver has to look after, besides bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Chores {
    /// When the hello is to be sent again.
    pub(crate) hello_at: Option<Instant>,
    /// Whether to look every [`IDLE`] for what is to be acknowledged.
    pub(crate) watches: bool,
    /// The client is gone: when everything is written, the connection is over.
    pub(crate) is_closing: bool,
}

impl Mux {
    pub(crate) fn chores(&self, link: usize) -> Chores {
        Chores {
            hello_at: self.links[link].ask.as_ref().map(|ask| ask.again_at),
            watches: self.sessions.watcher == Some(link),
            is_closing: self.is_closing,
        }
    }

    /// Some numbers of a session are done with, or held.
    pub(super) fn settle(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get(id) else {
            return;
        };
        let is_urgent = session.is_urgent();
        let is_watched = self.sessions.watcher.is_some();
        let is_to_be_watched = !is_watched && (session.is_untold() || session.is_crowded());
        if is_urgent {
            self.say_what_is_urgent();
        }
        if is_to_be_watched {
            self.watch(None);
        }
        if !self.sessions.queue.is_empty() {
            self.grant();
        }
    }

    /// Some driver is to watch; the one that is `awake` need not be woken.
    pub(super) fn watch(&mut self, awake: Option<usize>) {
        if self.sessions.watcher.is_some() {
            return;
        }
        let connected = || self.links.iter().position(|link| link.is_connected);
        self.sessions.watcher = awake.or_else(connected);
        self.sessions.seen_appends = self.sessions.appends;
        if awake.is_none()
            && let Some(watcher) = self.sessions.watcher
        {
            self.woken.extend(self.links[watcher].driver.take());
        }
    }

    /// Once in a while, on the link whose driver watches.
    pub(crate) fn look(&mut self, link: usize, now: Instant) {
        let sessions = &mut self.sessions;
        if sessions.watcher != Some(link) {
            return;
        }
        let is_quiet = sessions.appends == sessions.seen_appends;
        if is_quiet {
            sessions.watcher = None;
            self.say_untold(link);
            let is_over = |session: &Session<_>| session.is_deserted() && !session.is_untold();
            self.sessions.retired.retain(|session| !is_over(session));
        }
        self.sessions.seen_appends = self.sessions.appends;
        self.elect(now);
    }

    /// The client is gone. Gives the link on which the last acknowledgements are on their way, if
    /// there are any: without them its server would keep the records for a whole lease.
    pub(crate) fn say_goodbye(&mut self) -> Option<usize> {
        self.is_closing = true;
        let is_untold = self.sessions.iter().any(Session::is_untold);
        let mut links = self.links.iter();
        let link = links.position(|link| link.is_connected && !link.is_plain)?;
        if is_untold {
            self.say_untold(link);
        }
        self.woken.extend(self.links[link].driver.take());
        (self.links[link].unsent() > 0).then_some(link)
    }

    /// Ready when no connection stands any more.
    pub(crate) fn poll_closed(&mut self, waker: &Waker) -> Poll<()> {
        match self.links.iter().any(|link| link.is_connected) {
            true => {
                self.woken.extend(replace(&mut self.closer, waker));
                Poll::Pending
            }
            false => Poll::Ready(()),
        }
    }

    /// Says what is much, or what somebody waits for, on a connection that stands.
    pub(super) fn say_what_is_urgent(&mut self) {
        let is_urgent = self.sessions.iter().any(|session| session.is_urgent());
        let mut links = self.links.iter();
        if is_urgent && let Some(link) = links.position(|link| link.is_connected && !link.is_plain)
        {
            self.say_untold(link);
        }
    }

    /// Says everything that is untold.
    fn say_untold(&mut self, link: usize) {
        for said in self.untold(self.max_frame_bytes(link)) {
            self.links[link].acked = Some((said.session, said.ack));
            self.notify(link, rpc::ACK, &said);
        }
        if !self.sessions.queue.is_empty() {
            self.grant();
        }
    }

    /// Everything that is untold, which counts as told from now on.
    pub(super) fn untold(&mut self, max_frame_bytes: usize) -> Vec<AckParams> {
        let room = max_frame_bytes.saturating_sub(BESIDE_RANGES_BYTES) / RANGE_BYTES;
        let ranges = room.clamp(1, RANGES_PER_FRAME);
        let mut all = Vec::new();
        for session in self.sessions.iter_mut() {
            if !session.is_untold() {
                continue;
            }
            let said = session.tell();
            if said.above.is_empty() {
                all.push(said);
                continue;
            }
            all.extend(said.above.chunks(ranges).map(|above| AckParams {
                above: above.to_vec(),
                ..said
            }));
        }
        all
    }

    /// A call of another client's session, or of an earlier life's, is done with.
    pub(super) fn acknowledge_foreign(&mut self, call: SessionCall) {
        let params = AckParams {
            session: call.session,
            ack: 0,
            above: vec![(call.number, call.number + 1)],
        };
        let mut links = self.links.iter();
        if let Some(link) = links.position(|link| link.is_connected && !link.is_plain) {
            self.notify(link, rpc::ACK, &params);
        }
    }

    /// Nobody waits for the call any more.
    pub(super) fn say_cancelled(&mut self, link: usize, id: Uuid) {
        let id = Cow::Owned(id.to_string());
        self.notify(link, rpc::CANCEL, &CallParams { id });
    }

    /// Appends a notification of the protocol's own.
    fn notify(&mut self, link: usize, method: &str, params: &impl Serialize) {
        let (dialect, max) = (self.dialect, self.max_frame_bytes(link));
        let params = to_raw_value(params).expect("plain members are always JSON");
        let link = &mut self.links[link];
        let frame = link.append(|out| {
            let meta = RequestMeta::default();
            write_frame(out, max, |out| {
                write_request(
                    out,
                    dialect,
                    None,
                    method,
                    Some(params.get().as_bytes()),
                    &meta,
                );
            })
        });
        // Only a limit of a few bytes has no room for it, and then no call has either.
        let _ = frame;
        self.sessions.appends += 1;
        self.woken.extend(link.driver.take());
    }
}
