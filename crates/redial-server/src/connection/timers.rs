//! When a connection has waited too long: for the rest of a frame, for its peer to read, or for
//! anything at all.

use std::{
    future::Future,
    io,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::coop::has_budget_remaining,
};

use super::{Connection, Phase};
use crate::clock;

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Pending until the next moment at which something is due. Ready if something was.
    pub(super) fn poll_timer(&mut self, cx: &mut Context<'_>) -> io::Result<Poll<()>> {
        loop {
            let due = self.next_deadline();
            if self.by_the_clock(due) < self.timer_at {
                self.arm(due);
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                // It never fires in a task that has used up its turn, which is woken at once.
                if !has_budget_remaining() {
                    self.end_what_is_late()?;
                }
                return Ok(Poll::Pending);
            }
            self.read_clock();
            // The timer is not moved on for every byte that arrives; it finds out when it fires.
            if due > self.awake {
                self.arm(due);
                continue;
            }
            return self.on_timeout().map(Poll::Ready);
        }
    }

    /// Ends what is late by the clock, where the timer does not say so: a connection that always has
    /// something to move never waits for it.
    pub(super) fn end_what_is_late(&mut self) -> io::Result<()> {
        if self.next_deadline() <= self.awake {
            self.on_timeout()?;
        }
        Ok(())
    }

    pub(super) fn read_clock(&mut self) {
        self.now = clock::now();
        self.awake = self.shared.awake.at(self.now);
    }

    /// The moment on the clock that the timer goes by, which is ahead by the time that was lost.
    fn by_the_clock(&self, due: Instant) -> Instant {
        due + self.now.saturating_duration_since(self.awake)
    }

    fn arm(&mut self, due: Instant) {
        self.timer_at = self.by_the_clock(due);
        self.timer.as_mut().reset(self.timer_at.into());
    }

    fn next_deadline(&self) -> Instant {
        let config = &self.shared.config;
        if let Phase::Lingering { until } = self.phase {
            return until;
        }
        let idle = self
            .is_idle()
            .then(|| clock::after(self.last_active, config.idle_timeout));
        let frame = self
            .frame_since
            .map(|since| clock::after(since, config.frame_timeout));
        let write = self
            .unsent_since
            .map(|since| clock::after(since, config.write_timeout));
        let far = clock::after(self.awake, config.idle_timeout);
        let token = self.token_due();
        let is_open = self.phase == Phase::Open;
        let aged = self.age_due().filter(|_| is_open);
        let drained = self.drained_at().filter(|_| is_open);
        let empty = self.socket.next_look().filter(|_| is_open);
        [idle, frame, write, drained, empty, token, aged]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(far)
    }

    /// Until when the peer has to show who it is.
    fn token_due(&self) -> Option<Instant> {
        let is_open = matches!(self.phase, Phase::Open | Phase::HalfClosed);
        self.scratch.gate.as_ref().filter(|_| is_open)?.due()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.out.is_empty() && self.outbox.in_flight() == 0 && self.backlog.is_empty()
    }

    fn on_timeout(&mut self) -> io::Result<()> {
        let config = &self.shared.config;
        let passed = |since: Option<Instant>, timeout: Duration| {
            since.is_some_and(|since| clock::after(since, timeout) <= self.awake)
        };
        if passed(self.unsent_since, config.write_timeout) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        if passed(self.frame_since, config.frame_timeout) {
            let why = format!("{:?} passed", config.frame_timeout);
            self.on_incomplete_frame(&why);
            return Ok(());
        }
        if self.token_due().is_some_and(|due| due <= self.awake) {
            self.on_no_token();
            return Ok(());
        }
        let is_idle = self.phase == Phase::Open && self.is_idle();
        if is_idle && passed(Some(self.last_active), config.idle_timeout) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }
}
