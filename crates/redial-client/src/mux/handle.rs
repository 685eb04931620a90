//! What comes in from the drivers while a connection stands: how far was written, and what was
//! replied.

use std::time::{Duration, Instant};

use redial_protocol::{ErrorCode, ErrorObject, Executed, ReplyMeta};
use uuid::Uuid;

use super::{
    Mux,
    attempt::AttemptState,
    pending_call::{Answer, CallId, Signal},
    replies::{Replies, ServerMessage},
    session_loss::UnknownSource,
    slab::Key,
};
use crate::{
    cause::Cause,
    inline_bytes::InlineBytes,
    policy::classify::{ErrorAction, classify, is_leaving},
    report::AttemptEnd,
};

/// What an answer says of the endpoint that gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AnswerKind {
    Result,
    /// The handler ran, and failed. How soon says nothing of how long those take that succeed: an endpoint that
    /// can only fail would look like the quickest.
    Failure,
    /// It does not say that the call was executed.
    Other,
}

impl Mux {
    /// A driver looks after the link from now on. False if another one does.
    pub(crate) fn claim_driver(&mut self, link: usize) -> bool {
        !std::mem::replace(&mut self.links[link].has_driver, true)
    }

    /// The driver has no connection: it is released if there is nothing to make one for. Says
    /// whether it was.
    pub(crate) fn release_idle_driver(&mut self, link: usize) -> bool {
        let opens_session = !self.is_spare(link) && self.has_number_queue(self.links[link].home);
        let has_work =
            self.links[link].has_output() || self.awaits_handshake(link) || opens_session;
        // Of several endpoints each is kept connected, so that no call waits for that.
        let is_kept = self.is_balanced && !self.is_spare(link) && !self.is_closing;
        let has_work = (has_work || is_kept) && !self.is_removed(link);
        self.links[link].has_driver = has_work;
        !has_work
    }

    /// The driver is gone, whether it was released or not.
    pub(crate) fn handle_driver_gone(&mut self, link: usize) {
        self.links[link].has_driver = false;
        self.wakers.extend(self.links[link].driver.take());
    }

    /// Records how far the driver has written.
    pub(crate) fn handle_written(&mut self, number: usize, offset: u64) {
        let link = &mut self.links[number];
        link.set_written(offset);
        while let Some((end, key)) = link.notifications.front().copied()
            && end <= offset
        {
            link.notifications.pop_front();
            if let Some(call) = self.calls.get_mut(key) {
                call.answer = Some(Answer::Written);
                self.wakers.extend(call.waker.take());
            }
        }
        self.admit_blocked(number);
    }

    /// Appends a ping, behind what is in the buffer already.
    pub(crate) fn send_ping(&mut self, link: usize) {
        let writer = self.control_writer(self.max_frame_bytes);
        let link = &mut self.links[link];
        // A limit of a few bytes has no room for it, nor for any call.
        let _ = link.append(|out| writer.ping(out));
        self.wakers.extend(link.driver.take());
    }

    /// Hands out the replies of one read.
    ///
    /// # Errors
    ///
    /// Why the connection is to be closed.
    pub(crate) fn handle_replies(
        &mut self,
        link: usize,
        replies: &mut Replies,
        now: Instant,
    ) -> Result<(), String> {
        (self.links[link].heard_at, self.links[link].is_suspect) = (Some(now), false);
        self.links[link].is_heard = true;
        let all = self.handle_each(link, replies, now);
        replies.clear();
        all
    }

    fn handle_each(
        &mut self,
        link: usize,
        replies: &mut Replies,
        now: Instant,
    ) -> Result<(), String> {
        let mut texts = &*replies.texts;
        let mut others = replies.others.drain(..).peekable();
        for (index, short) in replies.short.iter().enumerate() {
            while let Some((_, other)) = others.next_if(|(before, _)| *before == index) {
                self.handle_message(link, other, now)?;
            }
            let (text, rest) = texts.split_at(short.len);
            texts = rest;
            self.links[link].mark_useful();
            self.handle_short_result(link, Uuid::from_u128(short.id), text, now);
        }
        for (_, other) in others {
            self.handle_message(link, other, now)?;
        }
        if self.sessions.current(self.links[link].home).is_some() {
            // What was answered is about to be acknowledged, by requests or alone.
            self.elect_ack_link(Some(link));
        }
        self.check_leaving(link)
    }

