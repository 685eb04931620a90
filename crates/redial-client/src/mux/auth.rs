//! By which token each connection shows who calls. It is the first thing on a connection, in `rpc.auth`,
//! whatever the server turns out to be; one that asks for no token says so.
//!
//! A token that is rejected, and a call that is refused for want of a valid one, have another token
//! fetched, once: calls wait meanwhile. If that one is rejected, too, the connection is given up.

use std::time::{Duration, Instant};

use redial_protocol::{ErrorCode, ErrorObject, ReplyMeta};

use super::{
    Mux,
    link_auth::{AuthReply, LinkAuth},
    pending_call::Answer,
    slab::Key,
};
use crate::{
    cause::Cause,
    clock::after,
    policy::classify::{ErrorAction, classify},
    token_source::FetchedToken,
};

/// How long at least nothing is tried again.
const PAUSE: Duration = Duration::from_millis(100);

/// How long a token provider that has failed is left alone.
const PROVIDER_PAUSE: Duration = Duration::from_secs(1);

impl Mux {
    /// The beginning of a new connection: a token.
    pub(crate) fn begin_auth(&mut self, link: usize, token: &FetchedToken) -> Vec<u8> {
        self.links[link].auth = LinkAuth::default();
        self.write_auth(link, token)
    }

    fn write_auth(&mut self, link: usize, token: &FetchedToken) -> Vec<u8> {
        let (serial, mut frame) = (self.sessions.serial, Vec::new());
        self.sessions.serial += 1;
        let writer = self.control_writer(self.max_frame_bytes);
        writer.auth(serial, &token.token, &mut frame);
        self.links[link].auth.show(token.generation, serial);
        frame
    }

    /// The token that was asked for is there.
    pub(crate) fn show_token(&mut self, link: usize, token: &FetchedToken) {
        let frame = self.write_auth(link, token);
        self.append_control(link, &frame);
    }

    /// Whether a token is to be shown again now, and if so, which one no more.
    pub(crate) fn take_renewal(&mut self, link: usize, now: Instant) -> Option<Option<u64>> {
        let auth = &mut self.links[link].auth;
        auth.renew_at.take_if(|at| *at <= now)?;
        Some(auth.generation.filter(|_| auth.is_stale))
    }

    /// There is no token to be shown.
    pub(crate) fn handle_no_token(&mut self, link: usize, why: &str, now: Instant) {
        self.sessions.refusal = Some(Cause::NoToken(why.into()));
        self.links[link].auth.renew_at = Some(after(now, PROVIDER_PAUSE));
    }

    /// A token was replied to.
    ///
    /// # Errors
    ///
    /// Why the connection is to be closed.
    pub(super) fn handle_auth_reply(
        &mut self,
        link: usize,
        serial: u64,
        reply: AuthReply,
        now: Instant,
    ) -> Result<(), String> {
        let auth = &mut self.links[link].auth;
        if serial != auth.serial || !std::mem::take(&mut auth.is_open) {
            return Ok(());
        }
        match reply {
            AuthReply::Accepted { expires_ms } => {
                (auth.is_spoken, auth.is_second) = (true, false);
                // A token that expires is replaced when it has lived for four fifths of its time.
                let life = expires_ms.map(|ms| Duration::from_millis(ms / 5 * 4).max(PAUSE));
                auth.is_stale = life.is_some();
                auth.renew_at = life.map(|life| after(now, life));
                self.end_auth(link, now);
            }
            AuthReply::Error(error) if error.code == ErrorCode::UNAUTHENTICATED => {
                auth.is_spoken = true;
                if std::mem::replace(&mut auth.is_second, true) {
                    let reason = format!("the server does not accept the token: {error}");
                    self.fail_waiting(link, &error);
                    return Err(reason);
                }
                (auth.is_awaited, auth.is_stale) = (true, true);
                auth.renew_at = Some(now);
            }
            AuthReply::Error(error) => match classify(&error) {
                ErrorAction::Again { no_sooner_than } | ErrorAction::Busy { no_sooner_than } => {
                    (auth.is_spoken, auth.is_awaited) = (true, true);
                    auth.renew_at = Some(after(now, no_sooner_than.max(PAUSE)));
                }
                // It asks for none.
                _ => self.end_auth(link, now),
            },
            AuthReply::Invalid => self.end_auth(link, now),
        }
        Ok(())
    }

    /// A call was refused for want of a valid token. True if it may be sent once more, when the
    /// connection has shown another one.
    pub(super) fn awaits_token(&mut self, link: usize, key: Key, now: Instant) -> bool {
        let auth = &mut self.links[link].auth;
        let call = self.calls.get_mut(key).expect("it was found");
        if auth.generation.is_none() || std::mem::replace(&mut call.was_unauthenticated, true) {
            return false;
        }
        if !auth.is_awaited && !auth.is_open {
            (auth.is_awaited, auth.is_stale, auth.is_second) = (true, true, true);
            auth.renew_at = Some(now);
        }
        true
    }

    /// Nothing waits for a token any more.
    fn end_auth(&mut self, link: usize, now: Instant) {
        let link_state = &mut self.links[link];
        if !std::mem::take(&mut link_state.auth.is_awaited) {
            return;
        }
        if let Some(hello) = link_state.hello.as_mut().filter(|hello| hello.refusals > 0) {
            // It was refused for want of the token.
            hello.again_at = now;
        }
        self.wake_waiting(link);
    }

    /// The calls that wait for the connection are not executed.
    fn fail_waiting(&mut self, link: usize, error: &ErrorObject) {
        for key in std::mem::take(&mut self.links[link].waiting) {
            if let Some(call) = self.calls.get_mut(key)
                && call.handshake_wait.take_if(|(_, on)| *on == link).is_some()
            {
                let (action, meta) = (ErrorAction::Refused, ReplyMeta::default());
                let answer = Answer::Error(error.clone(), action, meta);
                call.answer.get_or_insert(answer);
                self.wakers.extend(call.waker.take());
            }
        }
    }
}
