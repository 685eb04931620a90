//! What the drivers tell the pending calls: how far was written, what was answered, which
//! connection is gone.

use std::{sync::Arc, task::Waker, time::Instant};

use redial_protocol::{ErrorCode, ErrorObject, ReplyMeta, RequestMeta, write_frame, write_request};
use uuid::Uuid;

use super::{
    Decoded, Mux, PING_ID, Replies,
    link::{Outgoing, Touch, touch},
    loss::Said,
    pending::{Answer, Fate, Name, Pending, Signal},
    replace,
    slab::Key,
};
use crate::{
    error::{Cause, ConnectError},
    json::Json,
    report::AttemptEnd,
    retry::{
        after,
        classify::{Verdict, classify},
    },
    session::Session,
};

impl Mux {
    /// A driver looks after the link from now on. False if another does.
    pub(crate) fn adopt(&mut self, link: usize) -> bool {
        !std::mem::replace(&mut self.links[link].has_driver, true)
    }

    /// When the next connection may be made.
    pub(crate) fn not_before(&self, link: usize) -> Option<Instant> {
        self.links[link].not_before
    }

    /// Notes how far the driver has written and gives it what is ready. False if nothing is: the
    /// driver is then woken when something comes.
    pub(crate) fn exchange(&mut self, link: usize, out: &mut Outgoing, waker: &Waker) -> bool {
        self.wrote(link, out.offset());
        let link = &mut self.links[link];
        link.has_greeted = true;
        if link.has_more() {
            link.hand_out(out);
            return true;
        }
        self.woken.extend(replace(&mut link.driver, waker));
        false
    }

    /// The driver has more to write than there is room for, and is to hear that the client is gone.
    pub(crate) fn listen_for_the_end(&mut self, link: usize, waker: &Waker) {
        let link = &mut self.links[link];
        self.woken.extend(replace(&mut link.driver, waker));
    }

    /// Notes how far the driver has written.
    pub(crate) fn wrote(&mut self, number: usize, offset: u64) {
        let link = &mut self.links[number];
        link.set_written(offset);
        while let Some((end, id)) = link.notifications.front().copied()
            && end <= offset
        {
            link.notifications.pop_front();
            if let Some(pending) = self.calls.get_mut(id) {
                pending.answer = Some(Answer::Written);
                self.woken.extend(pending.waker.take());
            }
        }
        self.unblock(number);
    }

    /// How many attempts on the link's connection may still be answered.
    pub(crate) fn outstanding(&self, link: usize) -> usize {
        self.links[link].in_flight
    }

    /// Appends a ping, past everything but what is already in the buffer.
    pub(crate) fn ping(&mut self, link: usize) {
        let (dialect, max) = (self.dialect, self.max_frame_bytes);
        let link = &mut self.links[link];
        let ping = link.append(|out| {
            let meta = RequestMeta::default();
            write_frame(out, max, |out| {
                write_request(out, dialect, Some(PING_ID), "rpc.ping", None, &meta);
            })
        });
        // Only a limit of a few bytes has no room for it, and then no call has either.
        let _ = ping;
        self.woken.extend(link.driver.take());
    }

    /// Hands out the replies of one read.
    ///
    /// # Errors
    ///
    /// What is wrong with a reply that can't be put to any call: the stream can't be trusted.
    pub(crate) fn deliver(
        &mut self,
        link: usize,
        replies: &mut Replies,
        now: Instant,
    ) -> Result<(), String> {
        let all = self.deliver_all(link, replies, now);
        replies.clear();
        all
    }

    fn deliver_all(
        &mut self,
        link: usize,
        replies: &mut Replies,
        now: Instant,
    ) -> Result<(), String> {
        let mut texts = &*replies.texts;
        let mut others = replies.others.drain(..).peekable();
        for (place, short) in replies.short.iter().enumerate() {
            while let Some((_, other)) = others.next_if(|(before, _)| *before == place) {
                self.take_in(link, other, now)?;
            }
            let (text, rest) = texts.split_at(short.len);
            texts = rest;
            self.links[link].prove();
            self.result(link, Uuid::from_u128(short.id), text, now);
        }
        for (_, other) in others {
            self.take_in(link, other, now)?;
        }
        if self.sessions.current.is_some() {
            // What was answered is about to be acknowledged, by requests or alone.
            self.watch(Some(link));
        }
        Ok(())
    }

