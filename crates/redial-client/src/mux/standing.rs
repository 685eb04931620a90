//! What the server at the other end of each connection speaks: it is asked with a hello, and what
//! it answers decides how its calls are named.
//!
//! With a session at hand the hello is a formality: calls follow it at once, and a server that
//! doesn't know the session says so to each of them. Without one they wait for the answer.

use std::time::{Duration, Instant};

use redial_protocol::{
    ErrorCode, ErrorObject, RequestMeta, SessionId,
    rpc::{self, HelloParams},
    write_frame, write_request,
};
use serde_json::value::to_raw_value;

use super::{Mux, loss::Said, pending::Answer, slab::Key};
use crate::{
    error::Cause,
    retry::{
        after,
        classify::{Verdict, classify},
    },
    session::Session,
};

/// How the ids of hellos begin. No UUIDs, so no call's and no keys in a table.
pub(crate) const HELLO_ID: &str = "redial-hello-";

/// A peer that leaves so many hellos in a row unanswered has no sessions, if it never had any.
const UNANSWERED: u32 = 3;

/// A peer that closes so many connections in a row on a hello has no sessions, if it never had any.
const CLOSED: u32 = 2;

/// A hello that has no answer yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask {
    /// The session to attach to, or to open one.
    attach: Option<SessionId>,
    /// The serial number of the first one that asked this.
    first: u64,
    unanswered: u32,
    refusals: u32,
    /// When to ask again.
    pub(super) again_at: Instant,
}

/// What a hello was answered.
#[derive(Debug)]
pub(crate) enum Welcome {
    /// A session.
    Session {
        id: SessionId,
        window: u64,
        max_frame_bytes: u64,
    },
    /// Something that is no session.
    Nonsense,
    /// An error.
    Error(ErrorObject),
}

impl Mux {
    /// A connection stands. Gives what is to be written to it before everything else.
    pub(crate) fn connected(&mut self, number: usize, now: Instant) -> Vec<u8> {
        self.connects += 1;
        let sessions = &self.sessions;
        let seems_plain = sessions.may_guess && sessions.closed_on_hello >= CLOSED;
        let is_plain = !sessions.are_wanted || seems_plain;
        let link = &mut self.links[number];
        link.complaint = None;
        link.is_connected = true;
        if is_plain {
            // The connection after this one is asked again.
            self.sessions.closed_on_hello = self.sessions.closed_on_hello.min(CLOSED - 1);
            self.found_plain(number, now);
            return Vec::new();
        }
        let mut preamble = Vec::new();
        if let Some(attach) = self.whom_to_ask(number) {
            self.links[number].named_first = attach;
            self.ask(number, attach, now, &mut preamble);
        }
        if self.sessions.current.is_some() {
            self.write_untold(number, &mut preamble);
        }
        preamble
    }

    /// What is untold goes out right behind the hello: somebody may wait for the room.
    fn write_untold(&mut self, link: usize, out: &mut Vec<u8>) {
        let max_frame_bytes = self.max_frame_bytes(link);
        for said in self.untold(max_frame_bytes) {
            let params = to_raw_value(&said).expect("plain members are always JSON");
            let _ = write_frame(out, max_frame_bytes, |out| {
                let meta = RequestMeta::default();
                write_request(
                    out,
                    self.dialect,
                    None,
                    rpc::ACK,
                    Some(params.get().as_bytes()),
                    &meta,
                );
            });
        }
        self.grant();
    }

    /// The session to attach a connection to, or none to open one; `None` if another link does.
    fn whom_to_ask(&mut self, link: usize) -> Option<Option<SessionId>> {
        if let Some(current) = &self.sessions.current {
            return Some(Some(current.id));
        }
        let opener = *self.sessions.opener.get_or_insert(link);
        (opener == link).then_some(None)
    }

    /// A connection that stands needs a session, after it had another or none.
    pub(super) fn stand(&mut self, link: usize, now: Instant) {
        if let Some(attach) = self.whom_to_ask(link) {
            self.ask_now(link, attach, now);
        }
    }

    /// Has some connection ask for a session, if one is needed and nobody does.
    pub(super) fn elect(&mut self, now: Instant) {
        let current = self.sessions.current.as_ref();
        let is_needed = current.is_none_or(Session::is_crowded);
        if !self.sessions.are_wanted || !is_needed || self.sessions.opener.is_some() {
            return;
        }
        let mut links = self.links.iter();
        let chosen =
            links.position(|link| link.is_connected && !link.is_plain && link.ask.is_none());
        if let Some(link) = chosen {
            self.sessions.opener = Some(link);
            self.ask_now(link, None, now);
        }
    }

