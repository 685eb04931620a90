//! A connection that is gone or could not be made: which attempts ended with it, and when the next
//! one may be made.

use std::{sync::Arc, time::Instant};

use super::{
    Mux,
    attempt::{Attempt, AttemptState},
    down::reason_of,
    goaway::is_not_executed,
    link::{WriteProgress, write_progress},
    pending_call::{CallId, PendingCall, Signal},
    session::Session,
};
use crate::{
    cause::{Cause, ConnectError},
    report::AttemptEnd,
};

impl Mux {
    /// No connection could be made. Nothing was written, so it costs the calls that wait no attempt:
    /// they go on waiting, and the next connection is made no sooner than after a pause.
    pub(crate) fn handle_connect_failed(
        &mut self,
        link: usize,
        error: &ConnectError,
        now: Instant,
    ) {
        self.note_not_connected(error);
        self.end_connection(link, Some(0), now, |_| {
            (AttemptEnd::ConnectFailed, Cause::Connect(error.clone()))
        });
    }

    /// The connection is gone. `written` is how far it was written to, if that is known.
    pub(crate) fn handle_disconnect(
        &mut self,
        link: usize,
        written: Option<u64>,
        peer: &Arc<str>,
        reason: &str,
        now: Instant,
    ) {
        let reason: Arc<str> = match self.links[link].server_error.take() {
            Some(error) => format!("{reason}, after the server said {error}").into(),
            None => reason.into(),
        };
        let unread = self.links[link].unread.take();
        self.end_connection(link, written, now, |id| {
            if unread
                .as_ref()
                .is_some_and(|known| is_not_executed(known, id))
            {
                return (AttemptEnd::Refused, Cause::Unread);
            }
            let (peer, reason) = (peer.clone(), reason.clone());
            (
                AttemptEnd::ConnectionLost,
                Cause::ConnectionLost { peer, reason },
            )
        });
    }

    /// How many connections of the link in a row were of no use.
    pub(crate) fn consecutive_failures(&self, link: usize) -> u32 {
        self.links[link].failures
    }

    /// No connection is to be made before this.
    pub(crate) fn delay_reconnect(&mut self, link: usize, until: Instant) {
        self.links[link].not_before = Some(until);
    }

    /// When the next connection may be made, if not at once.
    pub(crate) fn reconnect_at(&self, link: usize) -> Option<Instant> {
        self.links[link].not_before
    }

    /// Ends every attempt on the link's connection.
    fn end_connection(
        &mut self,
        number: usize,
        written: Option<u64>,
        now: Instant,
        end: impl Fn(CallId) -> (AttemptEnd, Cause),
    ) {
        let is_spare = self.is_spare(number);
        let end_of_all = || end(CallId::Unassigned);
        self.note_hello_lost(number, end_of_all);
        let was_well = self.is_well(self.endpoint_of(number));
        let link = &mut self.links[number];
        let epoch = link.epoch;
        if !link.is_proven {
            link.failures = link.failures.saturating_add(1);
        }
        let is_failure = !link.is_leaving;
        let written = link.reset(written);
        if is_failure {
            self.note_failure(number, now);
        }
        // Where there are others, calls don't wait for this one.
        let loses_permits = is_spare || self.is_balanced;
        self.wakers.extend(self.closer.take());
        for call in self.calls.values_mut() {
            if loses_permits && call.permit.take_if(|link| *link == number).is_some() {
                self.wakers.extend(call.waker.take());
            }
            // A reserved permit is as good on the next connection.
            self.links[number].in_flight += usize::from(call.permit == Some(number));
            let on_connection = |attempt: &Attempt| attempt.is_on(number, epoch);
            let id = call.id;
            let is_unsent = end_attempts(call, on_connection, written, now, is_spare, || end(id));
            if let Some(is_unsent) = is_unsent {
                self.links[number].attempts -= u64::from(is_unsent);
                self.wakers.extend(call.waker.take());
            }
        }
        // The latest acks may not have arrived.
        self.sessions.iter_mut().for_each(Session::unsend_acks);
        let (end, cause) = end_of_all();
        if is_failure {
            self.note_trouble(number, was_well, reason_of(&cause), now);
        }
        let is_outage = end == AttemptEnd::ConnectFailed && !is_spare;
        self.end_handshake(number, is_outage.then_some(&cause), now);
        if loses_permits {
            self.unblock(number);
            self.abandon_number_queue(self.links[number].home);
        }
        self.admit_blocked(number);
        if !self.sessions.retired.is_empty() {
            self.drop_left_sessions(now);
        }
    }
}

/// Ends the attempts of one call on a connection that is gone. `None` if it had none; otherwise whether
/// the latest was never sent.
fn end_attempts(
    call: &mut PendingCall,
    on_connection: impl Fn(&Attempt) -> bool,
    written: u64,
    now: Instant,
    is_spare: bool,
    end: impl Fn() -> (AttemptEnd, Cause),
) -> Option<bool> {
    let was_running = call.has_running_attempt();
    let (mut last_end, mut is_unsent) = (None, false);
    // What is replied to an attempt of a call that has its answer is not looked at.
    let is_answered = call.answer.is_some();
    for attempt in call.attempts.iter_mut() {
        is_unsent = false;
        if !on_connection(attempt) {
            continue;
        }
        let (end, cause) = end();
        let progress = write_progress(attempt.start, attempt.end, written);
        attempt.state = match progress {
            WriteProgress::Complete if is_answered || end != AttemptEnd::Refused => {
                AttemptState::Orphaned
            }
            _ => AttemptState::Void,
        };
        last_end = Some((end, cause));
        if attempt.ended.is_none() {
            attempt.finish(now, end);
            is_unsent = progress == WriteProgress::Unwritten;
        }
    }
    let (end, cause) = last_end?;
    if is_unsent {
        // It was the latest, and doesn't count as one.
        let latest = call.attempts.pop();
        match latest {
            // Another connection takes it.
            _ if is_spare => {}
            Some(latest) if end == AttemptEnd::ConnectFailed => {
                call.record_connect_failure(latest.started, now, cause);
            }
            _ => call.last_cause = Some(cause.into()),
        }
        call.signal = Some(Signal::Unsent);
    } else {
        call.signal_end(was_running, Signal::Ended, cause);
    }
    Some(is_unsent)
}
