//! The replies of one read, on their way from the frames to the calls.

use redial_protocol::{Dialect, ErrorObject, FrameError, ReplyMeta, rpc::GoAway};
use uuid::Uuid;

use super::{control::HelloReply, link_auth::AuthReply};
use crate::inline_bytes::InlineBytes;

/// The replies of one read, in their order.
#[derive(Debug, Default)]
pub(crate) struct Replies {
    /// Short results with nothing beside them, as most replies are.
    pub(super) short: Vec<ShortResult>,
    /// Their texts, one behind another: from here each is written to where its call finds it. A
    /// value of this size is expensive to move just after it was written.
    pub(super) texts: Vec<u8>,
    /// All others, each with how many of the short ones came before it.
    pub(super) others: Vec<(usize, ServerMessage)>,
}

/// A short result.
#[derive(Debug)]
pub(super) struct ShortResult {
    /// The id, as a number: two words, as it was read, and no bytes that have to be put together.
    pub(super) id: u128,
    /// Its length in the texts, in bytes.
    pub(super) len: usize,
}

/// A message from the server.
#[derive(Debug)]
pub(crate) enum ServerMessage {
    /// A reply to a call.
    Reply {
        id: Uuid,
        outcome: Result<InlineBytes, ErrorObject>,
        meta: ReplyMeta,
    },
    /// A reply to a call that has no usable outcome.
    MalformedReply { id: Uuid, detail: String },
    /// A reply to a call that is larger than the client takes.
    OversizedReply {
        id: Uuid,
        error: FrameError,
        /// It has a result, so the call was executed.
        is_result: bool,
    },
    /// The reply to a hello, by its serial number.
    Hello(u64, HelloReply),
    /// The reply to a token, by its serial number.
    Auth(u64, AuthReply),
    /// The reply to a ping.
    Pong,
    /// The server shuts down, and this may be the connection's last frame.
    GoAway(GoAway),
    /// An error about the connection as a whole.
    ConnectionError(ErrorObject),
    /// A reply with an id that this client doesn't make.
    Unmatched,
    /// A request or a notification of the server's own.
    Request(PeerRequest),
    /// No message at all, and why.
    Unusable(String),
}

/// A request or a notification of the server's own, whatever it asks for.
#[derive(Debug)]
pub(crate) struct PeerRequest {
    pub(crate) dialect: Dialect,
    /// As JSON; `None` if it is a notification, or can't be answered.
    pub(crate) id: Option<String>,
}

impl Replies {
    pub(crate) fn push(&mut self, message: ServerMessage) {
        self.others.push((self.short.len(), message));
    }

    /// A result that is short and has nothing beside it.
    #[inline]
    pub(crate) fn push_short(&mut self, id: Uuid, result: &[u8]) {
        let (id, len) = (id.as_u128(), result.len());
        self.short.push(ShortResult { id, len });
        self.texts.extend_from_slice(result);
    }

    pub(super) fn clear(&mut self) {
        self.short.clear();
        self.texts.clear();
        self.others.clear();
    }
}

#[cfg(test)]
impl<const N: usize> From<[ServerMessage; N]> for Replies {
    fn from(list: [ServerMessage; N]) -> Self {
        let mut replies = Self::default();
        list.into_iter().for_each(|reply| replies.push(reply));
        replies
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        config::Config,
        mux::{
            link::Transmit,
            tests::{mux, send, write_all},
        },
    };

    proptest! {
        /// What calls were answered, and everything else there is to know, to calls that wait and to
        /// some that don't, answered once or twice.
        #[test]
        fn a_short_result_is_delivered_as_any_other(
            replies in prop::collection::vec((1..9u128, "[0-9]{1,46}", any::<bool>()), 0..12),
        ) {
            let all = [false, true].map(|may_be_short| {
                let (mut mux, now) = mux(Config::default());
                for n in 1..6 {
                    send(&mut mux, n, now);
                }
                write_all(&mut mux, 0, &mut Transmit::default());
                send(&mut mux, 6, now);
                let mut list = Replies::default();
                for (n, text, is_short) in &replies {
                    let (id, text) = (Uuid::from_u128(*n), text.as_bytes());
                    if *is_short && may_be_short {
                        list.push_short(id, text);
                    } else {
                        list.push(ServerMessage::Reply {
                            id,
                            outcome: Ok(text.into()),
                            meta: ReplyMeta::default(),
                        });
                    }
                }
                mux.handle_replies(0, &mut list, now).unwrap();
                assert!(list.short.is_empty() && list.texts.is_empty() && list.others.is_empty());
                (mux, now)
            });
            let [plain, short] = all.map(|(mux, now)| {
                format!("{mux:?}").replace(&format!("{now:?}"), "now")
            });
            prop_assert_eq!(plain, short);
        }
    }
}
