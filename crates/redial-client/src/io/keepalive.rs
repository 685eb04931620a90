//! How long a server has been silent although something was written to it: it is pinged, and if
//! that brings no reply either, its connection is taken for dead.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use tokio::time::{Sleep, sleep_until};

use crate::{
    clock::{self, after},
    lateness::{is_late, look_until},
    shared::Shared,
};

/// The silence of one server.
pub(super) struct Keepalive {
    timer: Pin<Box<Sleep>>,
    /// When the timer fires, if it runs. It is left to run while replies come in, and set anew only
    /// when it fires, or for an earlier time.
    armed_for: Option<Instant>,
    /// Since when: the first byte written after the last one received, or the last one received
    /// if a call still waits. `None` if nothing is expected.
    since: Option<Instant>,
    /// Something was written after the last byte received. The call that it was for may have given
    /// up by now, which doesn't show that the connection works.
    has_written: bool,
    was_pinged: bool,
    /// Until when another look is taken.
    looks_until: Option<Instant>,
}

impl Keepalive {
    pub(super) fn new() -> Self {
        Self {
            timer: Box::pin(sleep_until(clock::now().into())),
            armed_for: None,
            since: None,
            has_written: false,
            was_pinged: false,
            looks_until: None,
        }
    }

    pub(super) fn on_write(&mut self) {
        if !std::mem::replace(&mut self.has_written, true) {
            self.since = Some(clock::now());
        }
    }

    /// Something was received. `is_expecting` if calls wait for more.
    pub(super) fn on_read(&mut self, is_expecting: bool, now: Instant) {
        self.since = is_expecting.then_some(now);
        self.has_written = false;
        self.was_pinged = false;
        self.looks_until = None;
    }

    /// Pings a server that has been silent for `limit`. Ready, with the reason, when it is to be given
    /// up.
    pub(super) fn poll(
        &mut self,
        shared: &Shared,
        link: usize,
        limit: Duration,
        context: &mut Context<'_>,
    ) -> Poll<String> {
        loop {
            let Some(since) = self.since else {
                return Poll::Pending;
            };
            let until = self.looks_until.unwrap_or_else(|| after(since, limit));
            if self.armed_for.is_none_or(|at| until < at) {
                self.armed_for = Some(until);
                self.timer.as_mut().reset(until.into());
            }
            ready!(self.timer.as_mut().poll(context));
            self.armed_for = None;
            let now = clock::now();
            if now < until {
                continue;
            }
            if self.was_pinged && is_late(until, now) {
                self.looks_until = Some(look_until(until, now));
                continue;
            }
            if self.was_pinged {
                return Poll::Ready(format!("no reply within {limit:?} after a ping"));
            }
            let has_written = self.has_written;
            let is_expecting = shared.with(|state| {
                let is_expecting = has_written || state.mux.in_flight_on(link) > 0;
                if is_expecting {
                    state.mux.send_ping(link);
                }
                is_expecting
            });
            self.since = is_expecting.then(clock::now);
            self.was_pinged = is_expecting;
        }
    }
}
