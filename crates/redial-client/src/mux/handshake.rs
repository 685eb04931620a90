//! What the server at the other end of each connection speaks: it is asked with a hello, and its
//! reply decides which ids its calls get.
//!
//! With a session at hand the hello is a formality: calls follow it at once, and a server that
//! doesn't know the session refuses each of them. Without one they wait for the reply.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use redial_protocol::{ErrorCode, ErrorObject, SessionId, rpc};

use super::{
    Mux,
    control::{ControlWriter, HelloReply, PendingHello},
    link::Link,
    session::Session,
    session_loss::UnknownSource,
    slab::Key,
};
use crate::{
    cause::Cause,
    clock::after,
    policy::{
        backoff::Jitter,
        classify::{ErrorAction, classify, is_leaving},
        hint::jitter,
    },
    report::AttemptEnd,
};

/// A connection that leaves so many hellos in a row unanswered, and brings nothing else, is replaced:
/// a load balancer may have lost the server behind it.
const MAX_UNANSWERED: u32 = 3;

impl Mux {
    /// A connection stands. Gives what is to be written to it before everything else.
    pub(crate) fn handle_connected(&mut self, number: usize, now: Instant) -> Vec<u8> {
        self.connects += 1;
        self.wakers.extend(self.connecting.take());
        let endpoint = self.endpoint_of(number);
        self.endpoints[endpoint].connects += 1;
        let sessions = &self.sessions;
        let is_plain = !sessions.are_wanted || sessions.assume_plain;
        let link = &mut self.links[number];
        link.server_error = None;
        link.is_connected = true;
        self.watch_surplus(number, now);
        if is_plain {
            self.on_plain_server(number, now);
            return Vec::new();
        }
        let mut preamble = Vec::new();
        if let Some(attach) = self.session_to_request(number) {
            self.links[number].hello_session = attach;
            self.begin_hello(number, attach, now, &mut preamble);
        }
        if self.current_on(number).is_some() {
            self.write_unsent_acks(number, &mut preamble);
        }
        preamble
    }

    /// Unsent acks go out right behind the hello: a call may wait for the room.
    fn write_unsent_acks(&mut self, link: usize, out: &mut Vec<u8>) {
        let max_frame_bytes = self.max_frame_bytes(link);
        let writer = self.control_writer(max_frame_bytes);
        let home = self.links[link].home;
        for acks in self.take_unsent_acks(home, max_frame_bytes) {
            // A limit of a few bytes has no room for it, nor for any call.
            let _ = writer.notification(rpc::ACK, &acks, out);
        }
        self.assign_queued_numbers(home);
    }

    /// The session in which new calls on the link are numbered.
    #[inline]
    fn current_on(&self, link: usize) -> Option<&Session<Key>> {
        self.sessions.current(self.links[link].home)
    }

    /// The session to attach a connection to, or that one is to be opened (`Some(None)`). `None` if
    /// another link opens one.
    fn session_to_request(&mut self, link: usize) -> Option<Option<SessionId>> {
        let table = &mut self.sessions.tables[self.links[link].home];
        if let Some(current) = &table.current {
            return Some(Some(current.id));
        }
        let opener = *table.opener.get_or_insert(link);
        (opener == link).then_some(None)
    }

    /// A connection that stands needs a session, after it had another or none.
    pub(super) fn attach(&mut self, link: usize, now: Instant) {
        if let Some(attach) = self.session_to_request(link) {
            self.send_hello(link, attach, now);
        }
    }

    /// Has some connection open a session with the table, if one is needed and no connection does.
    pub(super) fn elect_opener(&mut self, home: usize, now: Instant) {
        let table = &self.sessions.tables[home];
        let is_needed = table.current.as_ref().is_none_or(Session::is_crowded);
        if !self.sessions.are_wanted || !is_needed || table.opener.is_some() {
            return;
        }
        let mut links = self.links.iter();
        let is_open = |link: &Link| link.home == home && link.is_connected && !link.is_leaving;
        let chosen = links.position(|link| is_open(link) && !link.is_plain && link.hello.is_none());
        if let Some(link) = chosen {
            self.sessions.tables[home].opener = Some(link);
            self.send_hello(link, None, now);
        }
    }