    /// A message that is not just a short result.
    fn handle_message(
        &mut self,
        link: usize,
        message: ServerMessage,
        now: Instant,
    ) -> Result<(), String> {
        // What answers no call doesn't prove that the connection is of use, nor does the reply to a
        // hello.
        if !matches!(
            message,
            ServerMessage::Hello(..)
                | ServerMessage::Auth(..)
                | ServerMessage::ConnectionError(_)
                | ServerMessage::Request(_)
                | ServerMessage::Unusable(_)
                | ServerMessage::GoAway(_)
        ) {
            self.links[link].mark_useful();
        }
        match message {
            ServerMessage::Reply { id, outcome, meta } => {
                self.handle_reply(link, id, outcome, meta, now)?;
            }
            ServerMessage::MalformedReply { id, detail } => match self.find(id) {
                Some(key) => self.complete(link, key, Answer::Malformed(detail), now),
                None => self.unmatched_replies += 1,
            },
            ServerMessage::OversizedReply {
                id,
                error,
                is_result,
            } => match self.find(id) {
                Some(key) => self.complete(link, key, Answer::Oversized(error, is_result), now),
                None => self.unmatched_replies += 1,
            },
            ServerMessage::Hello(serial, reply) => {
                self.handle_hello_reply(link, serial, reply, now)?;
            }
            ServerMessage::Auth(serial, reply) => {
                self.handle_auth_reply(link, serial, reply, now)?;
            }
            ServerMessage::Pong => {}
            ServerMessage::GoAway(goaway) => self.handle_goaway(link, goaway)?,
            ServerMessage::ConnectionError(error) => {
                self.links[link].server_error = Some(error.to_string());
                self.unmatched_replies += 1;
                self.handle_connection_error(link, &error, now)?;
            }
            ServerMessage::Unmatched => self.unmatched_replies += 1,
            ServerMessage::Request(request) => self.handle_peer_request(link, &request),
            ServerMessage::Unusable(detail) => return self.handle_unusable(link, detail),
        }
        Ok(())
    }

    /// Whether the data of a server's error is no word of this protocol's.
    fn is_foreign(&self, link: usize, error: &ErrorObject) -> bool {
        let link = &self.links[link];
        let is_about_token = error.code == ErrorCode::UNAUTHENTICATED && link.auth.is_spoken;
        link.is_foreign && !is_about_token
    }

    fn handle_reply(
        &mut self,
        link: usize,
        id: Uuid,
        outcome: Result<InlineBytes, ErrorObject>,
        meta: ReplyMeta,
        now: Instant,
    ) -> Result<(), String> {
        let Some(key) = self.find(id) else {
            self.unmatched_replies += 1;
            return Ok(());
        };
        let error = match outcome {
            Ok(result) => {
                self.complete(link, key, Answer::Result(result, meta), now);
                return Ok(());
            }
            Err(error) if self.is_foreign(link, &error) => error.untrusted(),
            Err(error) => error.unmarked(),
        };
        let id = self.call(key).id;
        if let CallId::Session(call) = id
            && error.code == ErrorCode::OUTCOME_UNKNOWN
            && error.redial_data().and_then(|data| data.unknown_session) == Some(call.session)
        {
            return self.handle_unknown_session(link, call.session, UnknownSource::Call, now);
        }
        let is_unauthenticated = error.code == ErrorCode::UNAUTHENTICATED;
        match classify(&error) {
            ErrorAction::Refused if is_unauthenticated && self.awaits_token(link, key, now) => {
                let no_sooner_than = Duration::ZERO;
                let action = ErrorAction::Again { no_sooner_than };
                self.handle_refusal(link, key, error, action, meta, now);
            }
            ErrorAction::Unknown if self.is_query_interrupted(link, key, &error) => {
                let no_sooner_than = Duration::ZERO;
                let action = ErrorAction::Again { no_sooner_than };
                self.handle_refusal(link, key, error, action, meta, now);
            }
            action @ (ErrorAction::Failed | ErrorAction::Unknown) => {
                self.complete(link, key, Answer::Error(error, action, meta), now);
            }
            action => self.handle_refusal(link, key, error, action, meta, now),
        }
        Ok(())
    }

