//! What a server sends besides replies: it costs a count, an answer if one was asked for, and no call
//! anything.

use super::{
    Mux,
    control::{PING_ID, auth_serial, hello_serial, refusal},
    link::Refusals,
    replies::PeerRequest,
};

/// How many bytes of answers to a server's requests may wait to be written. A server that asks on
/// without reading them gets no more until these are gone.
const MAX_REFUSAL_BYTES: u64 = 64 * 1024;

impl Mux {
    /// The server asks or tells something. A client has no methods.
    pub(super) fn handle_peer_request(&mut self, number: usize, request: &PeerRequest) {
        self.peer_requests += 1;
        let id = match &request.id {
            Some(id) if !self.reads_replies_to(id) => id,
            _ => return,
        };
        // A limit of a few bytes has no room for it, nor for any call.
        let Ok(answer) = refusal(request.dialect, id, self.max_frame_bytes(number)) else {
            return;
        };
        let link = &mut self.links[number];
        let before = if link.is_written(link.refusals.end) {
            0
        } else {
            link.refusals.bytes
        };
        let bytes = before + answer.len() as u64;
        if bytes > MAX_REFUSAL_BYTES {
            return;
        }
        let appended = link.append(|out| {
            out.extend_from_slice(&answer);
            Ok(())
        });
        if let Ok((_, end)) = appended {
            link.refusals = Refusals { bytes, end };
        }
        self.wakers.extend(link.driver.take());
    }

    /// Whether a reply with this id, given as JSON, could be one to this client. An answer with such an
    /// id must not go out: a peer that sends back what it gets, or passes it on, would end with it
    /// the call, or the hello, that it never answered.
    fn reads_replies_to(&self, id: &str) -> bool {
        // With null come errors of the connection. A request with it is a notification in JSON-RPC 1.0.
        id == "null"
            || id == PING_ID
            || hello_serial(id).is_some()
            || auth_serial(id).is_some()
            || serde_json::from_str(id).is_ok_and(|id| self.find(id).is_some())
    }

    /// What came in a frame is no message.
    ///
    /// # Errors
    ///
    /// Why the connection is to be closed: there were too many of them.
    pub(super) fn handle_unusable(&mut self, number: usize, detail: String) -> Result<(), String> {
        self.protocol_errors += 1;
        let link = &mut self.links[number];
        link.protocol_errors += 1;
        if link.protocol_errors < self.max_protocol_errors {
            return Ok(());
        }
        Err(match link.protocol_errors {
            1 => detail,
            count => format!("{detail}, as the last of {count} protocol errors"),
        })
    }
}

#[cfg(test)]
mod tests {
    use redial_protocol::Dialect;

    use super::*;
    use crate::{
        config::Config,
        mux::{
            link::Transmit,
            replies::{Replies, ServerMessage},
            tests::{mux, write_all},
        },
    };

    fn ask(mux: &mut Mux, now: std::time::Instant, count: usize) {
        let mut replies = Replies::default();
        for n in 0..count {
            replies.push(ServerMessage::Request(PeerRequest {
                dialect: Dialect::JsonRpc2,
                id: Some(n.to_string()),
            }));
        }
        mux.handle_replies(0, &mut replies, now).unwrap();
    }

    /// A peer that costs what it likes: nothing of its choosing is unbounded.
    #[test]
    fn a_server_that_asks_and_does_not_read_costs_no_more_than_64_kib() {
        let (mut mux, now) = mux(Config::default());
        let mut transmit = Transmit::default();
        for _ in 0..2 {
            ask(&mut mux, now, 100_000);
            let sent = write_all(&mut mux, 0, &mut transmit).len() as u64;
            let expected = MAX_REFUSAL_BYTES - 200..=MAX_REFUSAL_BYTES;
            assert!(expected.contains(&sent), "{sent} bytes");
        }
        assert_eq!(mux.peer_requests, 200_000);
        ask(&mut mux, now, 1);
        assert!(!write_all(&mut mux, 0, &mut transmit).is_empty());
    }
}