    pub(super) fn send_hello(&mut self, link: usize, attach: Option<SessionId>, now: Instant) {
        let mut frame = Vec::new();
        self.begin_hello(link, attach, now, &mut frame);
        self.append_control(link, &frame);
    }

    pub(super) fn append_control(&mut self, link: usize, frame: &[u8]) {
        let link = &mut self.links[link];
        let _ = link.append(|out| {
            out.extend_from_slice(frame);
            Ok(())
        });
        self.sessions.appends += 1;
        self.wakers.extend(link.driver.take());
    }

    fn begin_hello(
        &mut self,
        link: usize,
        attach: Option<SessionId>,
        now: Instant,
        out: &mut Vec<u8>,
    ) {
        self.links[link].hello = Some(PendingHello {
            attach,
            first_serial: self.sessions.serial,
            unanswered: 1,
            refusals: 0,
            is_put_off: false,
            lacks_room: false,
            again_at: after(now, self.hello_timeout),
        });
        self.write_hello(attach, out);
    }

    fn write_hello(&mut self, session: Option<SessionId>, out: &mut Vec<u8>) {
        let writer = self.control_writer(self.max_frame_bytes);
        writer.hello(self.sessions.serial, session, out);
        self.sessions.serial += 1;
    }

    pub(super) fn control_writer(&self, max_frame_bytes: usize) -> ControlWriter {
        ControlWriter {
            dialect: self.dialect,
            max_frame_bytes,
        }
    }

    /// The hello may have been lost: it is sent again.
    ///
    /// # Errors
    ///
    /// Why the connection is to be closed: nothing comes from it.
    pub(crate) fn handle_hello_timeout(&mut self, link: usize, now: Instant) -> Result<(), String> {
        let is_proven = self.links[link].is_proven;
        let due = self.links[link].hello.as_mut();
        let Some(hello) = due.filter(|hello| hello.again_at <= now) else {
            return Ok(());
        };
        if !is_proven && hello.unanswered >= MAX_UNANSWERED {
            return Err(format!("no reply to {MAX_UNANSWERED} hellos"));
        }
        let is_unanswered = hello.unanswered > 0;
        if is_unanswered {
            self.sessions.refusal = Some(no_reply(None));
        }
        hello.unanswered += 1;
        let pause = self.hello_backoff.ceiling(hello.unanswered);
        hello.again_at = after(now, pause.max(self.hello_timeout));
        let (attach, mut frame) = (hello.attach, Vec::new());
        // The reply to this one says nothing of what was written since the first.
        self.links[link].hello_session = None;
        self.write_hello(attach, &mut frame);
        self.append_control(link, &frame);
        if is_unanswered && attach.is_some() && self.links[link].heard_at.is_none() {
            // The calls of a session that waits to be attached look for another connection.
            self.suspect(link, now);
        }
        Ok(())
    }