    fn ask_now(&mut self, link: usize, attach: Option<SessionId>, now: Instant) {
        let mut frame = Vec::new();
        self.ask(link, attach, now, &mut frame);
        self.append_hello(link, &frame);
    }

    fn append_hello(&mut self, link: usize, frame: &[u8]) {
        let link = &mut self.links[link];
        let _ = link.append(|out| {
            out.extend_from_slice(frame);
            Ok(())
        });
        self.sessions.appends += 1;
        self.woken.extend(link.driver.take());
    }

    fn ask(&mut self, link: usize, attach: Option<SessionId>, now: Instant, out: &mut Vec<u8>) {
        self.links[link].ask = Some(Ask {
            attach,
            first: self.sessions.serial,
            unanswered: 1,
            refusals: 0,
            again_at: after(now, self.hello_timeout),
        });
        self.write_hello(attach, out);
    }

    fn write_hello(&mut self, session: Option<SessionId>, out: &mut Vec<u8>) {
        let id = format!("\"{HELLO_ID}{}\"", self.sessions.serial);
        self.sessions.serial += 1;
        let params = to_raw_value(&HelloParams { session }).expect("a plain member is JSON");
        // Only a limit of a few bytes has no room for it, and then no call has either.
        let _ = write_frame(out, self.max_frame_bytes, |out| {
            let meta = RequestMeta::default();
            write_request(
                out,
                self.dialect,
                Some(&id),
                rpc::HELLO,
                Some(params.get().as_bytes()),
                &meta,
            );
        });
    }

    /// The hello may have been lost: it is sent again, or given up.
    pub(crate) fn ask_again(&mut self, link: usize, now: Instant) {
        let due = self.links[link].ask.as_mut();
        let Some(ask) = due.filter(|ask| ask.again_at <= now) else {
            return;
        };
        let is_stranger = self.sessions.may_guess && self.sessions.opened == 0;
        if is_stranger && ask.attach.is_none() && ask.unanswered >= UNANSWERED {
            return self.found_plain(link, now);
        }
        ask.unanswered += 1;
        // What is answered to this one says nothing of what was written since the first.
        self.links[link].named_first = None;
        let ask = self.links[link].ask.as_mut().expect("it is due");
        ask.again_at = after(now, self.hello_timeout);
        let (attach, mut frame) = (ask.attach, Vec::new());
        self.write_hello(attach, &mut frame);
        self.append_hello(link, &frame);
    }

    /// A hello was answered.
    ///
    /// # Errors
    ///
    /// Why the connection is to be closed.
    pub(super) fn welcomed(
        &mut self,
        link: usize,
        serial: u64,
        welcome: Welcome,
        now: Instant,
    ) -> Result<(), String> {
        let Some(ask) = self.links[link].ask.filter(|ask| serial >= ask.first) else {
            // Of a hello that was sent twice.
            return Ok(());
        };
        let is_welcome = match (&welcome, ask.attach) {
            (Welcome::Session { id, .. }, Some(attach)) => *id == attach,
            (Welcome::Session { .. }, None) => true,
            _ => false,
        };
        if is_welcome {
            self.found_session(link, welcome, ask.attach.is_none(), now);
            return Ok(());
        }
        let unknown = ErrorCode::OUTCOME_UNKNOWN;
        let is_unknown = matches!(&welcome, Welcome::Error(error) if error.code == unknown);
        if let Welcome::Error(error) = &welcome
            && let Verdict::Again { no_sooner_than } = classify(error)
        {
            self.sessions.refusal = Some(error.clone());
            self.put_off(link, no_sooner_than, now);
            return Ok(());
        }
        match ask.attach {
            None => self.found_plain(link, now),
            Some(attach) if self.sessions.get(attach).is_some() => {
                let said = match is_unknown {
                    true => Said::ToHello,
                    false => Said::NoSessions,
                };
                return self.session_unknown(link, attach, said, now);
            }
            Some(_) => {
                self.links[link].ask = None;
                self.stand(link, now);
            }
        }
        Ok(())
    }

    /// Why there is no session for calls that wait for one, if the server has said so.
    pub(crate) fn hello_refusal(&self) -> Option<ErrorObject> {
        self.sessions.refusal.clone()
    }

    /// The server has no time for a hello now.
    fn put_off(&mut self, link: usize, no_sooner_than: Duration, now: Instant) {
        let backoff = self.hello_backoff;
        if let Some(ask) = &mut self.links[link].ask {
            ask.refusals += 1;
            ask.unanswered = 0;
            ask.again_at = after(now, backoff.ceiling(ask.refusals).max(no_sooner_than));
        }
    }

