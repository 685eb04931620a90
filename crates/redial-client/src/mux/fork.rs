//! The process was forked, and this is the copy: connections, sessions and tasks are the parent's.

use std::time::Instant;

use super::{Mux, timers::Timers};
use crate::origin::Origin;

impl Mux {
    /// Lets go of what the parent goes on with. Calls that were in flight there may be executed
    /// there, too: they end as *unknown*, or are sent again under their own plain id. No task is
    /// woken: all are the parent's, and so are the locks of its runtime.
    pub(crate) fn handle_fork(&mut self, now: Instant) {
        let wakers_before = self.wakers.len();
        for link in 0..self.links.len() {
            if std::mem::take(&mut self.links[link].has_driver) {
                // How much the parent writes of it is not known.
                let peer = self.peer(link);
                self.handle_disconnect(link, None, &peer, "the process was forked", now);
            }
            self.wakers.extend(self.links[link].driver.take());
            (self.links[link].failures, self.links[link].not_before) = (0, None);
        }
        let sessions: Vec<_> = self.sessions.iter().map(|session| session.id).collect();
        for session in sessions {
            self.drop_session(session, now);
        }
        self.timers = Timers::default();
        // The set of endpoints is the parent's to follow: the copy keeps those that it knows.
        self.wakers.extend(self.discovery.take());
        (self.has_discovery, self.is_refresh_wanted) = (false, false);
        for call in self.calls.values_mut() {
            call.wake_at = None;
            self.wakers.extend(call.waker.take());
        }
        self.driverless = None;
        self.wakers
            .drain(wakers_before..)
            .for_each(std::mem::forget);
    }

    /// Has plain ids be drawn that no copy of this client draws.
    pub(crate) fn mix_ids(&mut self, origin: &Origin) {
        origin.mix_into(&mut self.ids);
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use redial_protocol::SessionId;

    use super::*;
    use crate::{
        clock,
        config::Config,
        mux::{
            control::HelloReply,
            link::Transmit,
            pending_call::{Answer, CallFlags, CallId, Signal},
            send::SendStatus,
            tests::{request, write_all},
        },
    };

    fn session(id: u64) -> HelloReply {
        HelloReply::Session {
            id: SessionId::from_bits(id),
            table: "t".into(),
            window: 8,
            max_frame_bytes: 1_000,
        }
    }

    /// One number is executed by the parent, perhaps; the other was never sent, and the copy sends
    /// its own under a session of its own.
    #[test]
    fn a_copy_numbers_no_call_in_the_session_of_its_parent() {
        let mut mux = Mux::new(&Config::default(), ChaCha8Rng::seed_from_u64(1));
        let now = clock::now();
        assert!(mux.claim_driver(0));
        mux.handle_connected(0, now);
        mux.handle_hello_reply(0, 0, session(7), now).unwrap();
        let [written, unwritten] = [(); 2].map(|()| mux.open(None, CallFlags::default()).unwrap());
        assert_eq!(mux.send(&request(written), now), SendStatus::Queued);
        write_all(&mut mux, 0, &mut Transmit::default());
        assert_eq!(mux.send(&request(unwritten), now), SendStatus::Queued);
        let is_of_7 = |id| matches!(id, CallId::Session(call) if call.session.bits() == 7);
        assert!(is_of_7(mux.call(written).id) && is_of_7(mux.call(unwritten).id));

        mux.handle_fork(now);
        assert!(matches!(
            mux.call(written).answer,
            Some(Answer::SessionLost)
        ));
        assert_eq!(mux.call(unwritten).signal, Some(Signal::Unsent));
        assert_eq!(mux.call(unwritten).id, CallId::Unassigned);
        assert!(mux.claim_driver(0), "the driver is the parent's");
        let hello = mux.handle_connected(0, now);
        assert!(
            !String::from_utf8_lossy(&hello).contains("session"),
            "it asks for a session of its own"
        );
        mux.handle_hello_reply(0, 1, session(8), now).unwrap();
        assert_eq!(mux.send(&request(unwritten), now), SendStatus::Queued);
        let id = mux.call(unwritten).id;
        assert!(
            matches!(id, CallId::Session(call) if call.session.bits() == 8 && call.number == 0)
        );
    }

    /// A plain id names one call in both processes: what the parent has sent under it is not
    /// executed again.
    #[test]
    fn a_copied_call_keeps_its_plain_id() {
        let (mut mux, now) = crate::mux::tests::mux(Config::default());
        assert!(mux.claim_driver(0));
        let call = mux.open(None, CallFlags::default()).unwrap();
        mux.send(&request(call), now);
        let id = mux.call(call).id;
        write_all(&mut mux, 0, &mut Transmit::default());
        mux.handle_fork(now);
        assert_eq!(mux.call(call).id, id);
        assert!(mux.call(call).must_not_repeat(), "it may be executed");
    }

    #[test]
    fn ids_are_other_ids_once_the_origin_is_known() {
        let [mut one, mut other] = [(); 2].map(|()| crate::mux::tests::mux(Config::default()).0);
        assert_eq!(one.random_call_id(), other.random_call_id());
        one.mix_ids(&Origin::new(1, 1, [0; 32]));
        other.mix_ids(&Origin::new(2, 1, [0; 32]));
        assert_ne!(one.random_call_id(), other.random_call_id());
    }
}