    /// A hello was replied to.
    ///
    /// # Errors
    ///
    /// Why the connection is to be closed.
    pub(super) fn handle_hello_reply(
        &mut self,
        link: usize,
        serial: u64,
        reply: HelloReply,
        now: Instant,
    ) -> Result<(), String> {
        let pending = self.links[link].hello;
        let Some(hello) = pending.filter(|hello| serial >= hello.first_serial) else {
            // It was sent twice, and replied to before.
            return Ok(());
        };
        let is_attached = match (&reply, hello.attach) {
            (HelloReply::Session { id, .. }, Some(attach)) => *id == attach,
            (HelloReply::Session { .. }, None) => true,
            _ => false,
        };
        if let Some(attach) = hello.attach
            && is_attached
            && self.is_of_another_table(attach, &reply)
        {
            return self.handle_other_table(link, attach, now);
        }
        if is_attached {
            return self.on_session(link, reply, hello.attach.is_none(), now);
        }
        let unknown = ErrorCode::OUTCOME_UNKNOWN;
        let is_unknown = matches!(&reply, HelloReply::Error(error) if error.code == unknown);
        if let HelloReply::Error(error) = &reply
            && let ErrorAction::Again { no_sooner_than } | ErrorAction::Busy { no_sooner_than } =
                classify(error)
        {
            let is_leaving = is_leaving(error);
            if is_leaving {
                self.send_no_more(link);
            }
            self.sessions.refusal = Some(Cause::Server(error.clone()));
            self.postpone_hello(link, no_sooner_than, now);
            if let Some(hello) = &mut self.links[link].hello {
                hello.lacks_room = error.code == ErrorCode::OVERLOADED;
            }
            if !is_leaving {
                self.let_queries_go(link);
            }
            self.bound_retention();
            return Ok(());
        }
        match hello.attach {
            Some(attach) if is_unknown && self.sessions.get(attach).is_some() => {
                return self.handle_unknown_session(link, attach, UnknownSource::Hello, now);
            }
            Some(_) if is_unknown => {
                self.links[link].hello = None;
                self.attach(link, now);
            }
            _ if !reply.says_plain() => {
                self.sessions.refusal = Some(Cause::NoSession(reply.to_string().into()));
                self.postpone_hello(link, Duration::ZERO, now);
            }
            _ if !self.has_had_sessions(link) => self.on_plain_server(link, now),
            _ => return self.handle_denial(link, &reply, now),
        }
        Ok(())
    }

    /// A server says that it has no sessions, at an address where there were some. It is another one,
    /// or an older one: nothing is sent to it, and it is asked again, on a new connection if it can be.
    fn handle_denial(
        &mut self,
        number: usize,
        reply: &HelloReply,
        now: Instant,
    ) -> Result<(), String> {
        let reason = format!("{reply}, but there were sessions at this address before");
        let shared: Arc<str> = reason.as_str().into();
        self.sessions.refusal = Some(Cause::NoSession(shared.clone()));
        let links = self.links_of(self.endpoint_of(number));
        let links = self.links[links].iter_mut();
        links.for_each(|link| link.must_attach = true);
        if self.links[number].attached.is_none() {
            self.fail_calls_on(number, &shared);
            if !self.awaits_replies(number) {
                // So that the next one is not made without pause.
                self.links[number].is_proven = false;
                return Err(reason);
            }
        }
        self.postpone_hello(number, Duration::ZERO, now);
        Ok(())
    }

    /// Whether the link's connection owes a reply to a mutation.
    fn awaits_replies(&mut self, number: usize) -> bool {
        let link = &self.links[number];
        self.calls.values_mut().any(|call| {
            let mut attempts = call.attempts.iter();
            let is_waiting = call.answer.is_none() && !call.flags.is_query;
            is_waiting && attempts.any(|attempt| attempt.can_be_answered(number, link))
        })
    }

    /// Takes what a server says about the connection as a whole for its reply to the hello, if it has
    /// got nothing else and can't read that.
    pub(super) fn handle_connection_error(
        &mut self,
        link: usize,
        error: &ErrorObject,
        now: Instant,
    ) -> Result<(), String> {
        let is_about_hello = !self.has_had_sessions(link) && is_bad_request(error.code);
        match self.links[link].hello {
            Some(hello) if is_about_hello => {
                let reply = HelloReply::Error(error.clone());
                self.handle_hello_reply(link, hello.first_serial, reply, now)
            }
            _ => Ok(()),
        }
    }

    /// Why there is no session for a call that waits for one, if that is known.
    pub(crate) fn hello_refusal(&self, key: Key) -> Option<Cause> {
        let call = self.calls.get(key)?;
        let is_waiting = call.handshake_wait.is_some() || call.attempts.is_empty();
        self.sessions.refusal.clone().filter(|_| is_waiting)
    }