    /// A reply that is not just a short result.
    fn take_in(&mut self, link: usize, reply: Decoded, now: Instant) -> Result<(), String> {
        // A hello that was answered is no sign that the connection is of use.
        if !matches!(reply, Decoded::Hello(..) | Decoded::Complaint(_)) {
            self.links[link].prove();
        }
        match reply {
            Decoded::Reply { id, outcome, meta } => self.reply(link, id, outcome, meta, now)?,
            Decoded::Malformed { id, detail } => match self.find(id) {
                Some(key) => self.answer(link, key, Answer::Malformed(detail), now),
                None => return Err(detail),
            },
            Decoded::Hello(serial, welcome) => self.welcomed(link, serial, welcome, now)?,
            Decoded::Pong => {}
            Decoded::Complaint(error) => {
                self.links[link].complaint = Some(error.to_string());
                self.unmatched_replies += 1;
            }
            Decoded::Foreign => self.unmatched_replies += 1,
        }
        Ok(())
    }

    /// No connection could be made. Nothing was written, so it costs the calls that wait no attempt:
    /// they go on waiting, and the next connection is made no sooner than after a pause.
    pub(crate) fn connect_failed(&mut self, link: usize, error: &ConnectError, now: Instant) {
        self.end_connection(link, Some(0), now, || {
            (AttemptEnd::ConnectFailed, Cause::Connect(error.clone()))
        });
    }

    /// The connection is gone. `written` is how far it was written to, if that is known.
    pub(crate) fn lost(
        &mut self,
        link: usize,
        written: Option<u64>,
        peer: &Arc<str>,
        reason: &str,
        now: Instant,
    ) {
        let reason: Arc<str> = match self.links[link].complaint.take() {
            Some(complaint) => format!("{reason}, after the server said {complaint}").into(),
            None => reason.into(),
        };
        self.end_connection(link, written, now, || {
            let (peer, reason) = (peer.clone(), reason.clone());
            (
                AttemptEnd::ConnectionLost,
                Cause::ConnectionLost { peer, reason },
            )
        });
    }

    /// The connection is over. Says how many in a row have been of no use.
    pub(crate) fn failures(&mut self, link: usize) -> u32 {
        self.links[link].failures
    }

    /// No connection is to be made before this.
    pub(crate) fn hold_off(&mut self, link: usize, until: Instant) {
        self.links[link].not_before = Some(until);
    }

    /// The driver has no connection. True if there is something to make one for; otherwise the
    /// link has no driver from now on.
    pub(crate) fn wants_connection(&mut self, link: usize) -> bool {
        let has_work = self.links[link].has_more() || self.has_waiting(link) || self.has_queue();
        self.links[link].has_driver = has_work;
        has_work
    }

    /// The driver is gone, whether it wanted to or not.
    pub(crate) fn abandon(&mut self, link: usize) {
        self.links[link].has_driver = false;
        self.woken.extend(self.links[link].driver.take());
    }

    fn reply(
        &mut self,
        link: usize,
        id: Uuid,
        outcome: Result<Json, ErrorObject>,
        meta: ReplyMeta,
        now: Instant,
    ) -> Result<(), String> {
        let Some(key) = self.find(id) else {
            self.unmatched_replies += 1;
            return Ok(());
        };
        let error = match outcome {
            Ok(result) => {
                self.answer(link, key, Answer::Result(result, meta), now);
                return Ok(());
            }
            Err(error) => error,
        };
        let name = self.call(key).name;
        if let Name::Number(call) = name
            && error.code == ErrorCode::OUTCOME_UNKNOWN
            && error.redial_data().and_then(|data| data.unknown_session) == Some(call.session)
        {
            return self.session_unknown(link, call.session, Said::ToCall, now);
        }
        match classify(&error) {
            verdict @ (Verdict::Failed | Verdict::Unknown) => {
                self.answer(link, key, Answer::Error(error, verdict, meta), now);
            }
            verdict => self.refused(link, key, error, verdict, meta, now),
        }
        Ok(())
    }

    /// An attempt was not executed.
    fn refused(
        &mut self,
        number: usize,
        key: Key,
        error: ErrorObject,
        verdict: Verdict,
        meta: ReplyMeta,
        now: Instant,
    ) {
        let link = &self.links[number];
        let pending = self.calls.get_mut(key).expect("it was found");
        // Without an attempt on this connection it says nothing.
        let Some(attempt) = pending.refused_by(number, link, meta.attempt) else {
            self.unmatched_replies += 1;
            return;
        };
        let was_running = attempt.ended.is_none();
        attempt.fate = Fate::Closed;
        attempt.finish(now, AttemptEnd::Refused);
        self.woken.extend(pending.waker.take());
        if let Verdict::Again { no_sooner_than } = verdict {
            pending.not_before = pending.not_before.max(Some(after(now, no_sooner_than)));
            pending.tell(was_running, Signal::Ended, Cause::Server(error));
        } else {
            pending
                .answer
                .get_or_insert(Answer::Error(error, verdict, meta));
        }
        self.release(number);
    }