    /// Whether the execution of a query was interrupted, which may be run again. Most likely its server shuts down, and
    /// need not have said so yet, or not to a client without a session. One that ran too long may do so again: the
    /// attempts and the budget bound that.
    fn is_query_interrupted(&self, link: usize, key: Key, error: &ErrorObject) -> bool {
        let is_query = self.calls.get(key).is_some_and(|call| call.flags.is_query);
        // Without Redial's data the code is another server's, and says nothing.
        let is_redial = error.redial_data().is_some() || self.links[link].is_leaving;
        is_query && error.code == ErrorCode::INTERRUPTED && is_redial
    }

    /// There is nothing more to expect of an attempt: it was not executed, the server had no room to let it wait for
    /// another attempt of the call, or it was a query that was interrupted.
    fn handle_refusal(
        &mut self,
        number: usize,
        key: Key,
        error: ErrorObject,
        action: ErrorAction,
        meta: ReplyMeta,
        now: Instant,
    ) {
        let link = &self.links[number];
        let call = self.calls.get_mut(key).expect("it was found");
        // Without an attempt on this connection it says nothing.
        let Some(attempt) = call.attempt_refused_on(number, link, meta.attempt) else {
            self.unmatched_replies += 1;
            return;
        };
        let was_waited_for = attempt.ended.is_none();
        let is_leaving = is_leaving(&error);
        attempt.state = match error.executed() {
            Executed::No => AttemptState::Void,
            Executed::Yes | Executed::Unknown => AttemptState::Orphaned,
        };
        attempt.finish(now, AttemptEnd::Refused);
        call.unplaced += u32::from(matches!(action, ErrorAction::Busy { .. }));
        self.wakers.extend(call.waker.take());
        if let ErrorAction::Again { no_sooner_than } | ErrorAction::Busy { no_sooner_than } = action
        {
            call.postpone(no_sooner_than, now);
            call.signal_end(was_waited_for, Signal::Ended, Cause::Server(error));
        } else {
            call.answer
                .get_or_insert(Answer::Error(error, action, meta));
        }
        if is_leaving {
            self.send_no_more(number);
        }
        self.release_permit(number);
    }

    /// A result with nothing beside it.
    fn handle_short_result(&mut self, link: usize, id: Uuid, text: &[u8], now: Instant) {
        match self.find(id) {
            Some(key) => {
                if let Some(answer) = self.answer_slot(link, key, AnswerKind::Result, now) {
                    Answer::result_into(answer, text);
                }
            }
            None => self.unmatched_replies += 1,
        }
    }

    fn complete(&mut self, link: usize, key: Key, answer: Answer, now: Instant) {
        let kind = match answer {
            Answer::Result(..) => AnswerKind::Result,
            _ if answer.is_outcome() => AnswerKind::Failure,
            _ => AnswerKind::Other,
        };
        if let Some(slot) = self.answer_slot(link, key, kind, now) {
            *slot = Some(answer);
        }
    }

    /// Where the answer to a call goes, unless it has one: the first stands.
    #[inline(always)]
    fn answer_slot(
        &mut self,
        link: usize,
        key: Key,
        kind: AnswerKind,
        now: Instant,
    ) -> Option<&mut Option<Answer>> {
        let call = self.calls.get_mut(key).expect("it was found");
        if call.answer.is_some() {
            return None;
        }
        let attempt = call.attempt_answered_on(link, &self.links[link]);
        let started = attempt.map(|attempt| {
            attempt.finish(now, AttemptEnd::Reply);
            attempt.started
        });
        call.answered_at = Some(now);
        self.wakers.extend(call.waker.take());
        if self.is_balanced && kind != AnswerKind::Other {
            let started = started.filter(|_| kind == AnswerKind::Result);
            self.note_answer_of_endpoint(link, started, now);
        }
        Some(&mut self.calls.get_mut(key)?.answer)
    }

    /// An endpoint has answered, where there are several: with a result, an attempt that was started then.
    #[inline(never)]
    fn note_answer_of_endpoint(&mut self, link: usize, started: Option<Instant>, now: Instant) {
        let endpoint = &mut self.endpoints[link / (self.pool + 1)];
        endpoint.budget.deposit();
        if let Some(started) = started {
            let took = now.saturating_duration_since(started);
            self.pace.observe(&mut endpoint.pace, took, now);
        }
    }
}