    /// The server has no session for the client now, such as one whose disk is full. Queries need none.
    fn let_queries_go(&mut self, number: usize) {
        if let Some(hello) = &mut self.links[number].hello
            && hello.attach.is_none()
        {
            hello.is_put_off = true;
            self.wake_waiting_queries();
        }
    }

    /// Whether the server has no session for the client now, and this link is one to it.
    pub(super) fn is_session_put_off(&self, link: usize) -> bool {
        let table = &self.sessions.tables[self.links[link].home];
        let Some(opener) = table.opener.filter(|_| table.current.is_none()) else {
            return false;
        };
        let is_put_off = self.links[opener]
            .hello
            .is_some_and(|hello| hello.is_put_off);
        is_put_off && (link == opener || !self.links[link].is_barred())
    }

    /// The server has no time for a hello now.
    fn postpone_hello(&mut self, link: usize, no_sooner_than: Duration, now: Instant) {
        let backoff = self.hello_backoff;
        let has_jitter = backoff.jitter() != Jitter::None;
        if let Some(hello) = &mut self.links[link].hello {
            hello.refusals += 1;
            hello.is_put_off = false;
            hello.unanswered = 0;
            let pause = backoff.ceiling(hello.refusals).max(no_sooner_than);
            // A server that was restarted refuses a whole fleet in one moment.
            let more = if has_jitter {
                jitter(pause, Duration::MAX, &mut self.ids)
            } else {
                Duration::ZERO
            };
            hello.again_at = after(now, pause.saturating_add(more));
        }
    }

    /// The link's connection is gone, or could not be made: the calls that waited for it look for
    /// another. `cause` is why it was not made.
    pub(super) fn end_handshake(&mut self, number: usize, cause: Option<&Cause>, now: Instant) {
        for key in std::mem::take(&mut self.links[number].waiting) {
            let Some(call) = self.calls.get_mut(key) else {
                continue;
            };
            let is_its = |(_, link): &mut (Instant, usize)| *link == number;
            if let Some((since, _)) = call.handshake_wait.take_if(is_its) {
                if let Some(cause) = cause {
                    call.record_connect_failure(since, now, cause.clone());
                }
                self.wakers.extend(call.waker.take());
            }
        }
        if self.give_opening_up(number) {
            self.elect_opener(self.links[number].home, now);
        }
        if self.sessions.ack_link == Some(number) {
            self.sessions.ack_link = None;
            self.elect_ack_link(None);
        }
    }

    /// The link opens no session. Whether it was to.
    pub(super) fn give_opening_up(&mut self, link: usize) -> bool {
        let opener = &mut self.sessions.tables[self.links[link].home].opener;
        opener.take_if(|opener| *opener == link).is_some()
    }

    /// A connection is gone, or could not be made. If it owed a reply to a hello, that is why calls
    /// have no session.
    pub(super) fn note_hello_lost(
        &mut self,
        link: usize,
        end: impl FnOnce() -> (AttemptEnd, Cause),
    ) {
        let link = &self.links[link];
        if !link.is_connected {
            self.sessions.refusal = None;
        } else if link.hello.is_some_and(|hello| hello.refusals == 0) {
            let (_, cause) = end();
            let is_denied =
                matches!(self.sessions.refusal, Some(Cause::NoSession(_))) && link.must_attach;
            if !is_denied {
                self.sessions.refusal = Some(no_reply(Some(&cause)));
            }
        }
    }
}

fn is_bad_request(code: ErrorCode) -> bool {
    let codes = [
        ErrorCode::PARSE_ERROR,
        ErrorCode::INVALID_REQUEST,
        ErrorCode::METHOD_NOT_FOUND,
        ErrorCode::INVALID_PARAMS,
    ];
    codes.contains(&code)
}

fn no_reply(lost: Option<&Cause>) -> Cause {
    let lost = lost.map_or(String::new(), |cause| format!(": {cause}"));
    let text = format!(
        "no reply to {}{lost} (a server that never replies to it needs `assume_plain`)",
        rpc::HELLO
    );
    Cause::NoSession(text.into())
}