    /// A result with nothing beside it.
    fn result(&mut self, link: usize, id: Uuid, text: &[u8], now: Instant) {
        match self.find(id) {
            Some(key) => {
                if let Some(place) = self.answered(link, key, now) {
                    Answer::result_into(place, text);
                }
            }
            None => self.unmatched_replies += 1,
        }
    }

    fn answer(&mut self, link: usize, key: Key, answer: Answer, now: Instant) {
        if let Some(place) = self.answered(link, key, now) {
            *place = Some(answer);
        }
    }

    /// The call is answered: gives the place for that, unless it was before.
    #[inline]
    fn answered(&mut self, link: usize, key: Key, now: Instant) -> Option<&mut Option<Answer>> {
        let pending = self.calls.get_mut(key).expect("it was found");
        if pending.answer.is_some() {
            return None;
        }
        if let Some(attempt) = pending.answered_by(link, &self.links[link]) {
            attempt.finish(now, AttemptEnd::Reply);
        }
        pending.answered_at = Some(now);
        self.woken.extend(pending.waker.take());
        Some(&mut pending.answer)
    }

    /// Gives what room there is to the calls that have waited longest, and wakes them.
    #[inline]
    pub(super) fn unblock(&mut self, number: usize) {
        if !self.links[number].blocked.is_empty() {
            self.unblock_some(number);
        }
    }

    fn unblock_some(&mut self, number: usize) {
        let max = self.max_in_flight();
        let link = &mut self.links[number];
        if link.unsent() >= self.max_buffered_bytes {
            return;
        }
        while let Some(key) = link.blocked.front() {
            // One that is over, or was sent by another way, needs no room.
            if let Some(pending) = self.calls.get_mut(*key)
                && pending.is_blocked
            {
                if pending.place.is_none() {
                    if link.in_flight >= max {
                        return;
                    }
                    link.in_flight += 1;
                    pending.place = Some(number);
                }
                pending.is_blocked = false;
                self.woken.extend(pending.waker.take());
            }
            link.blocked.pop_front();
        }
    }

    /// Tells every call with an attempt on the link's connection that it is over.
    fn end_connection(
        &mut self,
        number: usize,
        written: Option<u64>,
        now: Instant,
        end: impl Fn() -> (AttemptEnd, Cause),
    ) {
        if self.was_closed_on_hello(number) {
            self.sessions.closed_on_hello += 1;
        }
        let link = &mut self.links[number];
        let epoch = link.epoch;
        if !link.heard {
            link.failures = link.failures.saturating_add(1);
        }
        let written = link.reset(written);
        self.woken.extend(self.closer.take());
        for pending in self.calls.values_mut() {
            // What is kept for a call is as good on the next connection.
            self.links[number].in_flight += usize::from(pending.place == Some(number));
            if end_attempts(pending, (number, epoch), written, now, &end) {
                self.woken.extend(pending.waker.take());
            }
        }
        // Whatever was said last may not have arrived.
        self.sessions.iter_mut().for_each(Session::forget_told);
        let (end, cause) = end();
        let cause = (end == AttemptEnd::ConnectFailed).then_some(cause);
        self.end_standing(number, cause.as_ref(), now);
        self.unblock(number);
    }
}

/// Ends the attempts of one call on a connection that is over. False if it had none.
fn end_attempts(
    pending: &mut Pending,
    (number, epoch): (usize, u32),
    written: u64,
    now: Instant,
    end: impl Fn() -> (AttemptEnd, Cause),
) -> bool {
    let was_running = pending.is_running();
    let (mut trouble, mut is_unsent) = (None, false);
    for attempt in pending.attempts.iter_mut() {
        is_unsent = false;
        if !attempt.is_on(number, epoch) {
            continue;
        }
        let touch = touch(attempt.start, attempt.end, written);
        attempt.fate = match touch {
            Touch::Wholly => Fate::Lost,
            Touch::Partly | Touch::Untouched => Fate::Closed,
        };
        let (end, cause) = end();
        trouble = Some((end, cause));
        if attempt.ended.is_none() {
            attempt.finish(now, end);
            is_unsent = touch == Touch::Untouched;
        }
    }
    let Some((end, cause)) = trouble else {
        return false;
    };
    if is_unsent {
        // It was the latest, and is none.
        let (since, is_lost) = (pending.attempts.pop(), end == AttemptEnd::ConnectionLost);
        match since {
            Some(latest) if !is_lost => pending.had_no_connection(latest.started, now, cause),
            _ => pending.trouble = Some(cause.into()),
        }
        pending.signal = Some(Signal::Unsent);
    } else {
        pending.tell(was_running, Signal::Ended, cause);
    }
    true
}