    fn found_session(&mut self, number: usize, welcome: Welcome, is_new: bool, now: Instant) {
        let Welcome::Session {
            id,
            window,
            max_frame_bytes,
        } = welcome
        else {
            return;
        };
        self.sessions.closed_on_hello = 0;
        self.sessions.refusal = None;
        self.links[number].ask = None;
        self.links[number].attached = Some(id);
        if is_new {
            self.sessions.opener = None;
            self.sessions.opened += 1;
            let session = Session::new(id, window, max_frame_bytes);
            self.sessions
                .retired
                .extend(self.sessions.current.replace(session));
            for other in 0..self.links.len() {
                let link = &self.links[other];
                if other != number && link.is_connected && !link.is_plain && link.ask.is_none() {
                    self.ask_now(other, Some(id), now);
                }
                self.admit(other);
            }
        }
        self.admit(number);
        self.grant();
        let is_current = self
            .sessions
            .current
            .as_ref()
            .is_some_and(|current| current.id == id);
        if !is_current {
            self.stand(number, now);
        }
    }

    /// The server has no sessions.
    fn found_plain(&mut self, number: usize, now: Instant) {
        self.links[number].ask = None;
        self.links[number].is_plain = true;
        if self.sessions.opener == Some(number) {
            self.sessions.opener = None;
        }
        self.admit(number);
        if self.sessions.current.is_none() {
            self.dismiss_queue();
            self.elect(now);
        }
    }

    /// Those who waited for the link's server may send.
    fn admit(&mut self, link: usize) {
        for key in std::mem::take(&mut self.links[link].waiting) {
            if let Some(call) = self.calls.get_mut(key)
                && call.waiting.take().is_some()
            {
                self.woken.extend(call.waker.take());
            }
        }
    }

    /// The call waits to know what the link's server speaks.
    pub(super) fn wait(&mut self, link: usize, key: Key, now: Instant) {
        let Self { links, calls, .. } = self;
        let waiting = &mut links[link].waiting;
        while let Some(first) = waiting.front()
            && calls.get(*first).is_none_or(|call| call.waiting.is_none())
        {
            waiting.pop_front();
        }
        let call = calls.get_mut(key).expect("the call is pending");
        if call.waiting.is_none() {
            call.waiting = Some(now);
            waiting.push_back(key);
        }
    }

    /// Whether some call waits to know it.
    pub(super) fn has_waiting(&self, link: usize) -> bool {
        let mut waiting = self.links[link].waiting.iter();
        let is_waiting = |key| {
            self.calls
                .get(key)
                .is_some_and(|call| call.waiting.is_some())
        };
        waiting.any(|key| is_waiting(*key))
    }

    /// Whether the call may be sent on the link, as far as its server is known. A call of a session
    /// that may have been executed is kept from servers without sessions, which would execute it
    /// again.
    pub(super) fn may_go(&mut self, key: Key, link: usize, now: Instant) -> bool {
        let pending = self.call(key);
        if !pending.name.is_of_a_session() || !pending.is_delicate() || !self.sessions.are_wanted {
            return true;
        }
        if self.links[link].attached.is_some() {
            return true;
        }
        if self.links[link].is_plain {
            let pending = self.call(key);
            pending.answer.get_or_insert(Answer::SessionLost);
            let waker = pending.waker.take();
            self.woken.extend(waker);
            return false;
        }
        self.wait(link, key, now);
        false
    }

    /// The link's connection is over, or could not be made: those who waited for it look for
    /// another. `cause` is why, if there was none.
    pub(super) fn end_standing(&mut self, number: usize, cause: Option<&Cause>, now: Instant) {
        for key in std::mem::take(&mut self.links[number].waiting) {
            let Some(call) = self.calls.get_mut(key) else {
                continue;
            };
            if let Some(since) = call.waiting.take() {
                if let Some(cause) = cause {
                    call.had_no_connection(since, now, cause.clone());
                }
                self.woken.extend(call.waker.take());
            }
        }
        if self.sessions.opener == Some(number) {
            self.sessions.opener = None;
            self.elect(now);
        }
        if self.sessions.watcher == Some(number) {
            self.sessions.watcher = None;
            self.watch(None);
        }
    }

    /// Whether the server closed the connection on a hello that was to open a session, without a
    /// word.
    pub(super) fn was_closed_on_hello(&self, link: usize) -> bool {
        let link = &self.links[link];
        let was_opening = link.ask.is_some_and(|ask| ask.attach.is_none());
        let is_stranger = self.sessions.opened == 0;
        link.is_connected && link.has_greeted && !link.heard && was_opening && is_stranger
    }
}
